"""Turn a run into files that run elsewhere.

    ssd-jax export --to=safetensors --workdir=runs/quickstart --output=my_detector

    ssd-jax export --to=onnx --precision=int8 --calibration=path/to/dataset \\
        --workdir=runs/quickstart --output=deploy
    ssd-jax export --to=web --workdir=runs/quickstart --output=page

To safetensors, stablehlo, onnx, tflite, web (a page that detects in the browser), ssd.pytorch,
torchvision.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, define_checkpoint, given

FLAGS = flags.FlagValues()
TO = flags.DEFINE_string("to", None, "What to make of the run.", FLAGS)
WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of the run.", FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The folder to make.", FLAGS)
PRECISION = flags.DEFINE_string(
    "precision", "", "Of onnx, web, tflite: float32 (the default), float16 or int8.", FLAGS
)
CALIBRATION = flags.DEFINE_string(
    "calibration", "", "For int8: images that show how large activations are; docs/data.md.", FLAGS
)
CHECKPOINT = define_checkpoint(FLAGS)


def main(arguments: list[str]) -> None:
    """Flags in, one call, a printed result."""
    del arguments
    from ssd_jax.inference.page.exported import export_page
    from ssd_jax.interop.export import PAGE, check_export, export
    from ssd_jax.runs.trained import load_workdir

    kind, chosen = given(TO), (PRECISION.value, CALIBRATION.value)
    check_export(kind, *chosen)
    trained = load_workdir(given(WORKDIR), CHECKPOINT())
    if kind == PAGE:
        export_page(trained, given(OUTPUT), *chosen)
        print(f"{OUTPUT.value}: written; docs/web.md says how to see it")
        return
    export(kind, trained, given(OUTPUT), *chosen)
    print(f"{OUTPUT.value}: written")


COMMAND = Command(FLAGS, main, required=("to", "workdir", "output"))
