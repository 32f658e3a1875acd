"""Learning methods: each is a memory with three pure functions, `refresh`, `loss` and `update`."""
