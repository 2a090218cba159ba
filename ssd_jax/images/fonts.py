"""Fonts for names in any script: Pillow's own, Matplotlib's, or an installed font.

Pillow's font has only ASCII. DejaVu Sans, which comes with Matplotlib, has Latin, Greek and
Cyrillic. For other scripts the fonts of the system are searched. A character that no font has is
replaced by characters that exist.
"""

import functools
import importlib.util
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SUFFIXES = (".ttf", ".ttc", ".otf", ".otc")
MOST_FONTS = 2000  # that are searched
# Names of font files with many scripts, which are tried first.
LIKELY = re.compile(
    r"cjk|dejavusans\.|notosans-reg|sourcehan|wqy|fallback|unicode|unifont|gothic|nanum|msyh|simsun",
    re.IGNORECASE,
)
NO_SIGN = "\U0010ffff"  # drawn with the font's symbol for missing characters


def font_and_text(text: str, size: int) -> tuple[Font, str]:
    """A font of a size in pixels, and the text in characters of this font."""
    path, text = path_and_text(text)
    return _load(path, size), text


@functools.lru_cache(4096)
def path_and_text(text: str) -> tuple[str, str]:
    """The file of a font, "" for Pillow's own, and the text in characters of this font.

    Characters that no font has lose their accents, or become escapes like `\\u732b`.
    """
    text = unicodedata.normalize("NFC", text)
    path = _covering(frozenset(_needed(text)))
    if path is not None:
        return path, text
    spelt = "".join(_spelt(sign) for sign in text)
    path = _covering(frozenset(_needed(spelt)))
    return path or "", spelt


def _needed(text: str) -> Iterator[str]:
    """The visible characters of a text."""
    return (sign for sign in text if not sign.isspace() and unicodedata.category(sign) != "Cf")


def _spelt(sign: str) -> str:
    if sign.isascii():
        return sign
    is_mark = unicodedata.category(sign).startswith("M")  # which needs the letter before it
    if not is_mark and _covering(frozenset(_needed(sign))) is not None:
        return sign
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return plain or sign.encode("ascii", "backslashreplace").decode()


@functools.cache
def _covering(signs: frozenset[str]) -> str | None:
    """The first font that has all of these characters; None if there is none."""
    return next((path for path in _files() if signs <= _signs(path, signs)), None)


def _signs(path: str, signs: frozenset[str]) -> set[str]:
    """The characters among `signs` that a font has."""
    signs = frozenset(sign for sign in signs if not "\ud800" <= sign <= "\udfff")  # no surrogates
    try:
        font = _load(path, 20)
        missing = _drawn(font, NO_SIGN)
        return {sign for sign in signs if _drawn(font, sign) != missing}
    except (OSError, UnicodeError, ValueError):  # damaged, of pixels in other sizes, …
        return set()


def _drawn(font: Font, sign: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(sign)
    return mask.size, bytes(mask)  # pyright: ignore[reportArgumentType]


@functools.cache
def _load(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size=size)


@functools.cache
def _files() -> tuple[str, ...]:
    """The fonts to try, the first choice first; "" is Pillow's own."""
    found = ["", *_of_matplotlib()]
    installed = [path for folder in _folders() for path in _fonts_below(folder)]
    installed = sorted(installed, key=lambda path: (not LIKELY.search(Path(path).name), path))
    return tuple(dict.fromkeys([*found, *installed[:MOST_FONTS]]))


def _of_matplotlib() -> list[str]:
    found = importlib.util.find_spec("matplotlib")  # without importing it
    folders = (found.submodule_search_locations if found else None) or ()
    paths = [Path(folder, "mpl-data/fonts/ttf/DejaVuSans.ttf") for folder in folders]
    return [str(path) for path in paths if path.is_file()]


def _folders() -> list[Path]:
    """The folders of installed fonts."""
    home = Path(os.path.expanduser("~"))
    data = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
    own = [Path(data, "fonts"), home / ".fonts"]
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home)
        windows = os.environ.get("WINDIR", r"C:\Windows")
        return [Path(windows, "Fonts"), Path(local, "Microsoft/Windows/Fonts")]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"), *own]
    return [*own, Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


def _fonts_below(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, n) for n in names if n.lower().endswith(SUFFIXES))
