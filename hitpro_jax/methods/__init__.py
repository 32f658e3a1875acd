"""Learning methods: each a memory with pure functions `refresh`, `loss` and `update`; `registry` picks one by name.

What every method gives is said in `hitpro`. Besides, one may have
  on_host = True: its `refresh` is called as it is, not compiled, because part of it runs on the host;
  parameters(dim, seed): arrays of its own that are trained with the encoder. In `loss` they stand for the fields of the
    memory that have their names.
The fields of a memory that batches and diagnostics read are told in `clusters.ClusterMemory`.
"""
