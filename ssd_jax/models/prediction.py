"""From images to detections on the device: the network, then its outputs decoded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from ssd_jax.config.schema import DetectionConfig
from ssd_jax.detection.boxes import ArrayLike, mirrored
from ssd_jax.detection.postprocess import Detections, best_detections, score_boxes
from ssd_jax.models.network import Network, Variables

Images = UInt8[ArrayLike, "batch size size 3"]  # RGB
PredictStep = Callable[[tuple[Variables, Variables], Images], Detections]


# Operations that a GPU launches as one graph: with one image, launching them one by one takes
# longer than running them. Loops are left out: in a graph, XLA (jaxlib 0.11.2) ended one too early.
GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONVOLUTION"


def compiler_options() -> dict[str, str | bool]:
    """The options of XLA for compiling a predict step for the devices of this process."""
    return {"xla_gpu_enable_command_buffer": GRAPHS} if jax.default_backend() == "gpu" else {}


def final_detections(
    boxes: Float[ArrayLike, "*batch boxes 4"],
    scores: Float[ArrayLike, "*batch classes boxes"],
    settings: DetectionConfig,
) -> Detections:
    """`best_detections` with the method that is faster on the devices of this process."""
    is_cpu = jax.default_backend() == "cpu"
    return best_detections(boxes, scores, settings, few_together=is_cpu)


def make_predict_step(
    network: Network, settings: DetectionConfig, flip: bool = False
) -> PredictStep:
    """Makes `predict((parameters, batch_stats), images)`: images to detections, on the device.

    Args:
      network: the network to run.
      settings: see `best_detections`.
      flip: whether to run on the mirrored image too; boxes of both enter suppression.
    """
    default_boxes = network.default_boxes()

    def boxes_and_scores(
        variables: tuple[Variables, Variables], images: Images
    ) -> tuple[Float[Array, "batch boxes 4"], Float[Array, "batch classes boxes"]]:
        (offsets, logits), _ = network.apply(*variables, network.normalise(images), train=False)
        return score_boxes(offsets, logits, default_boxes)

    def predict(variables: tuple[Variables, Variables], images: Images) -> Detections:
        boxes, scores = boxes_and_scores(variables, images)
        if flip:
            other_boxes, other_scores = boxes_and_scores(variables, images[:, :, ::-1])
            boxes = jnp.concatenate([boxes, mirrored(other_boxes)], axis=1)
            scores = jnp.concatenate([scores, other_scores], axis=2)
        return final_detections(boxes, scores, settings)

    return predict
