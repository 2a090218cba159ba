import numpy as np
import tensorflow as tf

from ssd_jax.data import augment

DRAWS = 300
BOXES = np.array([[0.1, 0.1, 0.3, 0.4], [0.5, 0.5, 0.9, 0.95], [0.45, 0.1, 0.55, 0.2]], np.float32)


def draws(draw, count=DRAWS):
    seeds = tf.stack([tf.zeros(count, tf.int64), tf.range(count, dtype=tf.int64)], axis=1)
    return np.asarray(tf.map_fn(draw, seeds, fn_output_signature=tf.float32))


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


def test_patches_keep_scale_aspect_and_bounds():
    seed = tf.constant([1, 2], tf.int64)
    patches = augment._draw_patches(seed, [1000]).numpy()
    width, height = (patches[:, 2:] - patches[:, :2]).T
    scale, aspect = np.sqrt(width * height), width / height
    assert 0.3 - 1e-5 <= scale.min() < 0.32 and 0.97 < scale.max() <= 1 + 1e-5
    assert 0.5 - 1e-4 <= aspect.min() < 0.6 and 1.8 < aspect.max() <= 2 + 1e-4
    assert patches.min() >= -1e-6 and patches.max() <= 1 + 1e-6


def test_seven_samplers_have_equal_chances():
    # With an object as large as the canvas the IoU is scale², so that every sampler succeeds
    # (that of 0.9 in 98 % of its 50 trials), and the chance of each to exceed 0.9 is known.
    boxes = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    patches = draws(lambda seed: augment.draw_patch(seed, boxes), 1400)
    whole = (patches == augment.WHOLE_PICTURE).all(axis=1)
    np.testing.assert_allclose(whole.mean(), 1 / 7, atol=0.03)
    reach = [(1 - max(0.3, minimum**0.5)) / 0.7 for minimum in (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)]
    expected = sum(reach[4] / chance for chance in reach) / 7
    large = iou(patches, boxes)[:, 0] >= 0.9
    np.testing.assert_allclose((large & ~whole).mean(), expected, atol=0.04)


def test_a_patch_reaches_its_overlap_with_some_object():
    # Tiny objects: no patch of at least 0.3 × 0.3 reaches an IoU of 0.3 with one of 0.1 × 0.1.
    boxes = np.array([[0.1, 0.1, 0.2, 0.2], [0.7, 0.7, 0.8, 0.8]], np.float32)
    patches = draws(lambda seed: augment.draw_patch(seed, boxes))
    best = iou(patches, boxes).max(axis=1)
    whole = (patches == augment.WHOLE_PICTURE).all(axis=1)
    # Left are: whole, at least 0.1 (where found), any.
    assert 0.25 < whole.mean() < 0.6
    assert (best[~whole] >= 0.1).any() and (best[~whole] < 0.1).any()


def test_without_objects_there_is_only_the_whole_canvas():
    none = np.zeros((0, 4), np.float32)
    assert (draws(lambda seed: augment.draw_patch(seed, none), 20) == augment.WHOLE_PICTURE).all()


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


def test_no_augmentation_is_the_whole_picture():
    window = augment.draw_window(tf.constant([1, 1], tf.int64), BOXES, 0.0, 4.0, crop=False)
    np.testing.assert_array_equal(window, augment.WHOLE_PICTURE)


def test_objects_count_by_their_centre():
    window = tf.constant([0.2, 0.2, 0.72, 1.0])
    np.testing.assert_array_equal(augment.centre_inside(BOXES, window), [False, True, False])
