"""Losses against closed forms to 5 places, and the sign of their gradients."""

import math

import pytest
import tensorflow as tf

from ganse_tf import losses

LOG2 = math.log(2.0)


@pytest.mark.parametrize(
    "value, expected",
    [
        (losses.least_squares(tf.constant([1.0, 0.0]), 1.0), 0.5),
        (losses.least_squares(tf.constant([0.5, -0.5]), 0.0), 0.25),
        (losses.cross_entropy(tf.zeros([3, 1]), 1.0), LOG2),
        (losses.cross_entropy(tf.zeros([3, 1]), 0.9), LOG2),
        (losses.cross_entropy(tf.constant([2.0]), 1.0), math.log(1 + math.exp(-2))),
        (losses.cross_entropy(tf.constant([2.0]), 0.0), math.log(1 + math.exp(2))),
        (losses.saturating(tf.zeros([2])), -LOG2),
        (losses.saturating(tf.constant([2.0])), math.log(1 - 1 / (1 + math.exp(-2)))),
        (losses.l1(tf.constant([1.0, 2.0]), tf.constant([0.0, 4.0])), 1.5),
        (losses.l2(tf.constant([1.0, 2.0]), tf.constant([0.0, 4.0])), 2.5),
    ],
)
def test_closed_forms(value, expected):
    assert value.dtype == tf.float32 and value.shape == ()
    assert float(value) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "loss, sign",
    [
        (lambda d: losses.least_squares(d, 1.0), -1),
        (lambda d: losses.least_squares(d, 0.0), 1),
        (lambda d: losses.cross_entropy(d, 1.0), -1),
        (lambda d: losses.cross_entropy(d, 0.0), 1),
        (losses.saturating, -1),
    ],
)
def test_gradient_pushes_the_score_towards_the_label(loss, sign):
    d = tf.constant([0.4])
    with tf.GradientTape() as tape:
        tape.watch(d)
        value = loss(d)
    assert math.copysign(1, float(tape.gradient(value, d)[0])) == sign


def test_saturating_gradient_vanishes_where_d_is_sure_and_cross_entropy_does_not():
    d = tf.constant([-10.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(d)
        saturating, usual = losses.saturating(d), losses.cross_entropy(d, 1.0)
    assert abs(float(tape.gradient(saturating, d)[0])) < 1e-4
    assert float(tape.gradient(usual, d)[0]) == pytest.approx(-1.0, abs=1e-4)


def test_mask_counts_only_what_it_keeps():
    target, estimate = tf.zeros([2, 3, 4]), tf.ones([2, 3, 4])
    estimate = tf.concat([estimate[:, :2], 100 * estimate[:, 2:]], axis=1)
    mask = tf.constant([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert float(losses.l1(target, estimate, mask)) == pytest.approx(1.0)
    assert float(losses.least_squares(tf.constant([[1.0], [7.0]]), 0.0, tf.constant([1.0, 0.0]))) == pytest.approx(1.0)


def test_float16_input_is_computed_in_float32():
    assert losses.l2(tf.constant([300.0], tf.float16), tf.constant([0.0], tf.float16)).numpy() == 90000.0
