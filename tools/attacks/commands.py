"""Wrong command lines and config files: each ends with one line without Python's terms."""

import functools
from pathlib import Path

from ssd_jax.config.files import load_config
from ssd_jax.errors import UserError
from tools.attacks.attack import Attack, check_refused, command

KIND = "command lines"
OF_PYTHON = ("Traceback", "ast.", "ValueError", "invalid literal", "could not convert", "object at")

OVERRIDES = (
    "batch_size=x",
    "batch_size=",
    "batch_size=1e3",
    "batch_size=0",
    f"steps={'9' * 5000}",
    "learning_rate=x",
    "learning_rate=",
    "learning_rate=nan",
    "learning_rate=inf",
    "learning_rate=-1",
    "augment.crop=maybe",
    "data=x",
    "model=3",
    "model.min_sizes=x",
    "model.min_sizes=(1,",
    "model.image_size=-5",
    "no_such_field=1",
    "data.no_such_field=1",
    'data.classes="dog',
    'data.class_map="dog=cat',
    "data.class_map=dog",
)
CONFIG_FILES = {
    "sys.exit while it is read": "import sys\nsys.exit(0)\n",
    "sys.exit in get_config": "def get_config():\n    raise SystemExit('bye')\n",
    "a division by zero": "def get_config():\n    return 1 / 0\n",
    "a syntax error": "def get_config(:\n",
    "no get_config": "x = 3\n",
    "None": "def get_config():\n    return None\n",
    "null characters": "\0\0",
    "endless recursion": "def get_config():\n    return get_config()\n",
    "a value out of range": "from configs import quickstart\n\n\ndef get_config():\n"
    "    config = quickstart.get_config()\n    config.batch_size = 0\n    return config\n",
    "a message of several lines": "def get_config():\n    raise ValueError('a\\nb')\n",
}


def refused(name: str, *overrides: str) -> None:
    try:
        load_config(name, overrides)
    except UserError as error:
        told = str(error)
        assert "\n" not in told and (name == "quickstart" or name in told), told
        assert not any(word in told for word in OF_PYTHON if name == "quickstart"), told
        return
    raise AssertionError("it was taken")


def override(given: str, folder: Path) -> None:
    del folder
    refused("quickstart", given)


def config_file(content: str, folder: Path) -> None:
    file = folder / "own.py"
    file.write_text(content)
    refused(str(file))


def as_program(arguments: tuple[str, ...], folder: Path) -> None:
    status = 2 if arguments[0] == "predict" else 1  # of predict 1 means that some files failed
    given = (argument.format(folder=folder) for argument in arguments)
    check_refused(command(*given), status=status)


PROGRAMS = (
    ("train", "--config=quickstart", "--workdir={folder}/w", "--flagfile={folder}/none"),
    ("train", "--config=quickstart", "--workdir={folder}/w", "--num_processes=x"),
    ("evaluate", "--workdir={folder}", "--metric=all"),
    ("predict", "--serve", "--workdir={folder}", "image.jpg"),
    ("predict", "--serve", "--workdir={folder}", "--output={folder}/out"),
    ("export", "--to=safetensors", "--workdir={folder}/none", "--output={folder}/out"),
    ("evaluate", "--workdir=hf:abc"),
)

ATTACKS = (
    [
        Attack(KIND, given[:40], functools.partial(override, given), quick=True)
        for given in OVERRIDES
    ]
    + [
        Attack(KIND, f"a config file: {what}", functools.partial(config_file, text), quick=True)
        for what, text in CONFIG_FILES.items()
    ]
    + [
        Attack(KIND, " ".join(arguments), functools.partial(as_program, arguments))
        for arguments in PROGRAMS
    ]
)
