"""Saves and restores states with Orbax. The only file that knows Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ssd_jax.errors import UserError
from ssd_jax.models.network import Variables
from ssd_jax.training.state import TrainState

BEST_METRIC = "mAP"


class Checkpoints:
    """The checkpoints of one work directory: the last few, and the best by mAP.

    Every checkpoint holds two items: `model` (parameters, averaged and last, and batch statistics,
    all that evaluation needs) and `training` (step and optimiser state). Saving goes on in the
    background.
    """

    def __init__(self, directory: Path, keep: int = 3, read_only: bool = False):
        """Opens a directory of checkpoints.

        Args:
          directory: made where it does not exist, unless `read_only`.
          keep: how many of the last checkpoints stay.
          read_only: whether nothing will be saved.
        """
        policies = checkpoint_managers
        self._directory = Path(directory).resolve()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(keep),
                        policies.BestN(
                            get_metric_fn=lambda metrics: metrics[BEST_METRIC],
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                read_only=read_only,
                create=not read_only,
            ),
            item_names=("model", "training"),
        )

    def steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Saves a state under its step, in the background.

        Args:
          state: as the train step returned it.
          metrics: if it was evaluated: numbers, `mAP` among them.
        """
        step = int(state.step.addressable_data(0))
        if step in self._manager.all_steps():
            return
        if jax.process_count() > 1:
            # Orbax wants to be told that the copies on all processes are one array.
            state = jax.tree.map(
                ocp.utils.fully_replicated_host_local_array_to_global_array,
                jax.tree.map(lambda array: array.addressable_data(0), state),
            )
        self._manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.PyTreeSave(_model(state)),
                training=ocp.args.PyTreeSave(_training(state)),
            ),
            metrics=metrics,
        )

    def restore(self, template: TrainState, step: int | None = None) -> TrainState:
        """Reads a state as NumPy arrays.

        Args:
          template: a state of the same structure and shapes; its values do not matter.
          step: which one; the last where None.

        Raises:
          UserError: there is no such checkpoint, or it is of another network.
        """
        step = self._existing(step)
        items = self._restore(step, model=_model(template), training=_training(template))
        return TrainState(**items["model"], **items["training"])

    def restore_model(
        self,
        parameters: Variables,
        batch_stats: Variables,
        step: int | None = None,
        averages: bool = False,
    ) -> tuple[Variables, Variables]:
        """Reads parameters, averaged where the run has `averages`, and batch statistics alone.

        See `restore` for the rest.
        """
        template = {
            "parameters": parameters,
            "averaged": parameters if averages else {},
            "batch_stats": batch_stats,
        }
        model = self._restore(self._existing(step), model=template)["model"]
        return model["averaged"] or model["parameters"], model["batch_stats"]

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes saving."""
        self._manager.close()

    def _existing(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"{self._directory} has no checkpoint: train there first")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise UserError(
                f"{self._directory} has no checkpoint of step {step}, but of "
                f"{', '.join(map(str, steps))}"
            )
        return step

    def _restore(self, step: int, **templates: Any) -> dict[str, Any]:
        def arguments(template):
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), template)
            return ocp.args.PyTreeRestore(
                abstract,
                restore_args=jax.tree.map(
                    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract
                ),
            )

        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: arguments(template) for name, template in templates.items()}
                ),
            )
        except ValueError as error:
            raise _other_network(self._directory, step, str(error)) from error
        for name, template in templates.items():
            shapes = jax.tree.map(lambda x: tuple(x.shape), (template, restored[name]))
            if shapes[0] != shapes[1]:
                raise _other_network(self._directory, step, "its arrays have other shapes")
        return dict(restored.items())


def _model(state: TrainState) -> dict[str, Any]:
    return {
        "parameters": state.parameters,
        "averaged": state.averaged,
        "batch_stats": state.batch_stats,
    }


def _training(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


def _other_network(directory: Path, step: int, reason: str) -> UserError:
    return UserError(
        f"the checkpoint of step {step} in {directory} is not of the network that the config "
        f"describes ({reason.splitlines()[0]}): use the config it was trained with (model, ema, "
        "optimizer and freeze decide what a checkpoint holds), or another work directory"
    )
