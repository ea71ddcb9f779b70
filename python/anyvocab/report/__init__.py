"""What people look at: facts of a vocabulary, texts cut into tokens, comparisons, pages.

`facts`, `pieces` and `languages` compute plain data; `terminal` and `page` show it. A page is one
file: no script, nothing loaded from elsewhere, every token's text escaped.
"""

from anyvocab.report.facts import VocabularyFacts, vocabulary_facts
from anyvocab.report.languages import LanguageRow, compare_languages, read_languages
from anyvocab.report.pieces import Cut, Piece, cut_text

__all__ = [
    "Cut",
    "LanguageRow",
    "Piece",
    "VocabularyFacts",
    "compare_languages",
    "cut_text",
    "read_languages",
    "vocabulary_facts",
]
