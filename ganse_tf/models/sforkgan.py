r"""S-ForkGAN: Speech Enhancement Using Forked Generative Adversarial Networks with Spectral Subtraction.

J. Lin, S. Niu, Z. Wei, X. Lan, A. J. van Wijngaarden, M. C. Smith, K.-C. Wang, Interspeech 2019,
https://www.isca-archive.org/interspeech_2019/lin19d_interspeech.html
Eleven frames of noisy log-power spectrum (LPS) in, the speech and the noise in these frames out; made for a recogniser.

The idea: G has one encoder and two decoders.  The code c is mapped to a speech code and a noise code, each is joined with
noise z of its own, and each goes through a decoder of its own that also sees the encoder's skips (Algorithm 1):

    c = Phi(s),   c_s = w_s c,   c_v = w_v c,   s^ = Psi_s([c_s, z]),   v^ = Psi_v([c_v, z'])

s is the noisy LPS, s~ the clean one, v^ the "noise".  D sees a candidate next to the noisy LPS:

    L_D = 1/2 E[(D(s~, s) - 1)^2] + 1/2 E[D(s^, s)^2]
    L_G = 1/2 E[(D(s^, s) - 1)^2] + lambda |s^ - s~|_1 + alpha L_margin + beta L_reduction
    L_reduction = |s - v^ - s~|_1,   L_margin = E max(0, Delta - dist(c_s, c_v)),   dist = 1/d sum |c_v - c_s|

L_reduction is the spectral subtraction of the title.  A difference of logarithms is a quotient of powers, so s - v^ is a
*gain*, |S^|^2 = |Y|^2 exp(-v^); the perfect v^ is ln(|Y|^2 / |S|^2) and not the spectrum of the noise.  It needs no noise
recording: the target s - s~ follows from the pair.  `output` chooses between s^, s - v^ and their average.

Sources: abstract, Figure 1, Algorithm 1, these equations, and layer sizes, as public notes quote them. The rest was not
available to us, so no number of the paper's results is repeated anywhere in this package.

Differs from the paper (not in these sources -> our choice; effects not measured unless a file is named)
- Frames: 257 bins and 11 frames are quoted -> 512 samples, hop 256, Hamming; flattened frame after frame, so the kernels
  cross frame borders. Training windows 5 frames apart.
- `floor` of the power: 1e-6. Far lower, and the digital silence of made speech rules the L1 terms.
- Normalisation: mean and deviation per bin of the noisy training set, the same for s and s~; with two different ones
  s - v^ - s~ would not be a subtraction. v^ is scaled back by the deviation alone.
- PReLU, skips before it, biases: as SEGAN, whose layer widths are the same. Linear outputs. Glorot weights: SEGAN's
  deviation of 0.02 shrinks the code of a thin network to nothing (2 to 8 channels: 1e-11 of the input).
- Odd lengths: 'same' padding gives the quoted lengths 2827, 1414, 707, 354, 177, 89, ... A transposed convolution gives
  2n; its first sample is cut off, which makes it the exact mirror of the encoder (cutting the last shifts by one bin).
- D: not described -> SEGAN's, 2 channels (`d_inputs="speech"`, the equations) or 3 (`"both"`, Figure 1).
- lambda, alpha, beta, Delta -> 100 (SEGAN), 1, 100 (both decoders learn equally fast), 1. L1 terms are means.
- dist: the norm is printed without its order -> mean absolute difference, taken before z is joined (independent z would
  keep any margin). `latent_distance="l2"` and `"positions"` are other readings. The margin can also be kept by growing
  weights: watch `distance` in the logs.
- Training: RMSprop(2e-4), one step of D per step of G, z drawn anew in every call; as SEGAN.
- Inference: a window around every frame, the up to 11 estimates of a frame averaged (`merge="center"` keeps one).
- Waveform (the paper feeds a recogniser): the gain on the noisy STFT, at most 20 dB; noisy phase.
  `benchmarks/learn/sforkgan.md` compares the three outputs, the fork with no fork, D on with D off.
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import layers, losses, optimizers, signal
from ganse_tf.base import SAMPLE_RATE, EnhancementGAN, options

STFT = dict(n_fft=512, hop_length=256, window="hamming")  # our choice; 257 bins are quoted
BINS, CONTEXT = 257, 11  # quoted: 11 x 257 = 2827 numbers
SIZE, SIDE = CONTEXT * BINS, CONTEXT // 2
WINDOW_HOP = 5  # frames between training windows
WIDTHS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)  # SEGAN's
KERNEL, STRIDE = 31, 2  # quoted
L1_WEIGHT, REDUCTION_WEIGHT, MARGIN_WEIGHT, MARGIN = 100.0, 100.0, 1.0, 1.0  # lambda, beta, alpha, Delta
LEARNING_RATE = 2e-4  # RMSprop, SEGAN's
LEAK = 0.3  # LeakyReLU in D, SEGAN's
LARGEST_GAIN = 10.0  # 20 dB
FLOOR = 1e-6  # of the power, before the logarithm: white noise at -83 dBFS
STD_FLOOR = 1e-2  # of the deviation of a bin
OUTPUTS = ("speech", "subtraction", "average")


def build_generator(size=SIZE, widths=WIDTHS):
    """Fig. 1: [noisy LPS, z, z'] -> [speech, noise, speech code, noise code]."""
    noisy = keras.Input((size, 1), name="noisy")  # (B, 2827, 1)
    conv = dict(kernel_size=KERNEL, strides=STRIDE, padding="same")
    x, skips = noisy, [noisy]
    for i, width in enumerate(widths):
        x = layers.FastConv1D(width, name=f"enc{i}", **conv)(x)  # (B, 1414, 16), (B, 707, 32) ... (B, 2, 1024)
        skips.append(x)  # the skip leaves before the activation
        x = prelu(f"enc{i}_prelu")(x)
    shape = x.shape[1:]
    code = keras.layers.Flatten(name="code")(x)  # (B, 2048): c
    inputs, estimates, codes = [noisy], [], []
    for branch in ("speech", "noise"):
        c = keras.layers.Dense(code.shape[-1], name=f"{branch}_fc")(code)  # w_s c, w_v c
        c = keras.layers.Reshape(shape, name=f"{branch}_code", dtype="float32")(c)  # (B, 2, 1024)
        z = keras.Input(shape, name=f"z_{branch}")
        inputs.append(z)
        codes.append(c)
        estimates.append(build_decoder(keras.layers.Concatenate(name=f"{branch}_z")([c, z]), skips, f"{branch}_dec"))
    return keras.Model(inputs, estimates + codes, name="generator")


def build_decoder(x, skips, name):
    """The encoder mirrored, every layer but the first joined with the encoder's skip: (B, 2, 2048) -> (B, 2827, 1)."""
    for i, skip in enumerate(reversed(skips[:-1])):
        x = mirrored(x, skip.shape[-1], skip.shape[1], f"{name}{i}")  # (B, 3, 512), (B, 6, 256) ... (B, 1414, 16)
        if i < len(skips) - 2:
            x = prelu(f"{name}{i}_prelu")(x)
            x = keras.layers.Concatenate(name=f"{name}{i}_skip")([x, skip])  # (B, 3, 1024), (B, 6, 512) ...
    return keras.layers.Activation("linear", dtype="float32", name=f"{name}_out")(x)  # (B, 2827, 1)


def mirrored(x, width, length, name):
    """Transposed convolution to `length` steps, the mirror image of a 'same' convolution with stride 2 from there."""
    conv = dict(kernel_size=KERNEL, strides=STRIDE, padding="same")
    x = layers.FastConv1DTranspose(width, name=name, **conv)(x)  # always 2n
    if x.shape[1] > length:  # an odd length was padded by 15 on the left, not 14: drop the first
        x = keras.layers.Cropping1D((1, 0), name=f"{name}_crop")(x)
    return x


def prelu(name):
    """One slope per channel, starting at 0."""
    return keras.layers.PReLU(shared_axes=[1], alpha_initializer="zeros", name=name)


def build_discriminator(size=SIZE, widths=WIDTHS, channels=2):
    """SEGAN's D on 2 (candidate, noisy) or 3 (speech, noise, noisy) channels; ends in one linear score."""
    inputs = [keras.Input((size, 1), name=f"channel{i}") for i in range(channels)]
    x = keras.layers.Concatenate(name="channels")(inputs)  # (B, 2827, 2)
    for i, width in enumerate(widths):
        conv = dict(strides=STRIDE, padding="same", name=f"conv{i}")
        x = layers.FastConv1D(width, KERNEL, **conv)(x)  # (B, 1414, 16) ... (B, 2, 1024)
        x = layers.VirtualBatchNorm(name=f"vbn{i}")(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)
    x = keras.layers.Conv1D(1, 1, name="to_one_channel")(x)  # (B, 2, 1)
    score = keras.layers.Dense(1, dtype="float32", name="score")(keras.layers.Flatten()(x))  # (B, 1), unbounded
    return keras.Model(inputs, score, name="discriminator")


def latent_distance(c_s, c_v, kind="l1"):
    """dist(c_s, c_v) of two codes (B, positions, channels) -> (B,).

    "l1": mean |difference|; "l2": Euclidean norm divided by d; "positions": mean over positions of the Euclidean norm.
    """
    difference = tf.cast(c_v - c_s, tf.float32)
    if kind == "l1":
        return tf.reduce_mean(tf.abs(difference), [1, 2])
    axes = [1, 2] if kind == "l2" else [2]
    norm = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(difference), axes), 1e-12))  # finite gradient at 0
    return norm / float(np.prod(difference.shape[1:])) if kind == "l2" else tf.reduce_mean(norm, 1)


