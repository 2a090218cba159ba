import pytest

from ssd_jax.evaluation.weakest import describe_weakest
from tests.helpers.results import result

NAMES = ["cat", "dog", "car"]
A, B, C = (0, 0, 19, 19), (30, 30, 49, 49), (60, 60, 99, 99)
HALF_A = (0, 0, 19, 7)  # an IoU of 0.4
TRUTH = [(1, False, A), (2, False, B), (3, False, C)]
FOUND = [(1, 0.9, A), (2, 0.9, B), (3, 0.9, C)]


def told(found, truth=TRUTH, image_size=300, names=NAMES):
    weakest = describe_weakest([result(truth, found)], names, image_size)
    return weakest and f"{weakest.description}; {weakest.advice}"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FOUND[1:], ("cat, AP 0.00 (1 object)", "Without undetected objects the AP would be 1.00")),
        (
            [*FOUND[1:], (1, 0.9, HALF_A)],
            ("cat, AP 0.00", "Without inaccurate boxes", "a larger input"),
        ),
        ([*FOUND, (2, 0.95, (80, 0, 99, 19))], ("dog, AP 0.50", "on the background")),
        ([*FOUND, (2, 0.95, A)], ("dog, AP 0.50", "similar classes", "mostly cat")),
        ([*FOUND, (3, 0.95, B)], ("car, AP 0.50", "other classes", "mostly dog")),
    ],
)
def test_the_weakest_class_and_its_most_costly_error(found, words):
    line = told(found)
    assert line.startswith("weakest class: ") and all(word in line for word in words)


def test_undetected_small_objects_give_the_advice_of_a_larger_input():
    # 19 of 100 pixels are 57 of 300 and 15 of 80.
    assert "more images of it" in told(FOUND[1:])
    assert "smaller than 15 pixels" in told(FOUND[1:], image_size=80)
    assert "more images of it" in told(FOUND[1:], image_size=None)


def test_no_advice_is_given_without_possible_gain():
    assert told(FOUND) is None
    assert told([], truth=[]) is None
    assert told([], truth=TRUTH[:1], names=NAMES[:1]).startswith("class: cat, AP 0.00")
