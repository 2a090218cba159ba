"""Files of all kinds become upright RGB images, or give one clear message."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from ssd_jax.errors import UserError
from ssd_jax.images import opening
from ssd_jax.images.opening import (
    MAX_PIXELS,
    ORIENTATION_TAG,
    open_image,
    size_in_file,
    to_rgb,
    upright_file,
)
from ssd_jax.images.resizing import resize_to_square
from tests.helpers.reference_results import carried
from tools.attacks.image_bombs import tags


def encoded(image: Image.Image | np.ndarray, image_format="PNG", **options) -> bytes:
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, image_format, **options)
    return file.getvalue()


def pixels(file: bytes) -> list:
    return np.asarray(open_image(file)).tolist()


def png(width: int, height: int, bits: int, kind: int, content: bytes) -> bytes:
    """A PNG file; kind 0 is gray, 2 RGB and 6 RGBA."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def png_header(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header states many pixels."""
    return png(width, height, 8, 2, bytes(10_000))


def deep_png(values: np.ndarray) -> bytes:
    """A PNG file of 16 bits of `[height, width, 3 or 4]`, which Pillow does not write."""
    height, width, channels = values.shape
    rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
    return png(width, height, 16, {3: 2, 4: 6}[channels], b"".join(rows))


def deep_tiff(values: np.ndarray, order: str, is_packed: bool) -> bytes:
    """A TIFF file of 16 bits of `[height, width, 3]`, in one of the orders "<" and ">"."""
    content = values.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if is_packed else content
    height, width, _ = values.shape
    end = 8 + len(content)
    tags = [(256, width), (257, height), (258, end + 2 + 9 * 12 + 4), (259, 8 if is_packed else 1)]
    tags += [(262, 2), (273, 8), (277, 3), (278, height), (279, len(content))]
    entries = [
        struct.pack(f"{order}HHI", tag, 3, 3) + struct.pack(f"{order}I", value)
        if tag == 258
        else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in tags
    ]
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, end)
    directory = struct.pack(f"{order}H", 9) + b"".join(entries) + bytes(4)
    return start + content + directory + struct.pack(f"{order}3H", 16, 16, 16)


PICTURE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.mark.parametrize(
    "orientation, upright",
    [
        (1, PICTURE),
        (2, PICTURE[:, ::-1]),
        (3, PICTURE[::-1, ::-1]),
        (4, PICTURE[::-1]),
        (5, PICTURE.swapaxes(0, 1)),
        (6, np.rot90(PICTURE, -1)),  # a quarter clockwise
        (7, np.rot90(PICTURE, 2).swapaxes(0, 1)),
        (8, np.rot90(PICTURE)),
    ],
)
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(orientation, upright, image_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    opened = open_image(encoded(PICTURE, image_format, exif=exif, **options))
    np.testing.assert_array_equal(opened, upright)
    np.testing.assert_array_equal(to_rgb(opened), upright)


def test_a_file_can_be_set_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright_file(encoded(np.rot90(PICTURE), exif=exif))
    assert pixels(turned) == PICTURE.tolist() and upright_file(turned) == turned
    exif[0x0112] = 1
    for untouched in (encoded(PICTURE, exif=exif), encoded(PICTURE)):
        assert upright_file(untouched) == untouched
    assert upright_file(b"no picture") == b""


def test_damaged_exif_leaves_the_picture():
    assert pixels(encoded(PICTURE, exif=b"Exif\x00\x00garbage")) == PICTURE.tolist()


def test_16_bits_are_scaled_not_clipped():
    deep = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    assert pixels(encoded(deep)) == [[[v] * 3 for v in (0, 0, 1, 128, 255)]]
    assert pixels(encoded(deep, "TIFF")) == pixels(encoded(deep))
    assert pixels(b"P5 5 1 65535\n" + deep.astype(">u2").tobytes()) == pixels(encoded(deep))


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([40, 250], [40, 250]),  # the values of 8 bits, in 16
        ([0, 256, 511], [0, 128, 255]),
        ([4, 1000, 1023], [1, 250, 255]),  # 10 bits
        ([100, 3000], [6, 187]),  # 12 bits
        ([100, 16383], [1, 255]),
        ([100, 32767], [0, 255]),
        ([100, 32768], [0, 128]),  # all bits are used
        ([0, 5, 25], [0, 40, 200]),
        ([1, 0], [128, 0]),
        ([0, 0], [0, 0]),
    ],
)
def test_16_bits_are_scaled_by_the_bits_that_are_used(values, wanted):
    deep = np.array([values], np.uint16)
    gray = [[[value] * 3 for value in wanted]]
    for file in (encoded(deep), encoded(deep, "TIFF"), encoded(deep.astype(np.int32), "TIFF")):
        assert pixels(file) == gray
        # What training decodes.
        assert pixels(upright_file(file)) == gray and upright_file(file)[24:26] == b"\x08\x02"


