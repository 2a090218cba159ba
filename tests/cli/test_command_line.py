"""Command lines, parsed in this process; one test checks that only the message is printed."""

import pytest
from absl import flags

from ssd_jax.cli import convert_data
from ssd_jax.cli.command_line import Command
from ssd_jax.config.files import define_config, load_config, published, rows_of
from ssd_jax.errors import UserError
from tests import tiny
from tests.helpers.commands import run_command

TABLE = "configs/ablations/table2.py"


def parsed(*arguments, required=(), known_only=False):
    """The flags of a command with --config, --workdir and --images, and its other arguments."""
    values, argv = flags.FlagValues(), ["command", *arguments]
    define_config(values=values, argv=argv)
    flags.DEFINE_string("workdir", None, "Where the run keeps everything.", values)
    flags.DEFINE_integer("images", 12, "How many.", flag_values=values)
    command = Command(values, print, required, "WHAT", passes_unknown=known_only)
    return values, command.parse(argv)


def complaint(*arguments, **options):
    with pytest.raises(UserError) as error:
        parsed(*arguments, **options)
    return str(error.value)


def test_fields_are_taken_from_the_command_line():
    values, others = parsed(
        "predict",
        "--config=tests/tiny.py",
        "--config.batch_size=8",
        "--config.learning_rate",
        "1",
        "--config.data.cache",
        "--noconfig.augment.flip",
        "--config.model.min_sizes=(1,2,3,4.5)",
        "--config.data.classes=cat,dog",
        "--images=3",
    )
    expected = tiny.get_config()
    expected.batch_size, expected.learning_rate = 8, 1.0
    expected.data.update(cache=True, classes="cat,dog")
    expected.augment.flip = False
    with expected.ignore_type():
        expected.model.min_sizes = (1, 2, 3, 4.5)
    assert values.config.to_dict() == expected.to_dict()
    assert values.config.is_locked and values.images == 3 and others == ["predict"]


