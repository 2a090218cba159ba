"""The embedded data set of shapes as a set of TensorFlow Datasets."""

import contextlib
import io
import logging
from typing import Any

import tensorflow_datasets as tfds

from ssd_jax.data.formats import shapes
from ssd_jax.data.formats.shapes import CLASS_NAMES, SPLIT_SIZES, draw_example, file_name

logger = logging.getLogger(__name__)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Geometric shapes with boxes, in the form of a TFDS detection data set."""

    VERSION = tfds.core.Version("1.0.0")

    def download_and_prepare(self, **options: Any) -> None:
        """Draws the images, unless they exist already."""
        if not self.is_prepared():
            logger.info(
                "drawing the %s images of the data set shapes, once, into %s",
                f"{sum(SPLIT_SIZES.values()):,}",
                self.data_dir,
            )
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS logs a download
            super().download_and_prepare(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=shapes.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split: str):
        for index in range(SPLIT_SIZES[split]):
            encoded, boxes, labels = draw_example(split, index)
            yield (
                index,
                {
                    "image": encoded,
                    "image/filename": file_name(split, index),
                    "objects": [
                        {
                            "bbox": tfds.features.BBox(
                                xmin=x_min, ymin=y_min, xmax=x_max, ymax=y_max
                            ),
                            "label": label,
                        }
                        for (x_min, y_min, x_max, y_max), label in zip(
                            boxes.tolist(), labels, strict=True
                        )
                    ],
                },
            )
