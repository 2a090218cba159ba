"""Reads CVAT's XML formats: "CVAT for images 1.1" and "CVAT for video 1.1"."""

import collections
import itertools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ssd_jax.data.annotations import Annotations
from ssd_jax.data.file_tree import FileTree
from ssd_jax.data.formats.arguments import file_and_folder
from ssd_jax.data.formats.cvat_files import subsets_of
from ssd_jax.data.formats.cvat_shapes import SHAPES, WITHOUT_BOX, Box, box_of
from ssd_jax.data.formats.values import image_id_of, number
from ssd_jax.data.problems import Problem, Problems
from ssd_jax.data.records import Annotation, Object, annotation
from ssd_jax.data.stems import without_suffix
from ssd_jax.errors import UserError, counted, shown

logger = logging.getLogger(__name__)

Size = tuple[float, float] | None


def open_cvat_xml(annotations: str, image_dir: str, problems: Problems) -> Annotations:
    """Reads one annotation file: the images in its order, or the frames of a video.

    A project with subsets has one folder of images for each subset; the folder of one subset
    selects it. Rotated boxes and outlines are replaced by their bounding boxes. For a video, only
    frames that are in the folder as images are read; objects outside the frame are left out.

    Args:
      annotations: the file `annotations.xml` of an export.
      image_dir: the folder of its images.
      problems: handles damaged images and annotations.

    Raises:
      UserError: the file or the folder is missing or cannot be understood, or `problems` stops; the
        message names the file.
    """
    spec, path, folder = file_and_folder("cvat_xml", annotations, image_dir)
    reader = _Reader(path, FileTree(folder), problems)
    return Annotations(reader.read(), spec, reader.labels)


