"""Detect objects in images, folders, videos, streams and cameras.

    ssd-jax predict --workdir=runs/quickstart --output=detected pictures clip.mp4 'more/*.png'
    ssd-jax predict --weights=my_detector --output=detected camera:0
    ssd-jax predict --weights=deploy/detector.onnx --output=detected pictures
    ssd-jax predict --workdir=runs/quickstart --serve

Exit status 0: all was done; 1: some files could not be read; 2: nothing was done, or an error ended
it, such as a full disk.
"""

import os

from absl import flags

from ssd_jax.cli.command_line import Command, define_checkpoint, define_engine, define_weights
from ssd_jax.errors import UserError, printable

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run.", FLAGS)
WEIGHTS = define_weights(FLAGS)
ENGINE = define_engine(FLAGS)
CHECKPOINT = define_checkpoint(FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The folder to write to.", FLAGS)
SCORE_THRESHOLD = flags.DEFINE_float(
    "score_threshold", 0.4, "The lowest score to show.", flag_values=FLAGS
)
CLASSES = flags.DEFINE_list("classes", [], "The classes to detect; by default all.", FLAGS)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "Images the device works on at a time.", flag_values=FLAGS
)
CROPS = flags.DEFINE_bool("crops", False, "Also write an image of each object.", FLAGS)
TRACK = flags.DEFINE_bool("track", False, "Number the objects of a video.", FLAGS)
TILE = flags.DEFINE_integer(
    "tile",
    None,
    "Side in pixels of the squares that large images are taken apart into, for small objects.",
    flag_values=FLAGS,
)
SERVE = flags.DEFINE_bool("serve", False, "Open a page to try the detector instead.", FLAGS)
HOST = flags.DEFINE_string("host", "127.0.0.1", "The address of the page; 0.0.0.0 for all.", FLAGS)
PORT = flags.DEFINE_integer(
    "port",
    7860,
    "The port of the page; 0 for one that is free.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
ALLOWED_HOSTS = flags.DEFINE_list(
    "allowed_hosts",
    [],
    "Names that the page answers to, as behind a proxy, beside those of its address.",
    FLAGS,
)
AUTH = flags.DEFINE_string(
    "auth",
    None,
    "USER:PASSWORD that the page asks for; also from SSD_JAX_AUTH, which other users cannot see.",
    FLAGS,
)


def main(arguments: list[str]) -> int:
    """Flags in, one call, a printed result."""
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
