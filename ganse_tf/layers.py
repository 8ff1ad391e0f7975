"""Layers that Keras lacks, or has in a slower form. A paper file only names them; this file says how they work.

=========================  =======================================================================================
Convolutions               ``FastConv1D``, ``FastConv1DTranspose``: the stock layers, quicker on a CPU for short inputs
Recurrent                  ``FastLSTM``, ``FastBLSTM``: the stock (bidirectional) LSTM, quicker on a CPU;
                           ``ProjectedLSTMCell``: an LSTM whose projected output feeds back (AFM)
Normalisation in D         ``SpectralNormConv1D/Conv2D/Dense`` with ``power_iteration`` (large kernels by FFT on a CPU);
                           ``VirtualBatchNorm`` with ``set_reference``
Small ones                 ``GradientScale`` (gradient reversal), ``Standardise``, ``LearnableSigmoid`` (MetricGAN+),
                           ``DrawnDropout`` (repeatable dropout), ``upsample`` (linear interpolation)
=========================  =======================================================================================

The Fast layers hold the same weights as the stock ones in the same order (``get_weights``/``set_weights`` can be
exchanged) and give the same numbers. Layers with a quick path have an attribute ``fast``, ``True`` at first: set it to
``False`` to run TensorFlow's own kernels instead, as ``EnhancementGAN.compile(jit_compile=True)`` does. It describes
the machine, not the model, so it is not saved. On a GPU the quick paths are never taken (cuDNN is quicker still).

Normalisation statistics stay float32 under mixed precision.
"""

import keras
import numpy as np
import tensorflow as tf

# ---- short convolutions as one matrix product ------------------------------------------------------------------------


def _no_gpu():
    """True if TensorFlow sees no GPU."""
    return not tf.config.list_logical_devices("GPU")


def _is_plain_convolution(layer):
    """True for the convolutions whose arithmetic is written out below."""
    return (
        layer.padding == "same"
        and layer.data_format == "channels_last"
        and layer.dilation_rate == (1,)
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "output_padding", None) is None
    )


@tf.custom_gradient
def _few_rows_times_kernel(rows, kernel):
    """rows @ kernel, where `rows` are few and `kernel` is large: its gradient never transposes the kernel.

    TensorFlow's gradient is d_rows = d @ kernel'; on a CPU that reads the kernel against the grain, ten times slower
    for a batch of one. (kernel @ d')' is the same and transposes only the small matrices.
    """

    def gradient(d):
        return tf.transpose(tf.matmul(kernel, d, transpose_b=True)), tf.matmul(rows, d, transpose_a=True)

    return tf.matmul(rows, kernel), gradient


def _add_bias_and_activate(layer, y):
    """What every convolution does last."""
    if layer.use_bias:
        y = y + tf.convert_to_tensor(layer.bias)
    return y if layer.activation is None else layer.activation(y)


