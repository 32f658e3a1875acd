"""The method and the metrics once more: naive NumPy with explicit loops, sharing nothing with the package."""
