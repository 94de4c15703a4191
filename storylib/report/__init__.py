"""Figures, tables, executed notebooks, the book, its workflow and the gallery. Nothing here needs torch to load."""
