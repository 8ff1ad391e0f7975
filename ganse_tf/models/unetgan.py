r"""UNetGAN: A Robust Speech Enhancement Approach in Time Domain for Extremely Low Signal-to-noise Ratio Condition.

X. Hao, X. Su, Z. Wang, H. Zhang, Batushiren, Interspeech 2019, https://arxiv.org/abs/2010.15521
Waveform in (training: 16384 samples at 16 kHz; enhancement: any length), waveform out.

The idea: at -20 dB the noise is ten times as large as the speech, and phase is lost with the magnitude, so work on the
waveform, with a U-Net that sees far.  Each of eight levels filters at full rate and then drops every other sample
(decimation, not a strided convolution); dilated convolutions in the middle widen the view to 447 ms; the way up
interpolates linearly and joins what the way down saw before decimation.  D is a small patch discriminator: one decision
per 106 samples, for the pair (candidate, mixture).  x is the mixture, y clean:

    L_D = -E[log(1 - D(x, G(x)))] - E[log D(x, y)]                                       (eq. 3)
    L_G =  E[log(1 - D(x, G(x)))] + lambda E[(y - G(x))^2],   lambda = 20                (eq. 2, adv_mode="saturating")
    L_G = -E[log D(x, G(x))]      + lambda E[(y - G(x))^2]                               (adv_mode="nonsaturating")

Differs from the paper
- Adversarial term of G: eq. 2 saturates. The paper reports a G loss of 0.771 at convergence, which only the second form
  can have (eq. 2's first term is never positive, so lambda MSE would have to exceed 0.771: worse than silence for usual
  speech). Default: "nonsaturating". Effect: benchmarks/learn/unetgan.md.
- Interpolation corners are not given: half-pixel, as tf.image.resize ([0, 4] -> [0, 1, 3, 4]). Effect: not measured.
- The shallowest skip is drawn after "Downsampling" in Fig. 1; its length only fits before it, like the others.
- The last convolution is labelled "c24", which cannot be its width: 24 in, 1 out. `final_input_skip=True` (ours; `tiny()`
  has it) joins the mixture to its input, as Wave-U-Net does, and starts by passing just that on: batch norm gives the other
  channels unit variance, ten times too loud, and a short training spends itself on that. Effect: benchmarks/learn/unetgan.md.
- Batch norm of G: momentum and epsilon not given; 0.9 and 1e-5. Batch norm of D normalises real and enhanced batches
  each by their own statistics and keeps no averages, since D is never used after training.
- Reductions (means over batch, samples and patches), initialisation (Glorot) and one step of D per step of G: not given.
- Random crops: `ganse_tf.data.examples(..., crop_seconds=1.024)` draws a new position per epoch, the same for both sides.
  `preprocess` alone cuts all whole segments, without overlap. Utterances shorter than a segment are dropped.
- Inference is not described: the whole utterance (up to 10 s at a time), zero-padded to a multiple of 256 samples;
  `inference="chunked"` enhances block by block. Effect: benchmarks/learn/unetgan.md.
- Batch 150 and about 900 epochs: yours to choose in `fit`.
"""

import keras
import tensorflow as tf

from ganse_tf import layers, losses, optimizers
from ganse_tf.base import EnhancementGAN, options

SEGMENT = 16384  # samples, section 3.1
LEVELS, CHANNELS = 8, 24  # eight levels, each 24 channels wider, Fig. 1
DOWN_KERNEL, MIDDLE_KERNEL, UP_KERNEL = 15, 3, 5  # Fig. 1
DILATIONS = (1, 2, 4)  # Fig. 1
D_FILTERS, D_KERNEL = (64, 128, 256), 16  # Fig. 2
LEAK = 0.1  # LeakyReLU, section 3.2
L2_WEIGHT = 20.0  # lambda, section 3.2
LEARNING_RATE = 2e-4  # Adam, section 3.2
BN_MOMENTUM, BN_EPSILON = 0.9, 1e-5  # defaults of the authors' framework
TRAIN_SNRS_DB = (0, -5, -10, -15)  # section 3.1
TEST_SNRS_DB = (0, -3, -5, -7, -10, -12, -15, -17, -20)  # section 3.1


