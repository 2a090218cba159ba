"""The examples of `docs/extending.md` work: applied to a copy of the project, and run there."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
INTRODUCTION, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TITLES = [section.partition("\n")[0] for section in SECTIONS]


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def new_files(section: str) -> dict[str, str]:
    """The code blocks that begin with the path of a file, by this path."""
    named = (
        re.match(r"# (\S+\.py)\n(.*)", block, re.DOTALL) for block in blocks(section, "python")
    )
    return {found[1]: found[2] for found in named if found}


def programs(section: str) -> list[str]:
    return [block for block in blocks(section, "python") if not re.match(r"# \S+\.py\n", block)]


def changed_files(section: str) -> set[str]:
    return set(re.findall(r"^\+\+\+ b/(\S+)$", section, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with all changes of the page."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("ssd_jax", "configs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for section in SECTIONS:
        for diff in blocks(section, "diff"):
            done = subprocess.run(
                ["git", "apply", "-"], cwd=copy, input=diff, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr + diff
        for path, content in new_files(section).items():
            assert not (ROOT / path).exists(), path
            (copy / path).write_text(content)
    return copy


def test_each_kind_of_example_has_a_change_and_a_program():
    assert TITLES == [
        "A loss field",
        "An augmentation on the device",
        "A metric",
        "A data format",
        "A backbone",
    ]
    for section in SECTIONS:
        assert changed_files(section) and len(programs(section)) == 1


def test_the_table_lists_the_files_that_change_at_most_three_each():
    rows = re.findall(r"^\| (an? .*?) \| (.*) \|$", INTRODUCTION, flags=re.MULTILINE)
    assert [title.lower() for title in TITLES] == [title for title, _ in rows]
    for section, (_, files) in zip(SECTIONS, rows, strict=True):
        changed, new = changed_files(section), new_files(section)
        assert 1 <= len(changed) + len(new) <= 3
        for path in changed:
            assert f"`{path}`" in files and (ROOT / path).is_file()
        assert len(files.split(", ")) == len(changed) + len(new)


@pytest.mark.slow
def test_the_examples_work(extended):
    # The programs one after the other, in one process that imports the copy.
    program = "\n".join(block for section in SECTIONS for block in programs(section))
    (extended / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=extended, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
