"""The program `ssd-jax`: its commands, their help, and unknown commands."""

import re
import subprocess
import sys

import pytest

from ssd_jax.cli.command_line import HELP_WIDTH, Command, format_help
from ssd_jax.cli.main import COMMANDS, command_module, overview
from ssd_jax.config.schema import field_names
from tests.helpers.commands import ROOT, run_command


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_every_command_is_listed_with_a_line():
    listed = dict(re.findall(r"^  (\S+) +(\S.*)$", overview(), flags=re.MULTILINE))
    assert tuple(listed) == COMMANDS
    assert all(text.endswith(".") and len(text) < 90 for text in listed.values())


def test_without_a_command_all_commands_are_listed():
    without, asked = run("-m", "ssd_jax"), run("-m", "ssd_jax", "--help")
    assert without.stdout.strip() == asked.stdout.strip() == overview()
    assert (without.returncode, asked.returncode) == (1, 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_whose_flags_exist(name):
    module = command_module(name)
    command: Command = module.COMMAND
    text = format_help(name, module.__doc__, command)
    assert text.startswith(f"usage: ssd-jax {name} ")
    examples = re.findall(rf"^    ssd-jax {name} ((?:.|\\\n)*?[^\\])$", text, flags=re.MULTILINE)
    assert examples
    for example in examples:
        added = command.defaults(example.split()) if command.defaults else []
        given = set(re.findall(r"--([\w.]+)", " ".join([example, *added])))
        fields = {f"config.{field}" for field in field_names()}
        assert given - fields <= set(command.flags)
        assert set(command.required) <= given
    for flag in command.flags:
        assert re.search(rf"^  --(\[no\])?{flag} +\S", text, flags=re.MULTILINE)
    assert max(map(len, text.splitlines())) <= HELP_WIDTH


def test_an_unknown_command_gets_a_suggestion():
    done = run_command("trian", "--config=quickstart", expect=1)
    assert done.stderr == "error: there is no command trian: did you mean train?\n"
    assert "known are train, evaluate" in run_command("xyzzy", expect=1).stderr


def test_the_version_equals_that_of_the_package():
    import ssd_jax

    assert run_command("--version").stdout == f"ssd-jax {ssd_jax.__version__}\n"


def test_arguments_that_a_command_does_not_take_are_refused():
    arguments = ("--config=tests/tiny.py", "--config.data.cache", "True", "--workdir=x")
    done = run_command("train", *arguments, expect=1)
    assert (
        done.stderr
        == "error: unexpected argument 'True': this command takes only flags, --NAME=VALUE\n"
    )


IMPORTS_ALL = """
import sys
from ssd_jax.cli import main
for name in main.COMMANDS:
    main.command_module(name)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_defining_flags_imports_nothing_heavy():
    loaded = set(run("-c", IMPORTS_ALL).stdout.split())
    assert "ssd_jax" in loaded
    assert not loaded & {"jax", "flax", "tensorflow", "matplotlib", "pycocotools", "orbax", "PIL"}


@pytest.mark.parametrize("script", ["train", "evaluate"])
def test_the_scripts_are_the_commands(script):
    assert run(f"{script}.py", "--help").stdout == run_command(script, "--help").stdout


@pytest.mark.parametrize("module", ["ssd_jax.train", "ssd_jax.evaluate", "ssd_jax.predict"])
def test_a_missing_module_fails(module):
    assert run("-m", module, "--workdir=x").returncode != 0


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CALL = re.compile(r"(?:ssd-jax|python) (\S+?)(?:\.py)?(?= |$)((?:[^\n#]|\\\n)*)")


def commands_of(page):
    """The commands in the blocks of a page, with their arguments."""
    blocks = re.findall(r"```(?:bash|shell)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return [
        (name, arguments)
        for block in blocks
        for name, arguments in CALL.findall(block.replace("\\\n", " "))
        if not name.startswith("-")
    ]


def test_pages_name_commands_flags_and_fields_that_exist():
    found = [(page.name, *command) for page in PAGES for command in commands_of(page)]
    assert len(found) > 30 and {name for _, name, _ in found} == set(COMMANDS)
    fields = {f"config.{field}" for field in field_names()}
    for page, name, arguments in found:
        command = command_module(name).COMMAND
        given = re.findall(r"--([\w.]+)", arguments)
        assert set(given) <= set(command.flags) | fields, (page, name)


@pytest.mark.slow
@pytest.mark.parametrize("inside", ["", "run"])
def test_a_path_that_is_a_file_ends_in_one_line(inside, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    place = file / inside
    done = run_command("train", "--config=tests/tiny.py", f"--workdir={place}", expect=1)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(file) in line and "name another" in line
