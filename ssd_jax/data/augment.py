"""The geometry of SSD's augmentation (paper section 2.2, "Data augmentation"; section 3.6).

Expansion puts the picture on a larger canvas; the crop cuts a patch out of that. Together they
are one *window*: a rectangle in the picture's own coordinates that may reach outside it. It is
drawn from the boxes alone, before any pixel is decoded; colours and mirroring follow on the
device. Caffe: `expand_layer`, `GenerateBatchSamples` in `sampler.cpp`.
"""

import tensorflow as tf

WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)

# The samplers between the first (the whole canvas) and the last (any patch): the patch must
# reach this IoU with at least one object.
MINIMUM_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50
PATCH_SCALE = (0.3, 1.0)
PATCH_ASPECT_RATIO = (0.5, 2.0)


def draw_expansion(seed: tf.Tensor, probability: float, max_ratio: float) -> tf.Tensor:
    """A canvas up to `max_ratio` times as wide and high, with the picture somewhere on it.

    Args:
      seed: `[2]`, for stateless random numbers.
      probability: that there is an expansion at all.
      max_ratio: the largest ratio of canvas to picture.

    Returns:
      `[4] xyxy`: the canvas in the picture's coordinates, in which the picture is [0, 1].
    """
    chance, ratio, x, y = tf.unstack(tf.random.stateless_uniform([4], seed))
    ratio = tf.where(chance < probability, 1.0 + ratio * (max_ratio - 1.0), 1.0)
    left, top = -x * (ratio - 1.0), -y * (ratio - 1.0)
    return tf.stack([left, top, left + ratio, top + ratio])


def draw_patch(seed: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """One of the crops that the seven samplers of SSD find, each with the same chance.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: `[objects, 4] xyxy` in the canvas's coordinates, in which the canvas is [0, 1].

    Returns:
      `[4] xyxy` in the canvas's coordinates.
    """
    samplers_seed, choice_seed = tf.unstack(tf.random.split(seed, 2))
    patches, found = run_samplers(samplers_seed, boxes)
    return choose(choice_seed, patches, found)


def run_samplers(seed: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What each of the seven samplers finds.

    The first gives the whole canvas; five ask for an IoU of at least 0.1, …, 0.9 with some object
    and give the first of 50 patches that has it; the last takes any patch. Without objects, only
    the first finds one.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: `[objects, 4] xyxy` in the canvas's coordinates, in which the canvas is [0, 1].

    Returns:
      `[7, 4] xyxy` in the canvas's coordinates, and `[7] bool`: whether the sampler found it.
    """
    patches = _draw_patches(seed, [len(MINIMUM_IOUS) + 1, TRIALS])
    iou = _iou(patches, boxes)  # [samplers, trials, objects]
    wanted = tf.constant((*MINIMUM_IOUS, 0.0))[:, None, None]
    good = tf.reduce_any(iou >= wanted, axis=2)
    first_good = tf.argmax(tf.cast(good, tf.int32), axis=1)
    patches = tf.gather(patches, first_good, batch_dims=1)
    return (
        tf.concat([tf.constant([WHOLE_PICTURE]), patches], axis=0),
        tf.concat([[True], tf.reduce_any(good, axis=1)], axis=0),
    )


def choose(seed: tf.Tensor, patches: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """One of the `[samplers, 4]` patches that were found, each with the same chance."""
    patches = tf.boolean_mask(patches, found)
    # Not maxval=: the number of patches is known only here, a fraction of it is the same.
    fraction = tf.random.stateless_uniform([], seed)
    return patches[tf.cast(fraction * tf.cast(tf.shape(patches)[0], tf.float32), tf.int32)]


def _draw_patches(seed: tf.Tensor, shape: list[int]) -> tf.Tensor:
    """`[*shape, 4] xyxy`: patches within [0, 1] of random scale, aspect ratio and place."""
    scale, aspect, x, y = tf.unstack(tf.random.stateless_uniform([*shape, 4], seed), axis=-1)
    scale = PATCH_SCALE[0] + scale * (PATCH_SCALE[1] - PATCH_SCALE[0])
    # As in Caffe, aspect ratios that would not fit into the canvas at this scale are not drawn.
    lowest = tf.maximum(PATCH_ASPECT_RATIO[0], scale**2)
    highest = tf.minimum(PATCH_ASPECT_RATIO[1], 1 / scale**2)
    aspect = lowest + aspect * (highest - lowest)
    width, height = scale * tf.sqrt(aspect), scale / tf.sqrt(aspect)
    left, top = x * (1 - width), y * (1 - height)
    return tf.stack([left, top, left + width, top + height], axis=-1)


def _iou(patches: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """IoU of `[..., 4]` with `[objects, 4]` as `[..., objects]`."""
    patches = patches[..., None, :]
    top_left = tf.maximum(patches[..., :2], boxes[:, :2])
    bottom_right = tf.minimum(patches[..., 2:], boxes[:, 2:])
    intersection = tf.reduce_prod(tf.maximum(bottom_right - top_left, 0.0), axis=-1)
    patch_area = tf.reduce_prod(patches[..., 2:] - patches[..., :2], axis=-1)
    box_area = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    return tf.math.divide_no_nan(intersection, patch_area + box_area - intersection)


def draw_window(
    seed: tf.Tensor,
    boxes: tf.Tensor,
    expand_probability: float,
    expand_max_ratio: float,
    crop: bool,
) -> tf.Tensor:
    """Expansion, then crop, as one window.

    Args:
      seed: `[2]`, for stateless random numbers.
      boxes: `[objects, 4] xyxy` in the picture's coordinates.
      expand_probability: 0 turns expansion off.
      expand_max_ratio: the largest ratio of canvas to picture.
      crop: whether a patch is cut out of the canvas.

    Returns:
      `[4] xyxy` in the picture's coordinates, in which the picture is [0, 1].
    """
    expand_seed, crop_seed = tf.unstack(tf.random.split(seed, 2))
    canvas = draw_expansion(expand_seed, expand_probability, expand_max_ratio)
    if not crop:
        return canvas
    origin, size = canvas[:2], canvas[2:] - canvas[:2]
    patch = draw_patch(crop_seed, (boxes - tf.tile(origin, [2])) / tf.tile(size, [2]))
    return tf.tile(origin, [2]) + patch * tf.tile(size, [2])


def centre_inside(boxes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """`[objects] bool`: whose centre the window shows; the others are not trained on.

    Args:
      boxes: `[objects, 4] xyxy` in the picture's coordinates.
      window: `[4] xyxy` in the same.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return tf.reduce_all((centres >= window[:2]) & (centres <= window[2:]), axis=1)
