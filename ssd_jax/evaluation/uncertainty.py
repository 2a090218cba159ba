"""The uncertainty of an mAP that is measured on few objects."""

import math
from collections.abc import Sequence

from ssd_jax.errors import counted

Z = 1.96  # a normal distribution has 95 % within this number of standard deviations of its mean
FEW = 0.1  # of mAP; at this uncertainty or a higher one the objects count as few


def mean_ap_uncertainty(num_objects: Sequence[int], mean_ap: float = 0.5) -> float:
    """Half the width of a rough 95 % interval of the mAP.

    Each of n objects is found or not. The share p of found objects has the binomial variance p (1 -
    p) / n, and AP about the same. As in the interval of Agresti and Coull (1998), two found and two
    missed objects are added, so that the width is not 0 if all or none are found. The mean of C
    classes has the sum of their variances divided by C².

    Args:
      num_objects: of each class; classes without objects are left out, as in the mAP.
      mean_ap: the mAP; before it is known, 0.5 gives the widest interval.

    Returns:
      The half width, from 0 to 1; 0 without objects.
    """
    counts = [count for count in num_objects if count]
    if not counts:
        return 0.0
    variance = 0.0
    for count in counts:
        share = (mean_ap * count + 2) / (count + 4)
        variance += share * (1 - share) / (count + 4)
    return Z * math.sqrt(variance) / len(counts)


def describe_uncertainty(num_objects: Sequence[int], mean_ap: float = 0.5) -> str:
    """A clause about the uncertainty of the mAP; "" if the objects are not few."""
    half_width = mean_ap_uncertainty(num_objects, mean_ap)
    if half_width < FEW:
        return ""
    objects = counted(sum(num_objects), "object")
    points = 5 * round(20 * half_width)  # the estimate is rough
    return f"only {objects} to evaluate on: the mAP is uncertain by about ±{points} points"
