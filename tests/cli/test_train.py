import pytest

from ssd_jax.cli.train import COMMAND, defaults
from ssd_jax.errors import UserError


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        ([], []),
        (["--database=x", "--config.data.train=x"], []),
        (["--data=some/cells"], ["--config=own_images", "--workdir=runs/some_cells"]),
        (["--data", "some/cells/"], ["--config=own_images", "--workdir=runs/some_cells"]),
        (["-data=some/cells:train"], ["--config=own_images", "--workdir=runs/some_cells_train"]),
        (["--data=cells", "--config=ssd_small"], ["--workdir=runs/cells"]),
        (["--workdir=w", "--data=cells"], ["--config=own_images"]),
    ],
)
def test_data_alone_implies_a_config_and_a_work_directory(arguments, added):
    assert defaults(arguments) == added


def test_a_run_has_the_name_of_its_folder(tmp_path):
    for place in ("cats/train", "dogs", "x/data.yaml"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).mkdir() if "." not in place else (tmp_path / place).touch()
    for source, name in {
        "{}/cats/train": "cats",
        "{}/dogs/": "dogs",
        "{}/x/data.yaml": "x",
        "voc_xml:{}/dogs:train": "dogs",
        "{}/dogs,{}/cats": "dogs",
        "tfds:voc/2007:train": "tfds_voc_2007_train",
    }.items():
        added = defaults([f"--data={source.replace('{}', str(tmp_path))}", "--config=ssd_small"])
        assert added == [f"--workdir=runs/{name}"], source


def test_missing_data_is_reported_before_weights_are_downloaded(tmp_path, caplog):
    caplog.set_level("INFO")
    with pytest.raises(UserError, match="does not exist"):
        COMMAND.main(COMMAND.parse(["ssd-jax", f"--data={tmp_path}/no", f"--workdir={tmp_path}"]))
    assert "downloading" not in caplog.text
