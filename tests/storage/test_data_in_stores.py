"""Data in object stores gives the same batches as files on a disk."""

import shutil

import numpy as np
import pytest

from ssd_jax.cli.train import defaults
from ssd_jax.config.schema import as_config
from ssd_jax.data.choice import choose_sources
from ssd_jax.data.convert import convert_data
from ssd_jax.data.evaluation_batches import evaluation_batches
from ssd_jax.data.formats.tfds_folder import is_prepared
from ssd_jax.data.problems import Problems
from ssd_jax.data.sources import open_dataset, resolve
from ssd_jax.data.training_batches import training_batches
from ssd_jax.data.writers import shards
from ssd_jax.errors import StoreError, UserError
from ssd_jax.images.limits import MAX_BYTES
from ssd_jax.storage import clouds, ranges
from ssd_jax.storage.copies import folder_of_copies, remove_copies
from ssd_jax.storage.files import open_file, read_bytes
from ssd_jax.storage.placeholders import data_path
from tests import tiny
from tests.helpers.pictures import files_of
from tests.helpers.stores import failing_stores, upload

OBJECT_KEYS = ("boxes", "labels", "difficult", "crowd", "area")


def records(spec):
    """The ids, objects and bytes of the images of a data set."""
    dataset = open_dataset(spec, role="train")
    read = []
    for index in range(len(dataset)):
        record = dataset[index]
        encoded = record.encoded or read_bytes(record.path, MAX_BYTES)
        objects = [getattr(record, key).tolist() for key in OBJECT_KEYS]
        read.append((record.image_id, record.size, encoded, str(objects)))
    return read, dataset.class_names, dataset.category_ids


def batches_of(spec, count=3, **problems):
    """The first training batches and all evaluation batches, without the places of files."""
    config = as_config(tiny.get_config())
    dataset = open_dataset(spec, problems=Problems(**problems), role="train")
    made = training_batches(config, dataset, 4)
    batches = [next(made) for _ in range(count)]
    batches += evaluation_batches(dataset, image_size=64, batch_size=5)
    return [{key: batch[key] for key in batch.keys() - {"file"}} for batch in batches]


@pytest.fixture(scope="module")
def written(pictures, tmp_path_factory):
    """The images in other formats."""
    folder = tmp_path_factory.mktemp("written")
    for target in ("voc", "yolo", "shards"):
        convert_data(str(pictures), target, folder / target)
    return folder


@pytest.mark.parametrize(
    "scheme, target", [("gs", "voc"), ("s3", "voc"), ("s3", "yolo"), ("gs", "shards")]
)
def test_a_folder_in_a_store_equals_one_on_a_disk(scheme, target, written):
    place = f"{scheme}://bucket/{target}"
    upload(written / target, place)
    assert records(place) == records(str(written / target))
    (named,) = resolve(place, "train")
    assert named.describe().startswith(f"{place} (")
    assert all(place in source and "tmp" not in source for source in named.sources)
    assert records(f"{place}:train") == records(f"{written / target}:train")


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_file_of_annotations_and_a_folder_of_images_are_named(scheme, pictures):
    here = f"coco_json:{pictures}/train/instances.json:{pictures}/train/images"
    there = here.replace(str(pictures), f"{scheme}://bucket/pictures")
    assert records(there) == records(here)
    assert records(f"{there},{here.replace('train', 'val')}")[0][0] == records(here)[0][0]


def test_the_validation_split_in_the_bucket_is_used(pictures):
    config = as_config({"data": {"train": "gs://bucket/pictures"}})
    chosen = choose_sources(config.data)
    assert chosen.evaluation == [
        "coco_json:gs://bucket/pictures/val/instances.json:gs://bucket/pictures/val/images"
    ]
    assert chosen.trained == "gs://bucket/pictures (coco_json, split train)"


def test_a_place_is_listed_once_and_images_are_not_copied(pictures, monkeypatch):
    place = "s3://bucket/listed"
    upload(pictures, place)
    listed, requested = [], []
    list_objects, request_range = clouds.objects_at, ranges.request_range
    monkeypatch.setattr(
        clouds, "objects_at", lambda place: (listed.append(place), list_objects(place))[1]
    )
    monkeypatch.setattr(
        ranges, "request_range", lambda *given: (requested.append(given), request_range(*given))[1]
    )
    for _ in range(2):
        dataset = open_dataset(place, role="train")
    assert listed == [place, place]  # once more, because it may have changed meanwhile
    assert len(requested) == 2 * 12  # a look at each image's header, as on a disk
    placeholder = data_path(place) / "train/images/vid0/ä 0.jpg"
    original = pictures / "train/images/vid0/ä 0.jpg"
    assert (
        placeholder.stat().st_size == original.stat().st_size and not placeholder.stat().st_blocks
    )
    assert read_bytes(dataset[0].path) == original.read_bytes()


