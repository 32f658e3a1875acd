"""Pure JAX functions, each beside its formula: no Flax, no configuration object, no input or output."""
