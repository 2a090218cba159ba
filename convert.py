"""Turns weights of other implementations into a work directory.

    python convert.py import --from=ssd.pytorch --input=ssd300_mAP_77.43_v2.pth \
        --config=configs/ssd300_voc.py --output=runs/ssd_pytorch

Formats: keras, ssd.pytorch, torchvision, nvidia, uvipen, mmdetection, caffe. Files of PyTorch
(.pth), .safetensors, .npz and .caffemodel are read; nothing that they may hold is run.
"""

from absl import app, flags
from ml_collections import config_flags

from ssd_jax import console
from ssd_jax.convert import import_weights
from ssd_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.", lock_config=True)
FROM = flags.DEFINE_string("from", None, "Which implementation the weights are of.")
INPUT = flags.DEFINE_string("input", None, "The file of weights; for keras also imagenet.")
OUTPUT = flags.DEFINE_string("output", None, "The work directory to make.")
CLASSES = flags.DEFINE_list("classes", [], "Names of the classes, where not VOC's or COCO's.")
PARTIAL = flags.DEFINE_bool("partial", False, "Take what fits, where not everything does.")


def main(argv: list[str]) -> None:
    """Flags in, one call."""
    with console.session():
        if argv[1:] != ["import"]:
            raise UserError(f"what to do is {' '.join(argv[1:])!r}, but must be import")
        import_weights(
            FROM.value,
            INPUT.value,
            CONFIG.value,
            OUTPUT.value,
            class_names=CLASSES.value,
            partial=PARTIAL.value,
        )


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "from", "input", "output"])
    app.run(main)
