"""Trains a detector from a config and a work directory, with the parts of all packages.

`train` checks the config, builds the parts of the run, restores or creates the state, and trains
it. It reports mistakes before it writes anything.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from ssd_jax.config.schema import Config, LossConfig, as_config
from ssd_jax.data.choice import RunData, open_run_data
from ssd_jax.data.custom import find_function
from ssd_jax.data.cut import CUT_FILE, write_cut
from ssd_jax.distributed import devices, exchange
from ssd_jax.errors import UserError
from ssd_jax.evaluation.drawing import DRAWN, draw_detections
from ssd_jax.evaluation.metrics import METRICS, check_metric
from ssd_jax.evaluation.summary import format_table
from ssd_jax.interop.transfer import Transfer
from ssd_jax.models.network import Network, Variables, build_network
from ssd_jax.runs import agreement
from ssd_jax.runs.batch_memory import batch_memory
from ssd_jax.runs.changed_config import check_can_continue
from ssd_jax.runs.class_weights import with_class_weights
from ssd_jax.runs.data_checks import check_data, describe_continued, record_data
from ssd_jax.runs.evaluator import Evaluator
from ssd_jax.runs.initial_weights import check_init, record_weights, start_weights
from ssd_jax.runs.length import log_how_to_continue, with_steps
from ssd_jax.runs.nonfinite import save_batch
from ssd_jax.runs.pictures import INPUTS, NUM_PICTURES, draw_training_images, save_pictures
from ssd_jax.runs.plan import Chosen
from ssd_jax.runs.provenance import describe_program
from ssd_jax.runs.report import log_result
from ssd_jax.runs.result import TrainResult, read_result
from ssd_jax.runs.stores import training_copy
from ssd_jax.runs.trained import read_evaluations
from ssd_jax.runs.workdir import check_classes, is_recorded, locked, record_run, record_start
from ssd_jax.storage.files import AnyPath
from ssd_jax.training.checkpoints import Progress, saved_steps
from ssd_jax.training.guard import Guard
from ssd_jax.training.hooks import Hook, Hooks
from ssd_jax.training.interruption import Interruption
from ssd_jax.training.loggers import make_loggers
from ssd_jax.training.loop import train_loop
from ssd_jax.training.metrics_writer import MetricsWriter
from ssd_jax.training.optimizer import Schedule, make_optimizer, make_schedule
from ssd_jax.training.parameters import Mask, check_frozen, matching
from ssd_jax.training.run import Run, patience_ends
from ssd_jax.training.run_checkpoints import RunCheckpoints
from ssd_jax.training.state import TrainState, initial_state
from ssd_jax.training.steps import make_train_step

logger = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


def train(
    config: Config | ConfigDict,
    workdir: AnyPath,
    change_config: bool = False,
    given: Collection[str] | None = None,
    hooks: Sequence[Hook] = (),
    chooses_network: bool = False,
) -> TrainResult:
    """Trains with a config; continues the run in the work directory if there is one.

    Args:
      config: the config of the run.
      workdir: the work directory; created if it does not exist.
      change_config: whether the earlier run may have had another config.
      given: names of fields that must not change, like `steps` and `model.width`; others may be
        adapted to the images and the machine. None = no field may change.
      hooks: receive metrics and pictures, and may end the run; the same on all processes.
      chooses_network: whether a new run uses the network of `network_choice.with_network`.

    Raises:
      UserError: config, data or work directory are wrong, or loss or gradient are not finite.
      Interrupted: SIGTERM or SIGINT was received. The state is saved; another call continues.
    """
    with training_copy(workdir) as (folder, own_hooks):
        chosen = Chosen(given, chooses_network)
        return _train(as_config(config), folder, change_config, chosen, [*hooks, *own_hooks])


def _train(
    config: Config, folder: Path, may_change: bool, chosen: Chosen, hooks: list[Hook]
) -> TrainResult:
    """`train` in a local folder."""
    began = time.perf_counter()
    check_metric(config.metric)
    check_init(config.init)
    with Interruption() as interruption, contextlib.ExitStack() as stack:
        agreement.check_same_start(config, change_config=may_change)
        saved = exchange.from_main_process(saved_steps(folder / "checkpoints"))
        cut = agreement.shared_cut(folder)
        data = open_run_data(config, cut, folder, devices.is_main_process())
        recorded = agreement.shared_config(folder) if saved else None
        config = chosen.complete(config, data, recorded)
        config = with_steps(config, len(data.train), folder)
        if devices.is_main_process():  # the other processes end too
            check_can_continue(folder, config, saved, may_change)
            if saved:
                check_classes(folder, data.train.class_names)
        parts = _build(config, folder, data, hooks)
        stack.enter_context(batch_memory(parts.network, parts.batch_size, config.accumulate))
        agreement.check_same_data(parts.data.train, parts.data.evaluation)
        if not saved:
            check_data(config, parts.data, parts.network.tiling)
        if devices.is_main_process():
            if saved:
                logger.info("%s", describe_continued(config, parts.data))
            stack.enter_context(locked(folder))
        checkpoints = RunCheckpoints(folder / "checkpoints", config.keep_checkpoints)
        start = _restore(parts, checkpoints) or _begin(parts)
        agreement.check_same_state(start.state)
        is_evaluated = start.step in start.evaluations or not parts.evaluator
        has_ended = patience_ends(start.evaluations, config.patience)
        is_done = is_evaluated and (start.step == config.steps or has_ended)
        if not is_done or not is_recorded(folder):
            _record(parts, start)
        if is_done:
            log_how_to_continue(config, folder, start.step)
        else:
            if saved:
                logger.info("%s: continuing at step %d of %d", folder, start.step, config.steps)
            _fit(parts, start, checkpoints, interruption, began)
        result = read_result(folder, checkpoints)
        if not is_done:
            missing = chosen.missing_weights(config)
            log_result(result, config, parts.evaluator, data.evaluated, interruption.check, missing)
        return result


@dataclasses.dataclass(frozen=True)
class _Parts:
    """The parts of a run, apart from its state."""

    config: Config
    folder: Path
    batch_size: int  # of this process
    data: RunData
    network: Network
    loss: LossConfig  # with numbers as class weights
    frozen: Mask  # parameters that are not trained
    schedule: Schedule
    optimizer: optax.GradientTransformation
    evaluator: Evaluator | None
    hooks: Hooks

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.train.class_names

    def new_state(self, parameters: Variables, batch_stats: Variables) -> TrainState:
        """The state before the first step, compiled as one program, not one for each array."""
        return initial_state(
            parameters,
            batch_stats,
            self.optimizer,
            frozen=self.frozen,
            averages=self.config.ema > 0,
        )

    def batches(self, first_step: int, process_index: int) -> Iterator[Batch]:
        """A process's batches, beginning with the one that follows `first_step`."""
        from ssd_jax.data.training_batches import training_batches

        return training_batches(
            self.config,
            self.data.train,
            self.batch_size,
            first_step=first_step,
            process_index=process_index,
            process_count=devices.process_count(),
        )


