"""SSD300-VGG16 weights under the names that PyTorch implementations give them.

Their heads put out boxes in our order, so that kernels only change from [out, in, height, width]
to [height, width, in, out].
"""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ssd_jax.errors import UserError
from ssd_jax.models.network import Variables
from ssd_jax.models.vgg import STAGES

# Our module paths, dots between names, to the prefix of `.weight` and `.bias`; the weight of
# L2Norm, which has no bias, to its full name.
Layout = dict[str, str]

_BACKBONE = (
    *(
        f"backbone.conv{stage}_{index}.conv"
        for stage, channels in enumerate(STAGES, start=1)
        for index in range(1, len(channels) + 1)
    ),
    "backbone.fc6.conv",
    "backbone.fc7.conv",
)
_L2NORM = "backbone.conv4_3_norm.weight"


def ssd_pytorch_layout() -> Layout:
    """The names of ssd.pytorch's SSD300 (amdegroot)."""
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33)
    return _layout(
        backbone=[f"vgg.{place}" for place in places],
        l2norm="L2Norm.weight",
        extras=[f"extras.{i}" for i in range(8)],
        offsets="loc",
        logits="conf",
    )


def torchvision_layout() -> Layout:
    """The names of torchvision's `ssd300_vgg16`."""
    places = [f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)]
    places += [f"extra.0.{place}" for place in ("1", "3", "5", "7.1", "7.3")]
    return _layout(
        backbone=[f"backbone.{place}" for place in places],
        l2norm="backbone.scale_weight",
        extras=[f"backbone.extra.{i}.{place}" for i in range(1, 5) for place in (0, 2)],
        offsets="head.regression_head.module_list",
        logits="head.classification_head.module_list",
    )


def _layout(
    backbone: Sequence[str], l2norm: str, extras: Sequence[str], offsets: str, logits: str
) -> Layout:
    """A layout from the names of its parts in order; the extra layers narrow and shrink in turn."""
    layout = dict(zip(_BACKBONE, backbone, strict=True))
    layout[_L2NORM] = l2norm
    for i, name in enumerate(extras):
        layout[f"extras.{('narrow', 'shrink')[i % 2]}.{i // 2}.conv"] = name
    for i in range(6):
        layout[f"heads.offsets.{i}"] = f"{offsets}.{i}"
        layout[f"heads.logits.{i}"] = f"{logits}.{i}"
    return layout


def from_pytorch(
    tensors: Mapping[str, np.ndarray], layout: Layout, parameters: Variables
) -> Variables:
    """Parameters with every value taken from PyTorch tensors.

    Args:
      tensors: a state dict as NumPy arrays.
      layout: the names that its tensors have.
      parameters: of the network to fill; only structure and shapes matter.

    Raises:
      UserError: a tensor is missing, left over, or of another shape; the message names them.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(parameters)
    values, missing, mismatched, used = [], [], [], set()
    for path, parameter in paths:
        *module, leaf = (str(key.key) for key in path)
        module = ".".join(module)
        if f"{module}.{leaf}" == _L2NORM:
            name = layout[_L2NORM]
        else:
            name = f"{layout[module]}.{'weight' if leaf == 'kernel' else leaf}"
        used.add(name)
        if name not in tensors:
            missing.append(name)
            continue
        value = tensors[name]
        if leaf == "kernel":
            value = value.transpose(2, 3, 1, 0)
        if value.shape != parameter.shape:
            mismatched.append(f"{name} {value.shape} for {parameter.shape}")
        values.append(value)
    left_over = sorted(set(tensors) - used)
    complaints = {"missing": missing, "of another shape": mismatched, "left over": left_over}
    if any(complaints.values()):
        raise UserError(
            "the weights do not fit the network: "
            + "; ".join(
                f"{what}: {', '.join(names)}" for what, names in complaints.items() if names
            )
        )
    return jax.tree.unflatten(structure, values)
