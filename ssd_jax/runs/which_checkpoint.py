"""The type of arguments that select a checkpoint; this file imports no slow packages."""

from typing import Literal

# A step, the checkpoint with the best mAP, or the last one.
WhichCheckpoint = int | Literal["best", "last"]
