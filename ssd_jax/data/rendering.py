"""Renders the part of an image inside a window on the network's square canvas."""

# Pyright's types of TensorFlow have neither slices with `...` nor tensors as seeds.
# pyright: reportArgumentType=false

import functools
from typing import NamedTuple

from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.images.limits import FEW_SCANS, MAX_PIXELS, MAX_TEXTS, SCAN, TEXT

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 26  # bytes up to the type of the channels

# The scans and texts of an image are not counted if its bytes × (its pixels + MORE_PIXELS) are at
# most SMALL; so a file of more than 650 kB is always checked.
SMALL, MORE_PIXELS = 1.3e11, 2e5
SCANNED_PIXELS = 4e7  # larger JPEGs with several scans are checked by Pillow

# Caffe draws one of these for every training image.
RESIZE_METHODS = ("bilinear", "area", "nearest", "bicubic", "lanczos3")


class Placement(NamedTuple):
    """A rectangle of whole pixels of the image, and its rectangle on the canvas.

    Both rectangles are `[..., 4] int32`: y, x, height, width. For a window outside the image, the
    `canvas` rectangle has height and width 0.
    """

    image: tf.Tensor
    canvas: tf.Tensor


def place(windows: tf.Tensor, image_sizes: tf.Tensor, canvas_size: int) -> Placement:
    """Rounds windows to whole pixels of image and canvas.

    Args:
      windows: `[..., 4] xyxy` in the coordinates of the image, [0, 1].
      image_sizes: `[..., 2]` height and width in pixels.
      canvas_size: side of the square canvas in pixels.
    """
    pixels = tf.cast(image_sizes, tf.float32)
    low, high = windows[..., 1::-1], windows[..., :1:-1]  # y, x
    # The visible part, in pixels of the image; at least one, so that it can be decoded.
    start = tf.clip_by_value(tf.round(low * pixels), 0.0, pixels - 1)
    end = tf.clip_by_value(tf.round(high * pixels), start + 1, pixels)
    # Its position, in pixels of the canvas.
    to_canvas = canvas_size / ((high - low) * pixels)
    canvas_start = tf.round((start - low * pixels) * to_canvas)
    canvas_end = tf.round((end - low * pixels) * to_canvas)
    # In a direction in which the image covers the window, it must cover the canvas.
    side = float(canvas_size)
    canvas_start = tf.where(low >= 0, 0.0, tf.clip_by_value(canvas_start, 0.0, side))
    canvas_end = tf.where(high <= 1, side, tf.clip_by_value(canvas_end, 0.0, side))
    # A window outside the image in one direction shows nothing.
    shows = (low < 1) & (high > 0) & (canvas_end > canvas_start)
    shows = tf.reduce_all(shows, axis=-1, keepdims=True)
    canvas = tf.concat([canvas_start, canvas_end - canvas_start], axis=-1)
    return Placement(
        image=tf.cast(tf.concat([start, end - start], axis=-1), tf.int32),
        canvas=tf.cast(tf.where(shows, canvas, 0.0), tf.int32),
    )


def place_boxes(
    boxes: tf.Tensor, placement: Placement, image_sizes: tf.Tensor, canvas_size: int
) -> tf.Tensor:
    """Transforms boxes exactly like the pixels of the image.

    Args:
      boxes: `[..., objects, 4] xyxy` in the coordinates of the image.
      placement: a placement that is not empty.
      image_sizes: `[..., 2]` height and width in pixels.
      canvas_size: side of the square canvas in pixels.

    Returns:
      `[..., objects, 4] xyxy` in the coordinates of the canvas, not clipped.
    """

    def both_corners(y_then_x):
        x_then_y = tf.cast(y_then_x[..., ::-1], tf.float32)
        return tf.concat([x_then_y, x_then_y], axis=-1)[..., None, :]

    image, canvas = placement
    pixels = boxes * both_corners(image_sizes) - both_corners(image[..., :2])
    scale = both_corners(canvas[..., 2:] / image[..., 2:])
    return (pixels * scale + both_corners(canvas[..., :2])) / canvas_size


def canvas_window(placement: Placement, canvas_size: int) -> tf.Tensor:
    """`[..., 4] xyxy`: the position of the image on the canvas, [0, 1]."""
    start, size = placement.canvas[..., 1::-1], placement.canvas[..., :1:-1]
    return tf.cast(tf.concat([start, start + size], axis=-1), tf.float32) / canvas_size


def paddings(placement: Placement, canvas_size: int) -> tf.Tensor:
    """`[..., 2, 2] int32` for `render`: rows, then bytes of a row, before and after the image."""
    before, size = placement.canvas[..., :2], placement.canvas[..., 2:]
    return tf.stack([before, canvas_size - before - size], axis=-1) * [[1], [3]]


def is_plain_png(encoded: tf.Tensor) -> tf.Tensor:
    """Whether bytes begin like a PNG file of 8 bits, gray or RGB, which needs no conversion."""
    padded = tf.strings.join([encoded, b"\0" * PNG_HEADER])
    kind = tf.strings.substr(padded, 24, 2)  # bits per channel, and the type of the channels
    is_simple = (kind == b"\x08\x00") | (kind == b"\x08\x02")
    return (tf.strings.substr(padded, 0, len(PNG_SIGNATURE)) == PNG_SIGNATURE) & is_simple


