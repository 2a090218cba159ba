# %% [markdown]
# # 4. Deploy
#
# This tutorial exports a trained detector to one ONNX file, and runs the file in a program without
# JAX and without this package. The program needs onnxruntime, NumPy and Pillow.
#
# Run it with `python tutorials/4_deploy.py`, or its cells one by one in the folder `tutorials/`.
#
# This is the detector of the [first tutorial](1_train.py). A finished run returns at once;
# otherwise it is trained now.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from road_signs import train_signs, write_signs

import ssd_jax

train_signs()  # as in the first tutorial, in "runs/signs"
write_signs("runs/data/new", 6, seed=1)

# %% [markdown]
# ## Export
#
# On the command line this is `ssd-jax export --to=onnx --workdir=runs/signs --output=runs/deploy`.
# `detector.onnx` takes uint8 images and gives detections: normalisation, network, decoding and
# suppression are inside. `network.onnx` ends before decoding and suppression, for programs that
# have their own.

# %%
ssd_jax.Detector.from_workdir("runs/signs").export("runs/deploy", to="onnx")
for file in sorted(Path("runs/deploy").iterdir()):
    print(f"{file.name:<20}{file.stat().st_size / 1000:>8.1f} kB")

# %% [markdown]
# ## Run it with onnxruntime alone
#
# The input is an upright, square RGB image; its side and the classes are in the metadata of the
# file. Turn photos upright by their EXIF, and resize bilinearly without antialiasing, as `Detector`
# does: another way of resizing gives other boxes.

# %%
session = onnxruntime.InferenceSession("runs/deploy/detector.onnx")
metadata = session.get_modelmeta().custom_metadata_map
side = int(metadata["image_size"])
class_names = [each["name"] for each in json.loads(metadata["classes"])]
print(side, class_names)


def detect(image, least_score):
    """Names, scores, and boxes in pixels of the upright image; takes an RGB image of any size."""
    image = ImageOps.exif_transpose(image)  # photos may be stored turned
    whole = (0, 0, image.width, image.height)
    bilinear = Image.Resampling.BILINEAR
    square = image.transform((side, side), Image.Transform.EXTENT, whole, bilinear)
    boxes, scores, labels = session.run(None, {"images": np.asarray(square)[None]})
    kept = scores[0] >= least_score
    names = [class_names[label - 1] for label in labels[0][kept]]
    return names, scores[0][kept], boxes[0][kept] * (image.size * 2)


paths = sorted(Path("runs/data/new").glob("*.jpg"))
names, scores, boxes = detect(Image.open(paths[0]), 0.4)
print(names, scores.round(2), boxes.round(), sep="\n")

# %% [markdown]
# ## The same boxes?
#
# Always compare a deployed detector with the original, on the same images. Rounding moves a box by
# a small part of a pixel. More is an error, most often in the resizing or the order of the colours.

# %%
original = ssd_jax.Detector.from_workdir("runs/signs")(paths, score_threshold=0.4)
_, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
for path, expected, axis in zip(paths, original, axes.flat, strict=True):
    image = Image.open(path)
    names, scores, boxes = detect(image, 0.4)
    assert names == list(expected.names)
    difference = np.abs(boxes - expected.boxes).max(initial=0)
    assert difference < 0.1 and np.allclose(scores, expected.scores, atol=0.01)
    axis.imshow(image)
    axis.axis("off")
    axis.set_title(f"differences below {difference:.3f} pixels", fontsize=9)
    for (x_min, y_min, x_max, y_max), name in zip(boxes, names, strict=True):
        width, height = x_max - x_min, y_max - y_min
        style = {"fill": False, "edgecolor": "yellow", "linewidth": 2}
        axis.add_patch(plt.Rectangle((x_min, y_min), width, height, **style))
        axis.text(x_min, y_min, name, fontsize=7, backgroundcolor="yellow")
plt.show()

# %% [markdown]
# ## Without a program
#
# The commands of this package also run exported files, and evaluate them:
#
# ```shell
# ssd-jax predict --weights=runs/deploy/detector.onnx --output=runs/detected runs/data/new
# ssd-jax evaluate --weights=runs/deploy/detector.onnx --workdir=runs/signs
# ```
#
# ## Other places
#
# | for | `--to` | page |
# |---|---|---|
# | onnxruntime, OpenVINO, TensorRT; float16 and int8 | `onnx` | [ONNX](../docs/onnx.md) |
# | phones and small boards: LiteRT, MediaPipe | `tflite` | [TFLite](../docs/tflite.md) |
# | a web page that detects in the browser itself | `web` | [web](../docs/web.md) |
# | TensorFlow Serving | `saved_model` | [SavedModel](../docs/saved_model.md) |
# | JAX without this package | `stablehlo` | [StableHLO](../docs/stablehlo.md) |
# | your colleagues | `safetensors`, `hf` | [export](../docs/export.md) |
