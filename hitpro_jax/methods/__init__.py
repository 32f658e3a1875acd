"""Learning methods: each a memory with pure functions `refresh`, `loss` and `update`; `registry` picks one by name."""
