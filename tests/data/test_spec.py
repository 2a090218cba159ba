"""The grammar of sources: commas, colons, quotes, drives and addresses."""

import pytest

from ssd_jax.config.schema import as_config, split_names
from ssd_jax.data import sources
from ssd_jax.data.sources import explicit_sources
from ssd_jax.data.spec import compose, split_arguments, split_outside_quotes
from ssd_jax.errors import UserError


@pytest.mark.parametrize(
    "text, count, arguments",
    [
        ("root:train", 2, ["root", "train"]),
        ("a:b:train", 2, ["a:b", "train"]),  # the first may hold colons
        ("voc/2007:1.0.0:train[:10]", 2, ["voc/2007:1.0.0", "train[:10]"]),
        (r"C:\data\ann.json:D:\images", 2, [r"C:\data\ann.json", r"D:\images"]),
        ("C:/data/ann.json:D:/images", 2, ["C:/data/ann.json", "D:/images"]),
        ("gs://b/ann.json:gs://b/images", 2, ["gs://b/ann.json", "gs://b/images"]),
        ('"a:b":"c:d"', 2, ["a:b", "c:d"]),
        ('"a, b":train', 2, ["a, b", "train"]),
        ("train", 1, ["train"]),
        ("root", 2, None),
        (":train", 2, None),
        ("root:", 2, None),
        (r"C:\data", 2, None),
    ],
)
def test_arguments(text, count, arguments):
    assert split_arguments(text, count) == arguments


def test_signs_in_quotes_do_not_separate():
    assert split_outside_quotes('a,"b,c",d', ",") == ["a", '"b,c"', "d"]
    assert split_outside_quotes('a"b,c"d,e', ",") == ['a"b,c"d', "e"]
    with pytest.raises(UserError, match="not closed"):
        split_outside_quotes('a,"b', ",")


@pytest.mark.parametrize(
    "arguments", [("a", "b"), ("a,b", "c:d"), (r"C:\a", "b"), ("gs://a/b", "x,y")]
)
def test_split_is_the_inverse_of_compose(arguments):
    source = compose("voc_xml", *arguments)
    name, _, rest = source.partition(":")
    assert name == "voc_xml" and split_arguments(rest, 2) == list(arguments)
    assert split_outside_quotes(source, ",") == [source]


def test_names_of_classes_may_hold_commas():
    assert split_names('cat, "a, b",dog,') == ("cat", "a, b", "dog")
    assert split_names("") == ()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty folders, some with commas in their names."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "voc,v2", "c, d"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "readme.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "spec, wanted",
    [
        ("voc_xml:a:train,voc_xml:b:val", ["voc_xml:a:train", "voc_xml:b:val"]),
        ("voc_xml:voc,v2:train", ["voc_xml:voc,v2:train"]),
        ('voc_xml:"voc,v2":train', ['voc_xml:"voc,v2":train']),
        ("voc_xml:voc,v2:train,voc_xml:a:val", ["voc_xml:voc,v2:train", "voc_xml:a:val"]),
        ("voc_xml:a:train, voc_xml:voc,v2:val", ["voc_xml:a:train", "voc_xml:voc,v2:val"]),
        ("tfds:voc/2007:train[:10%],shapes:test", ["tfds:voc/2007:train[:10%]", "shapes:test"]),
    ],
)
def test_commas_join_sources_or_belong_to_paths(folders, spec, wanted):
    assert explicit_sources(spec) == wanted


@pytest.mark.parametrize(
    "spec, complaint",
    [
        (
            "voc_xml:a:train,voc_xlm:b:val",
            "does not begin with a format: did you mean voc_xml:ROOT",
        ),
        ("no/such/folder", "no/such/folder does not exist, and neither does no/such"),
        ("hub://bucket/folder", "begins with hub://, but only local paths, gs:// and s3://"),
        ("voc;v2", "voc;v2 does not exist: did you mean voc,v2"),
        ("", "a data source is empty"),
        ("a", "no annotations of a known format"),
        ("b", "b is empty"),
        ("voc_xml:a:train,", "a data source is empty"),
    ],
)
def test_invalid_sources_are_rejected(folders, spec, complaint):
    with pytest.raises(UserError, match=complaint):
        explicit_sources(spec)


def test_class_map():
    data = as_config({"data": {"class_map": 'dog+puppy=dog, car=,"a, b"=c'}}).data
    assert data.renamed_classes == {"dog": "dog", "puppy": "dog", "car": "", "a, b": "c"}
    for wrong in ("dog", "=dog", "a+=b"):
        with pytest.raises(UserError, match=r"class_map has the entry .* must be like"):
            as_config({"data": {"class_map": wrong}})
    for twice in ("dog=cat,dog=fox", "dog+dog=cat"):
        with pytest.raises(UserError, match="class_map names the class 'dog' twice"):
            as_config({"data": {"class_map": twice}})


def test_every_format_has_arguments_and_is_in_the_grammar():
    for name, form in sources.FORMATS.items():
        assert f"{name}:{form.arguments}" in sources.grammar()
