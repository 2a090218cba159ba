import json
import logging

import jax
import pytest

from ssd_jax import Detector
from ssd_jax.errors import UserError
from ssd_jax.inference.export import export_detector, written_files
from ssd_jax.interop.trained import save_folder
from ssd_jax.storage.checksums import verify_checksums, write_checksums
from tests.helpers.random_detector import NAMES, random_trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    return random_trained()


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    save_folder(trained, folder)
    return folder


def test_a_detector_is_exported_in_python(folder, tmp_path, caplog):
    detector = Detector.from_pretrained(folder)
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        assert detector.export(tmp_path) == tmp_path
        detector.export(tmp_path, "hf", license_name="mit")  # again, with a card
    assert not caplog.text and "license: mit" in (tmp_path / "README.md").read_text()
    verify_checksums(tmp_path, ["config.json", "model.safetensors"])
    assert written_files(tmp_path) == ["config.json", "model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(UserError, match="must be one of safetensors"):
        detector.export(tmp_path, "onxx")


def test_an_earlier_export_is_replaced_with_a_line(trained, tmp_path, caplog):
    save_folder(trained, tmp_path)
    negative = jax.tree.map(lambda array: -array, trained.variables)
    with caplog.at_level(logging.WARNING, "ssd_jax"):
        export_detector(trained._replace(variables=negative), tmp_path, "safetensors")
    assert f"{tmp_path}: replaced model.safetensors of an earlier export" in caplog.text


ENTRIES = [{"id": 1, "name": "cat"}]
DESCRIPTIONS = {
    "classes.json": ENTRIES,
    "config.json": {"classes": ENTRIES},
    "detector.json": {"classes": json.dumps(ENTRIES)},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_another_detector_is_not_replaced(trained, tmp_path, name):
    (tmp_path / name).write_text(json.dumps(DESCRIPTIONS[name]))
    write_checksums(tmp_path, [name])
    first = sorted(tmp_path.iterdir())
    told = f"another detector: the classes in {name} are cat, those .* are {NAMES[0]}, "
    with pytest.raises(UserError, match=told):
        export_detector(trained, tmp_path, "safetensors")
    assert sorted(tmp_path.iterdir()) == first
