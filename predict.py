"""Detects objects in pictures, folders, videos, streams and cameras.

    python predict.py --workdir=runs/quickstart --output=detected pictures clip.mp4 'more/*.png'
    python predict.py --weights=my_detector --output=detected camera:0
    python predict.py --workdir=runs/quickstart --serve

Leaves with 0 if all was done, with 1 if some files could not be read, with 2 if nothing was done.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.errors import UserError
from ssd_jax.inference.page import serve
from ssd_jax.inference.predict import load_detector, predict

WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run.")
WEIGHTS = flags.DEFINE_string("weights", None, "Or a folder that convert.py export wrote.")
CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "The step of the run; by default the last.")
OUTPUT = flags.DEFINE_string("output", None, "The folder to write to.")
SCORE_THRESHOLD = flags.DEFINE_float("score_threshold", 0.4, "The lowest score to show.")
CLASSES = flags.DEFINE_list("classes", [], "The classes to detect; by default all.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Pictures the device works on at a time.")
CROPS = flags.DEFINE_bool("crops", False, "Also write a picture of each object.")
SERVE = flags.DEFINE_bool("serve", False, "Open a page to try the detector instead.")
HOST = flags.DEFINE_string("host", "127.0.0.1", "The address of the page; 0.0.0.0 for all.")
PORT = flags.DEFINE_integer("port", 7860, "The port of the page.")


def main(argv: list[str]) -> int:
    """Flags in, one call, a printed result."""
    with console.session(failure_status=2):
        if not SERVE.value and OUTPUT.value is None:
            raise UserError("name a folder to write to with --output")
        detector = load_detector(WORKDIR.value, WEIGHTS.value, CHECKPOINT.value)
        if SERVE.value:
            serve(detector, SCORE_THRESHOLD.value, HOST.value, PORT.value)
            return 0
        done, failed = predict(
            detector,
            argv[1:],
            OUTPUT.value,
            score_threshold=SCORE_THRESHOLD.value,
            classes=CLASSES.value,
            batch_size=BATCH_SIZE.value,
            crops=CROPS.value,
        )
        print(f"{OUTPUT.value}: {done} pictures done, {failed} files failed")
        return 0 if not failed else 1 if done else 2


if __name__ == "__main__":
    # 1 means that some files failed.
    command_line.run(main, failure_status=2)