def _build(config: Config, folder: Path, data: RunData, hooks: Sequence[Hook]) -> _Parts:
    """Makes the network, the optimiser and the other parts of the run."""
    batch_size = devices.per_process_batch_size(config.batch_size, config.accumulate)
    network = build_network(config.model, len(data.train.class_names))
    parameter_shapes, _ = network.variable_shapes()
    check_frozen(parameter_shapes, config.freeze)
    if config.augment.custom:
        find_function(config.augment.custom)
    schedule = make_schedule(config)
    loss, evaluator = with_class_weights(config.loss, data.train), None
    if data.evaluation is not None:
        evaluator = Evaluator(config, network, data.evaluation, loss=loss)
    return _Parts(
        config=config,
        folder=folder,
        batch_size=batch_size,
        data=data,
        network=network,
        loss=loss,
        frozen=matching(parameter_shapes, config.freeze),
        schedule=schedule,
        optimizer=make_optimizer(config, schedule),
        evaluator=evaluator,
        hooks=Hooks([MetricsWriter(), *make_loggers(config)], hooks),
    )


@dataclasses.dataclass(frozen=True)
class _Start:
    """The point at which a run begins or continues. Training reuses the memory of the state."""

    step: int
    state: TrainState
    progress: Progress  # of the loop
    evaluations: dict[int, float | None]  # mAP by step, of earlier evaluations
    weights: Transfer | None  # the source of the weights, at the beginning of a run


def _restore(parts: _Parts, checkpoints: RunCheckpoints) -> _Start | None:
    """The state of the last checkpoint; None without one."""
    if not checkpoints.steps():
        return None
    shapes = jax.eval_shape(parts.new_state, *parts.network.variable_shapes())
    if parts.data.cut and not exchange.from_main_process((parts.folder / CUT_FILE).is_file()):
        raise UserError(
            f"{parts.folder} holds a run that has trained on all of its images, so none can be "
            "split off for evaluation: name evaluation data in config.data.eval"
        )
    state, progress = checkpoints.restore(shapes)
    evaluations = dict(exchange.from_main_process(read_evaluations(parts.folder)))
    for step, mean_ap in evaluations.items():
        if mean_ap is not None:
            checkpoints.rate(step, mean_ap)
    return _Start(int(state.step), state, progress, evaluations, None)


