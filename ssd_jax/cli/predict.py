"""Detect objects in images, folders, videos, streams and cameras.

    ssd-jax predict --workdir=runs/quickstart --output=detected pictures clip.mp4 'more/*.png'
    ssd-jax predict --weights=my_detector --output=detected camera:0
    ssd-jax predict --weights=deploy/detector.onnx --output=detected pictures
    ssd-jax predict --workdir=runs/quickstart --serve

Exit status 0: all files were processed; 1: some files could not be read; 2: no file was processed,
or an error such as a full disk ended the command.
"""

import os

from absl import flags

from ssd_jax.cli.command_line import Command, define_checkpoint, define_engine, define_weights
from ssd_jax.errors import UserError, printable

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The work directory of a run. Give it or --weights.", FLAGS
)
WEIGHTS = define_weights(FLAGS)
ENGINE = define_engine(FLAGS)
CHECKPOINT = define_checkpoint(FLAGS)
OUTPUT = flags.DEFINE_string(
    "output", None, "The folder for the images with boxes and detections.json.", FLAGS
)
SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold", 0.4, "The lowest score of a detection.", flag_values=FLAGS
)
CLASSES = flags.DEFINE_list(
    "classes", [], "The classes to detect, joined by commas; by default all.", FLAGS
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "The number of images in a batch on the device.", flag_values=FLAGS
)
CROPS = flags.DEFINE_bool("crops", False, "Also write a cropped image of each object.", FLAGS)
TRACK = flags.DEFINE_bool(
    "track", False, "Track objects in videos: each object gets a number.", FLAGS
)
TILE = flags.DEFINE_integer(
    "tile",
    None,
    "Split large images into overlapping square tiles with this side in pixels, to find small "
    "objects.",
    flag_values=FLAGS,
)
SERVE = flags.DEFINE_bool(
    "serve", False, "Open a page in the browser to try the detector; takes no files.", FLAGS
)
HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "The address of the page; 0.0.0.0 for all network interfaces.", FLAGS
)
PORT = flags.DEFINE_integer(
    "port",
    7860,
    "The port of the page; 0 for any free port.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
ALLOWED_HOSTS = flags.DEFINE_list(
    "allowed_hosts",
    [],
    "Further host names under which the page may be opened, for example behind a proxy.",
    FLAGS,
)
AUTH = flags.DEFINE_string(
    "auth",
    None,
    "USER:PASSWORD that the page requires. The environment variable SSD_JAX_AUTH sets it too, and "
    "hides it from other users of the machine.",
    FLAGS,
)


def main(arguments: list[str]) -> int:
    """Runs the command with its flags and prints the result."""
    from ssd_jax.inference.loading import load_detector
    from ssd_jax.inference.predict import check_places, predict
    from ssd_jax.inference.tiles import TiledDetector

    output = OUTPUT.value or ""
    if SERVE.value and (output or arguments):
        raise UserError("--serve takes no files and no --output: images are given to the page")
    if not SERVE.value and not output:
        raise UserError("name a folder to write to with --output")
    for name, is_given in (("tile", TILE.value is not None), ("track", TRACK.value)):
        if SERVE.value and is_given:
            raise UserError(f"--{name} goes with files, not with --serve")
    if not SERVE.value:
        check_places(arguments, output)
    detector = load_detector(WORKDIR.value, WEIGHTS.value, CHECKPOINT(), ENGINE.value)
    if SERVE.value:
        from ssd_jax.inference.page.server import serve

        serve(
            detector,
            SCORE_THRESHOLD.value,
            HOST.value,
            PORT.value,
            ALLOWED_HOSTS.value,
            os.environ.get("SSD_JAX_AUTH", "") if AUTH.value is None else AUTH.value,
        )
        return 0
    done = predict(
        detector if TILE.value is None else TiledDetector(detector, TILE.value),
        arguments,
        output,
        score_threshold=SCORE_THRESHOLD.value,
        classes=CLASSES.value,
        batch_size=BATCH_SIZE.value,
        crops=CROPS.value,
        track=TRACK.value,
    )
    print(f"{output}: {done}")
    if done.images or done.frames:
        print(printable(done.describe_found()))
    return 0 if not done.failed else 1 if done.images or done.frames else 2


# 1 means that some files failed.
COMMAND = Command(FLAGS, main, arguments="FILES…", failure_status=2)
