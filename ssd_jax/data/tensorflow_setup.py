"""TensorFlow, set up for reading data. Files that need it import `tf` from here."""

import contextlib
import os

# TensorFlow reads these at import: only its errors are worth a user's time, and the pipeline uses
# none of the operations that oneDNN speeds up (but oneDNN announces itself at every start).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# TensorFlow imports Keras, which brings pandas and Matplotlib and takes a second. Asked for the
# older Keras, which is seldom installed, it does not; `tf.keras` is imported when it is used.
keras = os.environ.get("TF_USE_LEGACY_KERAS", "")
os.environ["TF_USE_LEGACY_KERAS"] = "1"
try:
    import tensorflow as tf
finally:
    os.environ["TF_USE_LEGACY_KERAS"] = keras

# The accelerator belongs to JAX; TensorFlow would reserve all of its memory.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")
# One image is a small piece of work: threads go to many images, not into the operations of one. A
# program that has used TensorFlow before keeps its threads.
with contextlib.suppress(RuntimeError):
    tf.config.threading.set_intra_op_parallelism_threads(1)

Tensors = dict[str, tf.Tensor]


def tensorflow_reason(error: tf.errors.OpError) -> str:
    """The reason of an error in one line, without its place in TensorFlow's graph."""
    lines = (error.message or str(error)).strip().splitlines()
    plain = [line for line in lines if line.strip() and not line[0].isspace()]
    return plain[-1] if plain[0].startswith("Graph execution error") else plain[0]
