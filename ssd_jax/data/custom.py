"""Calls a user's augmentation function on each training image, before its window is drawn.

`config.augment.custom` names the function, as MODULE:FUNCTION:

    def blur(image, boxes, labels, generator):
        ...
        return image, boxes, labels

with `image` `[height, width, 3]` uint8 RGB, `boxes` `[objects, 4] xyxy` float32 in [0, 1], `labels`
`[objects]` int32 from 1, and a NumPy generator of random numbers. The function may change the size
of the image and the number of objects.
"""

import importlib
import io
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssd_jax.config.schema import Config
from ssd_jax.config.spelling import did_you_mean
from ssd_jax.errors import UserError, counted, reason_of, shown
from ssd_jax.images.limits import MAX_PIXELS

ROUNDING = 1e-4  # a box may reach beyond the image by this fraction, a rounding error

Function = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], Any]
Changed = tuple[np.ndarray, np.ndarray, np.ndarray]


def find_function(name: str) -> Function:
    """Imports the function `MODULE:FUNCTION`; modules may also be in the current folder.

    Raises:
      UserError: there is no such module or function, or the module cannot be imported.
    """
    field = f"config.augment.custom is {name}"
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's code may raise any error
        parents = [".".join(module_name.split(".")[:n]) for n in range(1, 9)]
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            raise UserError(
                f"{field}, but there is no module {error.name} in {os.getcwd()} or among the "
                "installed packages: name a module without .py, or start in its folder"
            ) from error
        raise UserError(f"{field}, but it cannot be imported: {_describe(error)}") from error
    # Built-in modules, and folders without `__init__.py`, have no file.
    place = getattr(module, "__file__", None) or f"the module {module_name}"
    function = getattr(module, function_name, None)
    if function is None:
        near = did_you_mean(function_name, vars(module))
        raise UserError(f"{field}, but {place} has no {function_name}{near}")
    if not callable(function):
        raise UserError(
            f"{field}, but {function_name} of {place} is {shown(function)}, which is not a function"
        )
    return function


class CustomAugmentation:
    """Calls a user's function, and checks its results.

    The random numbers for an image depend on the seed, the process, and the position of the image
    in the training of the process, so that a continued run draws the same numbers.

    Attributes:
      failure: a description of its first failure, for the user.
    """

    def __init__(self, name: str, num_classes: int, seed: int, process_index: int):
        """Imports the function; see `find_function`."""
        self._name, self._function = name, find_function(name)
        self._num_classes = num_classes
        self._seed = (seed, process_index)
        self.failure: UserError | None = None

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        file: bytes,
        position: np.integer,
    ) -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
        """Calls the function for one image.

        A failure is not raised, but stored, because TensorFlow's threads would log each exception
        with its traceback. The image then stays unchanged, and is not used for training.

        Args:
          image: `[height, width, 3] uint8`.
          boxes: `[objects, 4] xyxy` in [0, 1].
          labels: `[objects]`.
          file: the image file, for messages.
          position: the number of images that the process has trained on before.

        Returns:
          The changed image as a BMP file, its `[2]` height and width, its boxes and its labels.
        """
        generator = np.random.default_rng((*self._seed, int(position)))
        try:
            image, boxes, labels = self._changed(image, boxes, labels, generator)
        except UserError as error:
            message = f"config.augment.custom={self._name}, given {os.fsdecode(file)}, {error}"
            self.failure = self.failure or UserError(message)
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "BMP")
        return encoded.getvalue(), np.array(image.shape[:2], np.int32), boxes, labels

    def _changed(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        generator: np.random.Generator,
    ) -> Changed:
        """The result of the function for an image.

        Raises:
          UserError: the function raises an error, or returns invalid values.
        """
        try:
            # Copies, as these arrays belong to TensorFlow.
            result = self._function(image.copy(), boxes.copy(), labels.copy(), generator)
        except BaseException as error:  # a user's code may raise any error, also SystemExit
            raise UserError(f"failed with {_describe(error)}") from error
        return checked(result, self._num_classes)


def custom_augmentation(
    config: Config, num_classes: int, process_index: int
) -> CustomAugmentation | None:
    """The function of `config.augment.custom`; None if the field is empty."""
    name = config.augment.custom
    return CustomAugmentation(name, num_classes, config.seed, process_index) if name else None


def checked(result: Any, num_classes: int) -> Changed:
    """Converts a function's result to image, boxes and labels with the types of a record.

    Raises:
      UserError: the result is invalid; the message continues a sentence about the function.
    """
    if not isinstance(result, tuple | list) or len(result) != 3:
        is_listed = isinstance(result, tuple | list)
        what = counted(len(result), "value") if is_listed else shown(result)
        raise UserError(f"returned {what}, but must return three: image, boxes, labels")
    image = np.asarray(result[0])
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"returned an image of the shape {image.shape} and type {image.dtype}, but it must be "
            "[height, width, 3] uint8"
        )
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise UserError(
            f"returned an image of {image.shape[1]} × {image.shape[0]} pixels, but it may have at "
            f"most {MAX_PIXELS}"
        )
    boxes, labels = _numbers(result[1], "boxes"), _numbers(result[2], "labels")
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        raise UserError(
            f"returned boxes of the shape {boxes.shape} and labels of the shape {labels.shape}, "
            "but they must be [objects, 4] and [objects]"
        )
    clipped = np.clip(boxes, 0, 1)
    # NaN fails this comparison.
    is_inside = (np.abs(clipped - boxes) <= ROUNDING).all(axis=1)
    is_good = is_inside & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    if not is_good.all():
        box = ", ".join(f"{number:g}" for number in boxes[~is_good][0].tolist())
        raise UserError(
            f"returned the box ({box}), but it must be x_min, y_min, x_max, y_max in [0, 1], with "
            "some width and height: clip it to the image, or leave it and its label out"
        )
    is_class = (labels >= 1) & (labels <= num_classes) & (labels == np.round(labels))
    if not is_class.all():
        raise UserError(
            f"returned the label {labels[~is_class][0]:g}, but labels are whole numbers from 1 to "
            f"{num_classes}"
        )
    return np.ascontiguousarray(image), clipped, labels.astype(np.int32)


def _numbers(values: Any, what: str) -> np.ndarray:
    message = f"returned {what} that are no array of numbers: {shown(values)}"
    try:
        # Rejects texts and masks, which NumPy would convert.
        if np.asarray(values).dtype.kind in "bSU":
            raise UserError(message)
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(message) from error


def _describe(error: BaseException) -> str:
    """An error, with its line in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent)
    places = [frame for frame in frames if not frame.filename.startswith((ours, "<frozen"))]
    # Errors may occur in Python or a package, but users need the line in their code.
    paths = sysconfig.get_paths()
    libraries = tuple(
        paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    own = [frame for frame in places if not frame.filename.startswith(libraries)] or places
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {reason_of(error)}{place}"
