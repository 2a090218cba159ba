"""SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016) in JAX and Flax.

Names are imported on first use: `ssd_jax.train` imports TensorFlow, `ssd_jax.Detector` does not.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssd_jax.config.files import load_config
    from ssd_jax.config.schema import (
        AugmentConfig,
        Config,
        DataConfig,
        DetectionConfig,
        LossConfig,
        ModelConfig,
        OptimizerConfig,
        RunConfig,
    )
    from ssd_jax.data.sources import open_dataset
    from ssd_jax.data.training_batches import training_batches
    from ssd_jax.detection.default_boxes import default_boxes
    from ssd_jax.detection.losses import multibox_loss
    from ssd_jax.detection.matcher import match_targets
    from ssd_jax.detection.postprocess import detect
    from ssd_jax.inference.detections import Detections
    from ssd_jax.inference.detector import Detector
    from ssd_jax.inference.tiles import TiledDetector
    from ssd_jax.models.network import build_network
    from ssd_jax.runs.evaluate import EvaluationOptions, evaluate
    from ssd_jax.runs.result import TrainResult
    from ssd_jax.runs.train import train
    from ssd_jax.training.augmentation import image_keys
    from ssd_jax.training.detection_loss import detection_loss
    from ssd_jax.training.hooks import Hook, StopTraining

__version__ = "0.1.0"

# The module of each public name.
_HOMES = {
    "AugmentConfig": "config.schema",
    "Config": "config.schema",
    "DataConfig": "config.schema",
    "DetectionConfig": "config.schema",
    "Detections": "inference.detections",
    "Detector": "inference.detector",
    "EvaluationOptions": "runs.evaluate",
    "Hook": "training.hooks",
    "LossConfig": "config.schema",
    "ModelConfig": "config.schema",
    "OptimizerConfig": "config.schema",
    "RunConfig": "config.schema",
    "StopTraining": "training.hooks",
    "TiledDetector": "inference.tiles",
    "TrainResult": "runs.result",
    "build_network": "models.network",
    "default_boxes": "detection.default_boxes",
    "detect": "detection.postprocess",
    "detection_loss": "training.detection_loss",
    "evaluate": "runs.evaluate",
    "image_keys": "training.augmentation",
    "load_config": "config.files",
    "match_targets": "detection.matcher",
    "multibox_loss": "detection.losses",
    "open_dataset": "data.sources",
    "train": "runs.train",
    "training_batches": "data.training_batches",
}

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "DetectionConfig",
    "Detections",
    "Detector",
    "EvaluationOptions",
    "Hook",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "StopTraining",
    "TiledDetector",
    "TrainResult",
    "build_network",
    "default_boxes",
    "detect",
    "detection_loss",
    "evaluate",
    "image_keys",
    "load_config",
    "match_targets",
    "multibox_loss",
    "open_dataset",
    "train",
    "training_batches",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use.

    Raises:
      UserError: a package of an extra is needed and not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'ssd_jax' has no attribute {name!r}")
    # Imported late, because a command installs its signal handlers before other imports.
    from ssd_jax.errors import check_installed, missing_extra

    try:
        if name in ("train", "training_batches"):
            check_installed("tensorflow")
        value = getattr(importlib.import_module(f"ssd_jax.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
