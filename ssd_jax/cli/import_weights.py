"""Turn weights of other implementations into a work directory.

    ssd-jax import --from=ssd.pytorch --input=ssd300_mAP_77.43_v2.pth \\
        --config=ssd300_voc --output=runs/ssd_pytorch

From keras, ssd.pytorch, torchvision, nvidia, uvipen, mmdetection, caffe: files of PyTorch (.pth),
.safetensors, .npz and .caffemodel are read; nothing that they may hold is run.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.files import define_config, given_config

FLAGS = flags.FlagValues()
define_config(values=FLAGS)
FROM = flags.DEFINE_string("from", None, "Which implementation the weights are of.", FLAGS)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "The file of weights; for keras also imagenet, for torchvision imagenet and coco.",
    FLAGS,
)
OUTPUT = flags.DEFINE_string("output", None, "The work directory to make.", FLAGS)
CLASSES = flags.DEFINE_list(
    "classes", [], "Names of the classes, where not VOC's or COCO's.", FLAGS
)
PARTIAL = flags.DEFINE_bool("partial", False, "Take what fits, where not everything does.", FLAGS)


def main(arguments: list[str]) -> None:
    """Flags in, one call."""
    del arguments
    from ssd_jax.runs.import_weights import import_weights

    import_weights(
        given(FROM),
        given(INPUT),
        given_config(FLAGS),
        given(OUTPUT),
        class_names=CLASSES.value,
        partial=PARTIAL.value,
    )


COMMAND = Command(FLAGS, main, required=("config", "from", "input", "output"))
