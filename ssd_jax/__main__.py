"""`python -m ssd_jax COMMAND` is `ssd-jax COMMAND`."""

from ssd_jax.cli.main import main

if __name__ == "__main__":
    main()
