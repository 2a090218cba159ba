"""Images are divided into overlapping tiles, and each object is found once."""

import json

import numpy as np
import pytest
from PIL import Image

from ssd_jax.errors import UserError
from ssd_jax.inference.detections import Detections
from ssd_jax.inference.detector import Detector, Prepared
from ssd_jax.inference.predict import predict
from ssd_jax.inference.tiles import MAX_TILES, Tile, TiledDetector, merged, tiles_of

NAMES = ("bright", "dark")


class FindsSquares:
    """A minimal detector for `TiledDetector`, which finds the bright area of an image."""

    class_names, category_ids, side, least_score = NAMES, (1, 2), 8, 0.01

    def prepare(self, image):
        pixels = np.asarray(image.resize((8, 8), Image.Resampling.NEAREST))
        return Prepared(image, (image.height, image.width), pixels)

    def stream(self, images, batch_size):
        self.batch_size = batch_size
        for key, prepared in images:
            assert prepared.pixels.shape == (8, 8, 3)
            rows, columns = np.nonzero(prepared.pixels[..., 0] > 128)
            boxes = []
            if len(rows):
                boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
            scale = np.array(prepared.size[::-1] * 2) / 8
            yield key, detections(np.array(boxes).reshape(-1, 4) * scale, size=prepared.size)


def detections(boxes, scores=None, labels=None, size=(100, 100)):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    count = len(boxes)
    return Detections(
        boxes=boxes,
        scores=np.full(count, 0.5) if scores is None else np.asarray(scores),
        labels=np.ones(count, int) if labels is None else np.asarray(labels),
        class_names=NAMES,
        category_ids=(1, 2),
        image="somewhere.png",
        size=size,
    )


@pytest.mark.parametrize("size", [(100, 100), (101, 64), (1000, 640), (333, 777)])
def test_tiles_cover_the_image_and_overlap_by_a_quarter(size):
    whole, *tiles = tiles_of(size, 64)
    assert whole == (0, 0, size[1], size[0])
    covered = np.zeros(size, int)
    for tile in tiles:
        assert tile.right - tile.left == 64 and tile.bottom - tile.top == 64
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert covered.min() >= 1
    lefts = sorted({tile.left for tile in tiles})
    tops = sorted({tile.top for tile in tiles})
    assert len(lefts) * len(tops) == len(tiles)
    for starts in (lefts, tops):
        assert all(gap <= 48 for gap in np.diff(starts))  # a quarter of 64 is shared


def test_an_image_no_larger_than_a_tile_is_one_tile():
    assert tiles_of((40, 64), 64) == [Tile(0, 0, 64, 40)]


def test_a_small_object_is_found_in_the_tile_that_contains_it():
    image = np.zeros((160, 160, 3), np.uint8)
    image[92:100, 72:80] = 255  # which the whole image, seen by every 20th pixel, does not show
    inner = FindsSquares()
    assert len(next(inner.stream([(0, inner.prepare(Image.fromarray(image)))], 1))[1]) == 0

    detector = TiledDetector(inner, 64)
    found = detector(Image.fromarray(image))
    np.testing.assert_allclose(found.boxes, [[72, 92, 80, 100]], atol=8)
    assert found.size == (160, 160) and found.names == ("bright",)
    several = detector([image, np.zeros_like(image)])
    assert [len(each) for each in several] == [1, 0]
    assert len(detector(image, score_threshold=0.6)) == 0

    prepared = [(key, detector.prepare(image)) for key in "ab"]
    assert prepared[0][1].pixels.shape == (10, 8, 8, 3)
    keys = [key for key, _ in detector.stream(prepared, 4)]
    assert keys == ["a", "b"] and inner.batch_size == 4


WHOLE, LEFT, RIGHT = Tile(0, 0, 100, 60), Tile(0, 0, 60, 60), Tile(40, 0, 100, 60)


def merge(whole, left, right):
    prepared = Prepared("image", (60, 100), np.zeros((3, 8, 8, 3), np.uint8))
    return merged([whole, left, right], [WHOLE, LEFT, RIGHT], prepared)


def test_boxes_of_tiles_are_in_pixels_of_the_image():
    found = merge(detections([]), detections([]), detections([[10, 20, 30, 40]]))
    np.testing.assert_array_equal(found.boxes, [[50, 20, 70, 40]])
    assert found.image == "image" and found.size == (60, 100)


def test_an_object_that_two_tiles_see_is_found_once():
    found = merge(
        detections([]),
        detections([[45, 10, 55, 20]], [0.6]),
        detections([[5, 10, 16, 20]], [0.7]),
    )
    np.testing.assert_array_equal(found.boxes, [[45, 10, 56, 20]])
    assert found.scores == [0.7]


def test_a_partial_detection_at_a_border_is_suppressed_by_the_complete_one():
    # Half of the object, with the better score, ends at the border between the tiles.
    cut, whole = detections([[44, 10, 60, 20]], [0.9]), detections([[4, 10, 36, 20]], [0.5])
    found = merge(detections([]), cut, whole)
    np.testing.assert_array_equal(found.boxes, [[44, 10, 76, 20]])
    # Nothing has it whole: the part stays.
    assert len(merge(detections([]), cut, detections([]))) == 1
    # At the border of the image itself nothing is cut.
    at_edge = detections([[0, 10, 20, 20]], [0.9])
    found = merge(detections([[0, 10, 45, 20]], [0.5]), at_edge, detections([]))
    assert len(found) == 2


def test_objects_inside_others_and_of_other_classes_are_kept():
    inner, outer = [10, 10, 20, 20], [5, 5, 35, 35]
    assert len(merge(detections([outer]), detections([inner]), detections([]))) == 2
    same = merge(detections([inner], labels=[2]), detections([inner]), detections([]))
    assert sorted(same.labels.tolist()) == [1, 2]


def test_the_best_come_first():
    found = merge(
        detections([[1, 1, 9, 9], [80, 1, 90, 9]], [0.2, 0.8]),
        detections([[20, 20, 30, 30]], [0.4]),
        detections([]),
    )
    assert found.scores.tolist() == [0.8, 0.4, 0.2]


def test_tiles_of_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="--tile is 8, but must be a whole number of 32 pixels"):
        TiledDetector(FindsSquares(), 8)
    with pytest.raises(UserError, match="--tile is '64', but must be a whole number"):
        TiledDetector(FindsSquares(), "64")
    with pytest.raises(UserError, match=f"--tile=32 makes 17,161 tiles .* {MAX_TILES:,}"):
        tiles_of((3152, 3152), 32)


def test_files_are_divided_into_tiles_too(detector: Detector, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 160, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    tiled, options = TiledDetector(detector, 64), {"score_threshold": 0.01, "batch_size": 4}
    done = predict(tiled, [str(tmp_path)], str(tmp_path.parent / "out"), **options)
    results = json.loads((tmp_path.parent / "out" / "detections.json").read_text())
    wanted = tiled(pixels, score_threshold=0.01)
    assert done.images == 1 and 0 < len(wanted) == len(results["annotations"])
    assert len(wanted) != len(detector(pixels, score_threshold=0.01))
    assert results["images"][0]["width"] == 160