def build_generator(levels=LEVELS, channels=CHANNELS, dilations=DILATIONS, final_input_skip=False):
    """The U-Net of Fig. 1, for any length that is a multiple of ``2 ** levels``."""
    mixture = keras.Input((None, 1), name="mixture")  # (B, T, 1)
    x, skips = mixture, []
    for i in range(levels):
        x = block(x, channels * (i + 1), DOWN_KERNEL, f"down{i}")  # (B, T, 24), (B, T/2, 48) ... at full rate
        skips.append(x)  # the skip leaves before the decimation
        x = Decimate(i, levels, name=f"decimate{i}")(x)  # (B, T/2, 24), (B, T/4, 48) ...
    for i, dilation in enumerate(dilations):
        x = block(x, channels * levels, MIDDLE_KERNEL, f"middle{i}", dilation)  # (B, T/256, 192)
    for i in reversed(range(levels)):
        x = keras.layers.Concatenate(name=f"skip{i}")([layers.upsample(x, 2), skips[i]])  # (B, T/128, 384) ... (B, T, 72)
        x = block(x, channels * (i + 1), UP_KERNEL, f"up{i}")  # (B, T/128, 192) ... (B, T, 24)
    if final_input_skip:
        x = keras.layers.Concatenate(name="final_skip")([x, mixture])  # (B, T, 25)
    start = last_channel if final_input_skip else "glorot_uniform"
    x = keras.layers.Conv1D(1, 1, kernel_initializer=start, name="to_one_channel")(x)  # (B, T, 1)
    enhanced = keras.layers.Activation("tanh", dtype="float32", name="enhanced")(x)
    return keras.Model(mixture, enhanced, name="generator")


def last_channel(shape, dtype=None):
    """The 1x1 kernel (1, C, 1) that lets the last channel through and nothing else: G starts as "leave it alone"."""
    return tf.reshape(tf.one_hot(shape[1] - 1, shape[1], dtype=dtype), shape)


def block(x, width, kernel, name, dilation=1):
    """Convolution, batch norm, LeakyReLU; length unchanged."""
    x = keras.layers.Conv1D(width, kernel, padding="same", dilation_rate=dilation, name=name)(x)
    x = keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=BN_EPSILON, name=f"{name}_bn")(x)
    return keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_leaky")(x)


class Decimate(keras.layers.Layer):
    """Drops every other time step: (B, T, C) -> (B, T/2, C)."""

    def __init__(self, depth, levels, **kwargs):
        super().__init__(**kwargs)
        self.depth, self.levels = depth, levels

    def call(self, x):
        length = x.shape[1]
        if length is not None and length % 2:
            raise ValueError(
                f"The generator received {length * 2**self.depth} samples; it halves the time axis {self.levels} times, so the "
                f"length must be a multiple of {2**self.levels}. Pad with zeros, or call model.enhance(wav), which does."
            )
        return x[:, ::2]


