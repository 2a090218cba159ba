# %% [markdown]
# # 3. Write your own training loop
#
# This tutorial writes SSD in a page: default boxes, matching, the loss with hard negative mining,
# and a training step in JAX and Optax. The pure functions come from `ssd_jax`; you can change the
# loop.
#
# Run it with `python tutorials/3_training_loop.py`, or its cells one by one in the folder
# `tutorials/`.

# %%
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from PIL import Image
from road_signs import write_signs

import ssd_jax

write_signs("runs/data/signs", 250)
dataset = ssd_jax.open_dataset("runs/data/signs")
config = ssd_jax.load_config("quickstart", ["model.width=0.125"])
network = ssd_jax.build_network(config.model, len(dataset.class_names))
SIDE = config.model.image_size

# %% [markdown]
# ## The data as arrays
#
# 250 small images fit in memory: uint8 RGB, all of the size of the network's input. JAX compiles a
# program for one shape, so boxes and labels are padded to four objects an image. Label 0 marks
# padding.

# %%
MOST = 4
images = np.zeros((len(dataset), SIDE, SIDE, 3), np.uint8)
boxes = np.zeros((len(dataset), MOST, 4), np.float32)
labels = np.zeros((len(dataset), MOST), np.int32)
for number, record in enumerate(dataset):
    images[number] = Image.open(record.path).resize((SIDE, SIDE))
    boxes[number, : len(record.boxes)] = record.boxes
    labels[number, : len(record.labels)] = record.labels
print(images.shape, boxes.shape, labels.shape)

# %% [markdown]
# ## Default boxes
#
# SSD predicts for a fixed set of boxes, the default boxes. Five feature maps have 12 × 12 to 1 × 1
# cells, and each cell has four boxes: two squares, a wide one and a tall one. Coarse maps have
# large boxes. The figure shows all centres of a map, and the boxes of one cell.

# %%
default_boxes = network.default_boxes()  # [boxes, 4] cxcywh in [0, 1]
print(default_boxes.shape)


def outline(axis, box, color, **style):
    """Draws a box, xyxy in [0, 1]."""
    x_min, y_min, x_max, y_max = np.asarray(box) * SIDE
    width, height = x_max - x_min, y_max - y_min
    style |= {"fill": False, "edgecolor": color}
    axis.add_patch(plt.Rectangle((x_min, y_min), width, height, **style))
    axis.autoscale(False)


