r"""The config that `ssd-jax train --data=FOLDER` starts from: a detector for your own images.

    ssd-jax train --data=path/to/dataset
    ssd-jax train --config=configs/own_images.py --workdir=runs/own --config.data.train=FOLDER

It has three rows. Two start from ImageNet's weights: `cpu`, SSDLite with MobileNetV2 at 320 pixels,
and `accelerator`, the paper's SSD300. The row `scratch`, the small SSD of `ssd_small`, needs none.
With `--data`, `ssd_jax/runs/plan.py` chooses the row and all values that depend on the images:
steps, checkpoints, augmentation, default boxes.
"""

from ml_collections import ConfigDict

from configs import ssd300_voc, ssd_small, ssdlite320_mobilenetv2_voc

ROWS = ("cpu", "accelerator", "scratch")


def get_config(row: str = "cpu") -> ConfigDict:
    """The network and the optimiser for a kind of machine.

    Raises:
      ValueError: there is no such row.
    """
    if row not in ROWS:
        raise ValueError(f"own_images has no row {row!r}: its rows are {', '.join(ROWS)}")
    if row == "cpu":
        config = ssdlite320_mobilenetv2_voc.get_config()
        # A seventh feature map, of stride 8, for objects of 15 pixels and more.
        config.model.backbone = "mobilenet_v2_stride_8"
        config.model.feature_sizes = (40, 20, 10, 5, 3, 2, 1)
        config.model.strides = (8, 16, 32, 64, 107, 160, 320)
        config.model.min_sizes = (22, 48, 100, 150, 202, 253, 304)
        config.model.max_sizes = (48, 100, 150, 202, 253, 304, 320)
        config.model.aspect_ratios = ((2,), *((2, 3),) * 6)
        config.init = "torchvision:imagenet"
        config.batch_size = 8
        config.optimizer = "adam"  # needs far fewer steps
        config.learning_rate = 1e-3
        config.steps = 900
    elif row == "accelerator":
        config = ssd300_voc.get_config()
        config.init = "torchvision:imagenet"
        config.model.precision = "bfloat16"
        config.steps = 5000
        config.warmup_steps = 500
    else:
        config = ssd_small.get_config()
    config.data.train = ""  # required
    config.data.eval = ""
    # In a short training these cost more than they gain.
    config.augment.color = False
    config.augment.expand_max_ratio = 2.0
    return config