@keras.saving.register_keras_serializable(package="ganse_tf")
class FastConv1D(keras.layers.Conv1D):
    """``keras.layers.Conv1D`` that turns a short convolution into one matrix product.

    A kernel of 31 taps over 512 channels applied to 16 time steps (SEGAN's last encoder layer) is few outputs and many
    weights. The stock kernel is built for the opposite case. Writing the 31 x 512 inputs under every output as one row
    gives a matrix with one row per output; that matrix times the kernel is the convolution, and a CPU multiplies
    matrices at full speed. The rows repeat each input up to 31 times, so long inputs stay with the stock kernel.

    Args:
        *args, **kwargs: those of ``keras.layers.Conv1D``. The quick path is taken for ``padding="same"``, no dilation,
            no groups, channels last and a known length of at most ``max_length`` time steps; else the stock path.

    Returns:
        As ``keras.layers.Conv1D``: (batch, ceil(time / strides), filters).

    Example:
        >>> y = FastConv1D(8, 31, strides=2, padding="same")(tf.zeros([1, 16, 4]))
        >>> y.shape
        TensorShape([1, 8, 8])
    """

    fast = True
    max_length = 64  # time steps of the input; measured by benchmarks/layers.py

    def call(self, inputs):
        length = inputs.shape[1]
        if not (self.fast and length and length <= self.max_length and _is_plain_convolution(self) and _no_gpu()):
            return super().call(inputs)
        (taps,), (stride,) = self.kernel_size, self.strides
        out_length = -(-length // stride)
        padding = max((out_length - 1) * stride + taps - length, 0)  # as TensorFlow's "same": the odd one goes right
        padded = tf.pad(inputs, [[0, 0], [padding // 2, padding - padding // 2], [0, 0]])
        positions = stride * np.arange(out_length)[:, None] + np.arange(taps)  # (out_length, taps)
        rows = tf.reshape(tf.gather(padded, positions, axis=1), [-1, taps * self.kernel.shape[1]])
        y = _few_rows_times_kernel(rows, tf.reshape(tf.convert_to_tensor(self.kernel), [-1, self.filters]))
        return _add_bias_and_activate(self, tf.reshape(y, [-1, out_length, self.filters]))


@keras.saving.register_keras_serializable(package="ganse_tf")
class FastConv1DTranspose(keras.layers.Conv1DTranspose):
    """``keras.layers.Conv1DTranspose`` that turns a short transposed convolution into one matrix product.

    Each input step sends ``taps`` copies of itself, weighted by the kernel, to neighbouring outputs. One matrix product
    makes all copies of all steps; adding those that land on the same output is a product with a constant 0/1 matrix.

    Args:
        *args, **kwargs: those of ``keras.layers.Conv1DTranspose``. The quick path is taken for ``padding="same"``, no
            dilation, no ``output_padding``, channels last and a known length of at most ``max_length`` time steps.

    Returns:
        As ``keras.layers.Conv1DTranspose``: (batch, time * strides, filters).

    Example:
        >>> y = FastConv1DTranspose(8, 31, strides=2, padding="same")(tf.zeros([1, 16, 4]))
        >>> y.shape
        TensorShape([1, 32, 8])
    """

    fast = True
    max_length = 64  # time steps of the input; measured by benchmarks/layers.py

    def call(self, inputs):
        length = inputs.shape[1]
        if not (self.fast and length and length <= self.max_length and _is_plain_convolution(self) and _no_gpu()):
            return super().call(inputs)
        (taps,), (stride,) = self.kernel_size, self.strides
        channels = self.kernel.shape[2]
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [taps * self.filters, channels])
        copies = tf.matmul(kernel, tf.reshape(inputs, [-1, channels]), transpose_b=True)  # (taps * filters, B * time)
        copies = tf.transpose(tf.reshape(copies, [taps, self.filters, -1, length]), [2, 3, 0, 1])
        copies = tf.reshape(copies, [-1, length * taps, self.filters])
        left = max(taps - stride, 0) // 2  # outputs cut off on the left by "same"
        target = (stride * np.arange(length)[:, None] + np.arange(taps) - left).reshape(-1)  # where each copy lands
        landing = target == np.arange(stride * length)[:, None]  # (stride * length, length * taps)
        return _add_bias_and_activate(self, tf.matmul(tf.constant(landing, copies.dtype), copies))


# ---- LSTM ------------------------------------------------------------------------------------------------------------


def _lstm_forward(x, kernel, recurrent_kernel, bias):
    """TensorFlow's block kernel: a whole LSTM layer in one op. x is (time, batch, features); gates in Keras' order."""
    units = recurrent_kernel.shape[0]
    state, no_peephole = tf.zeros([tf.shape(x)[1], units]), tf.zeros([units])
    return tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.cast(tf.shape(x)[0], tf.int64), x=x, cs_prev=state, h_prev=state,
        w=tf.concat([kernel, recurrent_kernel], 0), b=bias, wci=no_peephole, wcf=no_peephole, wco=no_peephole,
        cell_clip=0.0, use_peephole=False,
    )  # fmt: skip


@tf.custom_gradient
def _lstms(*arrays):
    """One LSTM, or several independent ones, (time, batch, features) -> (time, batch, units), in one backward loop.

    Arrays: all inputs, then all kernels, all recurrent kernels, all biases; returns a tuple.

    The block kernel's own gradient updates the weight gradients at every time step. Here the loop carries only what
    must be sequential, dLoss/dh and dLoss/dc; it stores the gradient of the gates, and all weight gradients follow
    after it as three large matrix products.
    """
    n_lstms = len(arrays) // 4
    xs, kernels, recurrents, biases = (arrays[k * n_lstms : (k + 1) * n_lstms] for k in range(4))
    outs = [_lstm_forward(*args) for args in zip(xs, kernels, recurrents, biases)]

    def gradient(*d_outputs):
        units = recurrents[0].shape[0]
        # i, f, o: gates; g: candidate; c: cell state; tanh_c = tanh(c); all (time, LSTM, batch, units)
        names = ("i", "f", "o", "ci", "co", "cs", "h")
        i, f, o, g, tanh_c, c, h = (tf.stack([getattr(y, name) for y in outs], 1) for name in names)
        c_before, h_before = (tf.pad(s[:-1], [[1, 0], [0, 0], [0, 0], [0, 0]]) for s in (c, h))
        # With c = f c_before + i g and h = o tanh_c: the factor from dc to each of i, f, g, from dh to o, from dh to dc
        to_i, to_f, to_g, to_o = g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)
        h_to_c = o * (1 - tanh_c * tanh_c)
        steps = tf.concat([to_i, to_f, to_g, to_o, h_to_c, f, tf.stack(d_outputs, 1)], -1)  # (..., 7 * units)
        back_to_h = tf.transpose(tf.stack(recurrents), [0, 2, 1])  # (LSTM, 4 * units, units)
        n_steps = tf.shape(steps)[0]
        stored = tf.TensorArray(steps.dtype, n_steps).unstack(steps)

        def backwards(t, dh_next, dc_next, d_gates):
            to_gates, dh_to_dc, f_t, d_output = tf.split(stored.read(t), [4 * units, units, units, units], -1)
            dh = d_output + dh_next
            dc = dc_next + dh * dh_to_dc
            d_gate = tf.concat([dc, dc, dc, dh], -1) * to_gates
            return t - 1, tf.matmul(d_gate, back_to_h), dc * f_t, d_gates.write(t, d_gate)

        zero = tf.zeros_like(h[0])
        start = (n_steps - 1, zero, zero, tf.TensorArray(steps.dtype, n_steps))
        *_, d_gates = tf.while_loop(lambda t, *_: t >= 0, backwards, start, parallel_iterations=1)
        d_gates = d_gates.stack()

        d_x, d_kernel, d_recurrent, d_bias = [], [], [], []
        for k in range(n_lstms):
            d = tf.reshape(d_gates[:, k], [-1, 4 * units])  # (time * batch, 4 * units)
            d_x.append(tf.reshape(tf.matmul(d, kernels[k], transpose_b=True), tf.shape(xs[k])))
            d_kernel.append(tf.matmul(tf.reshape(xs[k], [-1, kernels[k].shape[0]]), d, transpose_a=True))
            d_recurrent.append(tf.matmul(tf.reshape(h_before[:, k], [-1, units]), d, transpose_a=True))
            d_bias.append(tf.reduce_sum(d, 0))
        return (*d_x, *d_kernel, *d_recurrent, *d_bias)

    return tuple(out.h for out in outs), gradient


def _is_plain_lstm(lstm):
    """True for the LSTMs whose arithmetic is written out above."""
    return (
        lstm.activation is keras.activations.tanh
        and lstm.recurrent_activation is keras.activations.sigmoid
        and lstm.use_bias
        and not (lstm.dropout or lstm.recurrent_dropout or lstm.stateful or lstm.unroll or lstm.return_state)
        and lstm.activity_regularizer is None
    )


@keras.saving.register_keras_serializable(package="ganse_tf")
class FastLSTM(keras.layers.LSTM):
    """``keras.layers.LSTM(units, return_sequences=True)``, quicker on a CPU; see ``FastBLSTM`` for how and its limits.

    Args:
        *args, **kwargs: those of ``keras.layers.LSTM``. The quick path is taken with ``return_sequences=True``, no mask and
            no initial state; dropout, other activations, ``go_backwards`` and the like run on the stock path. Padding at
            the end of a sequence needs no mask: no earlier output depends on it.

    Returns:
        (batch, time, units).

    Example:
        >>> FastLSTM(5, return_sequences=True)(tf.zeros([1, 7, 3])).shape
        TensorShape([1, 7, 5])
    """

    fast = True

    def call(self, sequences, initial_state=None, mask=None, training=False):
        plain = self.return_sequences and not self.go_backwards and _is_plain_lstm(self)
        if not (self.fast and plain and initial_state is None and mask is None and _no_gpu()):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        x = tf.transpose(tf.cast(sequences, tf.float32), [1, 0, 2])  # the block kernel wants time first
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        (y,) = _lstms(x, *(tf.cast(tf.convert_to_tensor(w), tf.float32) for w in weights))
        y = tf.transpose(y, [1, 0, 2])
        y.set_shape([sequences.shape[0], sequences.shape[1], self.units])
        return tf.cast(y, self.compute_dtype)


@keras.saving.register_keras_serializable(package="ganse_tf")
class ProjectedLSTMCell(keras.layers.Layer):
    """LSTM cell whose output is projected to fewer dimensions, and whose *projected* output feeds back (LSTMP).

        i, f, g, o = split(W x_t + R h_{t-1} + b),   c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g),
        h_t = P (sigmoid(o) tanh(c_t))

    A plain LSTM followed by a dense layer feeds back all `units`; here the recurrent matrix R has only `projection`
    columns, which saves most of its weights.

    Args:
        units: width of the cell state c.
        projection: width of the output h.

    Weights: kernel (features, 4 units), recurrent_kernel (projection, 4 units), bias (4 units,), with 1 for the forget
    gate at first, projection_kernel (units, projection).

    Example:
        >>> keras.layers.RNN(ProjectedLSTMCell(8, 3), return_sequences=True)(tf.zeros([1, 7, 5])).shape
        TensorShape([1, 7, 3])

    References:
        Sak, Senior and Beaufays 2014, "Long short-term memory recurrent neural network architectures for large scale
        acoustic modeling", section 2 (with peepholes, which are left out here).
    """

    def __init__(self, units, projection, **kwargs):
        super().__init__(**kwargs)
        self.units, self.projection = int(units), int(projection)
        self.state_size, self.output_size = [self.projection, self.units], self.projection

    def build(self, input_shape):
        def forget_gate_open(shape, dtype=None):
            return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype or "float32"), self.units)

        gates = 4 * self.units
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], gates), initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.projection, gates), initializer="orthogonal"
        )
        self.bias = self.add_weight(name="bias", shape=(gates,), initializer=forget_gate_open)
        self.projection_kernel = self.add_weight(
            name="projection_kernel", shape=(self.units, self.projection), initializer="glorot_uniform"
        )

    def call(self, inputs, states, training=False):
        h, c = states
        z = keras.ops.matmul(inputs, self.kernel) + keras.ops.matmul(h, self.recurrent_kernel) + self.bias
        i, f, g, o = keras.ops.split(z, 4, axis=-1)
        c = keras.ops.sigmoid(f) * c + keras.ops.sigmoid(i) * keras.ops.tanh(g)
        h = keras.ops.matmul(keras.ops.sigmoid(o) * keras.ops.tanh(c), self.projection_kernel)
        return h, [h, c]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "projection": self.projection}


