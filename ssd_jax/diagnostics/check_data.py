"""Checks images and annotations before training, and reports every problem."""

import collections
import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ssd_jax.config.schema import DataConfig
from ssd_jax.data import sources
from ssd_jax.data import spec as grammar
from ssd_jax.data.choice import choose_sources
from ssd_jax.data.class_choice import choose_training_classes
from ssd_jax.data.classes import Classes, check_class_list, letters
from ssd_jax.data.datasets import Part
from ssd_jax.data.discovery import WHOLE, separate_splits
from ssd_jax.data.image_bytes import num_readers
from ssd_jax.data.problems import FIXES as STOPS_OF_READING
from ssd_jax.data.problems import Problems
from ssd_jax.data.read_part import ReadPart
from ssd_jax.data.records import Annotation
from ssd_jax.data.split_names import TRAIN_NAMES, is_split, kind_of
from ssd_jax.diagnostics.box_findings import Boxes, Place
from ssd_jax.diagnostics.duplicates import Duplicates
from ssd_jax.diagnostics.findings import STOPS, Finding, Report
from ssd_jax.diagnostics.image_findings import ImageContent, findings, read_content, size_of
from ssd_jax.diagnostics.log_messages import as_findings, quiet
from ssd_jax.diagnostics.record_lines import RecordLines
from ssd_jax.errors import UserError, counted, first_names
from ssd_jax.progress import progress_bar
from ssd_jax.storage.files import local_path
from ssd_jax.storage.outputs import check_json_file, check_output_files
from ssd_jax.storage.replacing import replacing
from ssd_jax.threads import map_ahead, pool_of_threads


class _Source(NamedTuple):
    """An opened source: its spec with format and arguments, and its split ("" = none)."""

    source: str
    split: str
    part: ReadPart
    problems: Problems


def check_data(
    spec: str,
    class_names: Sequence[str] = (),
    output: str = "",
    max_objects: int = DataConfig().max_objects,
    class_map: Mapping[str, str] | None = None,
    records: str = "",
) -> Report:
    """Reads all annotations and opens all images; reports every problem instead of stopping at one.

    Args:
      spec: see `open_dataset`; all splits of a folder are checked.
      class_names: the expected classes; empty = those of the data.
      output: a file for all findings, one JSON object per line.
      max_objects: `data.max_objects` of the config that will be trained.
      class_map: names of the data by the names to use; see `open_dataset`.
      records: a file for the records as training reads them; see `RecordLines`.

    Raises:
      UserError: a file cannot be written, or files of TFDS are damaged.
    """
    check_output_files(output, records)
    for file in (output, records):
        check_json_file(file, ".jsonl")
    report = Report()
    with _written(output) as write_finding, _written(records) as write_record:
        with quiet("ssd_jax.data"):  # their warnings are reported as findings
            with as_findings(report, spec):
                opened = _open(spec, report)
            classes = _classes(opened, spec, class_names, class_map or {}, report)
        check = _Check(report, classes, max_objects, write_record)
        for source in opened:
            check.add(source)
        check.finish(spec)
        for finding in report.findings:
            write_finding(finding._asdict())
    return report


