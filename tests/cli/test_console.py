"""The compilation cache between sessions. `end_to_end/test_scripts.py` tests messages of errors."""

import os
import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT

PROGRAM = """
import jax
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None
)
import ssd_jax.runs.train
assert jax.config.jax_compilation_cache_max_size == -1  # importing changes nothing
from ssd_jax.cli import console
for _ in range(2):  # as a script does, for its flags and for its work
    with console.session():
        pass
with console.session():
    jax.jit(lambda x: x * 2 + 1)(1.0)
    kept_from = jax.config.jax_persistent_cache_min_compile_time_secs
    print(len(hits), jax.config.jax_compilation_cache_max_size, round(1000 * kept_from))
"""


def start(**variables):
    ours = {key: value for key, value in os.environ.items() if "COMPILATION_CACHE" not in key}
    ours |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"} | variables
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={name: str(value) for name, value in ours.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Cache hits, the limit of the cache in bytes, and its least compile time in ms."""
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0 and not errors, errors
    return tuple(map(int, output.split()))


def compiled(folder):
    return list(folder.rglob("*-cache"))


@pytest.mark.slow
def test_a_second_process_uses_the_compilation_cache(tmp_path):
    # Two at once write to one folder.
    for process in [start(XDG_CACHE_HOME=tmp_path) for _ in range(2)]:
        assert end(process)[1:] == (2 * 2**30, 0)
    kept = compiled(tmp_path / "ssd_jax" / "compiled")
    assert kept and (tmp_path / "ssd_jax" / "compiled").stat().st_mode & 0o077 == 0
    assert end(start(XDG_CACHE_HOME=tmp_path))[0] == len(kept)
    assert compiled(tmp_path) == kept


@pytest.mark.slow
def test_the_default_cache_is_in_the_home_folder(tmp_path):
    assert end(start(XDG_CACHE_HOME="", HOME=tmp_path))[0] == 0
    assert compiled(tmp_path / ".cache" / "ssd_jax" / "compiled")


@pytest.mark.parametrize(
    "variables",
    [
        lambda folder: {"JAX_COMPILATION_CACHE_DIR": folder / "own"},
        lambda folder: {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": None,  # as most users start it
        },
        lambda folder: {"XDG_CACHE_HOME": folder / "blocked"},
    ],
    ids=["own", "disabled", "unwritable"],
)
@pytest.mark.slow
def test_settings_of_the_user_are_kept(variables, tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ssd_jax").touch()  # where the folder would be
    given = variables(tmp_path)
    hits, _, kept_from = end(start(**{"XDG_CACHE_HOME": tmp_path / "home"} | given))
    assert hits == 0 and kept_from == (100 if "JAX_ENABLE_COMPILATION_CACHE" in given else 0)
    assert not compiled(tmp_path / "home")
    assert bool(compiled(tmp_path / "own")) == ("JAX_COMPILATION_CACHE_DIR" in given)


@pytest.mark.parametrize(
    "encoding, shown",
    [
        ("utf-8", "– 0.5 × 2… 猫 Löwe"),
        ("ascii", "- 0.5 x 2... \\u732b L\\xf6we"),
        ("cp1252", "– 0.5 × 2… \\u732b Löwe"),
    ],
)
def test_characters_outside_the_output_encoding_are_escaped(encoding, shown):
    program = (
        "from ssd_jax.cli import console; import sys; console.escape_unencodable();"
        "print('– 0.5 × 2… 猫 Löwe'); print('猫', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode(encoding) == shown + "\n"
    assert done.stderr.decode(encoding).strip() == ("猫" if encoding == "utf-8" else "\\u732b")


@pytest.mark.parametrize("arguments", [["--help"], ["check-data", "--source=shapes:no"]])
@pytest.mark.slow
def test_a_closed_pipe_ends_a_command_silently(arguments):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "ssd_jax", *arguments],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.returncode == 141 and not done.stderr, done.stderr
