"""Convert weights of other implementations into a work directory.

    ssd-jax import --from=ssd.pytorch --input=ssd300_mAP_77.43_v2.pth \\
        --config=ssd300_voc --output=runs/ssd_pytorch

Implementations: keras, ssd.pytorch, torchvision, nvidia, uvipen, mmdetection, caffe. Files: PyTorch
(.pth), .safetensors, .npz, .caffemodel. Code inside a file is never executed.
"""

from absl import flags

from ssd_jax.cli.command_line import Command, given
from ssd_jax.config.files import define_config, given_config

FLAGS = flags.FlagValues()
FROM = flags.DEFINE_string("from", None, "The implementation that wrote the weights.", FLAGS)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "The file of weights. Names of published weights: imagenet for keras, imagenet or coco for "
    "torchvision.",
    FLAGS,
)
define_config(values=FLAGS)
OUTPUT = flags.DEFINE_string("output", None, "The work directory to create.", FLAGS)
CLASSES = flags.DEFINE_list(
    "classes", [], "The class names in order, joined by commas, unless VOC's or COCO's.", FLAGS
)
PARTIAL = flags.DEFINE_bool(
    "partial", False, "Import the weights that fit, even if others do not.", FLAGS
)


def main(arguments: list[str]) -> None:
    """Runs the command with its flags."""
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