def _begin(parts: _Parts) -> _Start:
    """The state before the first step, with the weights of `config.init`."""
    config = parts.config
    weights = start_weights(config, parts.network, parts.data.train)
    return _Start(0, jax.jit(parts.new_state)(*weights.variables), Progress(), {}, weights)


def _record(parts: _Parts, start: _Start) -> None:
    """Records the run and its starting point."""
    if not devices.is_main_process():
        return
    config, folder = parts.config, parts.folder
    record_run(folder, config, parts.class_names, parts.data.train.category_ids)
    record_data(folder, parts.data)
    if parts.data.cut:
        write_cut(folder, parts.data.cut)
    elif (folder / CUT_FILE).is_file():
        # From now on, the former evaluation images may be used for training.
        (folder / CUT_FILE).unlink()
    described = {"step": start.step, "devices": devices.describe_devices()}
    record_start(folder, describe_program() | described)
    if config.init and start.weights:
        record_weights(folder, config.init, start.weights)


def _fit(
    parts: _Parts,
    start: _Start,
    checkpoints: RunCheckpoints,
    interruption: Interruption,
    began: float,
) -> None:
    """Trains up to the last step."""
    prepared = time.perf_counter()
    config, folder, hooks = parts.config, parts.folder, parts.hooks
    batches = parts.batches(start.step, devices.process_index())
    learned = config.replace({"loss": parts.loss})
    train_step = make_train_step(learned, parts.network, parts.frozen)
    with hooks:
        hooks.start(config, folder, start.step)
        if devices.is_main_process():
            first_batch = next(batches)
            batches = itertools.chain([first_batch], batches)
            pictures = draw_training_images(first_batch, parts.class_names)
            save_pictures(folder, "training", pictures, hooks, start.step, INPUTS)
            logger.info("compiling the step: it takes seconds to minutes, and less in later starts")
        evaluate = functools.partial(_evaluate, parts, interruption)
        run = Run(
            config=config,
            schedule=parts.schedule,
            checkpoints=checkpoints,
            guard=Guard(
                config.on_nonfinite,
                config.max_skipped,
                parts.schedule,
                functools.partial(_save_nonfinite, parts),
                skipped=start.progress.skipped,
            ),
            interruption=interruption,
            hooks=hooks,
            evaluate=evaluate if parts.evaluator else None,
            evaluations=start.evaluations,
            progress=start.progress,
            num_images=len(parts.data.train),
            began=began,
            prepared=prepared,
        )
        state = devices.replicate(start.state)
        train_loop(state, devices.pmap_train_step(train_step), batches, run)
        checkpoints.close()


def _evaluate(
    parts: _Parts, interruption: Interruption, state: TrainState
) -> dict[str, float | None]:
    """The metrics of a state by name, and pictures of its detections.

    The mAP is None if the data has no object; other missing numbers are left out.
    """
    assert parts.evaluator is not None
    results, pictures, loss = parts.evaluator(
        state.for_evaluation(), NUM_PICTURES, interruption.check
    )
    summary = parts.evaluator.summarise(results, [parts.config.metric])
    if devices.is_main_process():
        step = int(state.step)
        epoch = parts.config.epochs_in(step, len(parts.data.train))
        loss_text = "" if loss is None else f", loss {loss:.3f} on these images"
        logger.info("step %d, epoch %.1f%s\n%s", step, epoch, loss_text, format_table(summary))
        drawn = draw_detections(pictures, results, parts.class_names)
        save_pictures(parts.folder, "detections", drawn, parts.hooks, step, DRAWN)
    values = {name: summary.get(name) for name in METRICS[parts.config.metric].numbers}
    values["loss"] = loss
    known = {name: value for name, value in values.items() if value is not None}
    return {"mAP": summary["mAP"], **known}


def _save_nonfinite(parts: _Parts, step: int, numbers: dict[str, float]) -> str:
    """Saves the batch of a step whose loss or gradient is not finite; returns a description."""
    if not devices.is_main_process():
        return "its batch is kept by process 0"
    # The batch of a step can be computed again.
    shares = [next(parts.batches(step - 1, index)) for index in range(devices.process_count())]
    batch = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
    return save_batch(parts.folder, batch, numbers, parts.class_names)
