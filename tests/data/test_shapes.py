import numpy as np

from ssd_jax.data.formats import shapes, shapes_builder
from ssd_jax.data.formats.shapes_builder import Shapes
from ssd_jax.data.formats.tfds_records import TfdsRecords, prepare


def test_an_image_depends_only_on_its_seed():
    for first, second in zip(
        shapes.draw(np.random.default_rng(3)), shapes.draw(np.random.default_rng(3)), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_boxes_fit_the_shapes():
    sizes = []
    for seed in range(60):
        picture, boxes, labels = shapes.draw(np.random.default_rng(seed))
        assert len(boxes) == len(labels) >= 1
        assert (boxes >= 0).all() and (boxes <= 1).all()
        height, width = picture.shape[:2]
        sizes += list((boxes[:, 2:] - boxes[:, :2]).max(axis=1) * max(height, width))
    assert min(sizes) > 24 and max(sizes) > 100


def test_a_filled_outline_touches_its_box():
    outline = shapes._outline("star", np.random.default_rng(0)) * 40 + 50
    mask = shapes._fill(outline, 100, 100)
    y, x = np.nonzero(mask)
    np.testing.assert_allclose(
        [x.min(), y.min(), x.max(), y.max()],
        [*outline.min(axis=0), *outline.max(axis=0)],
        atol=1.5,
    )


def test_every_class_is_drawn():
    labels = [label for seed in range(30) for label in shapes.draw(np.random.default_rng(seed))[2]]
    assert set(labels) == set(range(len(shapes.CLASS_NAMES)))


def test_two_processes_may_prepare_it_at_once():
    class TooLate:
        """A builder that fails because another process has prepared the set."""

        def download_and_prepare(self):
            Shapes().download_and_prepare()
            raise OSError("Cannot rename. Destination already exists.")

    builders = iter([TooLate(), Shapes()])
    builder = prepare(lambda: next(builders), "shapes:test")
    assert len(TfdsRecords(builder, "test", "shapes:test")) == 300


def test_the_log_names_drawing_not_downloading(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "ssd_jax")
    monkeypatch.setattr(shapes_builder, "SPLIT_SIZES", {"train": 2, "test": 1})
    for _ in range(2):
        prepare(lambda: Shapes(data_dir=tmp_path), "shapes:test")
    told = f"drawing the 3 images of the data set shapes, once, into {tmp_path}/shapes/1.0.0"
    assert [line.message for line in caplog.records if line.name != "absl"] == [told]
    assert "Downloading" not in "".join(capsys.readouterr())
