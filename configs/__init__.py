"""Experiment configs; each file gives `get_config()`."""