@keras.saving.register_keras_serializable(package="ganse_tf")
class FastBLSTM(keras.layers.Bidirectional):
    """``keras.layers.Bidirectional(keras.layers.LSTM(units, return_sequences=True))``, quicker on a CPU.

    Without cuDNN, Keras runs an LSTM as a loop of about ten small ops per time step. TensorFlow has a kernel that does
    the whole layer in one op; its built-in gradient is slow, so this layer brings its own (see ``_lstms``).

    Args:
        units: width of each direction; the output has ``2 * units`` features (MetricGAN: 200).
        **lstm_options: any other argument of ``keras.layers.LSTM`` (``kernel_initializer``, ``dropout``, ...). Dropout,
            other activations, ``use_bias=False`` and ``unroll`` run on the stock path.

    Call arguments:
        sequences: (batch, time, features), any length.
        mask: optional bool (batch, time), ``True`` first and padding last; padded steps are ignored in both directions
            and give zeros, as in Keras.

    Returns:
        (batch, time, 2 * units): forward and backward direction, concatenated.

    Raises:
        tf.errors.InvalidArgumentError: the mask has padding before or between valid steps.

    Limits: the quick path has no second derivative (gradient penalty), cannot be compiled by XLA and computes in
    float32 whatever the precision policy; ``layer.fast = False`` gives the stock layer.

    Example:
        >>> FastBLSTM(5)(tf.zeros([1, 7, 3])).shape
        TensorShape([1, 7, 10])
    """

    fast = True

    def __init__(self, units, *, name=None, dtype=None, trainable=True, **lstm_options):
        shared = {"dtype": dtype, "trainable": trainable}
        lstm = keras.layers.LSTM(units, return_sequences=True, name="lstm", **shared, **lstm_options)
        super().__init__(lstm, merge_mode="concat", name=name, **shared)

    def call(self, sequences, initial_state=None, mask=None, training=None):
        if not (self.fast and initial_state is None and _is_plain_lstm(self.forward_layer) and _no_gpu()):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        x = tf.transpose(tf.cast(sequences, tf.float32), [1, 0, 2])  # the block kernel wants time first
        if mask is None:
            flip = lambda v: tf.reverse(v, [0])  # noqa: E731
        else:
            mask = tf.convert_to_tensor(mask)
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
            right_padded = tf.sequence_mask(lengths, tf.shape(mask)[1])
            advice = "FastBLSTM expects padding only at the end of a sequence: move it, or set layer.fast = False."
            with tf.control_dependencies([tf.debugging.assert_equal(mask, right_padded, advice)]):
                lengths = tf.identity(lengths)
            flip = lambda v: tf.reverse_sequence(v, lengths, seq_axis=0, batch_axis=1)  # noqa: E731
        cells = self.forward_layer.cell, self.backward_layer.cell
        weights = [getattr(cell, name) for name in ("kernel", "recurrent_kernel", "bias") for cell in cells]
        weights = [tf.cast(tf.convert_to_tensor(w), tf.float32) for w in weights]
        forward, backward = _lstms(x, flip(x), *weights)
        y = tf.transpose(tf.concat([forward, flip(backward)], -1), [1, 0, 2])
        if mask is not None:
            y = y * tf.cast(mask, y.dtype)[:, :, None]
        y.set_shape([sequences.shape[0], sequences.shape[1], 2 * self.forward_layer.units])
        return tf.cast(y, self.compute_dtype)

    def get_config(self):
        fixed = ("name", "dtype", "trainable", "return_sequences")  # set in __init__
        lstm = {k: v for k, v in self.forward_layer.get_config().items() if k not in fixed}
        return {**super(keras.layers.Bidirectional, self).get_config(), **lstm}  # of Layer: name, dtype, trainable

    @classmethod
    def from_config(cls, config):
        return super(keras.layers.Bidirectional, cls).from_config(config)  # Layer's: cls(**config)


