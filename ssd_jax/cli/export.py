"""Export a trained detector to ONNX, TFLite, TensorFlow, a web page and other formats.

    ssd-jax export --to=safetensors --workdir=runs/quickstart --output=my_detector
    ssd-jax export --to=onnx --precision=int8 --calibration=path/to/dataset \\
        --workdir=runs/quickstart --output=deploy
    ssd-jax export --to=web --weights=my_detector --output=page

Formats: safetensors, onnx, tflite, saved_model (TensorFlow), stablehlo, web (a page that detects in
the browser), hf (for the Hugging Face hub), ssd.pytorch, torchvision.
"""

from typing import TYPE_CHECKING

from absl import flags

from ssd_jax.cli.command_line import Command, define_checkpoint, given
from ssd_jax.errors import UserError, first_names

if TYPE_CHECKING:
    from ssd_jax.interop.trained import Trained

FLAGS = flags.FlagValues()
TO = flags.DEFINE_string("to", None, "The format to write.", FLAGS)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The work directory of a run. Give it or --weights.", FLAGS
)
CHECKPOINT = define_checkpoint(FLAGS)
WEIGHTS = flags.DEFINE_string(
    "weights", None, "A folder exported to safetensors or hf, or hf:USER/NAME.", FLAGS
)
OUTPUT = flags.DEFINE_string("output", None, "The folder to create.", FLAGS)
PRECISION = flags.DEFINE_string(
    "precision", "", "For onnx, web, tflite: float32 (the default), float16 or int8.", FLAGS
)
CALIBRATION = flags.DEFINE_string(
    "calibration",
    "",
    "For int8: a data set, best the training data; its images show how large activations are "
    "(docs/data.md).",
    FLAGS,
)
LICENSE = flags.DEFINE_string(
    "license",
    "",
    "For hf, onnx, tflite, saved_model, web: the licence to record in the files, like mit.",
    FLAGS,
)
PUSH = flags.DEFINE_string("push", None, "For hf: USER/NAME to upload the folder to.", FLAGS)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags and prints the result."""
    del arguments
    from ssd_jax.inference.export import check_target, export_detector, written_files
    from ssd_jax.interop.export import PAGE, Choices

    kind, output = given(TO), given(OUTPUT)
    if FLAGS["to"].present > 1:
        raise UserError("--to is given more than once: export once for each format")
    choices = Choices(PRECISION.value, CALIBRATION.value, LICENSE.value)
    check_target(kind, output, choices, PUSH.value)
    trained, numbers = _detector()
    address = export_detector(trained, output, kind, choices, numbers, PUSH.value)
    print(f"{output}: written: {first_names(written_files(output), 12)}")
    if kind == PAGE:
        print("docs/web.md says how to see the page")
    if address:
        print(f"uploaded: {address}")


def _detector() -> "tuple[Trained, dict[str, float]]":
    """The detector that the flags name, and the results of its evaluation, if any."""
    from ssd_jax.interop.hub import load_pretrained
    from ssd_jax.runs.trained import load_workdir, read_evaluation

    if (WORKDIR.value is None) == (WEIGHTS.value is None):
        raise UserError("name either --workdir, of a run, or --weights, a detector's folder")
    if WEIGHTS.value is None:
        checkpoint = CHECKPOINT()
        return load_workdir(given(WORKDIR), checkpoint), read_evaluation(given(WORKDIR), checkpoint)
    if CHECKPOINT() != "best":
        raise UserError("--checkpoint goes with --workdir: --weights has only one")
    return load_pretrained(WEIGHTS.value), {}


COMMAND = Command(FLAGS, main, required=("to", "output"))
