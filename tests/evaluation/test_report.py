import numpy as np

from ssd_jax.evaluation.report import format_table, summarise
from ssd_jax.evaluation.voc import mean_over_classes
from tests.evaluation.test_voc import FAR, A, B, result


def test_summary_names_classes_and_leaves_absent_ones_out():
    images = [
        result([(1, False, A), (1, False, B)], [(1, 0.9, A), (1, 0.8, FAR), (1, 0.7, B)]),
        result([(3, False, A)], [(3, 0.9, A)]),
    ]
    summary = summarise(images, ["cat", "dog", "cow"])
    assert summary["num_images"] == 2
    assert summary["AP_per_class"]["dog"] is None
    assert summary["AP_per_class"]["cow"] == summary["AP_area_per_class"]["cow"] == 1.0
    np.testing.assert_allclose(summary["AP_area_per_class"]["cat"], 5 / 6)
    np.testing.assert_allclose(summary["mAP_area"], mean_over_classes(np.array([5 / 6, 1])))
    lines = format_table(summary).splitlines()
    assert "2 images" in lines[0]
    assert lines[2].split() == ["cat", f"{summary['AP_per_class']['cat']:.4f}", "0.8333"]
    assert lines[3].split()[:3] == ["dog", "no", "objects"]
    assert lines[-1].split()[0] == "mAP" and lines[-1].endswith("0.9167")
