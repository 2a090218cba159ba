"""The stream of a JSON object's arrays, compared with `json.loads` of the whole text."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssd_jax.data.formats.json_arrays import NotJsonError, read_arrays

NAMES = ("a", "b", "c")
# As signs of JSON may stand in strings, too.
TEXTS = st.text('"\\{}[],: aé\n☃', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3) | VALUES, max_size=6)
OBJECTS = st.dictionaries(st.sampled_from([*NAMES, "other", "]"]), ITEMS | VALUES, max_size=4)


def quickly(text):
    """Decodes only arrays of objects, like the readers of formats."""
    return msgspec.json.decode(text, type=list[dict])


def streamed(data, length, at_once):
    """The arrays of a text that is read in pieces of some bytes; None for other values."""
    pieces = (data[i : i + length] for i in range(0, len(data), length))
    found = {}
    for part in read_arrays(pieces, dict.fromkeys(NAMES, quickly), at_once):
        if part.items is None:
            found[part.name] = None
            continue
        assert repr(json.loads(part.text)) == repr(part.items)
        found[part.name] = ([] if part.is_first else found[part.name]) + part.items
    return found


def whole(data):
    content = json.loads(data)
    arrays = content.items() if isinstance(content, dict) else ()
    return {k: v if isinstance(v, list) else None for k, v in arrays if k in NAMES}


@settings(max_examples=80, deadline=None)
@given(
    OBJECTS,
    st.sampled_from([(None, None), (1, None), (None, (",", ":"))]),
    st.booleans(),
    st.sampled_from([1, 2, 7, 1000]),
    st.sampled_from([1, 10, 1000]),
)
def test_the_items_equal_those_of_the_whole(content, form, ascii_only, length, at_once):
    indent, separators = form
    text = json.dumps(content, indent=indent, separators=separators, ensure_ascii=ascii_only)
    data = text.encode()
    assert repr(streamed(data, length, at_once)) == repr(whole(data))


@settings(max_examples=80, deadline=None)
@given(OBJECTS, st.data(), st.sampled_from([1, 5, 1000]), st.sampled_from([1, 10, 1000]))
def test_a_damaged_text_is_rejected_as_by_the_json_module(content, draw, length, at_once):
    data = json.dumps(content).encode()
    place = draw.draw(st.integers(0, len(data) - 1))
    sign = draw.draw(st.sampled_from([b"", b"{", b"]", b",", b'"', b":", b"\\", b"1"]))
    data = data[:place] + sign + data[place + draw.draw(st.integers(0, 1)) :]
    data = data[: draw.draw(st.just(len(data)) | st.integers(0, len(data)))]
    try:
        expected = whole(data)
    except ValueError:
        with pytest.raises(NotJsonError):
            streamed(data, length, at_once)
    else:
        assert repr(streamed(data, length, at_once)) == repr(expected)


@pytest.mark.parametrize(
    "text, reason, offset",
    [
        ('{"a": [{"x": 1}, {"x": 2}', "Expecting ',' delimiter", 25),
        ('{"a": [{"x": 1}, {"x": }]}', "Expecting value", 23),
        ('{"a": [{"x": 1},]}', "Expecting value", 16),
        ('{"a": [,{"x": 1}]}', "Expecting value", 7),
        ('{"a": [{"x": 1}] "b": 2}', "Expecting ',' delimiter", 17),
        ('{"a": [{"é": "b]}', "Unterminated string starting at", 14),
        ('{"a": []} x', "Extra data", 10),
        ("", "Expecting value", 0),
    ],
)
@pytest.mark.parametrize("at_once", [1, 1000])
def test_an_error_has_the_place_that_json_names(text, reason, offset, at_once):
    with pytest.raises(NotJsonError) as raised:
        streamed(text.encode(), 3, at_once)
    assert (raised.value.reason, raised.value.offset) == (reason, offset)


def test_the_last_of_two_arrays_with_one_key_counts():
    assert streamed(b'{"a": [{"x": 1}], "a": [{"x": 2}, {"x": 3}]}', 5, 4) == {
        "a": [{"x": 2}, {"x": 3}]
    }
