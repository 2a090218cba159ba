import io

import numpy as np
import pytest
from PIL import Image

from ssd_jax.images.file_ends import may_be_truncated

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_end_of_a_file_shows_whether_it_is_complete(tmp_path, kind):
    encoded, file = io.BytesIO(), tmp_path / "image"
    NOISE.save(encoded, kind)
    content = encoded.getvalue()
    for complete in (content, content + bytes(500)):
        file.write_bytes(complete)
        assert not may_be_truncated(file)
    for length in (0, 3, 9, len(content) // 2, len(content) - 10):
        file.write_bytes(content[:length])
        assert may_be_truncated(file), length


def test_other_formats_must_be_decoded(tmp_path):
    NOISE.save(tmp_path / "image.bmp")
    assert may_be_truncated(tmp_path / "image.bmp")
    with pytest.raises(OSError):
        may_be_truncated(tmp_path / "none.jpg")
