r"""SSD300 on ILSVRC 2014 DET, 200 classes, as in the paper (section 3.5).

    ssd-jax train --config=configs/ssd300_ilsvrc.py --workdir=runs/ssd300_ilsvrc

Published: 43.4 mAP on val2, from VGG16's ImageNet weights. The data comes from
image-net.org; put its images and annotations into a folder `ILSVRC2014` in Pascal VOC's layout
(docs/data.md), with the lists `train_val1.txt` and `val2.txt`.
"""

from ml_collections import ConfigDict

from configs import ssd300_coco

PUBLISHED = "43.4 mAP on ILSVRC2014 DET val2 (paper, section 3.5)"


def get_config() -> ConfigDict:
    """The differences from SSD300 on COCO, whose network and default boxes it has."""
    config = ssd300_coco.get_config()
    config.metric = "voc"
    config.steps = 440_000
    config.learning_rate_drops = (320 / 440, 400 / 440)
    config.augment.expand_probability = 0.0
    config.data.train = "voc_xml:ILSVRC2014:train_val1"
    config.data.eval = "voc_xml:ILSVRC2014:val2"
    return config
