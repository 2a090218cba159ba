"""Weights of classes in the confidence loss, from `config.loss.class_weights`."""

import logging

import numpy as np

from ssd_jax.config.schema import BALANCED, LossConfig
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.data.content import count_content
from ssd_jax.data.datasets import Dataset
from ssd_jax.distributed import devices
from ssd_jax.errors import UserError, counted, first_names

logger = logging.getLogger(__name__)


def with_class_weights(settings: LossConfig, train: Dataset) -> LossConfig:
    """Returns settings whose class weights are numbers in the order of the classes, for the loss.

    Args:
      settings: `class_weights` may have any form.
      train: the training data; its objects are counted for `balanced`.

    Raises:
      UserError: the numbers are not one per class, or a name is not that of a class.
    """
    if not settings.class_weights:
        return settings
    names, given = train.class_names, settings.weights_by_class
    weights = settings.weights_in_order or [given.get(name, 1.0) for name in names]
    if settings.class_weights == BALANCED:
        weights = balanced(count_content(train).num_objects).tolist()
    listed = f"the classes of the data are {first_names(names, 20)}"
    for name in given:
        if name not in names:
            raise UserError(
                f"config.loss.class_weights names {name!r}, but {listed}{did_you_mean(name, names)}"
            )
    if len(weights) != len(names):
        raise UserError(
            f"config.loss.class_weights has {counted(len(weights), 'number')}, but {listed}: give "
            "one for each"
        )
    if devices.is_main_process():
        told = (f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
        logger.info("class weights: %s", ", ".join(told))
    return settings.model_copy(update={"class_weights": ",".join(map(repr, weights))})


def balanced(num_objects: np.ndarray) -> np.ndarray:
    """Weights in inverse proportion to the square roots of the numbers of objects.

    Their mean over the objects is 1. A class without objects has the weight 1.

    Args:
      num_objects: `[classes]`, those of each class.
    """
    roots = np.sqrt(num_objects)
    return np.where(num_objects, num_objects.sum() / roots.sum() / np.maximum(roots, 1), 1.0)