@keras.saving.register_keras_serializable(package="ganse_tf")
class SForkGAN(EnhancementGAN):
    """S-ForkGAN with the sizes quoted from the paper: G 130.2 M, D 24.4 M parameters; `SForkGAN.tiny()` for a laptop.

    `SForkGAN(reduction_weight=0, margin_weight=0)` is the GAN without fork: the noise branch then learns nothing.

    Args:
        widths: channels of the encoder layers; decoders and D follow.
        output: what `enhance` uses: "speech" (s^), "subtraction" (s - v^) or "average" of the two.
        merge: "average" of all windows that hold a frame, or "center": the frame's own window.
        d_inputs: "speech" or "both" branches (see the module's docstring).
        l1_weight, reduction_weight, margin_weight: lambda, beta, alpha.
        margin: Delta, the distance that the two codes should keep.
        latent_distance: "l1", "l2" or "positions".
        floor: smallest power; a full-scale sine has 2e4.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = SForkGAN.tiny()
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=32), epochs=10)
    """

    paper = "Lin et al. 2019: Speech enhancement using forked GANs with spectral subtraction"
    url = "https://www.isca-archive.org/interspeech_2019/lin19d_interspeech.html"
    domain = "log-power spectrum"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1", "g_reduction", "g_margin", "distance")
    choices = dict(output=OUTPUTS, merge=("average", "center"), d_inputs=("speech", "both"),
                   latent_distance=("l1", "l2", "positions"))  # fmt: skip
    window = 10 * SAMPLE_RATE  # one network pass per frame: 30 s at once would need gigabytes at the paper's size

    def __init__(
        self, widths=WIDTHS, output="speech", merge="average", d_inputs="speech", l1_weight=L1_WEIGHT, margin=MARGIN,
        reduction_weight=REDUCTION_WEIGHT, margin_weight=MARGIN_WEIGHT, latent_distance="l1", floor=FLOOR, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        self.output_kind, self.merge, self.d_inputs, self.distance_kind = output, merge, d_inputs, latent_distance
        self.l1_weight, self.reduction_weight, self.floor = l1_weight, reduction_weight, floor
        self.margin, self.margin_weight = margin, margin_weight
        self.generator = build_generator(SIZE, tuple(widths))
        self.discriminator = build_discriminator(SIZE, tuple(widths), 2 if d_inputs == "speech" else 3)
        self.z_shape = self.generator.inputs[1].shape[1:]
        self.add_statistics((BINS,), STD_FLOOR)

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks with an eighth of the deep channels (G 2.7 M): minutes on two CPU cores."""
        return cls(**{"widths": (8, 8, 8, 16, 16, 16, 32, 32, 64, 64, 128), **kwargs})

    def default_optimizers(self):
        """RMSprop(2e-4) for both."""
        return tuple(optimizers.FusedRMSprop(LEARNING_RATE, rho=0.9, epsilon=1e-10) for _ in "GD")

    def network_variables(self, network):
        """As in the base; without the noise branch, or its decoder, where no term of the loss reaches it."""
        found = getattr(self, network)
        if network == "discriminator" or self.reduction_weight or (self.d_inputs == "both" and self.adversarial_weight):
            return found.trainable_variables
        idle = "noise_dec" if self.margin_weight else "noise_"
        return [v for layer in found.layers if not layer.name.startswith(idle) for v in layer.trainable_variables]

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """L_D."""
        return 0.5 * (losses.least_squares(d_real, 1.0) + losses.least_squares(d_fake, 0.0))

    def generator_loss(self, noisy, clean, speech, noise, c_s, c_v, d_fake=None):
        """L_G: the total and its terms."""
        g_l1 = losses.l1(clean, speech)
        g_reduction = losses.l1(clean, noisy - noise)
        distance = latent_distance(c_s, c_v, self.distance_kind)  # (B,)
        g_margin = tf.reduce_mean(tf.maximum(0.0, self.margin - distance))
        g_adv = tf.zeros_like(g_l1) if d_fake is None else 0.5 * losses.least_squares(d_fake, 1.0)
        total = self.adversarial_weight * g_adv + self.l1_weight * g_l1
        total += self.margin_weight * g_margin + self.reduction_weight * g_reduction
        terms = dict(g_adv=g_adv, g_l1=g_l1, g_reduction=g_reduction, g_margin=g_margin, distance=tf.reduce_mean(distance))
        return total, terms

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Both decoders. 2. D: clean is 1, estimated is 0. 3. G: fool D, s^ and s - v^ near s~, codes apart."""
        noisy, clean = (self.normalise(x)[..., None] for x in data[:2])  # (B, 2827, 1) each
        report = {}
        with tf.GradientTape() as g_tape:
            speech, noise, c_s, c_v = self.generator(self.with_z(noisy), training=True)
            d_fake = None
            if self.adversarial_weight:
                real, fake = self.candidates(clean, noisy - clean, noisy), self.candidates(speech, noise, noisy)
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = layers.set_reference(self.discriminator, real)  # (B, 1); the real batch is the reference
                    d_fake = self.discriminator(fake, training=True)  # (B, 1)
                    d_loss = self.discriminator_loss(d_real, d_fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake), d_grad_norm=d_norm)
                d_fake = self.discriminator(fake, training=True)  # the D that has just learnt
            g_loss, terms = self.generator_loss(noisy, clean, speech, noise, c_s, c_v, d_fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        noisy, clean = (self.normalise(x)[..., None] for x in data[:2])
        speech, noise, *_ = self.generator(self.with_z(noisy), training=False)
        return self.log(g_l1=losses.l1(clean, speech), g_reduction=losses.l1(clean, noisy - noise))

    def candidates(self, speech, noise, noisy):
        """What D sees."""
        return [speech, noisy] if self.d_inputs == "speech" else [speech, noise, noisy]

    def with_z(self, noisy):
        """G's inputs: noisy windows and one z for each decoder."""
        shape = (tf.shape(noisy)[0], *self.z_shape)
        return [noisy, self.random_normal(shape, stream=0), self.random_normal(shape, stream=1)]

    # ---- features ----------------------------------------------------------------------------------------------------

    def statistics_rows(self, noisy, clean):
        """LPS of the noisy frames, (rows, 257)."""
        return tf.reshape(noisy, [-1, BINS])

    def normalise(self, windows):
        """LPS windows (B, 2827), noisy or clean -> zero mean, unit variance of the noisy training set."""
        return (windows - tf.tile(self.mean, [CONTEXT])) / tf.tile(self.std, [CONTEXT])

    def enhance_log_power(self, lps):
        """Noisy LPS (T, 257) -> (s^, v^) per frame (T, 257), natural logarithm: features for a recogniser."""
        windows = self.normalise(tf.reshape(signal.context(lps, SIDE, SIDE), [-1, SIZE]))  # (T, 2827), ends repeated
        estimates = self.generator(self.with_z(windows[..., None]), training=False)[:2]
        estimates = [tf.reshape(x, [-1, CONTEXT, BINS]) for x in estimates]  # (T, 11, 257)
        if self.merge == "average":
            speech, noise = (signal.average_context(x, SIDE, SIDE) for x in estimates)  # (T, 257)
        else:
            speech, noise = (x[:, SIDE] for x in estimates)
        return speech * self.std + self.mean, noise * self.std  # noise is a difference: no mean

    def choose(self, lps, speech, noise):
        """The output: s^, s - v^ or their average."""
        subtraction = lps - noise
        return {"speech": speech, "subtraction": subtraction, "average": 0.5 * (speech + subtraction)}[self.output_kind]

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> LPS windows (W, 2827) each: 11 frames, moving on by 5; none below 2305 samples."""
        lps = (signal.log_power(signal.stft(wav, **STFT), self.floor) for wav in (noisy, clean))
        return tuple(tf.reshape(tf.signal.frame(x, CONTEXT, WINDOW_HOP, axis=0), [-1, SIZE]) for x in lps)

    def enhance_segment(self, noisy):
        """(n,) -> (n,): the gain exp((s^ - s) / 2) on the noisy STFT. The half turns log power into log magnitude."""
        spec = signal.stft(noisy, **STFT)  # (T, 257)
        lps = signal.log_power(spec, self.floor)
        log_gain = 0.5 * (self.choose(lps, *self.enhance_log_power(lps)) - lps)
        gain = tf.exp(tf.minimum(log_gain, float(np.log(LARGEST_GAIN))))
        return signal.istft(tf.cast(gain, tf.complex64) * spec, tf.shape(noisy)[0], **STFT)
