"""Commands get memory in huge pages, in the same process and with the same arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssd_jax.cli import huge_pages

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
from ssd_jax.cli import huge_pages
print(os.getpid(), os.environ.get("GLIBC_TUNABLES", ""), sys.flags.utf8_mode, *sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [("always [madvise] never", True), ("[always] madvise never", False), (None, False)],
)
def test_requests_for_huge_pages_depend_on_the_setting_of_the_system(
    tmp_path, monkeypatch, setting, wanted
):
    file = tmp_path / "enabled"
    if setting is not None:
        file.write_text(setting + "\n")
    monkeypatch.setattr(huge_pages, "SETTING", str(file))
    assert huge_pages._are_on_request() == wanted


@pytest.mark.skipif(not huge_pages._are_on_request(), reason="nothing has to be asked for here")
@pytest.mark.parametrize(
    ("program", "before", "after"),
    [
        ("train.py", "", "glibc.malloc.hugetlb=1"),
        ("evaluate.py", "glibc.malloc.check=0", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
        ("train.py", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),  # their own wish
        ("other.py", "", ""),
    ],
)
def test_a_command_starts_again_in_the_same_process(tmp_path, program, before, after):
    file = tmp_path / program
    file.write_text(PROGRAM)
    environment = os.environ | {"GLIBC_TUNABLES": before, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "utf8", str(file), "--workdir=a b", ""]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        told, _ = process.communicate(timeout=60)
    assert told == f"{process.pid} {after} 1 --workdir=a b \n"
