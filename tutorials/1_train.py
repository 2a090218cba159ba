# %% [markdown]
# # 1. Train on your own images
#
# This tutorial trains a detector on a folder of images with boxes, in one minute on a CPU. It looks
# at the data, trains, and looks at the detections.
#
# Run it with `python tutorials/1_train.py`, or its cells one by one in the folder `tutorials/`,
# where the program that draws the images is. Without a display, the program saves its figures in
# `runs/figures`.
#
# The images here are drawn by a small program, so nothing is downloaded: streets with road signs.
# To use your own images, write the name of your folder instead of `"runs/data/signs"`. Everything
# else stays the same.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from road_signs import write_signs

import ssd_jax

write_signs("runs/data/signs", 250)

# %% [markdown]
# ## The data
#
# The folder is in YOLO's format. `classes.txt` names the classes. Each image has a text file with
# one line for each object: the number of its class, then the centre, width and height of its box as
# fractions of the image. Tools for annotation like CVAT and Label Studio write this and
# [other formats](../docs/data.md), and all of them work here.

# %%
print(Path("runs/data/signs/classes.txt").read_text())
print(Path("runs/data/signs/street_003.txt").read_text())

# %% [markdown]
# `open_dataset` finds the format and reads it. A data set is a sequence of records. Labels count
# from 1, because 0 is the background; boxes are `x_min, y_min, x_max, y_max` in [0, 1].

# %%
dataset = ssd_jax.open_dataset("runs/data/signs")
print(len(dataset), "images,", "classes:", ", ".join(dataset.class_names))
record = dataset[3]
print(record.name, record.labels, record.boxes.round(2), sep="\n")

# %% [markdown]
# Always look at your data before you train. A wrong box or a swapped class is found in seconds
# by eye, and in days by a strange mAP.

# %%
COLORS = ("tab:orange", "tab:cyan", "tab:green", "tab:pink")


def show(record, axis):
    """Draws an image with its objects."""
    image = Image.open(record.path)
    axis.imshow(image)
    axis.axis("off")
    for label, box in zip(record.labels, record.boxes, strict=True):
        x_min, y_min, x_max, y_max = box * (image.size * 2)
        color, name = COLORS[label - 1], dataset.class_names[label - 1]
        width, height = x_max - x_min, y_max - y_min
        outline = {"fill": False, "color": color, "linewidth": 2}
        axis.add_patch(plt.Rectangle((x_min, y_min), width, height, **outline))
        style = {"color": "white", "backgroundcolor": color, "fontsize": 7}
        axis.text(x_min, y_min - 3, name, **style)


figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for number, axis in enumerate(axes.flat):
    show(dataset[number], axis)
plt.show()

# %% [markdown]
# Two questions decide most about a detector: does each class have enough objects, and how large are
# they? An object that is smaller than about 8 pixels in the network's input is hard to find.

# %%
labels = np.concatenate([record.labels for record in dataset])
boxes = np.concatenate([record.boxes for record in dataset])
areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)  # as shares of the image
sides = 96 * np.sqrt(areas)  # in an input of 96 pixels

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained")
left.barh(dataset.class_names, np.bincount(labels)[1:], color=COLORS)
left.set_xlabel("objects")
right.hist(sides, bins=30, color="tab:gray")
right.set_xlabel("side of the objects, in pixels of the input")
plt.show()

# %% [markdown]
# ## Train
#
# A config has all settings of a run. `quickstart` is a small network with an input of 96 × 96
# pixels; the list changes some fields, here for a shorter run. The images are split automatically:
# a fifth of them is held out, and the network is evaluated on it.

# %%
config = ssd_jax.load_config(
    "quickstart",
    [
        "data.train=runs/data/signs",
        "model.width=0.125",
        "steps=200",
        "batch_size=8",
        "eval_every=100",
    ],
)
result = ssd_jax.train(config, "runs/signs")
print(f"best mAP {result.best_mean_ap:.3f} at step {result.best_step}")

# %% [markdown]
# The run is in the folder `runs/signs`: checkpoints, metrics, images and a report. If you call
# `train` again, it continues from the last checkpoint; a finished run returns at once.
#
# These are some of the training images, from `runs/signs/pictures`. In training, images are also
# mirrored and changed at random, so that the network rarely sees the same image twice:
# [augmentation](../docs/augmentation.md).

# %%
Image.open(sorted(Path("runs/signs/pictures").glob("training*"))[0])

# %% [markdown]
# The loss falls fast, then slowly. mAP is the mean over the classes of the average precision, on
# the images that were held out: 1 means that every sign is found, with the correct class, and
# nothing else.

# %%
steps, losses, eval_steps, means = [], [], [], []
for step, values in result.metrics.items():
    if "train/loss" in values:
        steps.append(step)
        losses.append(values["train/loss"])
    if "eval/mAP" in values:
        eval_steps.append(step)
        means.append(values["eval/mAP"])

figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.plot(steps, losses, color="tab:blue", label="loss (left)")
axis.set(xlabel="step", ylim=0)
other = axis.twinx()
other.plot(eval_steps, means, "o-", color="tab:orange", label="mAP (right)")
other.set(ylim=(0, 1.05))
figure.legend(loc="outside upper center", ncols=2)
plt.show()

# %% [markdown]
# ## Detect
#
# These are six new images, which the network has never seen. A detector takes paths, PIL images or
# arrays.
# Each detection has a class, a score in [0, 1] and a box in pixels.

# %%
write_signs("runs/data/new", 6, seed=1)
detector = ssd_jax.Detector.from_workdir("runs/signs")
found = detector(sorted(Path("runs/data/new").glob("*.jpg")), score_threshold=0.4)
first = found[0]
print(first.names, first.scores.round(2), first.boxes.round(), sep="\n")

figure, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
for detections, axis in zip(found, axes.flat, strict=True):
    axis.imshow(detections.draw())
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Your own images
#
# For a real data set use the command. It looks at your images and chooses the network, the start
# weights, the number of steps and the augmentation, and prints the reason for each choice:
#
# ```shell
# ssd-jax check-data --source=path/to/dataset
# ssd-jax train --data=path/to/dataset
# ```
#
# Next:
#
# - [2. Understand the errors of a detector](2_errors.py): which mistakes it makes, and what to do.
# - [3. Write your own training loop](3_training_loop.py): SSD in a page of JAX.
# - [4. Deploy](4_deploy.py): the detector without this package.
# - [Training](../docs/training.md) has all options: other networks, start weights, long runs.
