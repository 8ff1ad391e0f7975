"""The losses of the eleven papers: pure functions, one equation each, always in float32, always a scalar.

A GAN loss takes the raw scores of D (no sigmoid) and the label they should have reached; who minimises it, and with
which label, is written in the paper's own ``train_step``.  Every mean runs over all elements unless a mask is given.
"""

import tensorflow as tf


def mean(values, mask=None):
    """Mean of float32 `values`; with a 0/1 `mask` (broadcast over trailing axes) the mean over its ones only."""
    if mask is None:
        return tf.reduce_mean(values)
    mask = tf.cast(mask, values.dtype)
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), tf.ones(tf.rank(values) - tf.rank(mask), tf.int32)], 0))
    mask = mask * tf.ones_like(values)
    return tf.reduce_sum(values * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def least_squares(scores, label, mask=None):
    """Least-squares GAN loss, mean((D - label)^2) (Mao et al. 2017, eq. 2; SEGAN eq. 3 without its factor 1/2).

    Args:
        scores: raw outputs of D, any shape.
        label: the value D should have given: 1 for real, 0 for fake, or a metric's score.
        mask: optional 0/1 tensor of the leading axes; elements under 0 do not count.

    Returns:
        float32 scalar.

    Example:
        >>> float(least_squares(tf.constant([[1.0], [0.0]]), 1.0))
        0.5
    """
    return mean(tf.square(tf.cast(scores, tf.float32) - label), mask)


def cross_entropy(logits, label, mask=None):
    """Binary cross-entropy of logits, -label log sigmoid(D) - (1 - label) log(1 - sigmoid(D)) (Goodfellow et al. 2014).

    Args:
        logits: raw outputs of D (no sigmoid), any shape.
        label: float in [0, 1]; 0.9 instead of 1 is one-sided label smoothing.
        mask: as in `least_squares`.

    Returns:
        float32 scalar; log 2 = 0.6931 where D says 0.

    Example:
        >>> round(float(cross_entropy(tf.zeros([2, 1]), 1.0)), 4)
        0.6931
    """
    logits = tf.cast(logits, tf.float32)
    return mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), float(label)), logits), mask)


def saturating(logits, mask=None):
    """G's original minimax loss, mean(log(1 - sigmoid(D(G(x))))) (Goodfellow et al. 2014, eq. 1).

    Its gradient vanishes where D is sure (logits << 0); the usual replacement is ``cross_entropy(logits, 1.0)``.
    """
    return mean(-tf.nn.softplus(tf.cast(logits, tf.float32)), mask)


def l1(target, estimate, mask=None):
    """Mean absolute error, mean(|target - estimate|)."""
    return mean(tf.abs(tf.cast(target, tf.float32) - tf.cast(estimate, tf.float32)), mask)


def l2(target, estimate, mask=None):
    """Mean squared error, mean((target - estimate)^2)."""
    return mean(tf.square(tf.cast(target, tf.float32) - tf.cast(estimate, tf.float32)), mask)
