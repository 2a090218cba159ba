import jax
import numpy as np
import pytest

from ssd_jax.detection import selection

kth_largest = jax.jit(selection.kth_largest)
largest = jax.jit(selection.largest)

K = [1, 2, 7, 150, 299]


@pytest.fixture(scope="module", params=[300, 1024, 2045, 2500])
def values(request):
    """Rows of scores: random ones, with many ties, all alike, with zeros, of all sizes."""
    random = np.random.default_rng(0)
    columns = request.param
    return np.stack(
        [
            random.uniform(size=columns),
            random.integers(0, 5, columns) / 4,
            np.full(columns, 0.3),
            np.maximum(random.normal(size=columns), 0),
            10.0 ** random.uniform(-37, 38, columns),
        ]
    ).astype(np.float32)


@pytest.mark.parametrize("k", K)
def test_the_kth_largest(values, k):
    expected = -np.sort(-values, axis=1)[:, k - 1]
    np.testing.assert_array_equal(kth_largest(values, k), expected)


def test_each_row_may_have_another_k(values):
    ranks = np.array(K)
    expected = -np.sort(-values, axis=1)[np.arange(5), ranks - 1]
    np.testing.assert_array_equal(kth_largest(values, ranks), expected)
    assert largest(values, ranks).sum(axis=1).tolist() == K


def test_negative_numbers_do_not_count():
    values = np.array([[-1.0, -np.inf, 0.5, 0.25]], np.float32)
    assert kth_largest(values, 2) == 0.25
    assert kth_largest(values, 3) == 0


@pytest.mark.parametrize("k", K)
def test_ties_go_to_the_first_values(values, k):
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    expected = np.zeros(values.shape, bool)
    np.put_along_axis(expected, order, True, axis=1)
    np.testing.assert_array_equal(largest(values, k), expected)
