"""Data sets as records of frame paths, and the way from there to a batch: NumPy, Grain, OpenCV, no JAX."""
