"""Repeat factor sampling: images with rare classes are drawn more often."""

import numpy as np
import pytest
import tensorflow as tf

from ssd_jax.data.balance import describe_repeats, repeat_factors
from ssd_jax.data.sources import open_dataset
from ssd_jax.data.training_order import draw_repeated, training_order
from tests.helpers.pictures import VocFolder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sixteen images with dogs, the first with a cat, the fifth to eighth with birds; one empty."""
    voc = VocFolder(tmp_path_factory.mktemp("voc"))
    dog, cat, bird = ((name, 6, 4, 30, 20) for name in ("dog", "cat", "bird"))
    names = [f"image{number:02d}" for number in range(16)]
    for number, name in enumerate(names):
        others = [cat] * (number == 0) + [bird, bird] * (4 <= number < 8)
        voc.add(name, [dog, *others] if number < 15 else [])
    return open_dataset(voc.split("all", *names))


def drawn(source, count, **options):
    order = training_order(source, 3, 0.5, **options)
    return np.array(list(order.take(count).as_numpy_iterator()))


def test_factors_by_hand(source):
    assert source.class_names == ("bird", "cat", "dog")
    # Cats are in 1 of 16 images, birds in 4, dogs in 15.
    factors = repeat_factors(source, 0.5)
    expected = np.ones(16)
    expected[0], expected[4:8] = np.sqrt(0.5 * 16), np.sqrt(0.5 * 16 / 4)
    np.testing.assert_allclose(factors, expected)
    np.testing.assert_array_equal(repeat_factors(source, 1 / 16), np.ones(16))
    assert repeat_factors(source, 0.0) is None


def test_the_factor_of_each_class_is_reported(source):
    # The mean factor is (√8 + 4 √2 + 11) / 16 = 1.2178; a dog is in all images but one of these.
    told = describe_repeats(source, 0.5).removeprefix("config.data.repeat_threshold=0.5: ")
    times = "drawn more often by these factors: cat 2.32, bird 1.16, dog 1.01"
    assert told == f"images with a class are {times}"
    told = describe_repeats(source, 1 / 16)
    assert told.endswith("all images equally often: the rarest class, cat, is in 1 of 16")


def test_an_epoch_is_as_long_and_shares_follow_the_factors(source):
    factors = repeat_factors(source, 0.5)
    expected = factors * 16 / factors.sum()
    counts = []
    for epoch in range(60):
        indices = draw_repeated(tf.constant([1, epoch], tf.int64), np.arange(16), factors).numpy()
        assert len(indices) == 16
        counts.append(np.bincount(indices, minlength=16))
    counts = np.array(counts)
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.2)
    assert (np.abs(counts - expected) < 1).all()


def test_the_order_equals_that_of_its_epoch_and_differs_between_epochs(source):
    epochs = drawn(source, 64).reshape(4, 16)
    assert all((epoch == 0).sum() >= 2 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    np.testing.assert_array_equal(drawn(source, 20, first_position=44), epochs.ravel()[44:])


def test_processes_draw_from_their_own_images(source):
    for index in range(2):
        indices = drawn(source, 8, process_index=index, process_count=2)
        assert (indices % 2 == index).all()
