"""Sweeps, studies and benchmarks around hitpro_jax."""
