"""The command `ssd-jax`: one file for each command, which defines flags and prints a result."""
