"""Numbers with their nouns, and lists of names, in messages."""

import re

import pytest

from ssd_jax.config.files import load_config
from ssd_jax.data.sources import open_dataset
from ssd_jax.errors import UserError, counted, first_names, one_line, printable


@pytest.mark.parametrize(
    "number, noun, text",
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (2, "box", "2 boxes"),
        (1, "class", "1 class"),
        (1200, "declared class", "1,200 declared classes"),
    ],
)
def test_counted_nouns_have_the_right_form(number, noun, text):
    assert counted(number, noun) == text


def test_only_the_first_of_many_names_are_listed():
    assert first_names([], 2) == ""
    assert first_names(["a", "b"], 2) == "a, b"
    assert first_names(["a", "b", "c"], 2) == "a, b and 1 more"


def test_control_characters_are_escaped():
    assert one_line("a\nb\x1b[2J\udcff\u202e ä🐈") == "a\\nb\\x1b[2J\\udcff\\u202e ä🐈"
    assert printable("a\x07\nb") == "a\\x07\nb"


def test_long_words_are_shortened_in_the_middle():
    path = "/folder" * 80
    message = str(UserError(f"--port={'9' * 5000} and {path}"))
    assert len(message) < 1300 and message.endswith(f"9 and {path}") and "9…9" in message


@pytest.mark.parametrize("function", [load_config, open_dataset])
def test_a_path_is_as_good_as_text(function, tmp_path):
    with pytest.raises(UserError, match=r"missing\.py") as of_path:
        function(tmp_path / "missing.py")
    with pytest.raises(UserError) as of_text:
        function(str(tmp_path / "missing.py"))
    assert str(of_path.value) == str(of_text.value)
    for wrong in (3, None, ["a"]):
        with pytest.raises(UserError, match=re.escape(f"is {wrong!r}, but must be text or a path")):
            function(wrong)