class _Reader:
    """Reads one file.

    Attributes:
      labels: numbers from 1, by the names of the labels that the file declares or uses.
    """

    def __init__(self, path: Path, tree: FileTree, problems: Problems):
        self.labels: dict[str, int] = {}
        self._path, self._tree, self._problems = path, tree, problems
        self._left_out: collections.Counter[str] = collections.Counter()
        self._seen: set[Path] = set()
        # The subset to read, if the folder of images has the name of one; "" reads all.
        folder = tree.root.absolute().name
        self._subset = folder if folder in subsets_of(path) else ""
        self._meta: Element | None = None

    def read(self) -> Iterator[Annotation]:
        """Yields the annotation of every image."""
        tracks: list[Element] = []
        num_images = 0
        for element in self._elements():
            if element.tag == "meta":
                self._read_meta(element)
            elif element.tag == "track":
                tracks.append(element)
            else:
                num_images += 1
                read = self._read_image(element)
                element.clear()
                if read:
                    yield read
        if tracks and not num_images:
            yield from self._read_video(tracks)
        elif not num_images:
            raise UserError(f"{self._path} lists no images")
        if self._left_out:
            counts = ", ".join(f"{tag} ({count})" for tag, count in self._left_out.items())
            logger.warning("%s: left out elements without a box: %s", self._path, counts)

    def _elements(self) -> Iterator[Element]:
        """The elements below the root."""
        depth = 0
        try:
            for event, element in ElementTree.iterparse(self._path, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1 and element.tag != "annotations":
                    raise UserError(
                        f"{self._path} is not CVAT's XML: it begins with "
                        f"<{shown(element.tag)[1:-1]}>, not <annotations>"
                    )
                if event == "end" and depth == 1 and element.tag in ("meta", "image", "track"):
                    yield element
        except (OSError, ParseError, DefusedXmlException, ValueError, LookupError) as error:
            message = f"{self._path} cannot be read as XML: {error}"
            raise UserError(message) from error

    def _read_meta(self, meta: Element) -> None:
        self._meta = meta
        for label in meta.iter("label"):
            name = label.findtext("name", "").strip()
            if name and label.find("parent") is None:  # not a point of a skeleton
                self.labels.setdefault(name, len(self.labels) + 1)

    def _read_image(self, element: Element) -> Annotation | None:
        name, subset = element.get("name", ""), element.get("subset", "")
        if self._subset and subset != self._subset:
            return None
        self._problems.num_images += 1
        found: list[Problem] = []
        path = self._image(f"{subset}/{name}" if subset else name)
        if isinstance(path, Problem):
            found.append(path)
        elif path in self._seen:
            found.append(Problem("listed twice", f"lists {shown(name)} twice"))
        size = self._size(element.get("width"), element.get("height"), found)
        objects = []
        for shape in element:
            if shape.tag in SHAPES:
                label = self._label(shape.get("label"), found)
                objects.append(Object(label, box_of(shape, found)))
            elif shape.tag in WITHOUT_BOX:
                self._left_out[shape.tag] += 1
        if found or isinstance(path, Problem):
            self._problems.add(self._path, name or f"image {element.get('id')}", found)
            return None
        self._seen.add(path)
        return self._annotation(path, objects, size)

    def _image(self, name: str) -> Path | Problem:
        """The image of this name; names of video frames have no suffix."""
        path = self._tree.image(name)
        if isinstance(path, Problem) and path.kind == "image missing":
            by_stem = self._tree.image_of_stem(name)
            return path if isinstance(by_stem, Problem) else by_stem
        return path

    def _annotation(self, path: Path, objects: list[Object], size: Size) -> Annotation:
        image_id = image_id_of(path, self._tree.root)
        return annotation(image_id, path, self._path, objects, size)

    def _label(self, label: str | None, found: list[Problem]) -> str:
        name = (label or "").strip()
        if not name:
            found.append(Problem("class missing", "a shape has no label"))
            return ""
        self.labels.setdefault(name, len(self.labels) + 1)
        return name

    def _size(self, width: str | None, height: str | None, found: list[Problem]) -> Size:
        """(height, width), or None if not stated."""
        if not width or not height:
            return None
        sides = number(height), number(width)
        if sides[0] is not None and sides[1] is not None and min(sides[0], sides[1]) >= 0:
            return sides[0], sides[1]
        sides = shown((width, height))
        message = f"the width and height of an image are {sides}, which are not pixels"
        found.append(Problem("size", message))
        return None

    # ---- video

    def _read_video(self, tracks: list[Element]) -> Iterator[Annotation]:
        """Yields the annotations of the frames that exist as images."""
        if len({track.get("task_id") for track in tracks}) > 1:
            raise UserError(
                f"{self._path} has the videos of several tasks: export each task separately"
            )
        found: list[Problem] = []
        objects: dict[int, list[Object]] = collections.defaultdict(list)
        for track in tracks:
            label = self._label(track.get("label"), found)
            for frame, box in self._boxes(track, found).items():
                objects[frame].append(Object(label, box))
        if found:
            self._problems.add(self._path, "tracks", found)
        sizes = [] if self._meta is None else list(self._meta.iter("original_size"))
        size = None
        if len(sizes) == 1:
            size = self._size(sizes[0].findtext("width"), sizes[0].findtext("height"), found)
        images = self._frames(max(objects, default=0))
        missing = sorted(set(objects) - set(images))
        if missing:
            logger.warning(
                "%s: left out %s with objects but without an image in %s, the first is %d",
                *(self._path, counted(len(missing), "frame"), self._tree.root, missing[0]),
            )
        for frame, image in sorted(images.items()):
            self._problems.num_images += 1
            yield self._annotation(self._tree.path(image), objects.get(frame, []), size)

    def _boxes(self, track: Element, found: list[Problem]) -> dict[int, Box]:
        """The box of a track in each frame, interpolated between key frames as in CVAT."""
        known: dict[int, tuple[Box, bool]] = {}
        for shape in track:
            if shape.tag in WITHOUT_BOX:
                self._left_out[shape.tag] += 1
            elif shape.tag in SHAPES:
                frame = shape.get("frame", "")
                if not re.fullmatch("[0-9]{1,9}", frame):
                    found.append(Problem("annotation form", f"a frame is {shown(frame)}"))
                    continue
                known[int(frame)] = box_of(shape, found), shape.get("outside") == "1"
        frames = sorted(known)
        boxes = {frame: known[frame][0] for frame in frames if not known[frame][1]}
        for first, second in itertools.pairwise(frames):
            (begin, is_outside), (end, ends_outside) = known[first], known[second]
            if is_outside or second - first > 10_000:
                continue
            for frame in range(first + 1, second):
                part = 0.0 if ends_outside else (frame - first) / (second - first)
                left, top, right, bottom = (
                    a + part * (b - a) for a, b in zip(begin, end, strict=True)
                )
                boxes[frame] = left, top, right, bottom
        return boxes

    def _frames(self, last: int) -> dict[int, str]:
        """The image of each frame, by the number at the end of its name, or by its order."""
        text = {} if self._meta is None else {each.tag: each.text for each in self._meta.iter()}
        size = _whole_number(text.get("size"))
        start = _whole_number(text.get("start_frame")) or 0
        stop = _whole_number(text.get("stop_frame"))
        if stop is None:
            stop = start + size - 1 if size is not None else None
        images = self._tree.images
        numbered = [re.search(r"([0-9]{1,9})$", without_suffix(image)) for image in images]
        numbers = [int(match[1]) for match in numbered if match]
        is_numbered = len(set(numbers)) == len(images) and min(numbers) >= start
        if stop is None:
            pattern = re.compile(r"(.*/)?frame_[0-9]{6}")
            is_known = all(pattern.fullmatch(without_suffix(image)) for image in images)
        else:
            is_known = max(numbers, default=0) <= max(stop, last)
        if images and is_numbered and is_known:
            return dict(zip(numbers, images, strict=True))
        if images and size == len(images) and (stop is None or stop - start + 1 == size):
            return dict(enumerate(images, start))
        raise UserError(
            f"{self._path} has the tracks of a video, but its frames are not recognized among the "
            f"{counted(len(images), 'image')} in {self._tree.root}: name them as CVAT does, "
            f"frame_{start:06d}, …"
        )


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text.strip()) else None
