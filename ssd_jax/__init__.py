"""SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016) in JAX and Flax."""

from typing import Any

__all__ = ["Detections", "Detector"]


def __getattr__(name: str) -> Any:
    """Imports the detector, and JAX with it, when it is asked for: the data room needs neither."""
    if name in __all__:
        from ssd_jax.inference import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'ssd_jax' has no attribute {name!r}")
