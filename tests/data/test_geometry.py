import numpy as np
import pytest
import tensorflow as tf

from ssd_jax.data import geometry

DRAWS = 1000
BOXES = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.9, 0.95], [0.45, 0.1, 0.55, 0.2]], np.float32)


SEED = tf.constant([1, 2], tf.int64)


def for_all(boxes):
    """The same boxes on every one of a thousand pictures."""
    return np.tile(np.asarray(boxes, np.float32), (DRAWS, 1, 1))


def iou(patches, boxes):
    size = np.minimum(patches[:, None, 2:], boxes[:, 2:]) - np.maximum(
        patches[:, None, :2], boxes[:, :2]
    )
    intersection = np.maximum(size, 0).prod(axis=-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=-1) for x in (patches, boxes)]
    return intersection / (areas[0][:, None] + areas[1] - intersection)


def test_an_expanded_canvas_contains_the_image_in_its_proportions():
    canvases = geometry.draw_expansion(SEED, DRAWS, 0.5, 4.0).numpy()
    size = canvases[:, 2:] - canvases[:, :2]
    np.testing.assert_allclose(size[:, 0], size[:, 1], rtol=1e-5)
    assert (canvases[:, :2] <= 0).all() and (canvases[:, 2:] >= 1 - 1e-6).all()
    expanded = size[:, 0] > 1
    assert 0.4 < expanded.mean() < 0.6
    assert 2.3 < size[expanded, 0].mean() < 2.7 and size.max() <= 4


# The samplers: the whole canvas, five that ask for an IoU, any patch.
SAMPLERS = [None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0]
# One large enough that an IoU of 0.9 can be reached.
OBJECTS = np.concatenate([BOXES, [[0.03, 0.02, 0.99, 0.97]]]).astype(np.float32)


@pytest.fixture(scope="module")
def sampled():
    """The patches of the seven samplers on a thousand canvases."""
    return [values.numpy() for values in geometry.run_samplers(SEED, for_all(OBJECTS))]


@pytest.mark.parametrize("sampler", range(1, 7))
def test_patches_of_a_sampler_meet_its_constraints(sampled, sampler):
    patches, found = (values[:, sampler] for values in sampled)
    patches = patches[found].astype(np.float64)
    assert len(patches) > 100
    assert (iou(patches, OBJECTS).max(axis=1) >= SAMPLERS[sampler] - 1e-6).all()
    width, height = (patches[:, 2:] - patches[:, :2]).T
    scale, aspect = np.sqrt(width * height), width / height
    assert scale.min() >= 0.3 - 1e-5 and scale.max() <= 1 + 1e-5
    assert aspect.min() >= 0.5 - 1e-4 and aspect.max() <= 2 + 1e-4
    assert patches.min() >= -1e-6 and patches.max() <= 1 + 1e-6


def test_samplers_use_the_whole_of_their_ranges(sampled):
    patches = sampled[0][:, 6].astype(np.float64)
    width, height = (patches[:, 2:] - patches[:, :2]).T
    scale, aspect = np.sqrt(width * height), width / height
    np.testing.assert_allclose([scale.min(), scale.mean(), scale.max()], [0.3, 0.65, 1], atol=0.02)
    # Aspect ratios are uniform in what fits: a small patch may have any, the largest only 1.
    small = scale < 0.6
    np.testing.assert_allclose(
        [aspect[small].min(), aspect[small].mean(), aspect[small].max()], [0.5, 1.25, 2], atol=0.06
    )
    assert np.abs(aspect[scale > 0.97] - 1).max() < 0.07
    # And so are places.
    room = patches[small, :2] / (1 - np.stack([width, height], axis=1)[small])
    np.testing.assert_allclose(room.mean(axis=0), [0.5, 0.5], atol=0.04)
    np.testing.assert_allclose(room.max(axis=0), [1, 1], atol=0.02)


def test_the_first_sampler_gives_the_whole_canvas(sampled):
    patches, found = sampled
    assert (patches[:, 0] == geometry.WHOLE_IMAGE).all() and found[:, 0].all()


def test_samplers_try_fifty_times():
    # With an object as large as the canvas the IoU is the patch's area, scale², so that the chance
    # of one trial is known.
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    patches, found = (values.numpy() for values in geometry.run_samplers(SEED, for_all(boxes)))
    for sampler in range(1, 7):
        chance = (1 - max(0.3, SAMPLERS[sampler] ** 0.5)) / 0.7
        expected = 1 - (1 - chance) ** 50
        np.testing.assert_allclose(found[:, sampler].mean(), expected, atol=0.02)
    # It takes the first that is good, not the best.
    area = iou(patches[:, 3], boxes)[found[:, 3], 0]
    np.testing.assert_allclose(np.sqrt(area).mean(), (1 + 0.5**0.5) / 2, atol=0.02)


