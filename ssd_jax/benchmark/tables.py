"""The results of `network.py` and `parts.py` as tables and as a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TITLES = {
    "train": "train step",
    "predict": "detection",
    "forward": "network alone",
}
STYLES = {"train": "-", "predict": "-", "forward": "--"}
COLOURS = {"float32": "#1b6ca8", "tf32": "#c2570c", "bfloat16": "#2e7d32"}


def format_network(result: Mapping[str, Any]) -> str:
    """The result of `benchmark_network` as a table."""
    peaks = result["peaks"]
    lines = [
        f"{'':<16}{'precision':<11}{'batch':>6}{'images/s':>11}{'median ms':>11}{'p95 ms':>10}"
        f"{'compile s':>11}{'memory MiB':>12}{'of peak':>9}"
    ]
    lines += [
        f"{TITLES[row['mode']]:<16}{row['precision']:<11}{row['batch_size']:>6}"
        f"{row['images_per_second']:>11,.1f}{row['step_ms_median']:>11,.2f}"
        f"{row['step_ms_p95']:>10,.2f}{row['compile_seconds']:>11,.1f}"
        f"{row['peak_memory_bytes'] / 2**20:>12,.0f}{row['fraction_of_peak']:>9.1%}"
        for row in result["rows"]
    ]
    products = ", ".join(
        f"{name} {rate / 1e12:,.2f}" for name, rate in peaks.items() if name != "copy"
    )
    lines.append(
        f"peak of a device: matrix product {products} TFLOP/s; copy {peaks['copy'] / 1e9:,.0f} GB/s"
    )
    counts = ", ".join(
        f"{TITLES[mode]} {flops / 1e9:,.1f}" for mode, flops in result["flops_per_image"].items()
    )
    lines.append(f"GFLOP per image: {counts}")
    return "\n".join(lines)


def format_parts(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `benchmark_parts` as a table."""
    lines = [f"{'':<16}{'part':<32}{'precision':<11}{'batch':>6}{'ms':>11}{'share':>9}"]
    lines += [
        f"{TITLES[row['of']]:<16}{row['part']:<32}{row['precision']:<11}{row['batch_size']:>6}"
        f"{row['milliseconds']:>11,.2f}{row['share']:>9.2%}"
        for row in rows
    ]
    return "\n".join(lines)


def draw_network(result: Mapping[str, Any], title: str, file: str | Path) -> None:
    """Draws images per second and shares of the peak by batch size, training next to detection."""
    from matplotlib.figure import Figure  # from an extra that tables do not need

    rows = result["rows"]
    sides = [
        modes
        for modes in (("train",), ("predict", "forward"))
        if any(row["mode"] in modes for row in rows)
    ]
    figure = Figure(figsize=(5.2 * len(sides), 6.4), layout="tight")
    axes = figure.subplots(2, len(sides), squeeze=False, sharex="col")
    for column, modes in enumerate(sides):
        rate, share = axes[:, column]
        for mode, precision in dict.fromkeys((row["mode"], row["precision"]) for row in rows):
            if mode not in modes:
                continue
            own = [row for row in rows if (row["mode"], row["precision"]) == (mode, precision)]
            sizes = [row["batch_size"] for row in own]
            label = f"{TITLES[mode]}, {precision}" if len(modes) > 1 else precision
            options = {"color": COLOURS[precision], "linestyle": STYLES[mode], "marker": "o"}
            rate.plot(sizes, [row["images_per_second"] for row in own], label=label, **options)
            share.plot(sizes, [100 * row["fraction_of_peak"] for row in own], **options)
        sizes = sorted({row["batch_size"] for row in rows if row["mode"] in modes})
        rate.set_title(" and ".join(TITLES[mode] for mode in modes))
        rate.set_ylabel("images per second")
        share.set_ylabel("% of the peak of matrix products")
        share.set_xlabel("images in a batch")
        share.set_xscale("log", base=2)
        share.set_xticks(sizes, [str(size) for size in sizes])
        share.minorticks_off()
        # Below the axes, where no line crosses it.
        labels = rate.get_legend_handles_labels()
        share.legend(
            *labels, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
        )
        for each in (rate, share):
            each.set_ylim(bottom=0)
            each.grid(alpha=0.3)
            each.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(file, dpi=130)
