# %% [markdown]
# # 2. Understand the errors of a detector
#
# A mAP says how good a detector is, but not how to improve it. Find the mistakes, sort them by
# kind, and choose the next step.
#
# Run it with `python tutorials/2_errors.py`, or its cells one by one in the folder `tutorials/`.
#
# This is the detector of the [first tutorial](1_train.py). `train_signs`, in `road_signs.py`, has
# the same config and returns it: `quickstart` with a narrower network, 200 steps and batches of 8.
# A finished run returns at once; otherwise it is trained now.

# %%
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from road_signs import train_signs, write_signs

import ssd_jax

config = train_signs()  # as in the first tutorial, in "runs/signs"
detector = ssd_jax.Detector.from_workdir("runs/signs")

# %% [markdown]
# ## Evaluate on other images
#
# All training images have good weather. How does the detector work in fog? `evaluate` takes the
# config of the run with other data, and prints the average precision (AP) of each class by three
# rules. VOC's rules count a box as correct if its overlap with the object, the IoU, is above 0.5.
# COCO's rule takes the mean over ten limits from 0.5 to 0.95, so it needs more exact boxes. The
# last table says how much mAP each kind of error costs. In this table a box overlaps an object if
# the IoU is 0.1 or more.

# %%
write_signs("runs/data/fog", 100, seed=2, fog=0.45)
foggy = config.replace({"data.eval": "runs/data/fog"})
options = ssd_jax.EvaluationOptions(report="runs/report")
numbers = ssd_jax.evaluate(foggy, "runs/signs", options=options)

# %% [markdown]
# The folder `runs/report` has a page with all results below and many more: open its `index.html`
# in a browser. The rest of this tutorial computes its most useful parts, to show their meaning.
#
# ## Compare detections with objects
#
# Each detection, the best first, is compared with the object of its class that it overlaps most.
# It is *correct* if the IoU is above 0.5 and no better detection has found the object. Otherwise it
# has one of three kinds of errors:
#
# - *inaccurate box*: it overlaps the object too little, or the object is already found;
# - *other class*: it overlaps only an object of another class;
# - *background*: it overlaps no object.
#
# An overlap is an IoU of 0.1 or more. A box with a lower IoU is on the background, even if it
# touches an object. [Evaluation](../docs/evaluation.md#kinds-of-errors) has the names of all kinds.

# %%
dataset = ssd_jax.open_dataset("runs/data/fog")
KINDS = ("correct", "inaccurate box", "other class", "background")
COLORS = dict(zip(KINDS, ("tab:green", "gold", "tab:purple", "tab:red"), strict=True))


