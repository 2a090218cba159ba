"""Makes the carried reference results from the complete ones; see README.md.

python tests/reference/make.py COLLECTION
"""

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FORWARD_PASSES = (
    "forward_ssd_pytorch_ssd300_voc",
    "forward_torchvision_ssd300_vgg16_coco",
    "forward_uvipen_ssd300_resnet50_coco",
    "forward_uvipen_ssdlite_mobilenetv2_coco",
)


def every(stride: int, count: int) -> np.ndarray:
    """Every stride-th row and the last 40: a prime stride meets every kind of box of a cell."""
    return np.union1d(np.arange(0, count, stride), np.arange(count - 40, count))


def default_boxes(complete: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = {count: every(13, count) for count in (8732, 24564)}
    chosen = {name: boxes[rows[len(boxes)]] for name, boxes in complete.items()}
    return {"rows_8732": rows[8732], "rows_24564": rows[24564], **chosen}


def loss(complete: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Boxes with a part in the loss, and some of those that mining leaves out.

    What mining leaves out has no part in loss or gradient, so all results stay as they are.
    """
    num_boxes, num_rows = 8732, 1300
    selected = np.unpackbits(complete["selected_mask_packed"], axis=1, count=num_boxes)
    rows = []
    for mask in selected.astype(bool):
        others = np.flatnonzero(~mask)
        spread = np.linspace(0, len(others) - 1, num_rows - mask.sum()).astype(int)
        rows.append(np.sort(np.concatenate([np.flatnonzero(mask), others[spread]])))
    rows = np.stack(rows)
    chosen = {
        name: np.take_along_axis(complete[name], rows[..., None], axis=1)
        for name in ("offsets", "logits")
    }
    return complete | chosen | {"rows": rows}


def detection(complete: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first image, without the boxes that are among the best 400 of no class."""
    scores = complete["logits"][0]
    scores = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.unique(np.argsort(-scores[:, 1:], axis=0, kind="stable")[:400])
    return {
        "rows": rows,
        "offsets": complete["offsets"][:1, rows],
        "logits": complete["logits"][:1, rows],
        "detections_label_score_xyxy": complete["detections_label_score_xyxy"][:1],
    }


def main(collection: Path) -> None:
    def write(name, choose):
        with np.load(collection / f"{name}.npz") as arrays:
            np.savez_compressed(HERE / f"{name}.npz", **choose(dict(arrays)))

    write("default_boxes", default_boxes)
    write(
        "default_boxes_torchvision_ssd300",
        lambda complete: {
            "rows": every(13, 8732),
            "xyxy_pixels": complete["xyxy_pixels"][every(13, 8732)],
        },
    )
    write("matching_bipartite", lambda complete: complete)
    write("loss", loss)
    write("detection", detection)
    for name in FORWARD_PASSES:
        with np.load(collection / f"{name}.npz") as arrays:
            rows = every(41, arrays["offsets"].shape[1])
        write(
            name,
            lambda complete, rows=rows: (
                {"rows": rows} | {key: complete[key][:, rows] for key in ("offsets", "logits")}
            ),
        )
        shutil.copyfile(collection / f"{name}.json", HERE / f"{name}.json")
    shutil.copyfile(collection / "voc_ap.json", HERE / "voc_ap.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
