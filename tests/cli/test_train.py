import pytest

from ssd_jax.cli.train import defaults


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        ([], []),
        (["--database=x", "--config.data.train=x"], []),
        (["--data=some/cells"], ["--config=own_images", "--workdir=runs/cells"]),
        (["--data", "some/cells/"], ["--config=own_images", "--workdir=runs/cells"]),
        (["-data=some/cells:train"], ["--config=own_images", "--workdir=runs/cells"]),
        (["--data=cells", "--config=ssd_small"], ["--workdir=runs/cells"]),
        (["--workdir=w", "--data=cells"], ["--config=own_images"]),
    ],
)
def test_data_alone_stands_for_a_config_and_a_work_directory(arguments, added):
    assert defaults(arguments) == added