class _Check:
    """Checks several sources in sequence, and collects findings about all images."""

    def __init__(
        self,
        report: Report,
        classes: Classes,
        max_objects: int,
        write_record: Callable[[Mapping[str, object]], None],
    ):
        self._report = report
        self._classes = classes
        self._max_objects = max_objects
        self._write_record = write_record
        self._boxes = Boxes()
        self._same = Duplicates()
        self._looked: set[str] = set()  # the sources
        self._others: collections.Counter[str] = collections.Counter()
        self._num_learnt: collections.Counter[str] = collections.Counter()  # by source
        self._lock = threading.Lock()

    def add(self, source: _Source) -> None:
        """Checks all images of a source, and adds the findings."""
        self._looked.add(source.source)
        before = len(self._report.findings)
        cleaned = self._cleaned(source)
        known = set(self._report.findings[before:])
        lines = RecordLines(source.split, self._classes, cleaned)
        first_box = len(self._boxes)

        def look(index: int) -> tuple[Annotation, ImageContent] | UserError:
            try:
                annotation = source.part.annotation(index)
            except UserError as error:
                return error
            return annotation, read_content(annotation, self._lock)

        indices = range(len(source.part))
        with (
            pool_of_threads(num_readers() + 4) as pool,
            progress_bar(total=len(indices), desc="check", unit=" images") as bar,
        ):
            for index, looked in enumerate(map_ahead(pool, look, indices, 4 * num_readers())):
                bar.update()
                if isinstance(looked, UserError):
                    self._report.add("image unreadable", source.source, "", str(looked))
                    continue
                annotation, seen = looked
                record = lines.record(index, annotation, seen)
                is_refused = record is None and not seen.error
                self._add_image(annotation, seen, source.split, is_refused, known)
                if record:
                    self._num_learnt[source.source] += record.num_learnt
                    self._write_record(record.line)
        if source.split:
            self._report.splits[source.split] += source.problems.num_images
        self._report.num_left_out += source.problems.num_images - len(indices)
        self._report.findings += self._boxes.form(source.source, first_box)

    def finish(self, spec: str) -> None:
        """Adds the findings about all images together."""
        report = self._report
        report.findings += self._same.findings()
        report.findings += self._boxes.findings(spec)
        report.findings += _spellings(report.objects, self._classes, spec)
        if self._others:
            listed = [f"{name} ({count})" for name, count in self._others.most_common()]
            count = counted(self._others.total(), "object")
            report.add("other classes", spec, "", f"{count}: {first_names(listed, 20)}")
        kinds = {finding.kind for finding in report.findings}
        if not kinds & (STOPS.keys() | STOPS_OF_READING):
            self._report.findings += self._of_roles(spec)

    def _of_roles(self, spec: str) -> Iterator[Finding]:
        """Findings about the whole training data and the whole evaluation data."""
        try:
            with quiet("ssd_jax.data"):
                chosen = choose_sources(DataConfig(train=spec))
        except UserError as error:
            yield Finding("source", spec, "", str(error))
            return
        if not sum(self._num_learnt[source] for source in chosen.train):
            message = f"none of {counted(self._report.num_images, 'image')} has an object to learn"
            yield Finding("nothing to learn", spec, "", message)
        evaluation = chosen.evaluation or []
        is_known = bool(evaluation) and self._looked >= set(evaluation)
        if is_known and not sum(self._num_learnt[source] for source in evaluation):
            message = f"the evaluation data ({chosen.origin}) has no object to find"
            yield Finding("nothing to find", spec, "", message)

    def _cleaned(self, source: _Source) -> Part | None:
        """The records of a source as training reads them; adds the problems of reading them."""
        cleaned = None
        try:
            with quiet("ssd_jax.data"):
                cleaned = source.part.with_classes(self._classes, source.problems)
        except UserError as error:
            self._report.add("classes", source.source, "", str(error))
        self._report.num_images += source.problems.num_images
        for found in source.problems.found:
            for kind, message in found.problems:
                self._report.add(kind, found.file, found.image_id, message)
        return cleaned

    def _add_image(
        self,
        annotation: Annotation,
        look: ImageContent,
        split: str,
        is_refused: bool,
        known: Collection[Finding],
    ) -> None:
        """Adds the findings about an image that are not in `known`."""
        report = self._report
        is_used = np.array([self._classes.label(name) > 0 for name in annotation.names], bool)
        if not is_used.all():
            others = (n for n, used in zip(annotation.names, is_used, strict=True) if not used)
            self._others.update(others)
            annotation = annotation.chosen(is_used)
        of_image = findings(annotation, look, self._max_objects, is_refused)
        report.findings += (finding for finding in of_image if finding not in known)
        report.objects.update(annotation.names)
        report.images.update(set(annotation.names))
        path = annotation.path or annotation.file
        report.findings += self._same.add(path, annotation.image_id, split, look)
        size = size_of(annotation, look)
        if size is not None and not is_refused:
            height, width = size
            boxes = annotation.fractions(size) * (width, height, width, height)
            place = Place(annotation.file, annotation.image_id)
            self._boxes.add(place, annotation.names, boxes, size)


