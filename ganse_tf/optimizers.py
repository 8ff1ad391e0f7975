"""RMSprop and Adam with one TensorFlow kernel per variable: the same numbers as Keras, several times quicker on a CPU.

Keras writes an update as about ten small operations on whole arrays (square, multiply, add, square root, ...). For
SEGAN's 73 million weights each of them reads and writes 290 MB, and the memory bus becomes the bottleneck. TensorFlow
still has the kernels of its first optimisers, which do the whole update of a variable in one pass.

Only ``update_step`` differs from Keras. Learning-rate schedules, clipping, weight decay, moving averages, gradient
accumulation and loss scaling happen before or after it and work as always. The saved state is the stock optimiser's,
so a checkpoint can be loaded into either.

The stock update is used for anything the kernels do not know: ``momentum``, ``centered``, ``amsgrad``, sparse
gradients, variables that are not float32, and any ``tf.distribute`` strategy.
"""

import keras
import tensorflow as tf


def _one_kernel_can_do(gradient, variable):
    """True for a dense float32 gradient of an ordinary variable outside ``tf.distribute``."""
    return (
        isinstance(gradient, tf.Tensor)
        and isinstance(variable, tf.Variable)
        and hasattr(variable, "handle")
        and variable.dtype == tf.float32
        and not tf.distribute.has_strategy()
    )


@keras.saving.register_keras_serializable(package="ganse_tf")
class FusedRMSprop(keras.optimizers.RMSprop):
    """``keras.optimizers.RMSprop`` in one kernel per variable.

        v = rho v + (1 - rho) g^2,   w = w - learning_rate g / sqrt(v + epsilon)

    The kernel also wants a momentum array, which is only scratch space here: one more array of the variables' size, not
    saved.

    Args:
        *args, **kwargs: those of ``keras.optimizers.RMSprop``. With ``momentum`` or ``centered`` it is the stock one.

    Example:
        >>> w = keras.Variable([1.0, -1.0])
        >>> FusedRMSprop(learning_rate=0.1, rho=0.9).apply([tf.constant([2.0, 2.0])], [w])
        >>> [round(float(x), 4) for x in w.numpy()]
        [0.6838, -1.3162]

    References:
        Tieleman and Hinton 2012, Coursera lecture 6.5. SEGAN trains with learning_rate=2e-4, rho=0.9, epsilon=1e-10.
    """

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._scratch = []
        if not (self.momentum or self.centered or tf.distribute.has_strategy()):
            with tf.init_scope():
                self._scratch = [tf.Variable(tf.zeros(v.shape), trainable=False, name="scratch") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        if not self._scratch or not _one_kernel_can_do(gradient, variable):
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._velocities[index].value.handle,
            mom=self._scratch[index].handle,
            lr=tf.cast(learning_rate, tf.float32),
            rho=self.rho,
            momentum=0.0,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )

    def load_own_variables(self, store):
        super().load_own_variables(store)
        for scratch in getattr(self, "_scratch", ()):
            scratch.assign(tf.zeros_like(scratch))  # 0 * NaN is NaN: a broken run must not follow the loaded state


@keras.saving.register_keras_serializable(package="ganse_tf")
class FusedAdam(keras.optimizers.Adam):
    """``keras.optimizers.Adam`` in one kernel per variable.

        m = beta_1 m + (1 - beta_1) g,   v = beta_2 v + (1 - beta_2) g^2,
        w = w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    The kernel rounds 1 - beta_2 = 0.001 to float32 in one more place than Keras: steps agree to about 5 digits.

    Args:
        *args, **kwargs: those of ``keras.optimizers.Adam``. With ``amsgrad`` it is the stock one.

    Example:
        >>> w = keras.Variable([1.0, -1.0])
        >>> FusedAdam(learning_rate=0.1).apply([tf.constant([2.0, -2.0])], [w])
        >>> [round(float(x), 4) for x in w.numpy()]
        [0.9, -0.9]

    References:
        Kingma and Ba 2015, "Adam", Algorithm 1 in the form before section 2.1 (epsilon is their epsilon hat).
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or not _one_kernel_can_do(gradient, variable):
            return super().update_step(gradient, variable, learning_rate)
        index = self._get_variable_index(variable)
        t = tf.cast(tf.convert_to_tensor(self.iterations), tf.float32) + 1.0
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, tf.float32), t),
            beta2_power=tf.pow(tf.cast(self.beta_2, tf.float32), t),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
