"""The table of a comparison: a line for each pair of sides."""

from collections.abc import Sequence
from typing import Any

from tools.pairs.sides import compare

Runs = Sequence[dict[str, Any]]
WIDTHS = {
    "case": 24,
    "mode": 13,
    "against": 15,
    "CPU s": 17,
    "ratio (lowest to highest)": 28,
    "wall s": 17,
    "ratio": 8,
    "peak MiB": 15,
    "ratio ": 8,
    "planned MiB": 15,
    "compile CPU s": 13,
}
LITTLE = 2**20  # bytes within the noise
COLUMNS = [f"{title:<{width}}" for title, width in WIDTHS.items()]


def compared_row(
    first: Runs, second: Runs, about_first: dict[str, Any], about_second: dict[str, Any]
) -> dict[str, Any]:
    """The measurements of two sides in turns, and their descriptions of the case.

    Returns:
      `cpu` and `wall`, in seconds, and `peak`, in bytes, as results of `compare`; `about`, the
      descriptions.
    """
    return {
        "cpu": compare(first, second, "cpu_seconds"),
        "wall": compare(first, second, "wall_seconds"),
        "peak": compare(first, second, "peak_bytes"),
        "about": [about_first, about_second],
    }


def format_row(row: dict[str, Any]) -> str:
    """Formats a row as a line under `COLUMNS`: first and second side, and their ratio."""
    texts = [row["case"], row.get("mode", ""), row["against"]]
    if "error" in row:
        return _aligned([*texts, row["error"]])
    cpu, wall, peak = row["cpu"], row["wall"], row["peak"]
    grown = peak and max(peak["first"], peak["second"]) > LITTLE
    planned = [about.get("planned_bytes") for about in row["about"]]
    compiling = [about.get("compile_cpu_seconds") for about in row["about"]]
    texts += [
        f"{cpu['first']:.3f} / {cpu['second']:.3f}",
        f"{_ratio(cpu)} ({cpu['lowest'] or 0:.2f} to {cpu['highest'] or 0:.2f})",
        f"{wall['first']:.3f} / {wall['second']:.3f}",
        _ratio(wall),
        f"{_mebibytes(peak['first'])} / {_mebibytes(peak['second'])}" if grown else "",
        _ratio(peak) if grown else "",
        " / ".join(map(_mebibytes, planned)) if any(planned) else "",
        " / ".join(map(_seconds, compiling)) if any(compiling) else "",
    ]
    return _aligned(texts)


def _aligned(texts: Sequence[str]) -> str:
    padded = [f"{text:<{width}}" for text, width in zip(texts, WIDTHS.values(), strict=False)]
    return "".join(padded).rstrip()


def _ratio(values: dict[str, Any]) -> str:
    return "-" if values["ratio"] is None else f"{values['ratio']:.2f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.0f}"
