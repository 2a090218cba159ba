"""Turns weights of other implementations into a work directory, and a run into files for others.

    python convert.py import --from=ssd.pytorch --input=ssd300_mAP_77.43_v2.pth \
        --config=configs/ssd300_voc.py --output=runs/ssd_pytorch
    python convert.py export --to=safetensors --workdir=runs/quickstart --output=my_detector

From keras, ssd.pytorch, torchvision, nvidia, uvipen, mmdetection, caffe: files of PyTorch (.pth),
.safetensors, .npz and .caffemodel are read; nothing that they may hold is run. To safetensors,
stablehlo, onnx, ssd.pytorch, torchvision.
"""

from absl import flags

from ssd_jax.cli import command_line, console
from ssd_jax.errors import UserError
from ssd_jax.interop.export import check_export_format, export
from ssd_jax.runs.import_weights import import_weights
from ssd_jax.runs.trained import load_workdir

CONFIG = command_line.define_config()
FROM = flags.DEFINE_string("from", None, "Which implementation the weights are of.")
INPUT = flags.DEFINE_string("input", None, "The file of weights; for keras also imagenet.")
OUTPUT = flags.DEFINE_string("output", None, "The work directory, or the folder, to make.")
TO = flags.DEFINE_string("to", None, "What to make of the run.")
WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of the run to export.")
CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "The step to export; by default the last.")
CLASSES = flags.DEFINE_list("classes", [], "Names of the classes, where not VOC's or COCO's.")
PARTIAL = flags.DEFINE_bool("partial", False, "Take what fits, where not everything does.")


def main(argv: list[str]) -> None:
    """Flags in, one call."""
    with console.session():
        if argv[1:] not in (["import"], ["export"]):
            raise UserError(f"what to do is {' '.join(argv[1:])!r}, but must be import or export")
        needed = ("config", "from", "input") if argv[1] == "import" else ("to", "workdir")
        for name in (*needed, "output"):
            if flags.FLAGS[name].value is None:
                raise UserError(f"{argv[1]} needs --{name}")
        if argv[1] == "export":
            check_export_format(TO.value)
            trained = load_workdir(WORKDIR.value, CHECKPOINT.value)
            export(TO.value, trained, OUTPUT.value)
            print(f"{OUTPUT.value}: written")
            return
        import_weights(
            FROM.value,
            INPUT.value,
            CONFIG.value,
            OUTPUT.value,
            class_names=CLASSES.value,
            partial=PARTIAL.value,
        )


if __name__ == "__main__":
    command_line.run(main)
