"""Measurements of the whole: what the models draw, how fast, and how right it is."""
