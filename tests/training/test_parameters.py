import jax
import pytest

from ssd_jax.errors import UserError
from ssd_jax.training.parameters import check_frozen, matching, merge, split

PARAMETERS = {
    "backbone": {"conv1_1": {"kernel": 1, "bias": 2}, "conv4_3_norm": {"weight": 3}},
    "heads": {"logits": {0: {"kernel": 4, "bias": 5}}},
}


def chosen(patterns):
    mask = matching(PARAMETERS, patterns)
    leaves = zip(jax.tree.leaves(PARAMETERS), jax.tree.leaves(mask), strict=True)
    return {value for value, inside in leaves if inside}


@pytest.mark.parametrize(
    "patterns, values",
    [
        ("", set()),
        ("*/bias", {2, 5}),
        ("backbone/conv1_*", {1, 2}),
        ("backbone/*norm/*, heads/logits/0/bias", {3, 5}),
        ("bias", set()),
        ("*", {1, 2, 3, 4, 5}),
    ],
)
def test_patterns_choose_by_path(patterns, values):
    assert chosen(patterns) == values


def test_a_pattern_without_matches_is_rejected():
    check_frozen(PARAMETERS, "backbone/*,*/bias")
    with pytest.raises(UserError, match=r"config.freeze has the pattern 'backbon/\*', which"):
        check_frozen(PARAMETERS, "*/bias,backbon/*")


def test_freezing_all_parameters_is_rejected():
    with pytest.raises(UserError, match=r"config.freeze is 'backbone/\*,heads/\*', which freezes"):
        check_frozen(PARAMETERS, "backbone/*,heads/*")


def test_merge_is_the_inverse_of_split():
    outside, inside = split(PARAMETERS, matching(PARAMETERS, "backbone/*"))
    assert jax.tree.leaves(outside) == [5, 4]
    assert sorted(jax.tree.leaves(inside)) == [1, 2, 3]
    assert merge(outside, inside) == PARAMETERS
    assert merge(*split(PARAMETERS, None)) == PARAMETERS
