r"""SEGAN: Speech Enhancement Generative Adversarial Network.

S. Pascual, A. Bonafonte, J. Serrà, Interspeech 2017, https://arxiv.org/abs/1703.09452
Waveform in (16384 samples at 16 kHz, 1.024 s), waveform out.

The idea: a fully convolutional U-Net G maps a noisy waveform and random noise z to a clean waveform; no spectrogram, no
mask, no phase to repair.  D looks at the pair (candidate, noisy) and gives one unbounded score; least squares pulls the
score of a real pair to 1 and of an enhanced pair to 0, while G pulls it to 1 and stays close to the clean waveform:

    min_D  1/2 E[(D(x, x~) - 1)^2] + 1/2 E[D(G(z, x~), x~)^2]                            (eq. 3)
    min_G  1/2 E[(D(G(z, x~), x~) - 1)^2] + lambda |G(z, x~) - x|_1,   lambda = 100      (eq. 5)

x is clean, x~ noisy.  The L1 term is a mean over samples: with a sum, lambda = 100 would drown the adversarial term.

Differs from the paper
- Factors 1/2: the paper prints them, the authors' TensorFlow code has none. `half_factors=True` is the paper.
- Virtual batch norm: the paper cites Salimans et al. (one reference batch, frozen); the authors' code takes the current
  real batch as reference, and so do we (`reference="current"`). `"fixed"` keeps one batch and re-runs it in every step,
  at the price of one more pass of D. Effect on the scores: not measured.
- No gradient flows through the reference statistics. Effect: not measured.
- D and G learn from the same batch (Fig. 3); in the authors' input queue they got different ones.
- Batch: the paper's 400 was 4 GPUs x 100. On one device use any size, or
  `RMSprop(2e-4, gradient_accumulation_steps=4)` with batches of 100.
- Pre-emphasis: as the paper. `emphasis=0` (the released `segan`) is for short trainings: the way back makes errors below
  100 Hz up to 20 times as large. Effect: not measured side by side.
- Conv biases: not in the text; the released weights have them. `use_bias=False` drops those of the convolutions.
"""

import keras
import numpy as np
import scipy.signal
import tensorflow as tf

from ganse_tf import layers, losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

SEGMENT = 16384  # samples, section 3
HOP = 8192  # training windows overlap by 50 %, section 3
EMPHASIS = 0.95  # pre-emphasis coefficient, section 4.2
WIDTHS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)  # encoder channels, section 3
KERNEL, STRIDE = 31, 2  # section 3
L1_WEIGHT = 100.0  # lambda, section 4.2
LEARNING_RATE = 2e-4  # RMSprop, section 4.2; its decay 0.9 and epsilon 1e-10 are TensorFlow 1's defaults
LEAK = 0.3  # LeakyReLU in D, section 3
INIT = 0.02  # standard deviation of the truncated normal that starts every convolution, authors' code


def build_generator(segment=SEGMENT, widths=WIDTHS, kernel=KERNEL, stride=STRIDE, use_bias=True, use_z=True):
    """The U-Net of Fig. 2: encoder, code c joined with z, mirrored decoder with skip connections."""
    conv = convolution(kernel, stride, use_bias)
    code = segment // stride ** len(widths)

    noisy = keras.Input((segment, 1), name="noisy")  # (B, 16384, 1)
    x, skips = noisy, []
    for i, width in enumerate(widths):
        x = layers.FastConv1D(width, name=f"enc{i}", **conv())(x)  # (B, L/2, width): halved 11 times
        skips.append(x)  # the skip leaves before the activation
        x = prelu(f"enc{i}_prelu")(x)
    inputs = [noisy]
    if use_z:
        z = keras.Input((code, widths[-1]), name="z")  # (B, 8, 1024)
        x = keras.layers.Concatenate(name="z_c")([z, x])  # (B, 8, 2048)
        inputs.append(z)
    decoder = (*reversed(widths[:-1]), 1)
    for i, width in enumerate(decoder[:-1]):
        x = layers.FastConv1DTranspose(width, name=f"dec{i}", **conv())(x)  # (B, 2L, width)
        x = prelu(f"dec{i}_prelu")(x)
        x = keras.layers.Concatenate(name=f"skip{i}")([x, skips[-2 - i]])  # (B, 2L, 2 width)
    x = layers.FastConv1DTranspose(1, name=f"dec{len(decoder) - 1}", **conv())(x)  # (B, 16384, 1)
    enhanced = keras.layers.Activation("tanh", dtype="float32", name="enhanced")(x)
    return keras.Model(inputs, enhanced, name="generator")