def test_headers_read_a_part_and_pixels_the_whole_of_a_large_image(stores, monkeypatch):
    content = np.random.default_rng(0).bytes(200_000)
    clouds.write("gs://bucket/large/a.jpg", content)
    requested = []
    request_range = ranges.request_range
    monkeypatch.setattr(
        ranges,
        "request_range",
        lambda *given: (requested.append(given[1:]), request_range(*given))[1],
    )
    path = data_path("gs://bucket/large") / "a.jpg"
    with open_file(path, 0, reads_all=False) as file:
        assert file.read(10) == content[:10] and file.read(65_526) == content[10:65_536]
        assert requested == [(0, 65_536)]
        assert file.seek(-3, 2) == 199_997 and file.read() == content[-3:]
        assert requested == [(0, 65_536), (65_536, 134_464)]
        assert file.read(1) == b"" and file.seek(70_000) == 70_000
        assert file.read(5) == content[70_000:70_005] and len(requested) == 2
    assert read_bytes(path) == content and requested[2:] == [(0, 200_000)]


def test_damaged_and_missing_images_are_both_left_out(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data/train/images/vid1/ä 3.jpg").write_bytes(b"damaged")
    upload(tmp_path / "data", "gs://bucket/damaged")
    settings = {"on_error": "skip", "max_error_fraction": 0.5}
    there = batches_of("gs://bucket/damaged/train", **settings)
    here = batches_of(f"{tmp_path}/data/train", **settings)
    for one, other in zip(there, here, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], key)
    assert sum(batch["broken"].sum() for batch in here[:3]) == 1


def test_a_failing_store_ends_reading_and_is_not_a_damaged_image(pictures, monkeypatch):
    problems = Problems("skip", 1.0)
    dataset = open_dataset("gs://bucket/pictures/train", problems=problems)
    request_range, count = ranges.request_range, iter(range(100))

    def failing(place, offset, length):
        def fail():
            raise UserError(f"{place} cannot be reached: 503; check the network")

        return fail if next(count) >= 6 else request_range(place, offset, length)

    monkeypatch.setattr(ranges, "request_range", failing)
    message = r"^gs://bucket/pictures/train/images/vid.*jpg cannot be reached: 503"
    with pytest.raises(StoreError, match=message):
        list(training_batches(as_config(tiny.get_config()), dataset, 4))
    with pytest.raises(StoreError, match=message):
        list(evaluation_batches(dataset, image_size=64, batch_size=4))
    assert not problems.found


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_tenth_of_the_requests_may_fail(scheme, written):
    place = f"{scheme}://bucket/failing"
    upload(written / "shards", place)
    with failing_stores(every=10) as proxies:
        assert records(f"tfds:{place}:train") == records(f"tfds:{written}/shards:train")
    assert sum(proxy.refused for proxy in proxies) > 1


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_images_with_odd_names_are_read_by_tensorstore(scheme, stores, monkeypatch):
    monkeypatch.setattr(clouds, "read_range", None)  # which asks gcsfs or s3fs
    for name in ("a b", "a%20b", "a#b", "a?b=c", "ä 日本", "a+b&c'd", "a~b*(1)"):
        place = f"{scheme}://bucket/odd %#?ü/{name}.jpg"
        clouds.write(place, b"12345678")
        assert ranges.request_range(place, 2, 4)() == b"3456"
        assert ranges.request_range(place, 6, 4)() == b""  # it ends before


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_gcsfs_and_s3fs_read_if_tensorstore_cannot(scheme, stores, monkeypatch):
    place = f"{scheme}://bucket/other/a.jpg"
    clouds.write(place, b"12345678")
    for opened in ("_google", "_amazon"):  # as where it does not know a kind of credentials
        monkeypatch.setattr(ranges, opened, lambda bucket: None)
    assert ranges.request_range(place, 2, 4)() == b"3456"
    with pytest.raises(clouds.MissingError, match=f"^{scheme}://bucket/none does not exist"):
        ranges.request_range(f"{scheme}://bucket/none", 0, 1)()


@pytest.mark.parametrize(
    "scheme, change", [("gs", "removed"), ("gs", "shorter"), ("s3", "shorter")]
)
def test_a_shard_that_changes_meanwhile_is_named(scheme, change, written):
    place, shard = f"{scheme}://bucket/{change}", "shards-train.tfrecord-00000-of-00001"
    upload(written / "shards", place)
    dataset = open_dataset(f"tfds:{place}:train", role="train")
    if change == "removed":
        clouds.remove(place, [shard])
    else:
        clouds.write(f"{place}/{shard}", b"short")
    reason = {
        "removed": "cannot be read: there is no such object any more",
        "shorter": "ends inside an image: copy the file again",
    }
    with pytest.raises(UserError, match=f"^{place}/{shard} {reason[change]}$"):
        next(training_batches(as_config(tiny.get_config()), dataset, 4))