def build_discriminator(filters=D_FILTERS):
    """The patch discriminator of Fig. 2: one logit for every 106 samples, 8 samples apart."""
    candidate = keras.Input((None, 1), name="candidate")
    mixture = keras.Input((None, 1), name="mixture")
    x = keras.layers.Concatenate(name="pair")([candidate, mixture])  # (B, T, 2)
    for i, width in enumerate(filters):
        x = keras.layers.Conv1D(width, D_KERNEL, strides=2, padding="same", name=f"conv{i}")(x)  # (B, T/2, 64) ...
        x = keras.layers.BatchNormalization(momentum=1.0, epsilon=BN_EPSILON, name=f"bn{i}")(x)  # momentum 1: no averages
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)
    logits = keras.layers.Conv1D(1, 1, dtype="float32", name="logits")(x)  # (B, T/8, 1)
    return keras.Model([candidate, mixture], logits, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class UNetGAN(EnhancementGAN):
    """UNetGAN with the paper's sizes: G 3,046,273, D 659,009 parameters; `UNetGAN.tiny()` for a laptop.

    Args:
        segment: samples per training example; a multiple of ``2 ** levels``. Paper: 16384.
        levels, channels: depth of the U-Net and channels added per level.
        dilations: of the convolutions in the middle; (1, 1, 1) switches the dilation off.
        d_filters: channels of D's convolutions.
        l2_weight: lambda of eq. 2.
        adv_mode: "nonsaturating" or "saturating" (see the module's docstring).
        final_input_skip: join the mixture to the input of the last convolution, which at first passes it on.
        inference: "whole" utterance or "chunked" into segments.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = UNetGAN.tiny()
        >>> model.compile()
        >>> batches = ganse_tf.data.examples(pairs, model, batch_size=16, crop_seconds=1.024)
        >>> model.fit(batches, epochs=20)

    References:
        Hao et al. 2019, sections 2 and 3.
    """

    paper = "Hao, Su, Wang, Zhang, Batushiren 2019: UNetGAN"
    url = "https://arxiv.org/abs/2010.15521"
    domain = "waveform"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l2")
    choices = dict(adv_mode=("nonsaturating", "saturating"), inference=("whole", "chunked"))
    window = 10 * EnhancementGAN.sample_rate  # full-rate feature maps: an hour of sound stays under 1.5 GB

    def __init__(
        self, segment=SEGMENT, levels=LEVELS, channels=CHANNELS, dilations=DILATIONS, d_filters=D_FILTERS,
        l2_weight=L2_WEIGHT, adv_mode="nonsaturating", final_input_skip=False, inference="whole", **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if segment % 2**levels:
            raise ValueError(f"segment is {segment}; it must be a multiple of 2^{levels} = {2**levels}: try {SEGMENT}.")
        self.segment, self.multiple = segment, 2**levels
        self.l2_weight, self.adv_mode, self.chunked = l2_weight, adv_mode, inference == "chunked"
        if self.chunked:  # windows of whole segments, so that the blocks of a long file stay where they are
            self.window, self.overlap = max(self.window // segment, 1) * segment, 0
        self.generator = build_generator(levels, channels, tuple(dilations), final_input_skip)
        self.discriminator = build_discriminator(tuple(d_filters))

    @classmethod
    def tiny(cls, **kwargs):
        """A third of the channels, half the segment, final_input_skip (G 340,098): minutes on two CPU cores."""
        return cls(**{"segment": 8192, "channels": 8, "d_filters": (16, 32, 64), "final_input_skip": True, **kwargs})

    def default_optimizers(self):
        """Adam(2e-4, 0.9, 0.999) for both (section 3.2)."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE, beta_1=0.9, beta_2=0.999) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 3: the sum of both terms."""
        return losses.cross_entropy(d_real, 1.0) + losses.cross_entropy(d_fake, 0.0)

    def generator_loss(self, clean, enhanced, d_fake=None):
        """Eq. 2 or its non-saturating form: the total and its terms."""
        g_l2 = losses.l2(clean, enhanced)
        if d_fake is None:
            g_adv = tf.zeros_like(g_l2)
        elif self.adv_mode == "saturating":
            g_adv = losses.saturating(d_fake)
        else:
            g_adv = losses.cross_entropy(d_fake, 1.0)
        return self.adversarial_weight * g_adv + self.l2_weight * g_l2, {"g_adv": g_adv, "g_l2": g_l2}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Enhance. 2. D: clean pairs are 1, enhanced pairs 0, patch by patch. 3. G: fool D, stay near the clean speech."""
        noisy, clean = data[:2]  # (B, T, 1) each
        report = {}
        with tf.GradientTape() as g_tape:
            enhanced = self.generator(noisy, training=True)  # (B, T, 1)
            d_fake = None
            if self.adversarial_weight:
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = self.discriminator([clean, noisy], training=True)  # (B, T/8, 1)
                    d_fake = self.discriminator([enhanced, noisy], training=True)  # (B, T/8, 1)
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
        return self.log(g_l2=losses.l2(clean, self.generator(noisy, training=False)))

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> (segments, T, 1) pair: whole segments side by side, the rest dropped."""
        return tuple(tf.signal.frame(wav, self.segment, self.segment)[..., None] for wav in (noisy, clean))

    def enhance_segment(self, noisy):
        """(n,) -> (n,): zero-padded to a multiple of 256 samples and enhanced at once, or segment by segment."""
        n = tf.shape(noisy)[0]
        if self.chunked:
            segments = tf.signal.frame(noisy, self.segment, self.segment, pad_end=True)  # (k, T)
        else:
            segments = tf.pad(noisy, [[0, -n % self.multiple]])[None]  # (1, T)
        enhanced = self.generator(segments[..., None], training=False)
        return tf.reshape(enhanced, [-1])[:n]
