"""One file for each mode of the command line, imported when it is asked for.

A command has `main(run)`, which works on an opened run (see `hitpro_jax.run`). It may define flags of its own at
the top of its file, and `devices()`, which is called before anything touches a device and gives the devices to open the
run for. docs/extend/command.md builds one from nothing.
"""

COMMANDS: dict[str, str] = {
    "train": "hitpro_jax.commands.train",
    "eval": "hitpro_jax.commands.evaluate",
    "check": "hitpro_jax.commands.check",
    "pack": "hitpro_jax.commands.pack",
}
"""Module of each mode, by its name in `--mode`."""
