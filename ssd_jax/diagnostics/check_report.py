"""The text of a report of `check_data`."""

import collections
from collections.abc import Mapping

from ssd_jax.data.problems import FIXES as STOPS_OF_READING
from ssd_jax.data.split_names import kind_of, synonym
from ssd_jax.diagnostics.findings import EXAMPLES, FIXES, NOTES, STOPS, Finding, Report, all_fixes
from ssd_jax.errors import counted, one_line

MOST_CLASSES = 25  # in the table
TITLES = (
    ("Errors, at which training stops:", STOPS | STOPS_OF_READING),
    ("Problems to fix, at which training does not stop:", FIXES),
    ("Notes, which may need no change:", NOTES),
)


def format_report(report: Report, output: str = "") -> str:
    """The text of a report, with the first examples of each kind; `output` has the others."""
    if not report.num_images and {finding.kind for finding in report.findings} == {"source"}:
        return "\n".join(f"error: {one_line(each.message)}" for each in report.findings)
    num_objects = report.objects.total()
    counts = f"{counted(report.num_images, 'image')}, {counted(num_objects, 'object')}"
    if report.num_left_out:
        counts += f"; {counted(report.num_left_out, 'image')} left out of the objects and classes"
    lines = [*report.sources, counts]
    if report.splits:
        lines.append(", ".join(f"{name}: {count:,}" for name, count in _in_order(report.splits)))
    if report.objects:
        lines += ["", *_table(report)]
    by_kind = collections.defaultdict(list)
    for finding in report.findings:
        by_kind[finding.kind].append(finding)
    order = {kind: place for place, kind in enumerate(all_fixes())}
    for title, kinds in TITLES:
        found = sorted(by_kind.keys() & kinds, key=order.__getitem__)
        if found:
            lines += ["", title]
        for kind in found:
            lines += ["", *_examples(kind, by_kind[kind], output)]
    lines += ["", _conclusion(report)]
    return "\n".join(lines)


def _in_order(splits: Mapping[str, int]) -> list[tuple[str, int]]:
    """Splits for training, for validation, for tests, and others."""
    order = ("train", "trainval", "val", "test")
    kinds = {name: synonym(kind_of(name)) for name in splits}
    places = {name: order.index(kind) if kind in order else 4 for name, kind in kinds.items()}
    return sorted(splits.items(), key=lambda item: places[item[0]])


def _table(report: Report) -> list[str]:
    """The classes with counts; of many classes, those with the most objects."""
    names = sorted(report.objects)
    more = len(names) - MOST_CLASSES
    if more > 0:
        names = [name for name, _ in report.objects.most_common(MOST_CLASSES)]
    width = max(map(len, names))
    lines = [f"{'class':<{width}}    images   objects"]
    lines += [f"{n:<{width}}{report.images[n]:>10,}{report.objects[n]:>10,}" for n in names]
    return [*lines, f"and {counted(more, 'class')} with fewer objects"] if more > 0 else lines


def _examples(kind: str, found: list[Finding], output: str) -> list[str]:
    lines = [f"{kind} ({len(found):,}): {all_fixes()[kind]}"]
    for finding in found[:EXAMPLES]:
        place = "" if finding.file in finding.message else f"{finding.file}: "
        lines.append(one_line(f"    {place}{finding.message}"))
    if len(found) > EXAMPLES:
        rest = f"in {output}" if output else "with --output=problems.jsonl"
        lines.append(f"    and {len(found) - EXAMPLES:,} more, {rest}")
    return lines


def _conclusion(report: Report) -> str:
    problems = report.problems()
    if not problems:
        return "no problems"
    images = len({(finding.file, finding.image_id) for finding in problems if finding.image_id})
    kinds = ", ".join(dict.fromkeys(finding.kind for finding in problems))
    return f"{counted(len(problems), 'problem')} ({kinds}) in {counted(images, 'image')}"
