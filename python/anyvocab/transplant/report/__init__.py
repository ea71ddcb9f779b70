"""The page of a swap: what was asked, what happened to every token, what was found at the end."""

from anyvocab.transplant.report.page import swap_page

__all__ = ["swap_page"]
