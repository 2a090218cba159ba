"""The train step on one device; `test_steps_on_devices.py` tests more devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssd_jax.config.schema import AugmentConfig, Config, LossConfig, as_config
from ssd_jax.detection.losses import MultiboxLoss, multibox_loss
from ssd_jax.detection.matcher import match_targets
from ssd_jax.distributed import devices
from ssd_jax.models.network import build_network
from ssd_jax.training.augmentation import image_keys
from ssd_jax.training.detection_loss import detection_loss
from ssd_jax.training.optimizer import make_optimizer, make_schedule
from ssd_jax.training.parameters import matching
from ssd_jax.training.state import initial_state
from ssd_jax.training.steps import (
    make_train_step,
    mean_over_positives,
    step_numbers,
    unless_nonfinite,
)
from tests import tiny

BATCH = 8
# Without random augmentation.
CONFIG = Config(
    seed=1,
    warmup_steps=0,
    learning_rate=1e-2,
    weight_decay=0,
    bias_rate=1,
    model=as_config(tiny.get_config()).model,
    augment=AugmentConfig(color=False, flip=False),
)


OPTIMIZER = make_optimizer(CONFIG, make_schedule(CONFIG))


@functools.cache
def first_numbers():
    """A function, because a program of several processes imports this file before they join."""
    return step_numbers(CONFIG)(0)


def make_batch(num_objects=5, without_objects=3, num_images=BATCH):
    """Random images; the first ones are without objects, so that devices differ in positives."""
    random = np.random.default_rng(0)
    corner = random.uniform(0, 0.6, (num_images, num_objects, 2))
    size = random.uniform(0.1, 0.4, (num_images, num_objects, 2))
    labels = random.integers(1, 6, (num_images, num_objects)).astype(np.int32)
    labels[:without_objects] = 0
    return {
        "image": random.integers(0, 256, (num_images, 64, 64, 3), dtype=np.uint8),
        "window": np.tile([0.0, 0.0, 0.8, 1.0], (num_images, 1)).astype(np.float32),
        "boxes": np.concatenate([corner, corner + size], axis=-1).astype(np.float32),
        "labels": labels,
    }


@functools.cache
def tiny_network(precision="float32"):
    config = CONFIG.replace({"model.precision": precision})
    return build_network(config.model, num_classes=5)


@functools.cache
def initial_variables(network):
    return network.init(seed=0)


def new_state(network, **options):
    # Copies, for a step is given up its state.
    variables = jax.tree.map(jnp.array, initial_variables(network))
    return devices.replicate(initial_state(*variables, OPTIMIZER, **options))


@functools.cache
def compiled_step(precision="float32", **options):
    network = tiny_network(precision)
    return devices.pmap_train_step(make_train_step(CONFIG.replace(options), network))


def one_step(batch, **options):
    """State and metrics after one step."""
    state, batch = new_state(tiny_network()), devices.shard(batch)
    state, metrics = compiled_step(**options)(state, batch, first_numbers())
    return state, devices.to_host(metrics)


@pytest.fixture(scope="module")
def after_one_step():
    return one_step(make_batch())


@functools.cache
def compiled_network(network):
    return jax.jit(network.apply, static_argnums=3)


def network_input(images):
    """Images, filled outside their windows."""
    pixels = np.where(np.arange(64)[:, None] < 51, images, [123, 117, 104])
    return tiny_network().normalise(pixels)


def plain_loss(batch, train=True, **options):
    """The sums of the loss over a batch that is not augmented."""
    network, settings = tiny_network(), CONFIG.replace(options).loss
    match, loss = (jax.jit(of, static_argnames="settings") for of in (match_targets, multibox_loss))
    default_boxes = network.default_boxes()
    targets = match(batch["boxes"], batch["labels"], default_boxes, settings)
    images = network_input(batch["image"])
    outputs, _ = compiled_network(network)(*initial_variables(network), images, train)
    return loss(*outputs, *targets, settings, default_boxes)


def check_metrics(metrics, sums, localisation_weight):
    positives = sums.num_positives
    assert metrics["positives"] == positives > BATCH
    assert metrics["negatives"] == sums.num_negatives > positives
    localisation, confidence = sums.localisation / positives, sums.confidence / positives
    np.testing.assert_allclose(metrics["loc_loss"], localisation, rtol=1e-4)
    np.testing.assert_allclose(metrics["conf_loss"], confidence, rtol=1e-4)
    np.testing.assert_allclose(
        metrics["loss"], localisation_weight * localisation + confidence, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("positives", "loc_loss", "conf_loss", "gradient"),
    [
        ([3, 1], 2, 4, 3),  # sums of 8, 16 and 12, divided by the 4 of both devices
        ([0, 0], 8, 16, 12),  # without objects by 1
    ],
)
def test_the_loss_is_divided_by_the_positives_of_the_batch(
    positives, loc_loss, conf_loss, gradient
):
    sums = MultiboxLoss(*np.array([[6, 2], [10, 6], positives, [9, 3]], np.float32))
    mean = functools.partial(mean_over_positives, settings=LossConfig(localisation_weight=0.5))
    mapped = jax.vmap(mean, axis_name=devices.DEVICES, out_axes=None)
    gradients, metrics = mapped({"kernel": np.array([8.0, 4.0])}, sums)
    assert gradients == {"kernel": gradient} and metrics["gradient_norm"] == gradient
    assert (metrics["loc_loss"], metrics["conf_loss"]) == (loc_loss, conf_loss)
    assert metrics["loss"] == 0.5 * loc_loss + conf_loss
    assert (metrics["positives"], metrics["negatives"]) == (sum(positives), 12)


@pytest.mark.slow
def test_the_metrics_of_a_step_equal_those_of_the_plain_loss(after_one_step):
    check_metrics(after_one_step[1], plain_loss(make_batch()), 1)


def test_the_loss_needs_no_pmap(after_one_step):
    """Batch norm and gradients of the plain loss under `jit` equal those of the step."""
    network, batch = tiny_network(), make_batch()
    parameters, batch_stats = initial_variables(network)
    keys = image_keys(CONFIG.seed, jnp.int32(0), jnp.arange(BATCH))

    def mean_loss(parameters):
        sums, stats = detection_loss(network, CONFIG, parameters, batch_stats, batch, keys)
        return sums.total(CONFIG.loss) / sums.num_positives, stats

    gradients, stats = jax.jit(jax.grad(mean_loss, has_aux=True))(parameters)
    state, _ = after_one_step
    assert jax.tree.leaves(stats)
    # The first momentum is the rate times the gradient, downhill.
    for ours, theirs, factor in (
        (gradients, state.opt_state[-1].trace, -1e-2),
        (stats, state.batch_stats, 1),
    ):
        ours, theirs = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            for tree in (ours, theirs)
        )
        assert np.linalg.norm(factor * ours - theirs) < 1e-4 * np.linalg.norm(theirs)


def test_a_step_has_no_scatter():
    # It is slow on GPUs.
    state, batch = new_state(tiny_network()), devices.shard(make_batch())
    assert "scatter" not in compiled_step().lower(state, batch, first_numbers()).as_text()


@pytest.mark.parametrize("factor", [np.nan, 1e25])
def test_an_update_that_is_not_finite_changes_nothing_but_counts(factor):
    state = new_state(tiny_network())
    # With the second factor the loss is finite, but the norm of the gradient is not.
    state.parameters["heads"]["offsets"][0]["kernel"] *= factor
    before = jax.tree.map(np.array, state)
    after, metrics = compiled_step()(state, devices.shard(make_batch()), first_numbers())
    assert np.isfinite(metrics["loss"]) == np.isfinite(factor)
    assert not np.isfinite(metrics["gradient_norm"])
    assert after.step == 1
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        expected = old + 1 if np.issubdtype(old.dtype, np.integer) else old
        np.testing.assert_array_equal(new, expected)


@pytest.mark.parametrize("shape", [2, (1, 2)])
@pytest.mark.parametrize("name", ["loss", "gradient_norm", "update_norm"])
def test_a_state_is_updated_only_if_all_numbers_are_finite(name, shape):
    old, new = (
        {"kernel": jnp.full(shape, float(value)), "count": jnp.int32(value)} for value in (1, 2)
    )
    metrics = dict.fromkeys(("loss", "gradient_norm", "update_norm"), jnp.float32(3))
    np.testing.assert_array_equal(unless_nonfinite(old, new, metrics)["kernel"], np.full(shape, 2))
    kept = unless_nonfinite(old, new, metrics | {name: jnp.float32(np.inf)})
    np.testing.assert_array_equal(kept["kernel"], np.full(shape, 1))
    assert kept["count"] == 2


# All together, for each step with other options is compiled anew.
LOSS_OPTIONS = {
    "loss.match_iou_threshold": 0.3,
    "loss.boundary_boxes": False,
    "loss.negatives_per_positive": 2.0,
    "loss.min_negatives": 8,
    "loss.label_smoothing": 0.1,
    "loss.class_weights": "2,1,1,0.5,3",
}
BOX_LOSS = {"loss.localisation": "ciou"}
OPTIONS = {"loss.localisation_weight": 2.0, "freeze_batch_norm": True} | BOX_LOSS | LOSS_OPTIONS


@pytest.mark.slow
def test_options_by_hand(after_one_step):
    by_hand = functools.partial(plain_loss, make_batch())
    state, metrics = one_step(make_batch(), **OPTIONS)
    sums = by_hand(train=False, **BOX_LOSS, **LOSS_OPTIONS)
    check_metrics(metrics, sums, 2)
    # Each matters: without one of them the loss is another.
    others = [by_hand(train=True, **LOSS_OPTIONS)]
    for left_out in LOSS_OPTIONS:
        rest = {name: value for name, value in LOSS_OPTIONS.items() if name != left_out}
        others.append(by_hand(train=False, **rest))
    for other in others:
        assert abs(other.confidence / sums.confidence - 1) > 1e-2
        assert abs(other.localisation / sums.localisation - 1) > 1e-2

    # Frozen batch norm keeps its statistics.
    before = initial_variables(tiny_network())[1]
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, before)
    free = after_one_step[0].batch_stats
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), before, free)))


@pytest.mark.slow
def test_bfloat16_gives_nearly_the_same_loss(after_one_step):
    _, metrics = one_step(make_batch(), precision="bfloat16")
    _, exact = after_one_step
    assert metrics["positives"] == exact["positives"]
    for name in ("loss", "loc_loss", "conf_loss"):
        np.testing.assert_allclose(metrics[name], exact[name], rtol=0.02)
        assert metrics[name] != exact[name]


def test_the_network_with_and_without_jit():
    network = tiny_network()
    variables = initial_variables(network)
    images = network.normalise(make_batch()["image"])
    compiled, _ = compiled_network(network)(*variables, images, False)
    with jax.disable_jit():
        outputs, _ = network.apply(*variables, images, False)
    for ours, theirs in zip(outputs, compiled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())


def changes(state):
    """By parameter, whether a step changed it."""
    before = initial_variables(tiny_network())[0]
    return jax.tree.map(lambda a, b: bool((a != b).any()), before, state.parameters)


def test_a_batch_without_objects_changes_nothing():
    state, metrics = one_step(make_batch(without_objects=BATCH))
    assert metrics["loss"] == metrics["positives"] == 0
    assert not any(jax.tree.leaves(changes(state)))


def test_a_batch_without_objects_trains_background_if_requested():
    batch = make_batch(without_objects=BATCH)
    state, metrics = one_step(batch, **OPTIONS)
    assert metrics["positives"] == metrics["loc_loss"] == 0
    sums = plain_loss(batch, train=False, **LOSS_OPTIONS)
    np.testing.assert_allclose(metrics["conf_loss"], sums.confidence, rtol=1e-4)
    assert 0 < metrics["conf_loss"] == metrics["loss"]
    heads = changes(state)["heads"]
    assert any(jax.tree.leaves(heads["logits"]))
    assert not any(jax.tree.leaves(heads["offsets"]))


def test_one_object_in_the_batch_is_enough():
    batch = make_batch(without_objects=BATCH - 1)
    batch["labels"][:, 1:] = 0
    state, metrics = one_step(batch)
    assert metrics["positives"] >= 1
    assert np.isfinite(metrics["loss"]) and metrics["loc_loss"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def steps(network, batch, count, frozen=None, **options):
    """The states after each of some steps, and the metrics of the last."""
    config = CONFIG.replace(options)
    numbers = step_numbers(config)(0)
    step = devices.pmap_train_step(make_train_step(config, network, frozen))
    state = new_state(network, frozen=frozen, averages=config.ema > 0)
    states = []
    for _ in range(count):
        state, metrics = step(state, devices.shard(batch), numbers)
        states.append(devices.to_host(state))
    return states, devices.to_host(metrics)


AVERAGE_DECAY = 0.15


@pytest.fixture(scope="module")
def after_frozen_steps():
    """The states after three steps with a frozen backbone and averaged parameters."""
    network = tiny_network()
    frozen = matching(network.variable_shapes()[0], "backbone/*")
    return steps(network, make_batch(), 3, frozen=frozen, ema=AVERAGE_DECAY)[0]


def test_frozen_parameters_are_constant_and_others_are_trained(after_frozen_steps, after_one_step):
    state, network = after_frozen_steps[0], tiny_network()
    assert not any(jax.tree.leaves(changes(state)["backbone"]))
    assert changes(state)["heads"]["logits"][0]["kernel"]
    # Nothing is kept for them, and the gradient of the rest is what it was.
    momentum = state.opt_state[-1].trace
    assert not jax.tree.leaves(momentum["backbone"])
    frozen = matching(network.variable_shapes()[0], "backbone/*")
    first = new_state(network, frozen=frozen).opt_state[-1].trace
    assert jax.tree.structure(first) == jax.tree.structure(momentum)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        momentum["heads"],
        after_one_step[0].opt_state[-1].trace["heads"],
    )


def test_the_average_of_the_parameters_by_hand(after_frozen_steps, after_one_step):
    average = initial_variables(tiny_network())[0]
    for step, state in enumerate(after_frozen_steps):
        decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))  # 0.1, 0.15, 0.15
        average = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new, average, state.parameters
        )
    last, (plain, _) = after_frozen_steps[-1], after_one_step
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), last.averaged, average
    )
    assert last.for_evaluation()[0] is last.averaged
    assert plain.averaged == {} and plain.for_evaluation()[0] is plain.parameters


def test_another_seed_or_rate_compiles_nothing():
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
    )
    config = CONFIG.replace({"augment.flip": True, "augment.plain_start": 0.5, "steps": 10})
    step, batch = compiled_step(**{"augment.flip": True}), devices.shard(make_batch())
    first = step_numbers(config)(0)
    updates = []
    for numbers in (
        first,
        step_numbers(config.replace({"seed": 2}))(0),
        step_numbers(config.replace({"learning_rate": 2e-2, "steps": 99}))(0),
    ):
        state, _ = step(new_state(tiny_network()), batch, numbers)
        updates.append(jax.tree.leaves(devices.to_host(state.opt_state[-1].trace))[0])
        compilations.append("step")
    assert "backend_compile" not in str(compilations[compilations.index("step") + 1 :])
    assert not np.array_equal(updates[1], updates[0])  # other images are mirrored
    np.testing.assert_allclose(updates[2], 2 * updates[0], rtol=1e-5)
    assert (first.strength, step_numbers(config)(5).strength) == (0, 1)
