import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd_jax.data.cut import Cut, choose, make_cut, read_cut, write_cut
from ssd_jax.data.near_duplicates import joined, read_thumbnails, thumbnail_pairs, versions
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError
from tests.data.formats.files import write_files
from tests.helpers.pictures import VocFolder
from tests.helpers.reference_results import shared

# In raccoon: pixel for pixel the same, and two that were compressed anew.
RACCOON_COPIES = [
    {"raccoon-11", "raccoon-116"},
    {"raccoon-120", "raccoon-83"},
    {"raccoon-21", "raccoon-45"},
    {"raccoon-50", "raccoon-52", "raccoon-74"},
    {"raccoon-65", "raccoon-98"},
]


def pattern(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Smooth colours that differ by seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def voc(tmp_path):
    """Ten images: four equal ones, and six others."""
    voc = VocFolder(tmp_path / "voc")
    for name in [*"abcdefghij"]:
        voc.add(name, [("dog", 6, 4, 30, 20)], size=(160, 120))
    folder = voc.root / "JPEGImages"
    for seed, name in enumerate("efghij", start=1):
        (folder / f"{name}.jpg").write_bytes(encoded(pattern(seed), "JPEG", quality=90))
    same = pattern(0)
    (folder / "a.jpg").write_bytes(encoded(same, "JPEG", quality=95))
    (folder / "b.jpg").write_bytes(encoded(same, "JPEG", quality=40))
    (folder / "c.jpg").write_bytes(encoded(same, "PNG"))
    small = same.resize((80, 60), Image.Resampling.BICUBIC).resize((160, 120))
    (folder / "d.jpg").write_bytes(encoded(small, "JPEG", quality=80))
    return voc


def groups_of(dataset) -> set[frozenset[str]]:
    """The ids of the images of each group that has several."""
    groups = joined(thumbnail_pairs(*read_thumbnails(dataset)), len(dataset))
    ids = np.array([dataset[index].image_id for index in range(len(dataset))])
    found = {frozenset(ids[groups == number].tolist()) for number in np.unique(groups)}
    return {group for group in found if len(group) > 1}


def test_resized_and_recompressed_copies_are_near_duplicates(voc):
    assert groups_of(open_dataset(voc.split("all", *"abcdefghij"))) == {frozenset("abcd")}


def test_near_duplicates_of_real_images():
    folder = shared("data/raccoon")
    dataset = open_dataset(f"voc_xml:{folder}:train,voc_xml:{folder}:test")
    copies = {frozenset(group) for group in RACCOON_COPIES}
    assert groups_of(dataset) == copies


def test_similar_images_of_one_microscope_are_no_near_duplicates():
    assert groups_of(open_dataset(f"voc_xml:{shared('data/BCCD')}:trainval")) == set()


def test_images_of_low_contrast_are_near_duplicates_only_if_copied():
    noise = np.random.default_rng(0).integers(-1, 2, (4, 32, 32))
    plain = np.clip(np.array([100, 100, 101, 101])[:, None, None] + noise, 0, 255).astype(np.uint8)
    black = np.zeros((2, 32, 32), np.uint8)
    thumbnails = np.concatenate([plain, plain[:1], black])
    groups = joined(thumbnail_pairs(thumbnails, np.ones(7, bool)), 7)
    assert groups.tolist() == [0, 1, 2, 3, 0, 4, 4]
    # What cannot be opened is black, and like nothing.
    unreadable = np.array([True] * 5 + [False] * 2)
    assert len(set(joined(thumbnail_pairs(thumbnails, unreadable), 7).tolist())) == 6


def test_a_small_difference_counts_at_low_contrast():
    ramp = np.tile(np.repeat(np.arange(100, 108, dtype=np.uint8), 4), (32, 1))
    spot = ramp.copy()
    spot[8:16, 8:16] += 3
    steep = (ramp - 100) * 30
    steep_spot = steep.copy()
    steep_spot[8:16, 8:16] += 3
    thumbnails = np.stack([ramp, spot, steep, steep_spot])
    groups = joined(thumbnail_pairs(thumbnails, np.ones(4, bool)), 4)
    # Some 4 of 128 bits differ, and a mean of 0.19 levels: of 2.3 that is much, of 69 it is not.
    assert groups.tolist() == [0, 1, 2, 2]


def test_pairs_are_found_in_all_blocks_of_rows(monkeypatch):
    from ssd_jax.data import near_duplicates

    monkeypatch.setattr(near_duplicates, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 2)
    thumbnails = np.random.default_rng(0).integers(0, 256, (10, 32, 32), dtype=np.uint8)
    thumbnails[[4, 7, 9]] = thumbnails[1]
    groups = joined(thumbnail_pairs(thumbnails, np.ones(10, bool)), 10)
    assert [i for i in range(10) if groups[i] == groups[1]] == [1, 4, 7, 9]
    assert len(set(groups.tolist())) == 7


def test_versions_that_roboflow_makes_of_one_image():
    digest = "0123456789abcdef0123456789abcdef"
    names = [
        f"train/cat_jpg.rf.{digest}.jpg",
        "train/cat_jpg.jpg",
        f"train/cat_jpg.rf.{digest[::-1]}.jpg",
        f"train/dog_jpg.rf.{digest}.jpg",
        f"other/cat_jpg.rf.{digest}.jpg",
        "train/my.rf.jpg",
    ]
    assert versions(names).tolist() == [0, 1, 0, 2, 3, 4]


def test_groups_stay_whole_and_the_fraction_is_near():
    names = [f"image{i}" for i in range(100)]
    groups = np.repeat(np.arange(25), 4)
    for seed in range(5):
        mask = choose(names, groups, 0.8, seed)
        assert mask.sum() == 20
        assert all(len(set(mask[groups == group].tolist())) == 1 for group in range(25))
    singles = np.arange(100)
    assert choose(names, singles, 0.73, 0).sum() == 27
    assert choose(names, singles, 0.999, 0).sum() == 1
    assert choose(names, singles, 0.001, 0).sum() == 99
    # 3 + 7: a fifth is nearer to 3 than to 7.
    assert (
        choose(names[:10], np.repeat([0, 1], [7, 3]), 0.8, 0).tolist() == [False] * 7 + [True] * 3
    )


def test_both_sides_have_objects_if_two_groups_have_objects():
    names = [f"image{i}" for i in range(20)]
    have_objects = np.array([i in (3, 11) for i in range(20)])
    for split in (0.05, 0.5, 0.8, 0.95):
        for seed in range(5):
            mask = choose(names, np.arange(20), split, seed, have_objects)
            assert mask.sum() == round(20 * (1 - split))
            assert (mask & have_objects).any() and (~mask & have_objects).any()


def test_the_choice_depends_on_names_and_seed_but_not_on_the_order():
    names = np.array([f"image{i}" for i in range(50)])
    order = np.random.default_rng(0).permutation(50)
    first, other = (choose(names.tolist(), np.arange(50), 0.8, seed) for seed in (3, 4))
    shuffled = choose(names[order].tolist(), np.arange(50), 0.8, 3)
    assert set(names[order][shuffled]) == set(names[first]) != set(names[other])


def test_near_duplicates_stay_on_one_side(voc):
    spec = voc.split("all", *"abcdefghij")
    for seed in range(6):
        cut = make_cut(open_dataset(spec), [spec], 0.6, seed)
        (chosen,) = cut.evaluation
        assert len(chosen) == 4
        assert len(set("abcd") & set(chosen)) in (0, 4)
    assert make_cut(open_dataset(voc.split("all", *"jihgfedcba")), [spec], 0.6, 5) == cut


def test_images_are_divided_one_by_one_if_nearly_all_look_the_same(voc, caplog):
    for name in "efghij":
        (voc.root / "JPEGImages" / f"{name}.jpg").write_bytes(encoded(pattern(0), "JPEG"))
    dataset = open_dataset(voc.split("all", *"abcdefghij"))
    (chosen,) = make_cut(dataset, ["voc"], 0.8, 0).evaluation
    assert len(chosen) == 2
    assert "10 of 10 images look the same" in caplog.text


def test_one_image_cannot_be_cut(voc):
    with pytest.raises(UserError, match=r"1 image, too few .* config\.data\.eval.*eval_every=-1"):
        make_cut(open_dataset(voc.split("all", "a")), ["voc"], 0.8, 0)


def test_a_stored_division_is_used_after_images_are_added_or_removed(voc, tmp_path, caplog):
    cut = Cut(("voc",), (("b", "c", "gone"),))
    write_cut(tmp_path, cut)
    assert read_cut(tmp_path) == cut
    assert read_cut(tmp_path / "elsewhere") is None
    (tmp_path / "cut_off").mkdir()
    (tmp_path / "cut_off" / "split.json").write_text((tmp_path / "split.json").read_text()[:-3])
    with pytest.raises(UserError, match=r"split.json is not JSON.* Put back a copy of it; a new"):
        read_cut(tmp_path / "cut_off")
    dataset = open_dataset(voc.split("all", *"abcj"))
    masks = cut.masks(dataset, ["voc"])
    assert [mask.tolist() for mask in masks] == [[False, True, True, False]]
    assert "1 of the 3 images for evaluation in split.json" in caplog.text
    # The folder was moved.
    assert cut.masks(dataset, ["moved"])[0].tolist() == [False, True, True, False]
    assert [r.image_id for r in dataset.chosen(masks)] == ["b", "c"]
    with pytest.raises(UserError, match="lists 1 image for evaluation, and the data has 0 of them"):
        Cut(("voc",), (("gone",),)).masks(dataset, ["voc"])


def test_a_division_of_several_sources_distinguishes_images_of_one_name(voc, tmp_path):
    other = VocFolder(tmp_path / "other")
    for name in "ab":
        other.add(name, [("dog", 6, 4, 30, 20)])
    specs = [voc.split("all", "a", "e"), other.split("all", "a", "b")]
    cut = Cut(tuple(specs), (("a",), ("b",)))
    first, second = cut.masks(open_dataset(",".join(specs)), specs)
    assert first.tolist() == [True, False] and second.tolist() == [False, True]
    # Another order of the sources changes nothing.
    first, second = cut.masks(open_dataset(",".join(specs[::-1])), specs[::-1])
    assert first.tolist() == [False, True] and second.tolist() == [True, False]


def test_images_with_new_ids_stay_on_their_side(tmp_path):
    def spec_of(*names):
        images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate(names)]
        objects = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20]}
            for i in range(len(names))
        ]
        categories = [{"id": 1, "name": "dog"}]
        content = {"images": images, "annotations": objects, "categories": categories}
        return f"coco_json:{write_files(tmp_path, {'ann.json': content})}/ann.json:{tmp_path}"

    for seed, name in enumerate("abcdefgh"):
        (tmp_path / f"{name}.jpg").write_bytes(encoded(pattern(seed), "JPEG"))
    spec = spec_of(*"bcdefgh")
    cut = make_cut(open_dataset(spec), [spec], 0.7, 0)
    assert sorted(map(len, cut.evaluation[0])) == [5, 5]  # names like a.jpg
    more = open_dataset(spec_of(*"abcdefgh"))
    (mask,) = cut.masks(more, [spec])
    assert {Path(more[i].path).name for i in np.flatnonzero(mask)} == set(cut.evaluation[0])
    # Those that were stored by number are found, too.
    assert Cut((spec,), (("2",),)).masks(more, [spec])[0].tolist() == [i == 2 for i in range(8)]


def test_a_cut_of_a_set_of_tfds_reads_the_chosen_records():
    dataset = open_dataset("shapes:test[:8]")
    ids = [dataset[index].image_id for index in range(8)]
    mask = np.array([i in (1, 4, 6) for i in range(8)])
    chosen = dataset.chosen([mask])
    assert [chosen[index].image_id for index in range(3)] == [ids[1], ids[4], ids[6]]
    again = chosen.chosen([np.array([False, True, True])])
    assert [record.image_id for record in again] == [ids[4], ids[6]]
