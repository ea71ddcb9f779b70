"""Hypernetworks: rows of a new vocabulary, predicted from the rows of the old one."""
