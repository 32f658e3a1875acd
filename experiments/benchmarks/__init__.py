"""Measurements of speed and memory; figures stand in the docstrings."""