def test_tiny_objects_leave_some_samplers_without_a_patch():
    # No patch of at least 0.3 × 0.3 reaches an IoU of 0.3 with an object of 0.1 × 0.1.
    boxes = [[0.1, 0.1, 0.2, 0.2], [0.7, 0.7, 0.8, 0.8]]
    found = geometry.run_samplers(SEED, for_all(boxes))[1].numpy()
    assert found[:, 1].any() and not found[:, 2:6].any() and found[:, 6].all()


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.zeros((3, 4))])
def test_without_objects_there_is_only_the_whole_canvas(boxes):
    found = geometry.run_samplers(SEED, for_all(boxes))[1].numpy()
    assert found[:, 0].all() and not found[:, 1:].any()
    assert (geometry.draw_patches(SEED, for_all(boxes)) == geometry.WHOLE_IMAGE).numpy().all()


def test_padding_changes_nothing():
    padded = np.concatenate([for_all(BOXES), np.zeros((DRAWS, 4, 4), np.float32)], axis=1)
    for ours, theirs in zip(
        geometry.run_samplers(SEED, padded),
        geometry.run_samplers(SEED, for_all(BOXES)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("found", [[1] * 7, [1, 1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]])
def test_found_patches_have_equal_probability(found):
    patches = for_all(np.tile(np.arange(7)[:, None], (1, 4)))
    chosen = geometry.choose(SEED, patches, np.tile(np.array(found, bool), (DRAWS, 1))).numpy()[
        :, 0
    ]
    counts = np.bincount(chosen.astype(int), minlength=7)
    assert (counts[np.array(found) == 0] == 0).all()
    # Of a thousand, within four standard deviations.
    chance = 1 / sum(found)
    deviation = np.sqrt(DRAWS * chance * (1 - chance))
    assert (np.abs(counts[np.array(found) == 1] - DRAWS * chance) <= 4 * deviation).all()


def test_the_patch_is_one_of_those_found():
    samplers_seed, choice_seed = tf.unstack(tf.random.split(SEED, 2))
    expected = geometry.choose(choice_seed, *geometry.run_samplers(samplers_seed, for_all(BOXES)))
    np.testing.assert_array_equal(geometry.draw_patches(SEED, for_all(BOXES)), expected)


def test_the_window_is_the_patch_of_the_canvas():
    expand_seed, crop_seed = tf.unstack(tf.random.split(SEED, 2))
    canvas = geometry.draw_expansion(expand_seed, DRAWS, 1.0, 4.0).numpy()
    side = (canvas[:, 2] - canvas[:, 0])[:, None, None]
    corner = canvas[:, None, :2]
    on_canvas = (for_all(BOXES).reshape(DRAWS, -1, 2) - corner) / side
    patches = geometry.draw_patches(crop_seed, on_canvas.reshape(DRAWS, -1, 4)).numpy()
    windows = geometry.draw_windows(SEED, for_all(BOXES), 1.0, 4.0, crop_probability=1.0)
    np.testing.assert_allclose(
        windows, (corner + patches.reshape(DRAWS, 2, 2) * side).reshape(DRAWS, 4), atol=1e-5
    )


def test_expansion_by_hand():
    # Of the four numbers of a picture one decides, one is the size, two the place.
    _, size, x, y = tf.random.stateless_uniform([DRAWS, 4], SEED).numpy().T
    ratio = 1 + 3 * size
    canvas = geometry.draw_expansion(SEED, DRAWS, 1.0, 4.0).numpy()
    # The picture, 1 × 1, begins at a random place of the canvas, ratio × ratio.
    np.testing.assert_allclose(-canvas[:, :2].T, [x * (ratio - 1), y * (ratio - 1)], atol=1e-5)
    np.testing.assert_allclose((canvas[:, 2:] - canvas[:, :2]).T, [ratio, ratio], rtol=1e-5)
    never = geometry.draw_expansion(SEED, DRAWS, 0.0, 4.0)
    assert (never == geometry.WHOLE_IMAGE).numpy().all()


def test_no_augmentation_is_the_whole_picture():
    windows = geometry.draw_windows(SEED, for_all(BOXES), 0.0, 4.0, crop_probability=0.0)
    assert (windows == geometry.WHOLE_IMAGE).numpy().all()


def test_a_share_of_the_images_is_cropped():
    cropped, some, canvas = (
        geometry.draw_windows(SEED, for_all(BOXES), 0.5, 4.0, probability).numpy()
        for probability in (1.0, 0.3, 0.0)
    )
    is_whole = (some == canvas).all(axis=1)
    assert 0.66 < is_whole.mean() < 0.82  # the first sampler keeps one in seven whole, too
    np.testing.assert_array_equal(some[~is_whole], cropped[~is_whole])


def test_objects_count_by_their_centre():
    windows = tf.constant([[0.21, 0.2, 0.72, 1.0], [0.0, 0.0, 0.5, 0.5]])
    np.testing.assert_array_equal(
        geometry.centre_inside(np.stack([BOXES, BOXES]), windows),
        [[False, True, False], [True, False, True]],
    )
    # The edge is inside, as for Caffe.
    box = np.tile(np.array([[0.0, 0.25, 0.5, 0.75]], np.float32), (4, 1, 1))
    windows = [[0.25, 0, 1, 1], [0, 0, 0.25, 1], [0, 0.5, 1, 1], [0, 0, 1, 0.5]]
    assert geometry.centre_inside(box, tf.constant(windows, tf.float32)).numpy().all()
