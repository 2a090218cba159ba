"""Sets up TensorFlow for reading data. Files that need it import `tf` from here."""

import contextlib
import os

# TensorFlow reads these variables at import. Only its errors matter to users. The pipeline uses no
# operation of oneDNN, which would log a message at every start.
# JAX sets the level to 1 if it is not set, so only another level is the user's choice.
if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# TensorFlow imports Keras, which imports pandas and Matplotlib and takes a second. With the setting
# for legacy Keras, it imports `tf.keras` only when it is used.
keras = os.environ.get("TF_USE_LEGACY_KERAS", "")
os.environ["TF_USE_LEGACY_KERAS"] = "1"
try:
    import tensorflow as tf
finally:
    os.environ["TF_USE_LEGACY_KERAS"] = keras

# The accelerator belongs to JAX; TensorFlow would reserve all of its memory.
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")
# One image is a small task: threads process many images, not the operations of one. A program that
# has used TensorFlow before keeps its threads.
with contextlib.suppress(RuntimeError):
    tf.config.threading.set_intra_op_parallelism_threads(1)

Tensors = dict[str, tf.Tensor]


def tensorflow_reason(error: tf.errors.OpError) -> str:
    """The reason of an error in one line, without its position in TensorFlow's graph."""
    lines = (error.message or str(error)).strip().splitlines()
    plain = [line for line in lines if line.strip() and not line[0].isspace()]
    return plain[-1] if plain[0].startswith("Graph execution error") else plain[0]
