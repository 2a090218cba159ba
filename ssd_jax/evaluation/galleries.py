"""The example images of a report: crops of errors, missed objects and correct detections."""

import base64
import collections
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssd_jax.data.records import NamedImage
from ssd_jax.evaluation import figures, statistics
from ssd_jax.evaluation.error_analysis import CORRECT, KINDS, LOCALISATION, ErrorAnalysis
from ssd_jax.evaluation.ranking import Ranking
from ssd_jax.evaluation.results import ImageResult
from ssd_jax.images.drawing import draw_case

PER_GALLERY = 12
PER_IMAGE = 2  # cases of one image in a gallery

ReadImages = Callable[[Collection[str]], dict[str, NamedImage]]


class Case(NamedTuple):
    """A detection, or an object that was missed."""

    image: int  # the index of its image among the results
    box: np.ndarray  # [4] xyxy in pixels
    text: str  # the label of the box


class Gallery(NamedTuple):
    """Cases of one kind."""

    name: str  # of `figures.COLORS`
    num_cases: int
    num_at_points: int  # the number of cases whose score reaches the operating point of the class
    shown: Sequence[Case]


def draw_galleries(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    class_names: Sequence[str],
    least: np.ndarray,
    analysis: ErrorAnalysis,
    read_images: ReadImages,
) -> list[dict[str, Any]]:
    """Galleries of the most confident false positives of each kind, missed objects, and successes.

    False positives below the operating points are shown only if none of their kind reaches them.

    Args:
      results: the images.
      rankings: of each class, from `voc.rank`.
      class_names: class i + 1 is called `class_names[i]`.
      least: `[classes]`, the operating points: minimum scores of found objects.
      analysis: of the rankings.
      read_images: gives images by image id.

    Returns:
      For each gallery `name`, `total`, `at_points` (the number of cases that reach the operating
      point of their class) and `items`, each with `text`, `image` and `picture`.
    """
    galleries = list(_galleries(results, rankings, class_names, least, analysis))
    wanted = {results[case.image].image_id for gallery in galleries for case in gallery.shown}
    images = read_images(wanted)
    drawn = []
    for name, total, at_points, cases in galleries:
        items = []
        for case in cases:
            result = results[case.image]
            caption, pixels = images[result.image_id]
            color = figures.COLORS[name]
            picture = draw_case(pixels, result.true_boxes, case.box, case.text, color)
            items.append({"text": case.text, "image": caption, "picture": picture_uri(picture)})
        drawn.append({"name": name, "total": total, "at_points": at_points, "items": items})
    return drawn


def picture_uri(image: Image.Image) -> str:
    """An image as JPEG in a data URI."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _galleries(
    results: Sequence[ImageResult],
    rankings: Sequence[Ranking],
    class_names: Sequence[str],
    least: np.ndarray,
    analysis: ErrorAnalysis,
) -> Iterator[Gallery]:
    """See `draw_galleries`."""
    detections = [
        (ranking.score[place], kind, number, ranking.image[place], ranking.index[place])
        for number, (ranking, kinds) in enumerate(zip(rankings, analysis.kinds, strict=True))
        for place, kind in enumerate(kinds)
    ]
    detections.sort(key=lambda detection: -detection[0])

    def case(detection: tuple) -> Case:
        score, _, number, image, index = detection
        return Case(image, results[image].boxes[index], f"{class_names[number]} {score:.2f}")

    for kind in range(LOCALISATION, len(KINDS)):
        of_kind = [detection for detection in detections if detection[1] == kind]
        reached = [each for each in of_kind if each[0] >= least[each[2]]]
        shown = _first_cases([case(detection) for detection in reached or of_kind])
        yield Gallery(KINDS[kind], len(of_kind), len(reached), shown)

    found = statistics.found_objects(results, rankings, least)
    missed = [
        Case(
            image,
            result.true_boxes[number],
            class_names[int(result.true_labels[number]) - 1],
        )
        for image, (result, own) in enumerate(zip(results, found, strict=True))
        for number in np.flatnonzero(~(own | result.difficult | result.crowd))
    ]
    # The largest first: large objects should be found.
    missed.sort(key=lambda case: -float(np.prod(case.box[2:] - case.box[:2])))
    yield Gallery("missed", len(missed), len(missed), _first_cases(missed))

    right = [each for each in detections if each[1] == CORRECT and each[0] >= least[each[2]]]
    order = np.random.default_rng(0).permutation(len(right))
    yield Gallery("correct", len(right), len(right), _first_cases([case(right[i]) for i in order]))


def _first_cases(cases: Sequence[Case]) -> list[Case]:
    """The first `PER_GALLERY` cases, at most `PER_IMAGE` of each image."""
    shown, of_image = [], collections.Counter()
    for case in cases:
        if len(shown) < PER_GALLERY and of_image[case.image] < PER_IMAGE:
            of_image[case.image] += 1
            shown.append(case)
    return shown
