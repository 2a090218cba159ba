import json
import logging
import shutil

import pytest

from ssd_jax.config.files import load_config
from ssd_jax.config.schema import Config, DataConfig, as_config
from ssd_jax.data.choice import (
    choose_sources,
    open_evaluation_data,
    open_run_data,
    open_training_data,
)
from ssd_jax.data.content import num_shared
from ssd_jax.data.cut import Cut
from ssd_jax.data.problems import Problems
from ssd_jax.errors import UserError
from tests.data.test_cut import encoded, pattern
from tests.helpers.pictures import VocFolder


def ids(dataset) -> list[str]:
    return [record.image_id for record in dataset]


def config_of(train, **others) -> Config:
    changes = {name.replace("__", "."): value for name, value in others.items()}
    return Config().replace({"data.train": str(train), "eval_every": 0, **changes})


@pytest.fixture
def voc(tmp_path):
    """Ten different images in Pascal VOC's layout, all with dogs and half of them with a puppy."""
    voc = VocFolder(tmp_path / "voc")
    for seed, name in enumerate("abcdefghij"):
        more = [("puppy", 40, 4, 70, 20)] if seed % 2 else []
        voc.add(name, [("dog", 6, 4, 30, 20), *more], size=(160, 120))
        image = voc.root / "JPEGImages" / f"{name}.jpg"
        image.write_bytes(encoded(pattern(seed), "JPEG", quality=90))
    return voc


