"""Findings about the boxes of all images: a wrong box format, boxes of whole images, outliers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.diagnostics.findings import Finding
from ssd_jax.diagnostics.image_findings import describe
from ssd_jax.errors import first_names

LEAST_BOXES = 10  # minimum number of boxes to check their format
LEAST_OF_CLASS = 30  # minimum number of boxes of a class to search outliers
WHOLE, MANY_WHOLE = 0.99, 0.3  # of both sides; of the images with objects
FEW_OBJECTS = 10
# Deviations from the median of the class, from which the logarithm of a side or a ratio is
# unusual. The unit is the median absolute deviation, which outliers do not change.
DEVIATIONS, LEAST_DEVIATION = 6.0, 0.2


class Place(NamedTuple):
    """An image, for findings."""

    file: str
    image_id: str


class Boxes:
    """Collects the boxes of many images, as they were read, with the sizes of their images."""

    def __init__(self):
        """Starts without boxes."""
        self._places: list[Place] = []
        self._names: dict[str, int] = {}
        self._owners, self._classes = bytearray(), bytearray()
        self._boxes, self._sizes = bytearray(), bytearray()

    def add(
        self, place: Place, names: Sequence[str], boxes: np.ndarray, size: tuple[float, float]
    ) -> None:
        """Adds an image.

        Args:
          place: of the image.
          names: the classes of its objects.
          boxes: `[objects, 4] xyxy` in pixels.
          size: (height, width).
        """
        known = [self._names.setdefault(name, len(self._names)) for name in names]
        self._owners += np.full(len(names), len(self._places), np.int32).tobytes()
        self._classes += np.array(known, np.int32).tobytes()
        self._boxes += boxes.astype(np.float32).tobytes()
        self._sizes += np.array(size, np.float32).tobytes()
        self._places.append(place)

    def __len__(self) -> int:
        return len(self._owners) // np.dtype(np.int32).itemsize

    def form(self, source: str, first: int) -> Iterator[Finding]:
        """A finding if the boxes of a source were probably read in the wrong format.

        Args:
          source: for messages.
          first: the index of its first box; all later boxes are of this source.
        """
        boxes, (width, height) = self.boxes[first:], (side[first:] for side in self._sides())
        if len(boxes) < LEAST_BOXES:
            return
        x_min, y_min, x_max, y_max = boxes.T
        w, h = x_max - x_min, y_max - y_min

        def fits(x_0: np.ndarray, y_0: np.ndarray, x_1: np.ndarray, y_1: np.ndarray) -> float:
            """The share of boxes that have area and are inside their images."""
            inside = (np.minimum(x_0, y_0) >= -1) & (x_1 <= width + 1) & (y_1 <= height + 1)
            return float(np.mean(inside & (x_1 > x_0) & (y_1 > y_0)))

        as_read = fits(x_min, y_min, x_max, y_max)
        others = {
            "x, y, width and height, read as corners": fits(
                x_min, y_min, x_min + x_max, y_min + y_max
            ),
            "corners, read as x, y, width and height": fits(x_min, y_min, w, h),
            "a centre with width and height, read as x, y, width and height": fits(
                x_min - w / 2, y_min - h / 2, x_min + w / 2, y_min + h / 2
            ),
        }
        form, share = max(others.items(), key=lambda item: item[1])
        if as_read < 0.8 and share > 0.95:
            message = (
                f"{1 - as_read:.0%} of {len(boxes):,} boxes have no area or reach outside their "
                f"image: they are probably {form}"
            )
            yield Finding("box form", source, "", message)

    def findings(self, source: str) -> Iterator[Finding]:
        """The findings about the boxes of all images together, and about unusual boxes."""
        counts = np.bincount(self._of(self._classes), minlength=len(self._names)).tolist()
        fewest_first = sorted(zip(counts, self._names, strict=True))
        few = [f"{name} ({count})" for count, name in fewest_first if count < FEW_OBJECTS]
        if few:
            message = f"fewer than {FEW_OBJECTS} objects: {first_names(few, 20)}"
            yield Finding("few objects", source, "", message)
        width, height = self._sides()
        x_min, y_min, x_max, y_max = self.boxes.T
        x_share, y_share = (x_max - x_min) / width, (y_max - y_min) / height
        whole = (x_share >= WHOLE) & (y_share >= WHOLE)
        owners = self._of(self._owners)
        with_whole, with_objects = len(np.unique(owners[whole])), len(np.unique(owners))
        if with_whole >= LEAST_BOXES and with_whole > MANY_WHOLE * with_objects:
            message = f"{with_whole:,} of {with_objects:,} images have a box around the whole image"
            yield Finding("whole images", source, "", message)
        yield from self._unusual(x_share, y_share)

    def _unusual(self, x_share: np.ndarray, y_share: np.ndarray) -> Iterator[Finding]:
        has_area = (x_share > 0) & (y_share > 0)
        sides, ratios = np.full(len(x_share), np.nan), np.full(len(x_share), np.nan)
        sides[has_area] = np.log(x_share[has_area] * y_share[has_area]) / 2
        width, height = self._sides()
        ratios[has_area] = np.log((x_share * width)[has_area] / (y_share * height)[has_area])
        classes, owners = self._of(self._classes), self._of(self._owners)
        for label, name in enumerate(self._names):
            own = np.flatnonzero((classes == label) & has_area)
            if len(own) < LEAST_OF_CLASS:
                continue
            far = np.zeros(len(own))
            for values in (sides[own], ratios[own]):
                distance = np.abs(values - np.median(values))
                far = np.maximum(
                    far, distance / max(1.4826 * float(np.median(distance)), LEAST_DEVIATION)
                )
            typical = np.exp(np.median(sides[own]))
            for i in own[far > DEVIATIONS].tolist():
                place = self._places[owners[i]]
                message = (
                    f"{describe(name, self.boxes[i])} has {np.exp(sides[i]):.1%} of the image's "
                    f"side and a width : height of {np.exp(ratios[i]):.2g}; typical for {name!r} "
                    f"are {typical:.1%} and {np.exp(np.median(ratios[own])):.2g}"
                )
                yield Finding("unusual box", place.file, place.image_id, message)

    @property
    def boxes(self) -> np.ndarray:
        """`[objects, 4] xyxy` in pixels."""
        return np.frombuffer(self._boxes, np.float32).reshape(-1, 4)

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """`[objects]` each: width and height of the image of every object."""
        sizes = np.frombuffer(self._sizes, np.float32).reshape(-1, 2)[self._of(self._owners)]
        return sizes[:, 1], sizes[:, 0]

    def _of(self, numbers: bytearray) -> np.ndarray:
        return np.frombuffer(numbers, np.int32)
