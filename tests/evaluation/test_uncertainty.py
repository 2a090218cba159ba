import pytest

from ssd_jax.evaluation.uncertainty import describe_uncertainty, mean_ap_uncertainty


@pytest.mark.parametrize(
    ("num_objects", "mean_ap", "half_width"),
    [
        # 1.96 sqrt(p (1 - p) / 14), with p = 7 / 14, 12 / 14 and 2 / 14.
        ([10], 0.5, 0.2619),
        ([10], 1.0, 0.1833),
        ([10], 0.0, 0.1833),
        # 1.96 sqrt(1 / 4 / 14 + 1 / 4 / 104) / 2; the class without objects is left out.
        ([10, 0, 100], 0.5, 0.1395),
        ([0], 0.5, 0.0),
    ],
)
def test_the_uncertainty_equals_that_of_the_share_of_found_objects(
    num_objects, mean_ap, half_width
):
    assert mean_ap_uncertainty(num_objects, mean_ap) == pytest.approx(half_width, abs=1e-4)


def test_few_objects_are_reported():
    line = "only 10 objects to evaluate on: the mAP is uncertain by about ±25 points"
    assert describe_uncertainty([10], 0.68) == line
    assert describe_uncertainty([92]) and not describe_uncertainty([93])  # 0.98 / sqrt(n + 4)