# ---- large 2-D kernels by FFT ----------------------------------------------------------------------------------------

TILE = 32  # side of the squares that are transformed at once; 24 to 48 are about equally quick


def _cut(x, size, hop):
    """(batch, height, width, channels) -> squares (batch, rows, columns, channels, size, size), every `hop` points."""
    height, width = tf.shape(x)[1], tf.shape(x)[2]
    rows, columns = (tf.maximum(-((size - n) // hop), 0) + 1 for n in (height, width))  # 1 + ceil((n - size) / hop)
    missing = [(n - 1) * hop + size for n in (rows, columns)]
    x = tf.pad(x, [[0, 0], [0, missing[0] - height], [0, missing[1] - width], [0, 0]])
    x = tf.gather(x, hop * tf.range(rows)[:, None] + tf.range(size), axis=1)
    x = tf.gather(x, hop * tf.range(columns)[:, None] + tf.range(size), axis=3)
    return tf.transpose(x, [0, 1, 3, 5, 2, 4])


def _spectra(squares):
    """(n, channels, size, size), zero-padded to TILE x TILE -> their 2-D spectra (frequencies, n, channels)."""
    spectra = tf.signal.rfft2d(squares, [TILE, TILE])
    return tf.transpose(tf.reshape(spectra, [-1, squares.shape[1], TILE * (TILE // 2 + 1)]), [2, 0, 1])


def _squares(spectra):
    """The way back: (frequencies, n, channels) -> (n, channels, TILE, TILE)."""
    spectra = tf.reshape(tf.transpose(spectra, [1, 2, 0]), [-1, spectra.shape[2], TILE, TILE // 2 + 1])
    return tf.signal.irfft2d(spectra, [TILE, TILE])


def _filter(x, response, taps, forward=True):
    """Overlap-save: (batch, height, width, channels) -> (batch, height - taps + 1, width - taps + 1, channels').

    Also returns the spectra of the input's squares. `response` is the kernel's spectra, (frequencies, channels',
    channels) forward, where the kernel slides as it is; backward it is (frequencies, channels, channels') and slides
    flipped, as in the gradient.
    """
    valid = TILE - taps + 1  # a square gives valid x valid outputs; in the rest its opposite edge has wrapped around
    first = 0 if forward else taps - 1
    height, width = tf.shape(x)[1] - taps + 1, tf.shape(x)[2] - taps + 1
    squares = _cut(x, TILE, valid)
    batch, rows, columns = tf.unstack(tf.shape(squares)[:3])
    spectra = _spectra(tf.reshape(squares, [-1, response.shape[2 if forward else 1], TILE, TILE]))
    y = _squares(tf.matmul(spectra, response, adjoint_b=forward))[:, :, first : first + valid, first : first + valid]
    y = tf.transpose(tf.reshape(y, [batch, rows, columns, y.shape[1], valid, valid]), [0, 1, 4, 2, 5, 3])
    return tf.reshape(y, [batch, rows * valid, columns * valid, y.shape[5]])[:, :height, :width], spectra


@tf.custom_gradient
def _convolve_by_fft(x, kernel):
    """``tf.nn.conv2d(x, kernel, 1, "VALID")`` for a square kernel, by the convolution theorem.

    A convolution is a product of spectra. The input is cut into overlapping squares (overlap-save); at each frequency
    the product over channels is a small matrix product. An 11 x 11 kernel costs 121 multiplications per output and
    channel pair when it slides, and about 5 as a product of spectra. Both gradients are convolutions again.
    """
    taps = kernel.shape[0]
    response = _spectra(tf.transpose(kernel, [3, 2, 0, 1]))  # (frequencies, filters, channels)
    y, spectra = _filter(x, response, taps)

    def gradient(dy):
        margin = [taps - 1, taps - 1]
        d_x, _ = _filter(tf.pad(dy, [[0, 0], margin, margin, [0, 0]]), response, taps, forward=False)
        valid = TILE - taps + 1
        dy_spectra = _spectra(tf.reshape(_cut(dy, valid, valid), [-1, kernel.shape[3], valid, valid]))
        d_kernel = _squares(tf.matmul(dy_spectra, spectra, adjoint_a=True))[:, :, :taps, :taps]
        return d_x, tf.transpose(d_kernel, [2, 3, 1, 0])

    return y, gradient


# ---- spectral normalisation ------------------------------------------------------------------------------------------


class _SpectralNorm:
    """The part that the three spectrally normalised layers share; see ``SpectralNormConv2D``."""

    def add_weight(self, *args, name=None, **kwargs):
        if name == "kernel":
            kwargs["autocast"] = False  # sigma is computed from the float32 kernel, also under mixed precision
        return super().add_weight(*args, name=name, **kwargs)

    def build(self, input_shape):
        if getattr(self, "padding", None) == "causal":
            raise ValueError(f"{type(self).__name__} got padding='causal'; it knows 'same' and 'valid'.")
        super().build(input_shape)
        self.u = self.add_weight(
            name="u", shape=(self.kernel.shape[-1],), initializer="random_normal", trainable=False, dtype="float32",
            autocast=False, aggregation="only_first_replica",
        )  # fmt: skip

    def _matrix(self):
        """The kernel as a matrix (inputs of one output, outputs), float32."""
        return tf.reshape(tf.convert_to_tensor(self.kernel), [-1, self.kernel.shape[-1]])

    def update_u(self):
        """One power iteration: brings ``u`` closer to the singular vector of the kernel with the largest sigma."""
        matrix = self._matrix()
        v = tf.math.l2_normalize(tf.linalg.matvec(matrix, tf.convert_to_tensor(self.u)))
        self.u.assign(tf.math.l2_normalize(tf.linalg.matvec(matrix, v, transpose_a=True)))

    def sigma(self):
        """Estimate of the kernel's largest singular value, v' W u; its gradient flows into W, not into u and v."""
        matrix = self._matrix()
        u = tf.math.l2_normalize(tf.convert_to_tensor(self.u))
        v = tf.stop_gradient(tf.math.l2_normalize(tf.linalg.matvec(matrix, u)))
        return tf.reduce_sum(v * tf.linalg.matvec(matrix, u))

    def normalised_kernel(self):
        """W / sigma(W), float32, in the kernel's shape."""
        return tf.convert_to_tensor(self.kernel) / self.sigma()

    def call(self, inputs):
        y = self._linear(inputs, tf.cast(self.normalised_kernel(), inputs.dtype))
        return _add_bias_and_activate(self, y)

    def save_own_variables(self, store):  # the stock layers would save kernel and bias, but not u
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)


class _SpectralNormConv(_SpectralNorm):
    def _linear(self, inputs, kernel):
        return keras.ops.conv(
            inputs, kernel, strides=list(self.strides), padding=self.padding, dilation_rate=self.dilation_rate
        )


@keras.saving.register_keras_serializable(package="ganse_tf")
class SpectralNormConv2D(_SpectralNormConv, keras.layers.Conv2D):
    """2-D convolution with W / sigma(W) in place of its kernel W (Miyato et al. 2018).

    Dividing by the largest singular value sigma bounds how fast the layer's output can change with its input, and with
    it the slope of D. W stays the trainable weight, W / sigma is computed in every forward pass, and the gradient flows
    through sigma as well. The largest singular value is tracked by a vector ``u``, a non-trainable weight:

        v = W u / |W u|,   u = W' v / |W' v|   (one power iteration),   sigma = v' W u

    A call never changes ``u``. The D step of a ``train_step`` says ``power_iteration(self.discriminator)`` before its
    forward pass; a G step that asks D for its opinion leaves D untouched. (Official codes hide the iteration in the
    forward pass: one per call instead of one per step. With W moving slowly the two estimates agree.)
    ``keras.layers.SpectralNormalization`` is something else: it overwrites W, and no gradient reaches sigma.

    On a CPU, square kernels of at least ``min_taps`` taps between at least ``min_channels`` channels are applied by FFT
    (see ``_convolve_by_fft``; stride 1, float32). That path has no second derivative; ``layer.fast = False``
    switches it off.

    Args:
        *args, **kwargs: those of ``keras.layers.Conv2D``; ``padding`` "same" or "valid", channels last.

    Weights: kernel, bias, u (filters,).

    Example:
        >>> layer = SpectralNormConv2D(8, 5)
        >>> layer(tf.zeros([1, 9, 9, 2])).shape
        TensorShape([1, 5, 5, 8])
        >>> layer.update_u()

    References:
        Miyato et al. 2018, "Spectral Normalization for GANs", section 2.1 and Algorithm 1.
    """

    fast = True
    min_taps, max_taps = 5, TILE // 2
    min_channels = 8  # with fewer, the transforms cost more than they save; measured by benchmarks/layers.py

    def _linear(self, inputs, kernel):
        taps = kernel.shape[0]
        if not (
            self.fast
            and inputs.dtype == tf.float32
            and self.min_taps <= taps == kernel.shape[1] <= self.max_taps
            and self.min_channels <= min(kernel.shape[2:])
            and self.strides == self.dilation_rate == (1, 1)
            and self.groups == 1
            and _no_gpu()
        ):
            return super()._linear(inputs, kernel)
        if self.padding == "same":
            margin = [(taps - 1) // 2, taps // 2]
            inputs = tf.pad(inputs, [[0, 0], margin, margin, [0, 0]])
        return _convolve_by_fft(inputs, kernel)


@keras.saving.register_keras_serializable(package="ganse_tf")
class SpectralNormConv1D(_SpectralNormConv, keras.layers.Conv1D):
    """1-D convolution with W / sigma(W) in place of its kernel W; see ``SpectralNormConv2D``."""


@keras.saving.register_keras_serializable(package="ganse_tf")
class SpectralNormDense(_SpectralNorm, keras.layers.Dense):
    """Dense layer with W / sigma(W) in place of its kernel W; see ``SpectralNormConv2D``."""

    def _linear(self, inputs, kernel):
        return keras.ops.matmul(inputs, kernel)


def _layers_of_type(network, kind, advice):
    found = [layer for layer in network._flatten_layers() if isinstance(layer, kind)]
    if not found:
        raise ValueError(f"Network {network.name!r} has no {advice}.")
    return found


def power_iteration(network, steps=1):
    """Update ``u`` in every spectrally normalised layer of `network`: once per D step, before D's forward pass.

    Args:
        network: the discriminator, a built Keras model (nested models are searched too).
        steps: power iterations; 1 as in Miyato et al. 2018. A few dozen make sigma exact.

    Raises:
        ValueError: no layer of `network` is spectrally normalised.

    Example:
        >>> d = keras.Sequential([keras.Input([4]), SpectralNormDense(3)])
        >>> power_iteration(d, steps=30)
        >>> round(float(np.linalg.norm(d.layers[0].normalised_kernel(), 2)), 3)
        1.0
    """
    advice = "SpectralNorm layer, so there is no power iteration to do; remove the call or use SpectralNormConv2D/Dense"
    for layer in _layers_of_type(network, _SpectralNorm, advice):
        for _ in range(steps):
            layer.update_u()


# ---- virtual batch normalisation -------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="ganse_tf")
class VirtualBatchNorm(keras.layers.Layer):
    """Batch normalisation that mixes the live batch with a fixed reference batch (Salimans et al. 2016; SEGAN).

    With the mean m and the mean square q of each channel over batch and time, r for the reference batch of B examples
    and l for the live batch:

        a = 1 / (B + 1),   m = a m_l + (1 - a) m_r,   q = a q_l + (1 - a) q_r,
        y = gamma (x - m) / sqrt(q - m^2 + epsilon) + beta

    Plain batch norm lets the score of one example depend strongly on its neighbours; here the reference outweighs the
    live batch by B to 1. ``set_reference(network, batch)`` measures the reference once and stores m_r, q_r and B as
    non-trainable weights, saved with the model; running the reference through D in every step would double D's cost.
    Until then B = 0, so a = 1: ordinary batch normalisation of the live batch. Training and inference are the same.

    Args:
        reference: "fixed" as above; "current" sets m_r = m_l and q_r = q_l, the live batch as its own reference, which
            is ordinary batch normalisation and needs no ``set_reference``. (SEGAN's code takes the real batch of the
            current step as reference, also for the fake batch: call ``set_reference(d, real)`` in every step.)
        per_example: m_l and q_l of each example alone (Salimans et al.) instead of the whole live batch (SEGAN).
        epsilon: added to the variance; SEGAN's code: 1e-5.

    Call arguments:
        x: (batch, ..., channels); statistics run over all axes but the last.

    Weights: gamma ~ N(1, 0.02) and beta = 0 (trainable); reference_mean, reference_square, reference_size.

    Example:
        >>> d = keras.Sequential([keras.Input([1, 1]), VirtualBatchNorm()])
        >>> _ = set_reference(d, tf.constant([[[0.0]], [[2.0]]]))
        >>> _ = d.layers[0].gamma.assign([1.0])
        >>> [round(float(y), 5) for y in tf.reshape(d(tf.constant([[[3.0]], [[3.0]]])), [-1])]
        [1.06904, 1.06904]

    References:
        Salimans et al. 2016, "Improved Techniques for Training GANs", section 3.5. SEGAN 2017 and its code.
    """

    def __init__(self, reference="fixed", per_example=False, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        if reference not in ("fixed", "current"):
            raise ValueError(f"reference is {reference!r}; expected 'fixed' or 'current'.")
        self.reference, self.per_example, self.epsilon = reference, bool(per_example), float(epsilon)
        self._recording = False  # set_reference switches it on for one pass

    def build(self, input_shape):
        def weight(name, initializer, shape=(input_shape[-1],), trainable=False):
            return self.add_weight(
                name=name, shape=shape, initializer=initializer, trainable=trainable, dtype="float32", autocast=False,
                aggregation="none" if trainable else "only_first_replica",
            )  # fmt: skip

        self.gamma = weight("gamma", keras.initializers.RandomNormal(mean=1.0, stddev=0.02), trainable=True)
        self.beta = weight("beta", "zeros", trainable=True)
        self.reference_mean = weight("reference_mean", "zeros")
        self.reference_square = weight("reference_square", "ones")
        self.reference_size = weight("reference_size", "zeros", shape=())

    def call(self, x):
        x32 = tf.cast(x, tf.float32)
        axes = list(range(0 if not self.per_example or self._recording else 1, len(x.shape) - 1))
        mean = tf.reduce_mean(x32, axes, keepdims=True)
        square = tf.reduce_mean(tf.square(x32), axes, keepdims=True)
        if self._recording:
            self.reference_mean.assign(tf.reshape(mean, [-1]))
            self.reference_square.assign(tf.reshape(square, [-1]))
            self.reference_size.assign(tf.cast(tf.shape(x)[0], tf.float32))
        elif self.reference == "fixed":
            a = 1.0 / (tf.convert_to_tensor(self.reference_size) + 1.0)
            mean = a * mean + (1.0 - a) * tf.convert_to_tensor(self.reference_mean)
            square = a * square + (1.0 - a) * tf.convert_to_tensor(self.reference_square)
        variance = tf.maximum(square - tf.square(mean), 0.0)  # rounding can make it slightly negative
        scale = tf.convert_to_tensor(self.gamma) * tf.math.rsqrt(variance + self.epsilon)
        shift = tf.convert_to_tensor(self.beta) - mean * scale
        return tf.cast(x32 * scale + shift, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"reference": self.reference, "per_example": self.per_example, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


def set_reference(network, inputs, training=True):
    """Run the reference batch through `network` once and store its statistics in every ``VirtualBatchNorm``.

    Layer by layer the reference is normalised by its own statistics (m_r, q_r) and passed on, so that the next layer
    records what it will see. Works eagerly and inside ``tf.function``.

    Args:
        network: the discriminator.
        inputs: reference batch in the form ``network(inputs)`` takes (SEGAN: real pairs, drawn once before training).
        training: passed to the network.

    Returns:
        The network's output for the reference batch.

    Raises:
        ValueError: `network` has no ``VirtualBatchNorm`` layer.
    """
    advice = "VirtualBatchNorm layer, so a reference batch has no use; remove the call or use VirtualBatchNorm"
    norms = _layers_of_type(network, VirtualBatchNorm, advice)
    try:
        for layer in norms:
            layer._recording = True
        return network(inputs, training=training)
    finally:
        for layer in norms:
            layer._recording = False


# ---- small layers ----------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="ganse_tf")
class GradientScale(keras.layers.Layer):
    """Passes its input on unchanged and multiplies the gradient by `scale` on the way back.

    With ``scale = -lambda`` it is the gradient reversal layer: what lies above learns its task, what lies below learns
    to prevent it, in one backward pass. ``scale = 0`` is ``tf.stop_gradient``.

    Args:
        scale: a number, or a variable that is shared with other layers. A number is stored in the non-trainable weight
            ``layer.scale``; ``layer.scale.assign(-0.3)`` changes it during training (no retracing), and it is saved.

    Returns:
        The input, bit for bit.

    Example:
        >>> x = tf.Variable(2.0)
        >>> with tf.GradientTape() as tape:
        ...     y = GradientScale(-0.5)(x) ** 2
        >>> float(tape.gradient(y, x))
        -2.0

    References:
        Ganin and Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation", section 3.
    """

    def __init__(self, scale=-1.0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(scale, (keras.Variable, tf.Variable)):
            self.scale = scale
        else:
            self.scale = self.add_weight(
                name="scale", shape=(), initializer=keras.initializers.Constant(float(scale)), trainable=False,
                dtype="float32", autocast=False, aggregation="only_first_replica",
            )  # fmt: skip
        self.built = True

    def call(self, x):
        @tf.custom_gradient
        def pass_on(x, scale):
            return tf.identity(x), lambda upstream: (upstream * tf.cast(scale, upstream.dtype), None)

        return pass_on(tf.convert_to_tensor(x), tf.stop_gradient(tf.convert_to_tensor(self.scale)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "scale": float(keras.ops.convert_to_numpy(self.scale))}


@keras.saving.register_keras_serializable(package="ganse_tf")
class Standardise(keras.layers.Layer):
    """Standardises features per dimension, (x - mean) / std, or undoes it, x std + mean, with stored statistics.

    Mean and deviation are weights of the network that uses them, so they travel with it through ``save_weights``,
    ``get_weights``/``set_weights`` and released presets. (``keras.layers.Normalization`` copies its weights to constants
    when it adapts or loads, and ``set_weights`` does not renew them.) Always float32.

    Args:
        inverse: True undoes the standardisation.

    Weights: mean (features,), 0 at first; std (features,), 1 at first; neither is trainable.

    Example:
        >>> layer = Standardise()
        >>> _ = layer(tf.zeros([1, 1]))
        >>> layer.set_weights([np.array([3.0]), np.array([2.0])])
        >>> float(layer(tf.constant([[7.0]]))[0, 0])
        2.0
    """

    def __init__(self, inverse=False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.inverse = bool(inverse)

    def build(self, input_shape):
        def statistic(name, initializer):
            return self.add_weight(name=name, shape=(input_shape[-1],), initializer=initializer, trainable=False)

        self.mean, self.std = statistic("mean", "zeros"), statistic("std", "ones")

    def call(self, x):
        return x * self.std + self.mean if self.inverse else (x - self.mean) / self.std

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "inverse": self.inverse}


@keras.saving.register_keras_serializable(package="ganse_tf")
class MaxValue(keras.constraints.Constraint):
    """Weight constraint: after each update, w = min(w, max_value)."""

    def __init__(self, max_value):
        self.max_value = float(max_value)

    def __call__(self, w):
        return keras.ops.minimum(w, self.max_value)

    def get_config(self):
        return {"max_value": self.max_value}


@keras.saving.register_keras_serializable(package="ganse_tf")
class LearnableSigmoid(keras.layers.Layer):
    """Sigmoid whose slope is learned per frequency bin: y = beta * sigmoid(alpha_f * x) (MetricGAN+).

    Masks behave differently at low and high frequencies, so each bin learns how sharply it decides. ``beta > 1`` lets
    the mask exceed 1.

    Args:
        beta: upper limit of the output; paper: 1.2.
        max_slope: alpha is clamped to at most this after each update; the authors' code: 3.5 (without it, training
            diverged to NaN). None: no clamp.

    Returns:
        As the input, (..., bins), in (0, beta).

    Weights: alpha (bins,), 1 at first.

    Example:
        >>> float(LearnableSigmoid()(tf.zeros([1, 257]))[0, 0])
        0.6000000238418579

    References:
        Fu et al. 2021, "MetricGAN+"; SpeechBrain recipe Voicebank/enhance/MetricGAN (clamp).
    """

    def __init__(self, beta=1.2, max_slope=3.5, **kwargs):
        super().__init__(**kwargs)
        self.beta, self.max_slope = float(beta), None if max_slope is None else float(max_slope)

    def build(self, input_shape):
        self.alpha = self.add_weight(
            name="alpha", shape=(input_shape[-1],), initializer="ones", dtype="float32", autocast=False,
            constraint=None if self.max_slope is None else MaxValue(self.max_slope),
        )  # fmt: skip

    def call(self, x):
        y = self.beta * tf.sigmoid(tf.convert_to_tensor(self.alpha) * tf.cast(x, tf.float32))
        return tf.cast(y, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "beta": self.beta, "max_slope": self.max_slope}


@keras.saving.register_keras_serializable(package="ganse_tf")
class DrawnDropout(keras.layers.Layer):
    """Dropout whose coin tosses come from `draw(shape)`, the model's stateless noise: a resumed run repeats them."""

    draw = None  # set by the model

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def call(self, inputs, training=False):
        if not training:
            return inputs
        keep = self.draw(tf.shape(inputs)) >= self.rate
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros_like(inputs))

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def upsample(x, factor):
    """Linear interpolation along time, half-pixel centres: [0, 4] -> [0, 1, 3, 4] for factor 2."""
    if factor == 1:
        return x
    before = keras.ops.concatenate([x[:, :1], x[:, :-1]], axis=1)  # the ends repeat
    after = keras.ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    phases = []
    for i in range(factor):
        offset = (i + 0.5) / factor - 0.5  # of the new sample from the old one, in old samples
        phases.append((1 - abs(offset)) * x + abs(offset) * (after if offset > 0 else before))
    return keras.layers.Reshape((-1, x.shape[2]))(keras.ops.stack(phases, axis=2))
