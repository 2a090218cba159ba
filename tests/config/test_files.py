"""Configs by name and by file, from any folder, in a checkout and installed."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from configs import quickstart
from configs.ablations import table2
from ssd_jax.config.files import find_file, load_config, published, rows_of, shipped_names
from ssd_jax.config.schema import Config, as_config
from ssd_jax.errors import UserError
from tests.helpers.all_configs import ALL_CONFIGS
from tests.helpers.commands import ROOT


def test_a_name_means_the_shipped_config_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart") == as_config(quickstart.get_config())
    assert load_config("ablations/table2:squares") == as_config(table2.get_config("squares"))
    assert rows_of("ablations/table2") == tuple(table2.ROWS)
    assert published("ablations/table2:squares").startswith("71.6 mAP")


def test_every_shipped_config_has_a_name():
    files = [path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.py")]
    names = {file.with_suffix("").as_posix() for file in files if file.name != "__init__.py"}
    assert names == set(shipped_names())
    assert {name.partition(":")[0] for name in ALL_CONFIGS} == names
    assert "ablations/table2:squares" in ALL_CONFIGS and "ssd300_voc" in ALL_CONFIGS


def test_a_file_is_found_by_its_path(tmp_path, monkeypatch):
    assert find_file("configs/quickstart.py").read_text() == find_file("quickstart").read_text()
    file = tmp_path / "quickstart.py"
    text = "from configs import quickstart as ours\n\n\ndef get_config():\n    "
    file.write_text(text + "config = ours.get_config()\n    config.steps = 7\n    return config\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart.py").steps == 7
    assert load_config("quickstart").steps == 1000


def test_a_value_out_of_range_is_reported_with_its_config(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from configs import quickstart\n\n\ndef get_config():\n"
        "    config = quickstart.get_config()\n    config.batch_size = 0\n    return config\n"
    )
    with pytest.raises(UserError) as error:
        load_config(str(file))
    assert str(error.value).startswith(f"--config={file}: config.batch_size is 0, but must")
    assert load_config(str(file), ["batch_size=3"]).batch_size == 3


@pytest.mark.parametrize(
    "name, told",
    [
        ("ssd_smal", "there is no config ssd_smal: did you mean ssd_small?"),
        ("configs/ssd_smal.py", "did you mean configs/ssd_small.py?"),
        ("elsewhere/ssd_small.py", "elsewhere/ssd_small.py does not exist"),
        ("ablations/tabel2:squares", "did you mean ablations/table2?"),
        ("xyzzy", "there is no config xyzzy: known are ablations/table2, "),
    ],
)
def test_a_wrong_name_gets_a_suggestion(name, told):
    with pytest.raises(UserError) as error:
        load_config(name)
    assert told in str(error.value) and "flag" not in str(error.value)


def test_only_a_file_with_a_similar_name_is_suggested(tmp_path):
    (tmp_path / "signs.py").touch()
    (tmp_path / "d.py").touch()
    with pytest.raises(UserError, match=r"/sings\.py does not exist: did you mean .*/signs\.py\?$"):
        find_file(str(tmp_path / "sings.py"))
    for name in ("b.py", "nosuch.py"):
        with pytest.raises(UserError, match=r"does not exist$"):
            find_file(str(tmp_path / name))


def test_overrides_are_a_list_or_a_dict():
    wanted = load_config("quickstart", ["steps=3", "data.train=shapes:test"])
    assert load_config("quickstart", {"steps": 3, "data.train": "shapes:test"}) == wanted
    for wrong in (["steps"], "steps=3"):
        with pytest.raises(UserError, match=r"^overrides has 'steps.*', but must be a list like"):
            load_config("quickstart", wrong)


def test_without_the_folder_the_path_of_a_shipped_config_leads_to_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"quickstart\.py does not exist: did you mean quickstart"):
        load_config("configs/quickstart.py")


def test_fields_are_given_with_and_without_the_prefix():
    config = load_config("quickstart", ["batch_size=4", "--config.data.classes=cat,dog"])
    assert isinstance(config, Config)
    assert config.batch_size == 4 and config.data.class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"^--config\.batch_size is 0, but"):
        load_config("quickstart", ["batch_size=0"])
    with pytest.raises(UserError, match=r"did you mean --config\.batch_size"):
        load_config("quickstart", ["bach_size=4"])


PROGRAM = """
import ssd_jax
print(ssd_jax.__file__)
print(ssd_jax.load_config("ablations/table2:squares").model.aspect_ratios)
print(ssd_jax.load_config("mine.py").steps)
"""


def test_the_installed_package_has_its_configs_next_to_another_configs_package(tmp_path):
    site, folder = tmp_path / "site", tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ssd_jax", site / "ssd_jax", ignore=ignored)
    # What the wheel does with the folder.
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    ((source, target),) = build["targets"]["wheel"]["force-include"].items()
    shutil.copytree(ROOT / source, site / target, ignore=ignored)
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "__init__.py").touch()
    (folder / "configs" / "base.py").write_text("STEPS = 33\n")
    (folder / "mine.py").write_text(
        "from configs import base, quickstart\n\n\ndef get_config():\n"
        "    config = quickstart.get_config()\n    config.steps = base.STEPS\n    return config\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        str(site / "ssd_jax" / "__init__.py"),
        "((), (), (), (), (), ())",
        "33",
    ], done.stderr


def test_a_file_may_leave_fields_out_and_flags_may_change_them(tmp_path):
    file = tmp_path / "few.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'steps': 5, 'data': {'train': 'shapes:train'}})\n"
    )
    config = load_config(str(file), ["batch_size=8", "data.eval=shapes:test", "model.width=0.5"])
    expected = {"steps": 5, "batch_size": 8, "model.width": 0.5}
    expected |= {"data.train": "shapes:train", "data.eval": "shapes:test"}
    assert config == Config().replace(expected)
    assert load_config(str(file)).model == Config().model


@pytest.mark.parametrize(
    "content, told",
    [
        ("STEPS = 3\n", "the file has no function get_config"),
        ("def get_config():\n    return None\n", "the file has only one config, and no row 'foo'"),
    ],
)
def test_errors_of_config_files_are_reported(content, told, tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(content)
    with pytest.raises(UserError, match=told):
        load_config(f"{file}:foo")