@pytest.mark.parametrize(
    "file",
    [
        deep_png,
        lambda values: deep_png(np.dstack([values, np.full_like(values[..., :1], 65535)])),
        lambda values: deep_tiff(values, "<", is_packed=False),
        lambda values: deep_tiff(values, ">", is_packed=False),
        lambda values: deep_tiff(values, "<", is_packed=True),
        lambda values: deep_tiff(values, ">", is_packed=True),
    ],
    ids=["png", "png with alpha", "tiff little", "tiff big", "tiff packed", "tiff packed big"],
)
def test_colours_of_16_bits_are_scaled_together(file):
    values = np.array([[[16, 1600, 4000], [0, 255, 17]]], np.uint16)
    assert pixels(file(values)) == [[[1, 100, 250], [0, 15, 1]]]
    assert pixels(upright_file(file(values))) == pixels(file(values))
    assert pixels(file(values * 16)) == pixels(file(values))
    assert pixels(file(values // 16)) == [[[1, 100, 250], [0, 15, 1]]]


def test_transparent_pixels_of_16_bits_become_white():
    values = np.array([[[800, 0, 1000, 65535], [800, 0, 1000, 0]]], np.uint16)
    assert pixels(deep_png(values)) == [[[200, 0, 250], [255, 255, 255]]]


def test_transparent_pixels_become_white():
    colors = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    wanted = [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]
    assert pixels(encoded(colors)) == wanted
    assert pixels(encoded(colors, "WEBP", lossless=True, exact=True)) == wanted
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([9, 8, 7, 30, 20, 10])
    assert pixels(encoded(palette, transparency=0)) == [[[255, 255, 255], [30, 20, 10]]]
    assert pixels(encoded(palette)) == [[[9, 8, 7], [30, 20, 10]]]


def test_gray_and_cmyk_become_rgb():
    gray = Image.new("L", (16, 16), 77)
    assert pixels(encoded(gray, "JPEG"))[3][5] == [77, 77, 77]
    assert pixels(encoded(Image.new("1", (2, 2), 1)))[0][0] == [255, 255, 255]
    # No cyan, all magenta, half the yellow, no black.
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 128, 0))
    np.testing.assert_allclose(pixels(encoded(cmyk, "JPEG"))[3][5], [255, 0, 127], atol=3)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(image_format):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    file = encoded(first, image_format, save_all=True, append_images=[second])
    np.testing.assert_allclose(pixels(file)[4][4], [255, 0, 0], atol=8)


def noise(image_format):
    random = np.random.default_rng(0)
    return encoded(random.integers(0, 256, (60, 80, 3), dtype=np.uint8), image_format)


