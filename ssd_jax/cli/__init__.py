"""The command `ssd-jax`: one file a command, with flags in, one call, a printed result."""
