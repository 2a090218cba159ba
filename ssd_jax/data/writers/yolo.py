"""Writes YOLO's layout: data.yaml, `images/SPLIT` and `labels/SPLIT`."""

import json
from collections.abc import Sequence
from pathlib import Path

from ssd_jax.data.discovery import EVAL_NAMES, kind_of
from ssd_jax.data.writers.written import Written


class YoloWriter:
    """Writes YOLO's layout; see `Writer`. Boxes are fractions with six decimals."""

    keeps_difficult = False
    keeps_crowd = False

    def __init__(self, root: Path, class_names: Sequence[str]):
        """Begins a data set in a folder, with these classes."""
        self._root, self._class_names = root, class_names
        self._splits: dict[str, None] = {}

    def image_folder(self, split: str) -> str:
        return f"images/{split}"

    def add(self, split: str, image: Written) -> None:
        folder = self._root / "labels" / split
        if split not in self._splits:
            folder.mkdir(parents=True)
            self._splits[split] = None
        height, width = image.size
        corners = image.boxes / (width, height, width, height)
        centers, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        lines = [
            " ".join([str(label - 1), *(f"{value:.6f}" for value in (*center, *side))]) + "\n"
            for label, center, side in zip(image.labels.tolist(), centers, sides, strict=True)
        ]
        (folder / f"{Path(image.name).stem}.txt").write_text("".join(lines), encoding="utf-8")

    def finish(self) -> None:
        by_key: dict[str, list[str]] = {}
        for split in self._splits:
            by_key.setdefault(_key(split), []).append(f"images/{split}")
        lines = [
            f"{key}: {json.dumps(folders if len(folders) > 1 else folders[0], ensure_ascii=False)}"
            for key, folders in by_key.items()
        ]
        if "val" not in by_key:  # other programs require it
            lines.append(f"{lines[0].replace('train: ', 'val: ', 1)}  # no validation split")
        # A JSON string is also a YAML string.
        names = [
            f"  {i}: {json.dumps(name, ensure_ascii=False)}"
            for i, name in enumerate(self._class_names)
        ]
        text = "\n".join([*lines, f"nc: {len(names)}", "names:", *names])
        (self._root / "data.yaml").write_text(f"{text}\n", encoding="utf-8")


def _key(split: str) -> str:
    """The name of a split in YOLO: train, val or test."""
    kind = kind_of(split)
    if kind not in EVAL_NAMES:
        return "train"
    return "test" if kind.startswith("test") else "val"
