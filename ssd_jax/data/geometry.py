"""The geometry of SSD's augmentation (paper section 2.2, "Data augmentation"; section 3.6).

Expansion puts the image on a larger canvas; the crop takes a patch of the canvas. Together they
are one *window*: a rectangle in the coordinates of the image that may reach outside it. It is
drawn from the boxes alone, before any pixel is decoded; colours and mirroring follow on the
device. Caffe: `expand_layer`, `GenerateBatchSamples` in `sampler.cpp`.

Windows are drawn for a whole batch at once: an image has few boxes, and the overhead of TensorFlow
operations dominates.
"""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

from ssd_jax.data.tensorflow_setup import tf

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)

# The samplers between the first (the whole canvas) and the last (any patch): the patch must
# reach this IoU with at least one object.
MINIMUM_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50
PATCH_SCALE = (0.3, 1.0)
PATCH_ASPECT_RATIO = (0.5, 2.0)


def draw_expansion(
    seed: tf.Tensor, batch_size: tf.Tensor, probability: float | tf.Tensor, max_ratio: float
) -> tf.Tensor:
    """Draws canvases up to `max_ratio` times as wide and high, with the image at a random position.

    Args:
      seed: `[2]`, for stateless random numbers.
      batch_size: the number of canvases.
      probability: the probability of an expansion; or `[batch]`, one for each image.
      max_ratio: the largest ratio of canvas to image.

    Returns:
      `[batch, 4] xyxy`: canvases in the coordinates of their images, [0, 1].
    """
    numbers = tf.random.stateless_uniform([batch_size, 4], seed)
    chance, ratio, x, y = tf.unstack(numbers, axis=1)
    ratio = tf.where(chance < probability, 1.0 + ratio * (max_ratio - 1.0), 1.0)
    left, top = -x * (ratio - 1.0), -y * (ratio - 1.0)
    return tf.stack([left, top, left + ratio, top + ratio], axis=1)


def draw_patches(seed: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Draws one of the crops found by the seven samplers of SSD, with equal probability.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: `[batch, objects, 4] xyxy` in the coordinates of the canvas, [0, 1]; boxes without
        area are padding.

    Returns:
      `[batch, 4] xyxy` in the coordinates of the canvas.
    """
    samplers_seed, choice_seed = tf.unstack(tf.random.split(seed, 2))
    patches, found = run_samplers(samplers_seed, boxes)
    return choose(choice_seed, patches, found)


def run_samplers(seed: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs the seven crop samplers.

    The first sampler returns the whole canvas. Five samplers require an IoU of at least 0.1, …,
    0.9 with any object, and return the first of 50 patches with it. The last accepts any patch.
    Without objects, only the first sampler finds a patch.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: see `draw_patches`.

    Returns:
      `[batch, 7, 4] xyxy` in the coordinates of the canvas, and `[batch, 7] bool`: whether the
      sampler found it.
    """
    batch_size = tf.shape(boxes)[0]
    patches = _random_patches(seed, [batch_size, len(MINIMUM_IOUS) + 1, TRIALS])
    iou = _iou(patches, boxes[:, None])  # [batch, samplers, trials, objects]
    real = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=2)
    best_iou = tf.reduce_max(tf.where(real[:, None, None], iou, -1.0), axis=3)
    good = best_iou >= tf.constant((*MINIMUM_IOUS, 0.0))[:, None]
    first_good = tf.argmax(tf.cast(good, tf.uint8), axis=2)
    patches = tf.gather(patches, first_good, batch_dims=2)
    whole = tf.tile(tf.constant([[WHOLE_IMAGE]]), [batch_size, 1, 1])
    return (
        tf.concat([whole, patches], axis=1),
        tf.concat([tf.ones([batch_size, 1], tf.bool), tf.reduce_any(good, axis=2)], axis=1),
    )