def _open(spec: str, report: Report) -> list[_Source]:
    """The sources of a spec; adds those that cannot be opened."""
    opened = []
    try:
        named = sources.resolve(spec, "all")
    except UserError as error:
        report.add("source", spec, "", str(error))
        return []
    for each in named:
        if each.found is not None:
            report.sources.append(f"{each.given}: {each.found.format}")
        for split, source in _with_splits(each):
            problems = Problems("skip", 1.0)
            try:
                part = sources.open_part(source, problems)
            except UserError as error:
                report.add("source", source, "", str(error))
                continue
            opened.append(_Source(source, split, part, problems))
    return opened


def _with_splits(named: sources.Named) -> Iterator[tuple[str, str]]:
    """The splits that one source of a spec names, with their sources."""
    if named.found is None:
        yield from ((_split_of(source), source) for source in named.sources)
    elif named.split in named.found.splits:
        split = "" if named.split == WHOLE else named.split
        yield from ((split, source) for source in named.sources)
    else:
        for name in separate_splits(named.found.splits):
            split, own = "" if name == WHOLE else name, named.found.splits[name]
            yield from ((split, source) for source in own)


def _split_of(source: str) -> str:
    """The split that a source with format and arguments names; "" if it names none."""
    name, _, rest = source.partition(":")
    form = sources.FORMATS[name].arguments
    arguments = grammar.split_arguments(rest, form.count(":") + 1) or [""]
    if form.endswith("SPLIT") and not os.path.isdir(arguments[-1]):
        return arguments[-1]
    file = re.split(r"[/\\]", arguments[0])[-1]
    return file if is_split(file) else ""


def _classes(
    opened: Sequence[_Source],
    spec: str,
    class_names: Sequence[str],
    class_map: Mapping[str, str],
    report: Report,
) -> Classes:
    """The classes of a training; adds a finding if training would raise an error about them."""
    parts = [each.part for each in opened if kind_of(each.split) in TRAIN_NAMES]
    parts = parts or [each.part for each in opened]
    every = list(dict.fromkeys(name for each in opened for name in each.part.names))
    if not parts:
        return Classes(tuple(class_names))
    try:
        check_class_list(class_names)
        classes = choose_training_classes(parts, class_names, class_map, spec)
    except UserError as error:
        has_objects = any(sum((part.num_objects() or {"": 1}).values()) for part in parts)
        if has_objects or class_names or class_map:
            report.add("classes", spec, "", str(error))
        return Classes(tuple(dict.fromkeys(class_names or every)), dict(class_map))
    declared = {name for part in parts for name in part.category_ids or ()}
    absent = sorted(declared - set(every)) if not class_names else []
    if absent:
        report.add("class without objects", spec, "", f"no object of {first_names(absent, 20)}")
    return classes


def _spellings(objects: collections.Counter[str], classes: Classes, spec: str) -> Iterator[Finding]:
    """Findings about classes whose names differ only in capitals, blanks and punctuation."""
    alike = collections.defaultdict(list)
    for name in sorted(objects):
        key = letters(name)
        if key and name not in classes.renamed:
            alike[key].append(name)
    for names in alike.values():
        if len(names) > 1:
            counts = [f"{name!r} ({counted(objects[name], 'object')})" for name in names]
            yield Finding("class spelling", spec, "", f"there are {' and '.join(counts)}")


@contextlib.contextmanager
def _written(place: str) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Writes values to a file that appears at the end, one JSON object per line; "" = no file."""
    if not place:
        yield lambda value: None
        return
    try:
        with (
            replacing(local_path(place)) as unfinished,
            unfinished.open("w", encoding="utf-8") as file,
        ):
            yield lambda value: _write_line(file, value)
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error}") from error


def _write_line(file, value: Mapping[str, object]) -> None:
    file.write(json.dumps(value) + "\n")