@pytest.mark.parametrize(
    "argument, nearest",
    [
        ("--config.bach_size=3", "--config.batch_size"),
        ("--config.data.trian=x", "--config.data.train"),
        ("-config.batchsize", "--config.batch_size"),
        ("--noconfig.cache", "--config.data.cache"),
        ("--config.dta.cache=True", "--config.data.cache"),
        ("--config.model.min_sizes[0]=3", "--config.model.min_sizes"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(argument, nearest):
    told = complaint("--config=tests/tiny.py", argument)
    assert told.startswith(f"{argument}: ") and told.endswith(f"did you mean {nearest}?")


def test_no_suggestion_for_an_unknown_field_without_similar_names():
    told = complaint("--config=tests/tiny.py", "--config.zebra=3")
    assert told.startswith("--config.zebra=3: ") and "?" not in told


@pytest.mark.parametrize(
    "argument",
    [
        "--config.steps=x",
        "--config.batch_size=8.5",
        "--config.learning_rate=fast",
        "--config.data.cache=maybe",
        "--config.model.min_sizes=(1,2",
        "--config.model=3",
        "--images=many",
    ],
)
def test_a_wrong_type_is_named_with_its_value(argument):
    told = complaint("--config=tests/tiny.py", argument)
    assert told.startswith(f"flag {argument}: ") and "\n" not in told


def test_a_value_is_needed():
    assert "--config.batch_size" in complaint("--config=tests/tiny.py", "--config.batch_size")


@pytest.mark.parametrize(
    "argument, nearest",
    [
        ("--wrkdir=x", "--workdir"),
        ("--confg=tests/tiny.py", "--config"),
        ("--steps=8", "--config.steps"),
        ("--classes=a,b", "--config.data.classes"),
    ],
)
def test_an_unknown_flag_is_named_with_the_nearest(argument, nearest):
    told = complaint(argument)
    assert f"{argument.partition('=')[0]}:" in told and told.endswith(f"did you mean {nearest}?")
    assert parsed(argument, known_only=True)[1] == [argument]


def test_fields_need_a_config_before_them():
    assert "--config.steps " in complaint("--config.steps=3")
    assert "--config.steps=3" in complaint("--config.steps=3", "--config=tests/tiny.py")


def test_a_missing_flag_is_reported_with_its_meaning():
    given = ["--config=tests/tiny.py", "--workdir=x"]
    parsed(*given, required=["config", "workdir"])
    told = complaint(given[0], required=["config", "workdir"])
    assert told == "--workdir=… is missing: it names where the run keeps everything"
    assert complaint(given[1], required=["config", "workdir"]).startswith("--config=… ")
    with pytest.raises(UserError) as error:
        convert_data.COMMAND.parse(["convert-data", "--source=pictures"])
    assert str(error.value) == (
        "--to=… is missing: it names the format to write, one of coco, voc, yolo, shards"
    )


def test_files_and_rows_that_do_not_exist():
    told = complaint("--config=configs/ssd300_vco.py")
    assert told.startswith("flag --config=configs/ssd300_vco.py: ")
    assert told.endswith("did you mean configs/ssd300_voc.py?")
    told = complaint(f"--config={TABLE}:no_atrus")
    assert told.startswith(f"flag --config={TABLE}:no_atrus: ")
    assert "flip_only, squares" in told and told.endswith("did you mean no_atrous?")
    told = complaint("--config=tests")
    assert told.startswith("flag --config=tests: ")
    assert not parsed(f"--config={TABLE}:squares")[0].config.model.aspect_ratios[0]
    assert published(f"{TABLE}:squares").startswith("71.6")
    assert rows_of(TABLE)[:2] == ("flip_only", "squares") and rows_of("tests/tiny.py") == ()


GOOD = "from tests import tiny\n\n\ndef get_config():\n    config = tiny.get_config()\n"


@pytest.mark.parametrize(
    "content, told",
    [
        ("def get_config(:\n", "config.py, line 1: "),
        ("import no_such_package\n", "config.py, line 1: ModuleNotFoundError: "),
        (GOOD + "    config.steps = many\n", "config.py, line 6: NameError: name 'many'"),
        (GOOD + "    config.steps = 'many'\n    return config\n", "config.py, line 6: TypeError: "),
        (GOOD, "returns NoneType"),
        ("", "get_config"),
        (GOOD + "    config.bach_size = 3\n    return config\n", "config.bach_size "),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_line(content, told, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(content)
    message = complaint(f"--config={file}")
    assert message.startswith(f"flag --config={file}: ") and told in message
    assert "\n" not in message
    (tmp_path / "config.txt").write_text(GOOD)
    assert "config.txt" in complaint(f"--config={tmp_path / 'config.txt'}")


def test_a_file_without_rows_rejects_a_row():
    assert "has only one config, and no row 'wide'" in complaint("--config=tests/tiny.py:wide")


def test_one_config_with_fields_given():
    config = load_config(f"{TABLE}:squares", ["--config.steps=7"])
    assert config.steps == 7 and config.model.aspect_ratios == ((),) * 6
    with pytest.raises(UserError, match=r"--config\.step=7.*--config\.steps\?"):
        load_config(TABLE, ["--config.step=7"])


def test_a_very_long_flag_is_unknown():
    told = complaint(f"--{'9' * 5000}")
    assert told.startswith("there is no flag --999") and len(told) < 1000


@pytest.mark.parametrize(
    "command, arguments, status, told",
    [
        ("show-data", ["--config=tests/tiny.py", "--config.bach_size=3"], 1, "batch_size?"),
        ("predict", ["--outptu=x"], 2, "--output?"),
    ],
)
def test_commands_exit_with_one_line(command, arguments, status, told):
    done = run_command(command, *arguments, expect=status)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and told in line


def test_help_lists_the_flags_of_the_command():
    done = run_command("fit-boxes", "--help")
    assert all(f"  --{name} " in done.stdout for name in ("config", "source", "images", "output"))
