import jax
import numpy as np
import pytest

from ssd_jax.detection import iou_losses

# Compiled with their gradients; by name.
LOSSES = {
    name: jax.jit(jax.vmap(jax.value_and_grad(getattr(iou_losses, name), argnums=(0, 1))))
    for name in ("giou_loss", "ciou_loss")
}


def loss(name, box, target):
    return LOSSES[name](np.float32([box]), np.float32([target]))[0][0]


def corners(random, count):
    low = random.uniform(0, 0.7, (count, 2))
    return np.concatenate([low, low + random.uniform(0.02, 0.5, (count, 2))], axis=1)


def reference(name, box, target, alpha=None):
    """The papers' formulas in float64, one pair at a time; `alpha` is given where it is fixed."""
    (x1, y1, x2, y2), (a1, b1, a2, b2) = box, target
    intersection = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
    union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - intersection
    iou = intersection / union
    width, height = max(x2, a2) - min(x1, a1), max(y2, b2) - min(y1, b1)
    if name == "giou_loss":
        return 1 - (iou - (width * height - union) / (width * height))
    distance = ((x1 + x2 - a1 - a2) / 2) ** 2 + ((y1 + y2 - b1 - b2) / 2) ** 2
    angle = np.arctan((a2 - a1) / (b2 - b1)) - np.arctan((x2 - x1) / (y2 - y1))
    v = 4 / np.pi**2 * angle**2
    alpha = v / (1 - iou + v) if alpha is None else alpha
    return 1 - (iou - distance / (width**2 + height**2) - alpha * v)


def test_giou_by_hand():
    # Quarters overlap: 1 of 7, in a hull of 9.
    assert loss("giou_loss", [0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 - 1 / 7 + 2 / 9)
    assert loss("giou_loss", [0, 0, 2, 2], [0, 0, 2, 2]) == pytest.approx(0, abs=1e-6)
    # Unit squares, the second to fourth apart: 2 of a hull of 4.
    assert loss("giou_loss", [0, 0, 1, 1], [3, 0, 4, 1]) == pytest.approx(1 + 2 / 4)
    assert loss("giou_loss", [0, 0, 1, 1], [999, 999, 1000, 1000]) == pytest.approx(2, abs=1e-5)


def test_ciou_by_hand():
    # As above; centres are √2 apart in a hull with the diagonal √18, and both are squares.
    assert loss("ciou_loss", [0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 - 1 / 7 + 2 / 18)
    assert loss("ciou_loss", [0, 0, 2, 2], [0, 0, 2, 2]) == pytest.approx(0, abs=1e-6)
    # 2 × 1 and 1 × 2 round one centre: IoU 1/3.
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1 / 2)) ** 2
    expected = 2 / 3 + v / (2 / 3 + v) * v
    assert loss("ciou_loss", [-1, -0.5, 1, 0.5], [-0.5, -1, 0.5, 1]) == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_equal_the_formulas(name):
    random = np.random.default_rng(0)
    boxes, targets = corners(random, 100), corners(random, 100)
    losses, (gradients, _) = LOSSES[name](np.float32(boxes), np.float32(targets))
    for i, (box, target) in enumerate(zip(boxes, targets, strict=True)):
        expected = reference(name, box, target)
        np.testing.assert_allclose(losses[i], expected, rtol=1e-4)
        # No gradient goes through alpha, which is what the loss with alpha 0 lacks.
        v_times = reference(name, box, target, 1.0) - reference(name, box, target, 0.0)
        alpha = (expected - reference(name, box, target, 0.0)) / v_times if v_times else None
        for k, step in enumerate(1e-6 * np.eye(4)):
            up, down = (reference(name, box + sign * step, target, alpha) for sign in (1, -1))
            np.testing.assert_allclose(gradients[i, k], (up - down) / 2e-6, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_change_with_place_and_scale(name):
    random = np.random.default_rng(1)
    boxes, targets = (corners(random, 100).astype(np.float32) for _ in range(2))
    losses = LOSSES[name](boxes, targets)[0]
    moved = LOSSES[name](3 * boxes + 1, 3 * targets + 1)[0]
    turned = LOSSES[name](boxes[:, [1, 0, 3, 2]], targets[:, [1, 0, 3, 2]])[0]
    for other in (moved, turned, LOSSES[name](targets, boxes)[0]):
        np.testing.assert_allclose(other, losses, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_boxes_without_area_have_finite_losses_and_gradients(name):
    shapes = [
        [0.5, 0.5, 0.5, 0.5],  # a point
        [0.5, 0.2, 0.5, 0.8],
        [0.2, 0.5, 0.8, 0.5],
        [0.5, 0.5, 0.5 + 1e-7, 0.5 + 1e-7],
        [0.2, 0.2, 0.5, 0.5],  # touches the point
        [0.6, 0.6, 0.9, 0.9],
        [0.0, 0.0, 1.0, 1.0],
        [-1e4, -1e4, 1e4, 1e4],
        [0.0, 0.0, 0.0, 0.0],
    ]
    boxes, targets = (
        np.float32(each).reshape(-1, 4)
        for each in np.broadcast_arrays(np.array(shapes)[:, None], np.array(shapes)[None])
    )
    losses, gradients = LOSSES[name](boxes, targets)
    assert np.isfinite(losses).all() and (losses > -1e-6).all() and (losses < 3).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_boxes_apart_are_drawn_together():
    for name in LOSSES:
        gradient = LOSSES[name](np.float32([[1, 1, 2, 2]]), np.float32([[6, 1, 7, 2]]))[1][0][0]
        assert gradient[2] < -1e-3
