"""`ssd-jax evaluate`: python evaluate.py --workdir=runs/quickstart"""

from ssd_jax.cli.main import run

if __name__ == "__main__":
    run("evaluate")