def iou_matrix(boxes, others):
    """IoU of each box with each other box, both xyxy: [boxes, others]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    other_area = (others[:, 2:] - others[:, :2]).prod(axis=-1)
    return shared / (area[:, None] + other_area - shared)


def compare(found, record):
    """The kind of each detection, its object (-1: none), and whether each object is found."""
    truth = record.boxes * (found.size[::-1] * 2)
    kinds, objects = [], []
    is_found = np.zeros(len(truth), bool)
    for label, iou in zip(found.labels, iou_matrix(found.boxes, truth), strict=True):
        iou_of_class = np.where(record.labels == label, iou, 0)
        place, kind = -1, "background"
        if iou_of_class.max(initial=0) >= 0.1:
            place = int(iou_of_class.argmax())
            is_correct = iou[place] > 0.5 and not is_found[place]
            is_found[place] |= is_correct
            kind = "correct" if is_correct else "inaccurate box"
        elif iou.max(initial=0) >= 0.1:
            place, kind = int(iou.argmax()), "other class"
        kinds.append(kind)
        objects.append(place)
    return np.array(kinds, str), np.array(objects, int), is_found


records = list(dataset)
found = detector([record.path for record in records], score_threshold=0.05)
compared = [compare(*each) for each in zip(found, records, strict=True)]

# %% [markdown]
# ## Choose a score threshold
#
# A detector gives many detections of low score. The threshold decides: with a high one, almost
# every detection is correct (precision), but objects are missed (recall). Their harmonic mean, F1,
# is one number to choose by. If a missed sign costs more than a false alarm, choose a lower one.
# Here the same images are used to choose the threshold and to count the errors, so F1 is slightly
# too high: choose it on other images to measure its F1 exactly.

# %%
scores = np.concatenate([each.scores for each in found])
kinds = np.concatenate([each for each, _, _ in compared])
num_objects = sum(len(record.labels) for record in records)

thresholds = np.linspace(0.05, 0.95, 91)
kept = scores >= thresholds[:, None]  # [thresholds, detections]
correct = np.sum(kept & (kinds == "correct"), axis=1)
precision = correct / np.maximum(kept.sum(axis=1), 1)
recall = correct / num_objects
f1 = 2 * correct / (kept.sum(axis=1) + num_objects)
threshold = thresholds[f1.argmax()]

figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
for values, name in ((precision, "precision"), (recall, "recall"), (f1, "F1")):
    axis.plot(thresholds, values, label=name)
axis.axvline(threshold, color="gray", linestyle=":")
axis.set(xlabel="score threshold", ylim=(0, 1.02))
axis.legend()
plt.show()
print(f"best threshold {threshold:.2f}: F1 {f1.max():.2f}")

# %% [markdown]
# ## Kinds of errors
#
# Left: the detections of each class with this threshold. Right: its objects.

# %%
compared = []
for number, record in enumerate(records):
    found[number] = found[number].select(found[number].scores >= threshold)
    compared.append(compare(found[number], record))

labels = np.concatenate([each.labels for each in found])
kinds = np.concatenate([each for each, _, _ in compared])
true_labels = np.concatenate([record.labels for record in records])
are_found = np.concatenate([each for _, _, each in compared])

names = dataset.class_names
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
start = np.zeros(len(names))
for kind in KINDS:
    count = np.bincount(labels[kinds == kind], minlength=len(names) + 1)[1:]
    left.barh(names, count, left=start, color=COLORS[kind], label=kind)
    start += count
figure.legend(loc="outside upper left", ncols=4)
left.set(xlabel="detections", xlim=(0, 1.05 * start.max()))
share = [are_found[true_labels == label].mean() for label in range(1, len(names) + 1)]
right.barh(names, share, color="tab:green")
right.barh(names, 1 - np.array(share), left=share, color="lightgray")
right.set(xlabel="share of the objects that are found", xlim=(0, 1.05))
plt.show()

ap = numbers["AP_per_class"]
print("weakest class:", min(ap, key=ap.get))

# %% [markdown]
# ## Confusion
#
# Which classes are taken for which? Rows are the objects, columns the detected class. The diagonal
# is correct. The last column has the objects without any detection, the last row the detections
# without any object.

# %%
size = len(names) + 1
confusion = np.zeros((size, size), int)
for detections, record, result in zip(found, records, compared, strict=True):
    kinds, objects, is_found = result
    seen = is_found.copy()
    for label, kind, place in zip(detections.labels, kinds, objects, strict=True):
        if kind == "background":
            confusion[-1, label - 1] += 1
        elif kind == "correct" or not seen[place]:
            confusion[record.labels[place] - 1, label - 1] += 1
            seen[place] = True
    np.add.at(confusion[:, -1], record.labels[~seen] - 1, 1)

figure, axis = plt.subplots(figsize=(5, 3.8), layout="constrained")
axis.imshow(confusion, cmap="Blues")
for (row, column), count in np.ndenumerate(confusion):
    color = "white" if count > confusion.max() / 2 else "black"
    axis.text(column, row, count or "", ha="center", va="center", color=color)
axis.set_xticks(range(size), [*names, "nothing"], rotation=20)
axis.set_yticks(range(size), [*names, "nothing"])
axis.set(xlabel="detected", ylabel="annotated")
plt.show()

# %% [markdown]
# ## The worst images
#
# Numbers show where to look, and images show why. These six have the most errors. White: the
# objects. Colours: the kind of each detection, as above.

# %%
errors = []
for kinds, _, is_found in compared:
    errors.append(np.sum(kinds != "correct") + np.sum(~is_found))


def outline(axis, box, color, **style):
    """Draws a box, xyxy in pixels."""
    x_min, y_min, x_max, y_max = box
    width, height = x_max - x_min, y_max - y_min
    style |= {"fill": False, "edgecolor": color, "linewidth": 2}
    axis.add_patch(plt.Rectangle((x_min, y_min), width, height, **style))


figure, axes = plt.subplots(2, 3, figsize=(10, 6.9), layout="constrained")
for place, axis in zip(np.argsort(errors)[::-1], axes.flat, strict=False):
    record, detections = records[place], found[place]
    image = Image.open(record.path)
    axis.imshow(image)
    axis.set_title(f"{record.name}: {errors[place]} errors", fontsize=9)
    axis.axis("off")
    for box in record.boxes * (image.size * 2):
        outline(axis, box, "white", linestyle="--")
    kinds, _, _ = compared[place]
    for box, name, kind in zip(detections.boxes, detections.names, kinds, strict=True):
        outline(axis, box, COLORS[kind])
        style = {"color": "white", "backgroundcolor": COLORS[kind], "fontsize": 7}
        axis.text(*box[:2], name, **style)
plt.show()

# %% [markdown]
# ## Choose what to do
#
# | most errors are | try |
# |---|---|
# | objects that are not found | more such images; a larger input if they are small |
# | inaccurate boxes | more steps, a larger input; check how boxes were drawn |
# | of another class | more images of both; check that their labels agree |
# | on the background | look at them: often these are objects without a label |
#
# Here the reason is the fog: the training data has none. Add foggy images with boxes to it, or vary
# brightness and contrast in training: `augment.color` of
# [augmentation](../docs/augmentation.md). Then compare the two detectors with
# `ssd-jax evaluate --compare`: [evaluation](../docs/evaluation.md).
#
# Next: [3. Write your own training loop](3_training_loop.py), [4. Deploy](4_deploy.py).
