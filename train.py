"""`ssd-jax train`: python train.py --config=configs/quickstart.py --workdir=runs/quickstart"""

from ssd_jax.cli.main import run

if __name__ == "__main__":
    run("train")