@pytest.fixture
def flat(voc, tmp_path):
    """The same images with their XML next to them, not divided into splits."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in "abcdefghij":
        shutil.copy(voc.root / "JPEGImages" / f"{name}.jpg", folder)
        shutil.copy(voc.annotation(name), folder)
    return folder


def test_a_folder_is_evaluated_on_its_own_validation_split(voc):
    voc.split("train", "a", "b", "c")
    voc.split("val", "d", "e")
    voc.split("test", "f")
    for spec in (voc.root, f"{voc.root}:train", f"voc_xml:{voc.root}:train"):
        data = open_run_data(config_of(spec))
        assert (ids(data.train), ids(data.evaluation)) == (["a", "b", "c"], ["d", "e"])
        assert data.cut is None and "split val" in data.origin
    # The folder named for both is the same; another split is that one.
    data = open_run_data(config_of(voc.root, data__eval=f"{voc.root}/"))
    assert (ids(data.train), ids(data.evaluation)) == (["a", "b", "c"], ["d", "e"])
    data = open_run_data(config_of(voc.root, data__eval=f"{voc.root}:test"))
    assert ids(data.evaluation) == ["f"]
    # What is trained on is not evaluated on.
    data = open_run_data(config_of(f"{voc.root}:val"))
    assert (ids(data.train), ids(data.evaluation)) == (["d", "e"], ["f"])


def test_training_images_are_not_used_for_evaluation(voc, monkeypatch):
    voc.split("train", "a", "b")
    voc.split("val", "c", "d", "e", "f", "g")
    monkeypatch.chdir(voc.root)
    both = (
        f"{voc.root}:train,{voc.root}:val",
        f"voc_xml:{voc.root}:train,voc_xml:{voc.root}:val",
        f"{voc.root},voc_xml:.:val",
    )
    for spec in both:
        data = open_run_data(config_of(spec))
        assert data.cut and len(data.train) == 6 and len(data.evaluation) == 1
    assert choose_sources(DataConfig(train="shapes:train,shapes:test[:5]")).evaluation is None
    voc.split("test", "h")
    for spec in both:
        assert ids(open_run_data(config_of(spec)).evaluation) == ["h"]


def test_equal_paths_of_one_folder_are_recognised(flat, monkeypatch):
    monkeypatch.chdir(flat.parent)
    (flat.parent / "link").symlink_to(flat)
    for name in ("flat", "./flat/", "link", f"{flat}"):
        data = open_run_data(config_of("flat", data__eval=name))
        assert data.cut and not set(ids(data.train)) & set(ids(data.evaluation))
    # Images are, too.
    spec = "voc_xml:link:link"
    data = open_run_data(config_of("flat", data__eval=spec))
    assert num_shared(data.train, data.evaluation) == 10
    # A folder that is named twice is cut alike.
    data = open_run_data(config_of("flat,flat"))
    assert len(data.evaluation) == 4 and not set(ids(data.train)) & set(ids(data.evaluation))


def test_trainval_holds_the_validation_split(voc):
    voc.split("train", "a", "b")
    voc.split("val", "c")
    voc.split("trainval", "a", "b", "c")
    for spec in (f"{voc.root}:trainval", f"voc_xml:{voc.root}:trainval"):
        assert choose_sources(config_of(spec).data).evaluation is None
    voc.split("test", "d")
    data = open_run_data(config_of(f"{voc.root}:trainval"))
    assert (ids(data.train), ids(data.evaluation)) == (["a", "b", "c"], ["d"])


def test_a_list_with_an_unknown_name_is_divided(voc):
    voc.split("val", "a", "b")
    spec = voc.split("mine", "a", "b", "c", "d", "e")
    data = open_run_data(config_of(spec))
    assert len(data.train) == 4 and len(data.evaluation) == 1


def test_an_undivided_folder_is_divided_in_the_same_way_by_all_commands(flat):
    config = config_of(flat, data__split=0.7)
    data = open_run_data(config)
    assert len(data.train) == 7 and len(data.evaluation) == 3
    assert set(ids(data.train)) | set(ids(data.evaluation)) == set("abcdefghij")
    assert data.cut.evaluation == (tuple(ids(data.evaluation)),)
    assert ids(open_training_data(config)) == ids(data.train)
    evaluation, _ = open_evaluation_data(config.data, ("dog", "puppy"), Problems(), seed=0)
    assert ids(evaluation) == ids(data.evaluation)
    # The folder named for both is the same.
    same = open_run_data(config.replace({"data.eval": str(flat)}))
    assert ids(same.evaluation) == ids(data.evaluation)
    # Another folder, undivided too, is evaluated on whole.
    other = shutil.copytree(flat, flat.parent / "other")
    assert len(open_run_data(config.replace({"data.eval": str(other)})).evaluation) == 10
    # Nothing is cut off where nothing is evaluated.
    assert len(open_run_data(config.replace({"eval_every": -1})).train) == 10
    assert len(open_training_data(config.replace({"eval_every": -1}))) == 10


def test_a_stored_division_is_used(flat, caplog, monkeypatch):
    stored = Cut((f"voc_xml:{flat}",), (("b", "j"),))
    config = config_of(flat)
    data = open_run_data(config, stored)
    assert ids(data.evaluation) == ["b", "j"] and ids(data.train) == list("acdefghi")
    assert ids(open_run_data(config.replace({"eval_every": -1}), stored).train) == ids(data.train)
    caplog.set_level("INFO")
    evaluation, _ = open_evaluation_data(config.data, ("dog",), Problems(), stored)
    others = 10 - len(evaluation)
    line = f"{len(evaluation)} of 10 images, held out; the run trained on the other {others}"
    assert line in caplog.text
    assert ids(evaluation) == ["b", "j"]
    # All of the source by its own name holds what was trained on.
    monkeypatch.setattr(logging.getLogger("ssd_jax"), "propagate", True)
    data = DataConfig(train=str(flat), eval=f"voc_xml:{flat}:{flat}")
    stored = Cut((data.eval,), stored.evaluation)
    assert len(open_evaluation_data(data, ("dog",), Problems(), stored)[0]) == 10
    assert "contains training images" in caplog.text
    # A run without one was trained on all images.
    with pytest.raises(UserError, match=r"trained on all images of .*--source"):
        open_evaluation_data(config.data, ("dog",), Problems(), seed=None)


def test_a_set_of_tfds_is_divided_if_it_has_no_evaluation_split():
    whole = DataConfig(train="shapes:train")
    assert choose_sources(whole).evaluation == ["shapes:test"]
    assert choose_sources(DataConfig(train="shapes:train[:50%]")).evaluation == ["shapes:test"]
    config = config_of("shapes:test[:20]", data__split=0.75)
    data = open_run_data(config)
    assert len(data.train) == 15 and len(data.evaluation) == 5
    assert not set(ids(data.train)) & set(ids(data.evaluation))


def test_evaluation_data_has_the_classes_of_the_run_by_their_new_names(voc, caplog):
    voc.add("k", [("dog", 6, 4, 30, 20), ("bird", 6, 4, 30, 20)])
    train, evaluation = voc.split("one", "a", "b"), voc.split("two", "k")
    config = config_of(train, data__eval=evaluation, data__class_map="dog+puppy=animal")
    data = open_run_data(config)
    assert data.train.class_names == data.evaluation.class_names == ("animal",)
    # There is no puppy in it, which is no mistake.
    (record,) = data.evaluation
    assert record.labels.tolist() == [1]
    assert "left out 1 object of other classes: bird (1)" in caplog.text


def test_evaluation_data_with_other_classes_alone_is_refused(voc):
    data = DataConfig(eval=str(voc.root))
    assert len(open_evaluation_data(data, ["dog", "cow"], Problems())[0]) == 10
    with pytest.raises(UserError, match=r"has 15 objects of other classes, but none .* cat, cow"):
        open_evaluation_data(data, ["cat", "cow"], Problems())


def test_training_data_must_be_named():
    with pytest.raises(
        UserError, match=r"config\.data\.train is empty: .*config\.data\.train=FOLDER"
    ):
        open_run_data(load_config("ssd_small"))
    with pytest.raises(UserError, match=r"config\.data\.train is empty"):
        open_training_data(load_config("ssd_small", ["eval_every=-1"]))


def test_evaluation_data_is_opened_without_the_training_data(voc):
    data = DataConfig(train="/no/such/folder", eval=voc.split("two", "a"))
    evaluation, origin = open_evaluation_data(data, ("dog",), Problems())
    assert ids(evaluation) == ["a"] and origin == data.eval


def test_other_training_data_drops_the_evaluation_data_of_a_config(tmp_path):
    config = load_config("quickstart")
    assert (config.data.train, config.data.eval) == ("shapes:train", "shapes:test")
    changed = load_config("quickstart", ["data.train=folder"])
    assert (changed.data.train, changed.data.eval) == ("folder", "")
    changed = load_config("quickstart", ["data.train=folder", "data.eval=other"])
    assert (changed.data.train, changed.data.eval) == ("folder", "other")
    assert load_config("quickstart", ["--config.data.train=folder"]).data.eval == ""
    assert load_config("quickstart", ["data.eval=other"]).data.train == "shapes:train"
    # The same in Python, and in files that name the one and not the other.
    assert config.replace({"data.train": "folder"}).data.eval == ""
    assert config.replace({"data.train": "folder", "data.eval": "other"}).data.eval == "other"
    assert as_config({"data": {"train": "folder"}}).data.eval == ""
    file = tmp_path / "few.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'data': {'train': 'folder'}})\n"
    )
    assert load_config(str(file)).data.eval == ""
    # What a run has saved stays.
    saved = json.loads(json.dumps(config.model_dump(mode="json")))
    assert as_config(saved) == config


def test_the_folder_of_the_data_is_no_work_directory(flat, tmp_path):
    with pytest.raises(UserError, match=r"work directory .* is the folder of the data"):
        open_run_data(config_of(flat), workdir=f"{flat}/../{flat.name}")
    assert open_run_data(config_of(flat), workdir=tmp_path / "run").evaluation is not None