def test_shards_are_written_to_a_store(pictures, written):
    place = "s3://bucket/new_shards"
    done = convert_data("gs://bucket/pictures", "shards", place)
    assert done.images == {"train": 12, "val": 4}
    assert records(f"tfds:{place}:train") == records(f"tfds:{written}/shards:train")
    with pytest.raises(UserError, match=f"^{place} exists and is not empty"):
        convert_data(str(pictures), "shards", place)
    with pytest.raises(UserError, match="is inside gs://bucket/pictures of --source"):
        convert_data("gs://bucket/pictures:train", "shards", "gs://bucket/pictures/shards")


def test_a_conversion_into_a_store_continues_after_a_failure(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 4_000)
    monkeypatch.setattr(shards, "num_cores", lambda: 1)
    convert_data(str(pictures), "shards", tmp_path / "new_set")
    expected = files_of(tmp_path / "new_set")
    place, send, sent = "s3://bucket/new_set", clouds.send, []

    def failing(folder, to, names):
        sent.extend(names)
        if sum(".tfrecord" in name and "/" not in name for name in sent) > 3:
            raise UserError("the store is gone")
        send(folder, to, names)

    monkeypatch.setattr(clouds, "send", failing)
    with pytest.raises(UserError, match="the store is gone"):
        convert_data(str(pictures), "shards", place)
    of_sent = [name for name in clouds.objects_at(place) if "/" not in name]
    assert len(of_sent) == 3 and not is_prepared(data_path(place))
    # No content of a shard stays on the disk, and another machine has none of the files.
    local = [file for name in of_sent for file in folder_of_copies().rglob(name) if file.is_file()]
    assert local and not any(file.stat().st_blocks for file in local)
    remove_copies()
    lost = of_sent.pop()  # somebody removes a shard meanwhile
    clouds.remove(place, [lost])
    sent.clear()
    monkeypatch.setattr(clouds, "send", lambda *given: sent.extend(given[2]) or send(*given))
    assert convert_data(str(pictures), "shards", place).images == {"train": 12, "val": 4}
    assert not set(of_sent) & set(sent) and lost in sent
    clouds.fetch(place, tmp_path / "fetched", list(clouds.objects_at(place)))
    assert files_of(tmp_path / "fetched") == expected


def test_an_interrupted_conversion_of_other_data_is_refused(pictures, monkeypatch):
    place = "s3://bucket/other_set"
    clouds.write(f"{place}/unfinished/plan.json", b'{"version": 0}')
    with pytest.raises(UserError, match=f"^{place} is from an interrupted conversion of other"):
        convert_data(str(pictures), "shards", place)


@pytest.mark.parametrize(
    "spec, complaint",
    [
        ("gs://bucket/none", "^gs://bucket/none does not exist: there is no such object"),
        ("voc_xml:s3://bucket/none:train", "^s3://bucket/none does not exist"),
        ("s3://nothing/a", "there is no bucket nothing that these credentials can see"),
        ("coco_json:gs://nothing/a.json:gs://nothing/b", "there is no bucket nothing"),
        ("http://host/data", "^http://host/data begins with http://, but only local paths, gs:"),
        ("tfrecord:gs://bucket/pictures", "tfrecord are read from local files: copy them"),
        ("tfds:gs://bucket/pictures:train", "pictures has no shards with an index; in a"),
        ("gs://bucket/pictures/train/instances.json", "name its folder, or coco_json:"),
        ("gs://bucket/pictures/train/images", "has no annotations of a known format"),
        (
            "gs://bucket/pictures:tset",
            "^gs://bucket/pictures has no split 'tset'; its splits: train, val",
        ),
        ("gs://", "gs:// names no bucket"),
    ],
)
def test_wrong_sources_give_one_line(spec, complaint, pictures):
    with pytest.raises(UserError, match=complaint):
        open_dataset(spec)


def test_the_work_directory_is_called_like_the_folder_of_the_data():
    for source in (
        "gs://bucket/pets",
        "gs://bucket/pets/train:train",
        "coco_json:gs://bucket/pets/a.json:gs://bucket/pets/images",
        "s3://pets",
    ):
        assert defaults([f"--data={source}"])[-1] == "--workdir=runs/pets"


def test_missing_credentials_are_named(stores, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    ranges.forget_clients()
    try:
        with pytest.raises(UserError, match=r"give credentials that may .*AWS_ACCESS_KEY_ID"):
            open_dataset("s3://bucket/private")
    finally:
        ranges.forget_clients()