def convolution(kernel, stride, use_bias):
    """Options of one convolution, made anew for each: an initialiser that is shared would repeat itself."""
    return lambda: dict(
        kernel_size=kernel, strides=stride, padding="same", use_bias=use_bias,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=INIT),
    )  # fmt: skip


def prelu(name):
    """One slope per channel, starting at 0 (a ReLU). Keras' default would learn one per time step as well."""
    return keras.layers.PReLU(shared_axes=[1], alpha_initializer="zeros", name=name)


def build_discriminator(segment=SEGMENT, widths=WIDTHS, kernel=KERNEL, stride=STRIDE, use_bias=True):
    """The encoder again, on two channels, with virtual batch norm; ends in one linear score per pair."""
    conv = convolution(kernel, stride, use_bias)
    candidate = keras.Input((segment, 1), name="candidate")
    noisy = keras.Input((segment, 1), name="noisy")
    x = keras.layers.Concatenate(name="pair")([candidate, noisy])  # (B, 16384, 2)
    for i, width in enumerate(widths):
        x = layers.FastConv1D(width, name=f"conv{i}", **conv())(x)  # (B, L/2, width)
        x = layers.VirtualBatchNorm(name=f"vbn{i}")(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)
    x = keras.layers.Conv1D(1, name="to_one_channel", **convolution(1, 1, False)())(x)  # (B, 8, 1)
    x = keras.layers.Flatten(name="flatten")(x)  # (B, 8)
    score = keras.layers.Dense(1, dtype="float32", name="score")(x)  # (B, 1), unbounded: LSGAN
    return keras.Model([candidate, noisy], score, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class SEGAN(EnhancementGAN):
    """SEGAN with the paper's sizes: G 73.1 M, D 24.4 M parameters; `SEGAN.tiny()` for a laptop.

    Args:
        segment: samples per example; a multiple of ``stride ** len(widths)``.
        widths: channels of the encoder layers.
        kernel, stride: of every (transposed) convolution.
        l1_weight: lambda of eq. 5.
        half_factors: the 1/2 of eqs. 3 and 5.
        use_bias: biases in the convolutions.
        use_z: feed z to the decoder.
        emphasis: coefficient of the pre-emphasis, 0 for none.
        reference: "current" or "fixed" (see the module's docstring); for "fixed" call `set_reference` before training.
        reference_size: pairs in the fixed reference batch.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = SEGAN.tiny()
        >>> model.compile()
        >>> model.fit(ganse_tf.data.examples(pairs, model, batch_size=16), epochs=5)

    References:
        Pascual et al. 2017, sections 3 and 4; authors' code santi-pdp/segan.
    """

    paper = "Pascual, Bonafonte, Serrà 2017: SEGAN"
    url = "https://arxiv.org/abs/1703.09452"
    domain = "waveform"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1")
    choices = dict(reference=("current", "fixed"))

    def __init__(
        self, segment=SEGMENT, widths=WIDTHS, kernel=KERNEL, stride=STRIDE, l1_weight=L1_WEIGHT, half_factors=True,
        use_bias=True, use_z=True, emphasis=EMPHASIS, reference="current", reference_size=16, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if segment % stride ** len(widths):
            raise ValueError(f"segment is {segment}; it must be a multiple of {stride}^{len(widths)}: try {SEGMENT}.")
        self.segment, self.hop, self.window, self.overlap = segment, segment // 2, 8 * segment, 0
        self.l1_weight, self.half, self.use_z, self.emphasis = l1_weight, 0.5 if half_factors else 1.0, use_z, emphasis
        sizes = dict(segment=segment, widths=tuple(widths), kernel=kernel, stride=stride, use_bias=use_bias)
        self.generator = build_generator(use_z=use_z, **sizes)
        self.discriminator = build_discriminator(**sizes)
        self.z_shape = (segment // stride ** len(widths), widths[-1])
        self.fixed_reference = reference == "fixed"
        if self.fixed_reference:  # (R, 2, L, 1): saved with the weights, so a resumed run keeps its reference
            shape = (reference_size, 2, segment, 1)
            self.reference = self.add_weight(name="reference", shape=shape, initializer="zeros", trainable=False)

    @classmethod
    def tiny(cls, **kwargs):
        """The same network with 9 layers of half the width (G 3.1 M): learns in minutes on two CPU cores."""
        return cls(**{"widths": (8, 16, 16, 32, 32, 64, 64, 128, 128), **kwargs})

    def default_optimizers(self):
        """RMSprop(2e-4) for both (section 4.2)."""
        return tuple(optimizers.FusedRMSprop(LEARNING_RATE, rho=0.9, epsilon=1e-10) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 3."""
        return self.half * (losses.least_squares(d_real, 1.0) + losses.least_squares(d_fake, 0.0))

    def generator_loss(self, clean, enhanced, d_fake=None):
        """Eq. 5: the total and its terms."""
        g_l1 = losses.l1(clean, enhanced)
        g_adv = tf.zeros_like(g_l1) if d_fake is None else self.half * losses.least_squares(d_fake, 1.0)
        return self.adversarial_weight * g_adv + self.l1_weight * g_l1, {"g_adv": g_adv, "g_l1": g_l1}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Enhance. 2. D: pull real pairs to 1, enhanced pairs to 0. 3. G: pull D to 1 and stay near the clean speech."""
        noisy, clean = data[:2]  # (B, L, 1) each
        report = {}
        with tf.GradientTape() as g_tape:
            enhanced = self.generator(self.with_z(noisy), training=True)  # (B, L, 1)
            d_fake = None
            if self.adversarial_weight:
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = self.score_real(clean, noisy)  # (B, 1)
                    d_fake = self.discriminator([enhanced, noisy], training=True)  # (B, 1)
                    d_loss = self.discriminator_loss(d_real, d_fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake), d_grad_norm=d_norm)
                d_fake = self.discriminator([enhanced, noisy], training=True)  # the D that has just learnt
            g_loss, terms = self.generator_loss(clean, enhanced, d_fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        noisy, clean = data[:2]
        enhanced = self.generator(self.with_z(noisy), training=False)
        return self.log(g_l1=losses.l1(clean, enhanced))

    def score_real(self, clean, noisy):
        """D's score of the real pair; on the way every virtual batch norm takes its reference statistics."""
        if not self.fixed_reference:
            return layers.set_reference(self.discriminator, [clean, noisy])
        layers.set_reference(self.discriminator, [self.reference[:, 0], self.reference[:, 1]])
        return self.discriminator([clean, noisy], training=True)

    def set_reference(self, noisy, clean):
        """Fix the reference batch of virtual batch norm: `noisy` and `clean` of shape (reference_size, segment, 1)."""
        if not self.fixed_reference:
            raise ValueError('This model was built with reference="current"; build it with reference="fixed" first.')
        self.reference.assign(np.stack([np.asarray(clean), np.asarray(noisy)], axis=1))

    def with_z(self, noisy):
        """G's inputs: the noisy batch and, if used, one z per example."""
        if not self.use_z:
            return [noisy]
        return [noisy, self.random_normal((tf.shape(noisy)[0], *self.z_shape))]

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> (slices, L, 1) pair: windows with 50 % overlap, a short tail dropped, pre-emphasis per slice."""
        cut = [tf.signal.frame(from_float(wav), self.segment, self.hop) for wav in (noisy, clean)]
        return tuple(signal.preemphasis(frames, self.emphasis)[..., None] for frames in cut)

    def enhance_wave(self, wav):
        """Section 4.2 at test time: emphasis over the whole utterance, segments without overlap, de-emphasis over all."""
        out, before, after = np.empty_like(wav), np.zeros(1), np.zeros(1)  # the filters' memories pass from window to window
        for start in range(0, len(wav), self.window):
            piece = from_float(wav[start : start + self.window])
            piece, before = scipy.signal.lfilter([1.0, -self.emphasis], [1.0], piece, zi=before)
            piece = super().enhance_wave(piece.astype(np.float32))
            piece, after = scipy.signal.lfilter([1.0], [1.0, -self.emphasis], piece, zi=after)
            out[start : start + self.window] = to_float(piece)
        return out

    def enhance_segment(self, noisy):
        """Pre-emphasised (n,) -> enhanced, still pre-emphasised (n,): zero-padded last segment, fresh z for each."""
        frames = tf.signal.frame(noisy, self.segment, self.segment, pad_end=True)[..., None]  # (k, L, 1)
        enhanced = self.generator(self.with_z(frames), training=False)
        return tf.reshape(enhanced, [-1])[: tf.shape(noisy)[0]]


def from_float(wav):
    """[-1, 1) as audio files give it (int16 / 32768) -> the authors' scale, where -32768 is -1 and 32767 is +1."""
    return (65536 * wav + 1) / 65535


def to_float(wav):
    """The way back."""
    return (65535 * wav - 1) / 65536
