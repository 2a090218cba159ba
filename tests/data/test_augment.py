import numpy as np
import pytest
import tensorflow as tf

from ssd_jax.data import augment

DRAWS = 1000
BOXES = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.9, 0.95], [0.45, 0.1, 0.55, 0.2]], np.float32)


def draws(draw):
    """What a function of a seed gives for a thousand seeds."""
    seeds = tf.stack([tf.zeros(DRAWS, tf.int64), tf.range(DRAWS, dtype=tf.int64)], axis=1)
    signature = tf.nest.map_structure(
        tf.type_spec_from_value,
        tf.function(draw).get_concrete_function(seeds[0]).structured_outputs,
    )
    run = tf.function(lambda: tf.map_fn(draw, seeds, fn_output_signature=signature))
    return tf.nest.map_structure(np.asarray, run())


def iou(patches, boxes):
    size = np.minimum(patches[:, None, 2:], boxes[:, 2:]) - np.maximum(
        patches[:, None, :2], boxes[:, :2]
    )
    intersection = np.maximum(size, 0).prod(axis=-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=-1) for x in (patches, boxes)]
    return intersection / (areas[0][:, None] + areas[1] - intersection)


def test_expansion_holds_the_picture_and_keeps_its_proportions():
    canvases = draws(lambda seed: augment.draw_expansion(seed, 0.5, 4.0))
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
    """What the seven samplers find on a thousand canvases."""
    return draws(lambda seed: augment.run_samplers(seed, OBJECTS))


@pytest.mark.parametrize("sampler", range(1, 7))
def test_what_a_sampler_finds_keeps_its_constraints(sampled, sampler):
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
    assert (patches[:, 0] == augment.WHOLE_PICTURE).all() and found[:, 0].all()


def test_samplers_try_fifty_times():
    # With an object as large as the canvas the IoU is the patch's area, scale², so that the chance
    # of one trial is known.
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    patches, found = draws(lambda seed: augment.run_samplers(seed, boxes))
    for sampler in range(1, 7):
        chance = (1 - max(0.3, SAMPLERS[sampler] ** 0.5)) / 0.7
        expected = 1 - (1 - chance) ** 50
        np.testing.assert_allclose(found[:, sampler].mean(), expected, atol=0.02)
    # It takes the first that is good, not the best.
    area = iou(patches[:, 3], boxes)[found[:, 3], 0]
    np.testing.assert_allclose(np.sqrt(area).mean(), (1 + 0.5**0.5) / 2, atol=0.02)


def test_tiny_objects_leave_some_samplers_without_a_patch():
    # No patch of at least 0.3 × 0.3 reaches an IoU of 0.3 with an object of 0.1 × 0.1.
    boxes = np.array([[0.1, 0.1, 0.2, 0.2], [0.7, 0.7, 0.8, 0.8]], np.float32)
    _, found = draws(lambda seed: augment.run_samplers(seed, boxes))
    assert found[:, 1].any() and not found[:, 2:6].any() and found[:, 6].all()


def test_without_objects_there_is_only_the_whole_canvas():
    none = np.zeros((0, 4), np.float32)
    _, found = draws(lambda seed: augment.run_samplers(seed, none))
    assert found[:, 0].all() and not found[:, 1:].any()
    assert (draws(lambda seed: augment.draw_patch(seed, none)) == augment.WHOLE_PICTURE).all()


@pytest.mark.parametrize("found", [[1] * 7, [1, 1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]])
def test_what_was_found_has_equal_chances(found):
    patches = np.tile(np.arange(7, dtype=np.float32)[:, None], (1, 4))
    chosen = draws(lambda seed: augment.choose(seed, patches, np.array(found, bool)))[:, 0]
    counts = np.bincount(chosen.astype(int), minlength=7)
    assert (counts[np.array(found) == 0] == 0).all()
    # Of a thousand, within four standard deviations.
    chance = 1 / sum(found)
    deviation = np.sqrt(DRAWS * chance * (1 - chance))
    assert (np.abs(counts[np.array(found) == 1] - DRAWS * chance) <= 4 * deviation).all()


def test_the_patch_is_one_of_those_found():
    seed = tf.constant([4, 2], tf.int64)
    samplers_seed, choice_seed = tf.unstack(tf.random.split(seed, 2))
    expected = augment.choose(choice_seed, *augment.run_samplers(samplers_seed, BOXES))
    np.testing.assert_array_equal(augment.draw_patch(seed, BOXES), expected)


def test_the_window_is_the_patch_of_the_canvas():
    seed = tf.constant([3, 7], tf.int64)
    expand_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
    canvas = augment.draw_expansion(expand_seed, 1.0, 4.0).numpy()
    side = canvas[2] - canvas[0]
    on_canvas = ((BOXES.reshape(-1, 2, 2) - canvas[:2]) / side).reshape(-1, 4)
    patch = augment.draw_patch(crop_seed, on_canvas.astype(np.float32)).numpy()
    window = augment.draw_window(seed, BOXES, 1.0, 4.0, crop=True)
    np.testing.assert_allclose(
        window, (canvas[:2] + patch.reshape(2, 2) * side).ravel(), rtol=1e-5, atol=1e-5
    )


def test_expansion_by_hand():
    # Of the four numbers one decides, one is the size, two the place.
    seed = tf.constant([0, 5], tf.int64)
    _, size, x, y = tf.random.stateless_uniform([4], seed).numpy()
    ratio = 1 + 3 * size
    canvas = augment.draw_expansion(seed, 1.0, 4.0).numpy()
    # The picture, 1 × 1, begins at a random place of the canvas, ratio × ratio.
    np.testing.assert_allclose(-canvas[:2], [x * (ratio - 1), y * (ratio - 1)], rtol=1e-6)
    np.testing.assert_allclose(canvas[2:] - canvas[:2], [ratio, ratio], rtol=1e-6)
    np.testing.assert_array_equal(augment.draw_expansion(seed, 0.0, 4.0), augment.WHOLE_PICTURE)


def test_no_augmentation_is_the_whole_picture():
    window = augment.draw_window(tf.constant([1, 1], tf.int64), BOXES, 0.0, 4.0, crop=False)
    np.testing.assert_array_equal(window, augment.WHOLE_PICTURE)


def test_objects_count_by_their_centre():
    window = tf.constant([0.21, 0.2, 0.72, 1.0])
    np.testing.assert_array_equal(augment.centre_inside(BOXES, window), [False, True, False])
    # The edge is inside, as for Caffe.
    box = np.array([[0.0, 0.25, 0.5, 0.75]], np.float32)
    for window in ([0.25, 0, 1, 1], [0, 0, 0.25, 1], [0, 0.5, 1, 1], [0, 0, 1, 0.5]):
        assert augment.centre_inside(box, tf.constant(window, tf.float32))[0]
