"""The type that selects a checkpoint of a run; this file imports no slow packages."""

from typing import Literal

# Its step; or the one with the best mAP, or the last one.
WhichCheckpoint = int | Literal["best", "last"]
