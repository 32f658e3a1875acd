"""Pure JAX functions, each beside its formula: no Flax, no configuration object, no input or output.

Letters are those of `types`; M columns of a table, n devices. Unless said otherwise, floats are float32, ids int32 with
-1 for none, and numbers may be traced.
"""