def corners(boxes):
    """From cxcywh to xyxy."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def new_axes(columns, height):
    """Axes for images side by side."""
    _, axes = plt.subplots(1, columns, figsize=(10, height), layout="constrained")
    for axis in axes:
        axis.axis("off")
    return axes


tiling = network.tiling
counts = [side**2 * 4 for side in tiling.feature_sizes]
maps = np.split(default_boxes, np.cumsum(counts)[:-1])
for axis, of_map, side in zip(new_axes(5, 2.4), maps, tiling.feature_sizes, strict=True):
    axis.imshow(images[6])
    axis.set_title(f"{side} × {side} cells")
    axis.scatter(*(of_map[:, :2] * SIDE).T, s=6, color="white")
    middle = (side // 2 * side + side // 2) * 4  # the first box of the cell in the middle
    for box in corners(of_map[middle : middle + 4]):
        outline(axis, box, "yellow", lw=1.5)
plt.show()

# %% [markdown]
# ## Matching
#
# Which default box must find which object? Each object gets the box that overlaps it most, and in
# addition every box with an IoU of 0.5 or more. These are the positives. All others must say
# "background". The network does not predict boxes, but offsets: the difference between a default
# box and its object.

# %%
target_offsets, target_labels = ssd_jax.match_targets(boxes, labels, default_boxes)
print("offsets", target_offsets.shape, "labels", target_labels.shape)
shown = (6, 3, 5)
for axis, number in zip(new_axes(3, 3.8), shown, strict=True):
    positive = np.asarray(target_labels[number] > 0)
    axis.imshow(images[number])
    axis.set_title(f"{positive.sum()} positives of {len(positive)}")
    for box in corners(default_boxes[positive]):
        outline(axis, box, "yellow", lw=1)
    for box in boxes[number][labels[number] > 0]:
        outline(axis, box, "white", lw=2.5)
plt.show()

# %% [markdown]
# ## The loss
#
# It has two terms. *Localisation*: how far are the predicted offsets from the target offsets? Only
# positives count. *Confidence*: the cross entropy of the classes.
#
# There are far more negatives than positives, and most of them are easy. Hard negative mining
# counts only those with the highest loss, three for each positive. `loss_by_hand` computes
# the loss of one image:

# %%


def loss_by_hand(offsets, logits, target_offsets, target_labels):
    """The loss of one image, and which boxes are hard negatives."""
    positive = target_labels > 0
    difference = optax.huber_loss(offsets, target_offsets).sum(axis=-1)
    localisation = jnp.sum(difference, where=positive)

    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target_labels)
    hardness = jnp.where(positive, -jnp.inf, entropy)
    rank = jnp.argsort(jnp.argsort(-hardness))  # 0 is the hardest negative
    hard = ~positive & (rank < 3 * positive.sum())
    confidence = jnp.sum(entropy, where=positive | hard)
    return localisation, confidence, hard


parameters, batch_stats = network.init(seed=0)


@jax.jit
def predict(parameters, batch_stats, images):
    """Offsets [batch, boxes, 4] and logits [batch, boxes, classes + 1]."""
    inputs = network.normalise(images)
    outputs, _ = network.apply(parameters, batch_stats, inputs, train=False)
    return outputs


chosen = np.array(shown)
outputs = predict(parameters, batch_stats, images[chosen])
targets = target_offsets[chosen], target_labels[chosen]
localisation, confidence, _ = jax.vmap(loss_by_hand)(*outputs, *targets)
sums = ssd_jax.multibox_loss(*outputs, *targets)
print(f"localisation: {localisation.sum():.3f} by hand, {sums.localisation:.3f} of ssd_jax")
print(f"confidence: {confidence.sum():.3f} by hand, {sums.confidence:.3f} of ssd_jax")
print(f"{sums.num_positives:.0f} positives, {sums.num_negatives:.0f} hard negatives")

# %% [markdown]
# `multibox_loss` gives the same sums for a whole batch. Training divides them by the number of
# positives.
#
# ## The training step
#
# The state is a tuple of arrays, and the step a pure function from state and batch to the next
# state. Batch norm has statistics besides its parameters, so `network.apply` returns these too.


# %%
class State(NamedTuple):
    """Everything that changes in training."""

    parameters: Any
    batch_stats: Any
    opt_state: Any


STEPS, BATCH = 200, 8
schedule = optax.cosine_onecycle_schedule(STEPS, 4e-3, pct_start=0.1)
optimizer = optax.adamw(schedule, weight_decay=5e-4)


@jax.jit
def train_step(state, images, target_offsets, target_labels):
    """One step; returns the new state and the two terms of the loss."""

    def loss(parameters):
        inputs = network.normalise(images)
        outputs, batch_stats = network.apply(parameters, state.batch_stats, inputs, train=True)
        sums = ssd_jax.multibox_loss(*outputs, target_offsets, target_labels)
        count = jnp.maximum(sums.num_positives, 1)
        terms = sums.localisation / count, sums.confidence / count
        return sum(terms), (batch_stats, terms)

    gradients, (batch_stats, terms) = jax.grad(loss, has_aux=True)(state.parameters)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    return State(parameters, batch_stats, opt_state), terms


# %% [markdown]
# The loop draws 8 images a step and mirrors half of the batches. To mirror an image, mirror its
# boxes too; look at some if you are not sure. The matching of both is computed before the loop.

# %%
x_min, y_min, x_max, y_max = np.moveaxis(boxes, -1, 0)
mirrored = np.stack([1 - x_max, y_min, 1 - x_min, y_max], axis=-1)
variants = [
    (images, target_offsets, target_labels),
    (images[:, :, ::-1], *ssd_jax.match_targets(mirrored, labels, default_boxes)),
]
held_out = 50  # the first images are not trained on

state = State(parameters, batch_stats, optimizer.init(parameters))
random = np.random.default_rng(0)
losses = []
for _ in range(STEPS):
    of_batch = random.integers(held_out, len(images), BATCH)
    batch = (each[of_batch] for each in variants[random.integers(2)])
    state, terms = train_step(state, *batch)
    losses.append([float(term) for term in terms])

figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(losses, label=["localisation", "confidence"])
axis.set(xlabel="step", ylim=(0, 6))
axis.legend()
plt.show()

# %% [markdown]
# ## Hard negatives and detections
#
# After training, the hard negatives are mostly boxes near signs that fit badly: the network has
# learned the rest of the background.

# %%
outputs = predict(state.parameters, state.batch_stats, images[chosen])
_, _, all_hard = jax.vmap(loss_by_hand)(*outputs, *targets)
for axis, number, hard in zip(new_axes(3, 3.8), shown, all_hard, strict=True):
    axis.imshow(images[number])
    axis.set_title(f"the {hard.sum()} hard negatives")
    for box in corners(default_boxes[np.asarray(hard)]):
        outline(axis, box, "tab:red", lw=1)
plt.show()

# %% [markdown]
# `detect` turns outputs into detections: it decodes the boxes, applies non-maximum suppression to
# each class and keeps the best. These images were held out. 200 steps are few: some signs are still
# missed.

# %%
outputs = predict(state.parameters, state.batch_stats, images[:held_out])
found = ssd_jax.detect(*outputs, default_boxes)
print("boxes", found.boxes.shape, "scores", found.scores.shape)
for number, axis in enumerate(new_axes(4, 2.7)):
    axis.imshow(images[number])
    for box, score, label in zip(
        found.boxes[number], found.scores[number], found.labels[number], strict=True
    ):
        if score > 0.3:
            outline(axis, box, "yellow", lw=2)
            name = f"{dataset.class_names[int(label) - 1]} {score:.2f}"
            axis.text(*box[:2] * SIDE, name, fontsize=7, backgroundcolor="yellow")
plt.show()

# %% [markdown]
# ## From here
#
# - `training_batches` gives augmented batches of any data set, and `detection_loss` runs
#   augmentation, network, matching and loss in one:
#   [Python API](../docs/api.md#your-own-training-loop).
# - `train` adds checkpoints, evaluation, several devices, and a run that continues after an
#   interruption; a [hook](../docs/api.md#hooks) can look at it and end it.
# - [The recipe](../docs/recipe.md) compares each term with the paper, and
#   [extending](../docs/extending.md) shows how to add a loss, a backbone or a metric.
#
# Next: [4. Deploy](4_deploy.py).
