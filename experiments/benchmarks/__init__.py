"""Measurements of speed and memory; each file's docstring holds the command and the last figures."""