@pytest.mark.parametrize(
    "file, reason",
    [
        (b"", "it is empty"),
        (b"only a text", "no image of a known format"),
        (noise("JPEG")[:-500], "truncated"),
        (noise("PNG")[:-500], "truncated"),
        (noise("PNG")[:40], "cannot be read"),
        (noise("WEBP")[:-500], "cannot be read"),
        (png_header(20_000, 20_000), "20000 × 20000 pixels, more than 110,000,000|more than 110"),
        (png_header(64, 64), "cannot be read"),
        (encoded(np.zeros((4, 4), np.float32), "TIFF"), "fractions of unknown range"),
        (encoded(np.full((4, 4), 70_000, np.int32), "TIFF"), "32 bits"),
        # Pillow would start Ghostscript.
        (encoded(PICTURE, "EPS"), "no image of a known format"),
    ],
)
def test_unreadable_images_are_reported_with_the_reason(file, reason, tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(file)
    with pytest.raises(UserError, match=reason) as error:
        open_image(path)
    assert str(error.value).startswith(f"{path} cannot be read")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limits_are_checked_before_decoding(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(png_header(10_488, 10_488))  # just within the limit
    assert size_in_file(path) == (10_488, 10_488)
    assert 10_488**2 <= MAX_PIXELS < 10_489**2
    path.write_bytes(png_header(10_489, 10_489))
    with pytest.raises(UserError, match=r"10489 × 10489|more than 110,000,000"):
        size_in_file(path)
    with pytest.raises(UserError, match="my name cannot be read: it has 3 × 2 pixels, more than 5"):
        open_image(encoded(PICTURE), name="my name", max_pixels=5)
    assert open_image(encoded(PICTURE), max_pixels=6).size == (3, 2)
    with pytest.raises(UserError, match=r"none.jpg cannot be read: No such file"):
        open_image(tmp_path / "none.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "bits, kind, most",
    [(8, 2, 110_000_000), (8, 0, 94_000_000), (8, 6, 58_750_000), (16, 2, 36_153_846)],
    ids=["RGB", "gray", "RGBA", "RGB of 16 bits"],
)
def test_image_kinds_that_need_more_memory_have_a_lower_limit_of_pixels(bits, kind, most):
    side = int(most**0.5)
    with pytest.raises(UserError, match=r"truncated|broken"):  # decoded, up to where it ends
        open_image(png(side, 1, bits, kind, b"\0"))
    with pytest.raises(
        UserError, match=rf"{side + 1} × {side + 1} pixels, more than (the )?{most:,}"
    ):
        open_image(png(side + 1, side + 1, bits, kind, b"\0"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_scans_and_exif_count_as_memory():
    small = Image.new("RGB", (64, 64))
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    for file, most in [
        (encoded(small, "JPEG"), 110_000_000),
        (encoded(small, "JPEG", progressive=True), 47_000_000),
        (encoded(small, "JPEG", exif=exif), 58_750_000),
    ]:
        content = bytearray(file)
        start = max(content.rfind(b"\xff\xc0"), content.rfind(b"\xff\xc2")) + 5
        content[start : start + 4] = (int(most**0.5) + 1).to_bytes(2, "big") * 2
        with pytest.raises(UserError, match=rf"more than (the )?{most:,}"):
            open_image(bytes(content))


def test_an_image_of_one_row_takes_little_memory():
    with pytest.raises(UserError, match=r"1000001 × 1 pixels, more than 1,000,000 in a row"):
        open_image(png(1_000_001, 1, 8, 2, b"\0"))
    row = np.arange(300_000, dtype=np.uint32)[None, :, None].repeat(3, 2) % 251
    tracemalloc.start()
    square = resize_to_square(row.astype(np.uint8), 300)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000  # all rows at once would take 2 GB
    tracemalloc.stop()
    np.testing.assert_array_equal(square, square[:1].repeat(300, 0))
    assert square[0, 7, 0] == round(np.mean([7 * 1000 + 499, 7 * 1000 + 500]) % 251)


def test_limits_of_tags_are_local():
    file = tags(50, 100_000)  # 5 MB of tags in 100 KB
    # Newer versions of Pillow leave such tags out.
    with pytest.raises(UserError, match=r"its tags hold more than the file|it is no image"):
        open_image(file)
    with pytest.raises(UnidentifiedImageError):  # of the tags that make an image it has none
        Image.open(io.BytesIO(file))


def test_resizing_sixteen_pixels():
    sixteen = np.arange(16, dtype=np.uint8).reshape(4, 4)[..., None].repeat(3, 2) * 16
    # The centre of a new pixel lies between four old ones: their mean.
    means = [[40, 72], [168, 200]]
    np.testing.assert_array_equal(resize_to_square(sixteen, 2)[..., 1], means)
    # Pixels lie a quarter beside the old ones: 3/4 of the nearer and 1/4 of the other neighbour.
    row = [0, 4, 12, 20, 28, 36, 44, 48]
    np.testing.assert_array_equal(resize_to_square(sixteen, 8)[0, :, 2], row)
    np.testing.assert_array_equal(resize_to_square(sixteen, 8)[:, 0, 0], np.multiply(row, 4))
    np.testing.assert_array_equal(resize_to_square(sixteen, 4), sixteen)


def test_shrinking_does_not_smooth():
    # Of seven columns the middle one alone is looked at, as OpenCV does.
    stripes = np.zeros((7, 7, 3), np.uint8)
    stripes[:, 3] = 200
    assert resize_to_square(stripes, 1).ravel().tolist() == [200, 200, 200]


def test_width_and_height_are_not_confused():
    wide = np.zeros((2, 6, 3), np.uint8)
    wide[1], wide[:, 3:, 0] = 100, 50
    resized = resize_to_square(wide, 2)
    assert resized.tolist() == [[[0, 0, 0], [50, 0, 0]], [[100, 100, 100], [50, 100, 100]]]
    one = np.full((1, 1, 3), 7, np.uint8)
    assert (resize_to_square(one, 5) == 7).all()


@pytest.mark.parametrize("size", [2, 8])
def test_resizing_equals_opencv(size):
    reference = carried("opencv")
    resized = resize_to_square(reference["picture"], size).astype(int)
    np.testing.assert_allclose(resized, reference[f"bilinear_{size}"], rtol=0, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "I;16", "CMYK"])
def test_large_images_are_converted_in_strips_to_the_same(mode, monkeypatch):
    random = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 4096, (13, 7), dtype=np.uint16))
    else:
        channels = len(Image.new(mode, (1, 1)).getbands())
        values = random.integers(0, 256, (13, 7, channels), dtype=np.uint8)
        image = Image.frombytes(mode, (7, 13), values.tobytes())
    whole = np.asarray(opening.to_rgb(image.copy()))
    monkeypatch.setattr(opening, "STRIP_PIXELS", 20)
    np.testing.assert_array_equal(opening.to_rgb(image), whole)