def choose(seed: tf.Tensor, patches: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """Draws one of the found `[batch, samplers, 4]` patches, with equal probability."""
    rank = tf.cumsum(tf.cast(found, tf.int32), axis=1)  # 1 for the first found patch, …
    num_found = tf.cast(rank[:, -1], tf.float32)
    fraction = tf.random.stateless_uniform([tf.shape(found)[0]], seed)
    wanted = 1 + tf.cast(fraction * num_found, tf.int32)
    # The first patch of this rank; missing patches after it have the same rank.
    chosen = tf.argmax(tf.cast(rank == wanted[:, None], tf.uint8), axis=1)
    return tf.gather(patches, chosen, batch_dims=1)


def _random_patches(seed: tf.Tensor, shape: list) -> tf.Tensor:
    """`[*shape, 4] xyxy`: patches within [0, 1] of random scale, aspect ratio and position."""
    scale, aspect, x, y = tf.unstack(tf.random.stateless_uniform([4, *shape], seed))
    scale = PATCH_SCALE[0] + scale * (PATCH_SCALE[1] - PATCH_SCALE[0])
    # As in Caffe, only aspect ratios that fit into the canvas at this scale are drawn.
    lowest = tf.maximum(PATCH_ASPECT_RATIO[0], scale**2)
    highest = tf.minimum(PATCH_ASPECT_RATIO[1], 1 / scale**2)
    aspect = lowest + aspect * (highest - lowest)
    width, height = scale * tf.sqrt(aspect), scale / tf.sqrt(aspect)
    left, top = x * (1 - width), y * (1 - height)
    return tf.stack([left, top, left + width, top + height], axis=-1)


def _iou(patches: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """IoU of `[..., patches, 4]` with `[..., objects, 4]` as `[..., patches, objects]`."""
    patch = [patches[..., :, None, i] for i in range(4)]
    box = [boxes[..., None, :, i] for i in range(4)]
    width = tf.minimum(patch[2], box[2]) - tf.maximum(patch[0], box[0])
    height = tf.minimum(patch[3], box[3]) - tf.maximum(patch[1], box[1])
    intersection = tf.maximum(width, 0.0) * tf.maximum(height, 0.0)
    patch_area = (patch[2] - patch[0]) * (patch[3] - patch[1])
    box_area = (box[2] - box[0]) * (box[3] - box[1])
    return intersection / (patch_area + box_area - intersection)


def draw_windows(
    seed: tf.Tensor,
    boxes: tf.Tensor,
    expand_probability: float | tf.Tensor,
    expand_max_ratio: float,
    crop_probability: float,
) -> tf.Tensor:
    """Draws an expansion, then a crop, as one window for each image.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: `[batch, objects, 4] xyxy` in the coordinates of the image; boxes without area are
        padding.
      expand_probability: 0 turns expansion off; see `draw_expansion`.
      expand_max_ratio: the largest ratio of canvas to image.
      crop_probability: the probability of a crop; 0 turns it off.

    Returns:
      `[batch, 4] xyxy` in the coordinates of the image, [0, 1].
    """
    expand_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
    batch_size = tf.shape(boxes)[0]
    canvas = draw_expansion(expand_seed, batch_size, expand_probability, expand_max_ratio)
    if not crop_probability:
        return canvas
    origin = tf.tile(canvas[:, :2], [1, 2])
    size = tf.tile(canvas[:, 2:] - canvas[:, :2], [1, 2])
    patches = draw_patches(crop_seed, (boxes - origin[:, None]) / size[:, None])
    if crop_probability < 1:
        chance_seed = tf.random.fold_in(crop_seed, 0)
        is_cropped = tf.random.stateless_uniform([batch_size, 1], chance_seed) < crop_probability
        patches = tf.where(is_cropped, patches, WHOLE_IMAGE)
    return origin + patches * size


def centre_inside(boxes: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """`[batch, objects] bool`: whether the centre is in the window; only such objects are used.

    Args:
      boxes: `[batch, objects, 4] xyxy` in the coordinates of the image.
      windows: `[batch, 4] xyxy` in the same coordinates.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    windows = windows[:, None]
    return tf.reduce_all((centres >= windows[..., :2]) & (centres <= windows[..., 2:]), axis=2)
