"""Forked programs behave like started ones: `helpers/forked.py` against `subprocess`."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import forked

pytestmark = pytest.mark.slow

SAY = "import os, sys; print(sys.argv, os.environ.get('WORD')); print('ä', file=sys.stderr)"


@pytest.mark.parametrize(
    "program",
    [
        SAY,
        f"{SAY}; sys.exit(75)",
        f"{SAY}; sys.exit('wrong')",
        "import atexit; atexit.register(print, 'last'); print('first')",
        "import threading, time; threading.Thread(target=lambda: print(time.sleep(0.1))).start()",
        f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})",
        "import ssd_jax.cli.train, sys; print(sorted(n for n in sys.modules if 'ssd_jax' in n))",
        "import sys; print(sys.orig_argv[1], __name__, sys.stdin.read(), sys.path[0])",
    ],
)
def test_a_forked_program_has_the_same_output_and_status(program):
    arguments, environment = ["-c", program, "1", "b c"], os.environ | {"WORD": "said"}
    process = forked.start(arguments, environment)
    assert isinstance(process, forked.Forked)
    output, errors = process.communicate(timeout=60)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=forked.ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (process.returncode, output, errors) == (done.returncode, done.stdout, done.stderr)


def test_a_mistake_ends_with_its_traceback():
    done = forked.run(["-c", "[][0]"])
    assert done.returncode == 1 and done.stderr.endswith("IndexError: list index out of range\n")


def test_modules_and_files_are_run():
    assert "usage: ssd-jax COMMAND" in forked.run(["-m", "ssd_jax", "--help"]).stdout
    assert "ssd-jax train [FLAGS]" in forked.run(["train.py", "--help"]).stdout


@pytest.mark.parametrize("name", ["PYTHONPATH", "JAX_ENABLE_X64"])
def test_variables_read_at_start_need_a_new_process(name):
    process = forked.start(["-c", "pass"], os.environ | {name: "1"})
    assert isinstance(process, subprocess.Popen)
    process.communicate()
    assert process.returncode == 0
