"""Which checkpoint of a run is meant; imports nothing that takes time."""

from typing import Literal

# The step of it; or the one with the best mAP, or the last one.
WhichCheckpoint = int | Literal["best", "last"]
