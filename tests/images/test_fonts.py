"""Names in any script are drawn, or escaped if no font has them."""

import base64
import os
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from ssd_jax.evaluation import figures
from ssd_jax.images import fonts
from ssd_jax.images.drawing import draw_boxes
from ssd_jax.images.fonts import font_and_text, path_and_text


def write_font(path, signs):
    """A font whose signs are squares, and which has no other."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    empty, square = TTGlyphPen(None).glyph(), pen.glyph()
    names = [f"sign{i}" for i in range(len(signs))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(s): name for s, name in zip(signs, names, strict=True)})
    builder.setupGlyf({".notdef": empty} | dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True)
    builder.save(path)
    return str(path)


@pytest.fixture
def forget():
    """Looks up installed fonts again, before and after the test."""

    def clear():
        for cached in (fonts._files, fonts._covering, fonts.path_and_text):
            cached.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def alone(monkeypatch, tmp_path, forget):
    """Hides all fonts except those below the returned folder, and Matplotlib's."""
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path])
    return tmp_path


def test_latin_greek_and_cyrillic_letters_are_drawn(alone):
    assert path_and_text("cat") == ("", "cat")
    for name in ("Löwe", "Жук", "σκύλος", "żółw"):
        path, text = path_and_text(name)
        assert path.endswith("DejaVuSans.ttf") and text == name
    assert path_and_text("Lo\u0308we")[1] == "Löwe"


def test_characters_without_a_font_are_escaped(alone):
    assert path_and_text("猫 1") == ("", "\\u732b 1")
    # The vowel signs of Devanagari stay with their letters.
    assert path_and_text("कि")[1] == "\\u0915\\u093f"
    assert path_and_text("\udcff")[1] == "\\udcff"
    path, text = path_and_text("猫 Löwe")
    assert path.endswith("DejaVuSans.ttf") and text == "\\u732b Löwe"


def test_without_matplotlib_accents_are_lost(alone, monkeypatch):
    monkeypatch.setattr(fonts, "_of_matplotlib", list)
    assert path_and_text("Löwe") == ("", "Lowe")


def test_an_installed_font_is_found(monkeypatch, tmp_path, forget):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    path = write_font(tmp_path / "fonts" / "deep" / "Squares-CJK.ttf", "猫犬 01.5")
    assert path_and_text("猫 0.5") == (path, "猫 0.5")
    assert font_and_text("犬", 20)[0].getmask("犬").getbbox() is not None
    assert path_and_text("cat")[0] == "" and os.path.samefile(path_and_text("猫")[0], path)


def test_names_that_differ_are_drawn_differently(alone):
    def drawn(name):
        image = Image.new("RGB", (120, 80), "gray")
        return np.asarray(draw_boxes(image, np.array([[9, 30, 90, 70]]), np.ones(1, int), [name]))

    names = ("Löwe", "Lüwe", "Lowe", "猫", "犬")
    seen = {name: drawn(name).tobytes() for name in names}
    assert len(set(seen.values())) == len(names)
    # A box of another size, as of a missing sign, would be as wide for each.
    np.testing.assert_array_equal(drawn("猫"), drawn("\\u732b"))


def svg(uri):
    return base64.b64decode(uri.partition(",")[2]).decode()


@pytest.mark.parametrize("names", [["Löwe", "猫"], ["$a$", "$\\foo{$"], ["Жук", "a_b^"]])
def test_figures_may_have_any_name(alone, names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg(figures.objects_per_class(names, [2, 1]))
        text = svg(figures.confusion_matrix(np.eye(3, dtype=int), names))
    # Matplotlib writes texts as comments beside their paths.
    assert f"<!-- {path_and_text(names[0])[1]} -->" in text
    assert f"<!-- {path_and_text(names[1])[1]} -->" in text


def test_figures_use_an_installed_font(alone):
    write_font(alone / "fonts" / "Squares.ttf", "猫")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "<!-- 猫 -->" in svg(figures.objects_per_class(["猫", "Löwe"], [2, 1]))