def is_small(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Whether an image is decoded within a few seconds, with any scans and texts.

    Most images of data sets are small: JPEGs of 640 × 480 pixels up to 256 kB.

    Args:
      encoded: a JPEG or PNG file.
      size: `[2]` its height and width.
    """
    # A scan has 10 bytes or more, and takes 0.1 ns per pixel. The slowest text of a PNG has 8 kB or
    # more, and takes 30 ms.
    num_pixels = tf.reduce_prod(tf.cast(size, tf.float32))
    return tf.cast(tf.strings.length(encoded), tf.float32) * (num_pixels + MORE_PIXELS) <= SMALL


def has_few_parts(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Whether the number of scans of a JPEG, or of compressed texts of a PNG, is within limits.

    Args:
      encoded: a JPEG or PNG file.
      size: `[2]` its height and width.
    """
    # Several scans of a large JPEG would take too much memory.
    scans = tf.where(tf.reduce_prod(tf.cast(size, tf.float32)) > SCANNED_PIXELS, 1, FEW_SCANS)
    # One operation for both, because branches that are not taken also cost time.
    part = tf.where(tf.io.is_jpeg(encoded), SCAN, TEXT)
    most = tf.where(tf.io.is_jpeg(encoded), scans, MAX_TEXTS)
    pieces = tf.raw_ops.StringSplitV2(input=[encoded], sep=part).values
    return tf.size(pieces) <= most + 1


def image_size(encoded: tf.Tensor) -> tf.Tensor:
    """`[2]` height and width of a JPEG or PNG file, without decoding it.

    Fails for images of more than `MAX_PIXELS`.
    """

    def size_of_png():
        width_and_height = tf.strings.substr(encoded, 16, 8)
        return tf.io.decode_raw(width_and_height, tf.int32, little_endian=False)[::-1]

    size = tf.cond(
        tf.io.is_jpeg(encoded), lambda: tf.io.extract_jpeg_shape(encoded)[:2], size_of_png
    )
    size = tf.ensure_shape(size, [2])
    num_pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    # Not `tf.debugging.assert_less_equal`, which is many operations.
    fits = tf.raw_ops.Assert(condition=num_pixels <= MAX_PIXELS, data=["too many pixels", size])
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.identity(size)


def render(
    encoded: tf.Tensor,
    placement: Placement,
    padded: tf.Tensor,
    canvas_size: int,
    method: tf.Tensor,
) -> tf.Tensor:
    """Decodes the visible part of an image and resizes it to its rectangle on the canvas.

    Args:
      encoded: a JPEG or PNG file.
      placement: see `place`.
      padded: see `paddings`; computed for many images at once, which is faster.
      canvas_size: side of the square canvas in pixels.
      method: `[] int32`, an index into `RESIZE_METHODS`.

    Returns:
      `[canvas_size, canvas_size, 3] uint8` RGB, 0 outside the image.
    """

    def decode_other() -> tf.Tensor:
        y, x, height, width = tf.unstack(placement.image)
        return decode_whole(encoded)[y : y + height, x : x + width]

    visible = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_and_crop_jpeg(encoded, placement.image, channels=3),
        decode_other,
    )
    shown = placement.canvas[2:]
    # At least one pixel, for an empty placement; it is removed below.
    size = tf.maximum(shown, 1)
    resized = tf.switch_case(
        method, [functools.partial(_resize, visible, size, name) for name in RESIZE_METHODS]
    )
    # Rows of bytes instead of pixels of three: padding copies whole rows, eight times as fast.
    channels = tf.constant([1, 3])
    rows = tf.slice(tf.reshape(resized, size * channels), [0, 0], shown * channels)
    return tf.reshape(tf.pad(rows, padded), [canvas_size, canvas_size, 3])


def _resize(pixels: tf.Tensor, size: tf.Tensor, method: str) -> tf.Tensor:
    """Resizes `[height, width, 3] uint8` without antialiasing, like OpenCV."""
    if method == "nearest":
        for axis in (0, 1):
            step = tf.shape(pixels)[axis] / size[axis]
            places = (tf.range(size[axis], dtype=tf.float64) + 0.5) * step
            pixels = tf.gather(pixels, tf.cast(places, tf.int32), axis=axis)
        return pixels
    if method == "lanczos3":
        pixels = _resize_lanczos3(pixels, size)
    else:
        pixels = tf.image.resize(pixels, size, method=method)
    # Clips, rounds and casts in one pass; the kernels of two methods have negative parts.
    bytes_of_pixels = tf.raw_ops.QuantizeV2(
        input=pixels,
        min_range=0.0,
        max_range=255.0,
        T=tf.quint8,
        mode="SCALED",
        round_mode="HALF_TO_EVEN",
    )
    return tf.bitcast(bytes_of_pixels.output, tf.uint8)


def _resize_lanczos3(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes one direction after the other, as `[height, width, 3] float32`.

    TensorFlow's operation is fast along the first axis and slow along the second, where it works
    pixel by pixel. So each direction becomes the first axis, with all other data in one row. The
    result equals `tf.image.resize`, three times as fast. The height comes first: if an image is
    reduced much, few of its rows are read.
    """

    def resize_rows(rows, num_rows):
        scale = tf.cast(num_rows / tf.shape(rows)[0], tf.float32)
        return tf.raw_ops.ScaleAndTranslate(
            images=rows[None, :, None, :],
            size=[num_rows, 1],
            scale=[scale, 1.0],
            translation=[0.0, 0.0],
            kernel_type="lanczos3",
            antialias=False,
        )[0, :, 0, :]

    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    rows = resize_rows(tf.reshape(pixels, [height, width * 3]), size[0])
    columns = tf.reshape(tf.transpose(rows), [width, 3 * size[0]])
    columns = tf.reshape(resize_rows(columns, size[1]), [size[1] * 3, size[0]])
    return tf.reshape(tf.transpose(columns), [size[0], size[1], 3])


def decode_whole(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or the first image of a GIF: `[height, width, 3] uint8` RGB."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)
