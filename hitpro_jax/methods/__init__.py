"""Learning methods: each a memory with pure functions that make it, read it and move it (the contract: `base.Method`).

`registry.METHODS` lists them by name.
"""
