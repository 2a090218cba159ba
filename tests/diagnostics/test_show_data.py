import numpy as np
import pytest
from PIL import Image

from ssd_jax.diagnostics.show_data import show_training_images
from ssd_jax.errors import UserError
from tests import tiny
from tests.helpers.pictures import VocFolder


def test_images_next_to_their_files_are_found(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    names = [f"picture{i}" for i in range(6)]
    for name in names:
        voc.add(name, [("dog", 6, 4, 30, 20), ("cat", 20, 20, 50, 50)], size=(60, 60))
    config = tiny.get_config()
    config.data.train = voc.split("all", *names)
    config.augment.update(color=False, flip=False, crop=False, expand_probability=0.0)
    sheet_file = tmp_path / "sheet.png"
    show_training_images(config, str(sheet_file), 6)  # more than a batch

    # Without augmentation both pictures of a pair are the same, but for their resolution.
    sheet = np.asarray(Image.open(sheet_file)).astype(float)
    assert sheet.shape == (3 * 376 + 8, 4 * 328 + 8, 3)
    for row in range(3):
        cells = [
            sheet[row * 376 + 8 : row * 376 + 328, column * 328 + 8 : column * 328 + 328]
            for column in range(4)
        ]
        for file, image in (cells[:2], cells[2:]):
            assert np.abs(file - image).mean() < 3
            assert file.std() > 20


def test_a_picture_that_is_left_out_is_shown_empty(tmp_path):
    voc = VocFolder(tmp_path / "voc")
    for name in ("a", "b"):
        voc.add(name, [("dog", 6, 4, 30, 20)], size=(60, 60))
    config = tiny.get_config()
    config.data.train = voc.split("all", "a", "b")
    (voc.root / "JPEGImages/b.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b\.jpg: the image cannot be read"):
        show_training_images(config, str(tmp_path / "sheet.png"), 2)
    config.data.update(on_error="skip", max_error_fraction=0.5)
    show_training_images(config, str(tmp_path / "sheet.png"), 2)
    assert (tmp_path / "sheet.png").is_file()
