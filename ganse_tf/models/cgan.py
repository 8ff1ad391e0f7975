r"""cGAN: Conditional Generative Adversarial Networks for Speech Enhancement and Noise-Robust Speaker Verification.

D. Michelsanti, Z.-H. Tan, Interspeech 2017, https://arxiv.org/abs/1709.01703
STFT magnitude in (patches of 256 frames x 256 bins, 4.1 s), magnitude out; the noisy phase makes it sound.

The idea: pix2pix translates pictures of one kind into pictures of another; a spectrogram is a picture, so let it translate
noisy speech into clean speech.  G is a U-Net that squeezes the patch down to one point and back; D looks at the pair
(noisy, candidate).  y is noisy, x clean:

    L_D = -E[log D(x, y)] - E[log(1 - D(G(y), y))]                                       (eq. 1, as trained)
    L_G = -E[log D(G(y), y)] + 100 E|x - G(y)|

G has no z; what is random in it is the dropout of its decoder.  D learns once per step, then G twice.

The paper builds on pix2pix (Isola et al. 2017) and the TensorFlow code of Y.-C. Lin ("yenchenlin" below): what is not in the
paper is theirs.

Batch norm with batch 1.  The bottleneck is one point of 512 channels, so batch norm sees one number per channel, subtracts
it from itself and returns beta = 0; ReLU's gradient at 0 is 0.  Hence e8, d1 and half of d2 (23 % of G's weights) never
move: G is a U-Net of seven levels.  With moving averages at test time the same layer amplifies its input by up to
1/sqrt(1e-5) = 316.  Both are measured in benchmarks/learn/cgan.md. `bn_bottleneck=False` lets all weights learn.

Differs from the paper
- Range [-1, 1]: the method is not given, a logarithm is not mentioned. `scale="linear"`: 2 |X| / ref - 1 with
  ref = max |X| of the noisy utterance for both sides (the clean utterance's own maximum would leak the target).
  `scale="log"` spreads 80 dB over [-1, 1] instead of crowding near -1. Effect: benchmarks/learn/cgan.md.
- Training patches: the paper cuts all speech in a row every 256 frames; that is `concatenate(pairs)`. Without it, each
  utterance is padded with silence (v = -1) to whole patches, as the paper does at test time. Effect: not measured.
- Batch norm at test: statistics of the patch itself, one patch at a time, as yenchenlin (`bn_stats="input"`); `"moving"`
  uses moving averages. Dropout at test is off; yenchenlin leaves it on: `test_dropout=True`. Effect: not measured.
- pix2pix's random jitter and mirroring are left out: a mirrored spectrogram is speech backwards.
- Inverse STFT: least squares with the analysis window; the dropped top bin comes back as 0 (`top_bin="noisy"`: as it was).
- Sizes of D: the paper's text gives one sigmoid, DCGAN style; yenchenlin's layers. `disc="patch"` is pix2pix's 70x70
  PatchGAN, `backbone="pix2pix"` its 4x4 filters without batch norm on e8. Effect: not measured.
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import audio, losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

STFT = dict(n_fft=512, hop_length=256, window="hamming")  # 32 ms, half overlap, section 3.1
FRAMES, BINS = 256, 256  # of one patch; the 257th bin is dropped, section 3.1
PATCH = (FRAMES - 1) * STFT["hop_length"] + STFT["n_fft"]  # 65792 samples
WIDTHS = (1, 2, 4, 8, 8, 8, 8, 8)  # encoder channels in units of `filters`
FILTERS = 64
DROPOUT_LAYERS = 3  # rate 0.5
LEAK, BN_EPSILON = 0.2, 1e-5
BN_MOMENTUM = 0.9  # only for bn_stats="moving"
L1_WEIGHT = 100.0  # section 3.2
LEARNING_RATE, BETA_1 = 2e-4, 0.5  # Adam
G_STEPS = 2  # per step of D, section 3.2
LOG_RANGE_DB = 80.0  # of scale="log", ours
TINY = 1e-8  # smallest reference magnitude: digital silence
INIT = 0.02  # standard deviation of the normal that starts every weight, section 3.2; convolutions: truncated


def build_generator(filters=FILTERS, backbone="yenchenlin", bn_bottleneck=True, bn_momentum=1.0):
    """The U-Net-256; its further inputs are the dropout masks, drawn outside so that a resumed run repeats them."""
    kernel = 5 if backbone == "yenchenlin" else 4
    widths = [filters * w for w in WIDTHS]

    def norm(x, name):
        return keras.layers.BatchNormalization(momentum=bn_momentum, epsilon=BN_EPSILON, name=f"{name}_bn")(x)

    noisy = keras.Input((FRAMES, BINS, 1), name="noisy")  # (B, 256, 256, 1)
    masks = [keras.Input((2**i, 2**i, widths[-1]), name=f"mask{i}") for i in range(1, DROPOUT_LAYERS + 1)]
    x, skips = noisy, []
    for i, width in enumerate(widths):
        name = f"e{i + 1}"
        if i > 0:
            x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_leaky")(x)
        x = convolve(x, width, kernel, 2, name)  # halved 8 times
        if 0 < i < len(widths) - 1 or (i > 0 and bn_bottleneck):
            x = norm(x, name)
        skips.append(x)  # (B, 128, 128, 64) ... (B, 1, 1, 512): the skip leaves before the activation
    for i, width in enumerate([*reversed(widths[:-1]), 1]):
        name = f"d{i + 1}"
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        init = keras.initializers.RandomNormal(stddev=INIT)  # one per layer: a shared one repeats its numbers
        x = keras.layers.Conv2DTranspose(width, kernel, 2, "same", kernel_initializer=init, name=name)(x)  # doubled
        if i == len(widths) - 1:
            break
        x = norm(x, name)
        if i < DROPOUT_LAYERS:
            x = keras.layers.Multiply(name=f"{name}_dropout")([x, masks[i]])
        x = keras.layers.Concatenate(name=f"{name}_skip")([x, skips[-2 - i]])  # (B, 2, 2, 1024) ... (B, 128, 128, 128)
    enhanced = keras.layers.Activation("tanh", dtype="float32", name="enhanced")(x)  # (B, 256, 256, 1)
    return keras.Model([noisy, *masks], enhanced, name="generator")


def convolve(x, width, kernel, stride, name, padding="same", **kwargs):
    """A convolution that starts with the paper's small weights."""
    init = keras.initializers.TruncatedNormal(stddev=INIT)
    return keras.layers.Conv2D(width, kernel, stride, padding, kernel_initializer=init, name=name, **kwargs)(x)


def build_discriminator(filters=FILTERS, disc="global"):
    """(noisy, candidate) -> logits: one per patch (B, 1), or one per 70 x 70 points (B, 30, 30, 1) with disc="patch"."""
    kernel = 5 if disc == "global" else 4
    noisy = keras.Input((FRAMES, BINS, 1), name="noisy")
    candidate = keras.Input((FRAMES, BINS, 1), name="candidate")
    x = keras.layers.Concatenate(name="pair")([noisy, candidate])  # (B, 256, 256, 2)
    for i, stride in enumerate((2, 2, 2, 1)):
        padding = "same"
        if disc == "patch" and stride == 1:
            x, padding = keras.layers.ZeroPadding2D(1, name="pad")(x), "valid"  # 4x4 with a border of 1: 32 -> 31
        x = convolve(x, filters * WIDTHS[i], kernel, stride, f"conv{i}", padding)  # (B, 128, 128, 64) ... (B, 32, 32, 512)
        if i > 0:  # momentum 1: no averages, D is never used after training
            x = keras.layers.BatchNormalization(momentum=1.0, epsilon=BN_EPSILON, name=f"bn{i}")(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)
    if disc == "patch":
        x = keras.layers.ZeroPadding2D(1, name="pad_last")(x)
        logits = convolve(x, 1, kernel, 1, "logits", "valid", dtype="float32")  # (B, 30, 30, 1)
    else:
        x = keras.layers.Flatten(name="flatten")(x)  # (B, 524288)
        init = keras.initializers.RandomNormal(stddev=INIT)
        logits = keras.layers.Dense(1, kernel_initializer=init, dtype="float32", name="logit")(x)  # (B, 1)
    return keras.Model([noisy, candidate], logits, name="discriminator")


def concatenate(pairs):
    """The paper's training set: all utterances in a row, cut every 256 frames, the incomplete rest dropped.

    Takes what ``ganse_tf.data.pairs`` takes; each utterance is divided by the largest magnitude of its noisy STFT.
    Returns a list of ``(noisy, clean)``, float32 (65792,) each, for ``ganse_tf.data.examples``.

    Raises:
        ValueError: less than 4.1 s of speech in total.
    """
    from ganse_tf import data

    sides = [], []
    for pair in data.pairs(pairs):
        *wavs, rate = pair.load()
        wavs = [audio.resample(wav, rate, EnhancementGAN.sample_rate) for wav in wavs]
        ref = max(float(tf.reduce_max(magnitude(wavs[0]))), TINY)
        for side, wav in zip(sides, wavs):
            side.append(wav / np.float32(ref))
    noisy, clean = (np.concatenate(side) for side in sides)
    starts = range(0, len(noisy) - PATCH + 1, FRAMES * STFT["hop_length"])
    if not starts:
        raise ValueError(f"The pairs hold {len(noisy)} samples; one patch needs {PATCH} (4.1 s at 16 kHz): give more pairs.")
    return [(noisy[s : s + PATCH], clean[s : s + PATCH]) for s in starts]


@keras.saving.register_keras_serializable(package="ganse_tf")
class CGAN(EnhancementGAN):
    """cGAN with the paper's sizes: G 85,013,185, D 4,831,041 parameters; `CGAN.tiny()` for a laptop.

    Args:
        filters, d_filters: channels of the first layer of G and D; the others are multiples. Paper's base: 64.
        backbone: "yenchenlin" (5x5, as the paper) or "pix2pix" (4x4, no batch norm on e8).
        disc: "global" (one decision per patch, as the paper) or "patch" (30 x 30 decisions).
        scale: "linear" or "log", what [-1, 1] means.
        bn_bottleneck: batch norm on e8; None: as the backbone has it.
        bn_stats: at test "input" (statistics of the patch) or "moving" (averages over training).
        test_dropout: keep dropout on when enhancing. top_bin: 8 kHz bin of the output, "zero" or "noisy".
        l1_weight, g_steps: weight of the L1 term; steps of G per step of D.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = CGAN.tiny()
        >>> model.compile()
        >>> model.fit(ganse_tf.data.examples(concatenate(pairs), model, batch_size=1), epochs=10)
    """

    paper = "Michelsanti, Tan 2017: cGAN"
    url = "https://arxiv.org/abs/1709.01703"
    domain = "STFT magnitude"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1")
    choices = dict(backbone=("yenchenlin", "pix2pix"), disc=("global", "patch"), scale=("linear", "log"),
                   bn_stats=("input", "moving"), top_bin=("zero", "noisy"))  # fmt: skip

    def __init__(
        self, filters=FILTERS, d_filters=FILTERS, backbone="yenchenlin", disc="global", scale="linear", bn_bottleneck=None,
        bn_stats="input", test_dropout=False, top_bin="zero", l1_weight=L1_WEIGHT, g_steps=G_STEPS, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if g_steps < 1:
            raise ValueError(f"g_steps is {g_steps}; G needs at least one step per step of D (paper: 2).")
        self.scale, self.bn_stats, self.test_dropout, self.top_bin = scale, bn_stats, test_dropout, top_bin
        self.l1_weight, self.g_steps = l1_weight, g_steps
        bn_bottleneck = backbone == "yenchenlin" if bn_bottleneck is None else bn_bottleneck
        self.generator = build_generator(filters, backbone, bn_bottleneck, 1.0 if bn_stats == "input" else BN_MOMENTUM)
        self.mask_shapes = [mask.shape[1:] for mask in self.generator.inputs[1:]]  # (2, 2, 512), (4, 4, 512), (8, 8, 512)
        self.discriminator = build_discriminator(d_filters, disc)

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks with a quarter of the channels (G 5.3 M): learns in minutes on two CPU cores."""
        return cls(**{"filters": 16, "d_filters": 16, **kwargs})

    def default_optimizers(self):
        """Adam(2e-4, 0.5) for both."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE, beta_1=BETA_1) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """The sum of both terms, not halved."""
        return losses.cross_entropy(d_real, 1.0) + losses.cross_entropy(d_fake, 0.0)

    def generator_loss(self, clean, enhanced, d_fake=None):
        """Adversarial term and 100 L1: the total and its terms."""
        g_l1 = losses.l1(clean, enhanced)
        g_adv = tf.zeros_like(g_l1) if d_fake is None else losses.cross_entropy(d_fake, 1.0)
        return self.adversarial_weight * g_adv + self.l1_weight * g_l1, {"g_adv": g_adv, "g_l1": g_l1}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Enhance. 2. D: clean is 1, enhanced 0. 3. Twice, with new dropout: enhance, fool D, stay near the clean speech."""
        noisy, clean = data[:2]  # (B, 256, 256, 1) each
        report = {}
        if self.adversarial_weight:
            enhanced = self.generate(noisy, draw=0)  # no tape: a constant for D
            with tf.GradientTape() as tape:
                d_real = self.discriminator([noisy, clean], training=True)  # (B, 1)
                d_fake = self.discriminator([noisy, enhanced], training=True)  # (B, 1)
                d_loss = self.discriminator_loss(d_real, d_fake)
            d_norm = self.minimise(tape, d_loss, "discriminator")
            report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake), d_grad_norm=d_norm)
        for draw in range(1, self.g_steps + 1):
            d_fake = None
            with tf.GradientTape() as tape:
                enhanced = self.generate(noisy, draw)  # (B, 256, 256, 1)
                if self.adversarial_weight:
                    d_fake = self.discriminator([noisy, enhanced], training=True)
                g_loss, terms = self.generator_loss(clean, enhanced, d_fake)
            g_norm = self.minimise(tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def generate(self, noisy, draw):
        """G in training: batch statistics and the dropout masks of this step, 0 or 2 with equal chance."""
        batch, first = tf.shape(noisy)[0], draw * len(self.mask_shapes)
        normals = [self.random_normal((batch, *shape), first + i) for i, shape in enumerate(self.mask_shapes)]
        return self.generator([noisy, *(2.0 * tf.cast(z > 0, tf.float32) for z in normals)], training=True)

    def test_step(self, data):
        noisy, clean = data[:2]
        return self.log(g_l1=losses.l1(clean, self.enhance_patches(noisy)))

    # ---- spectrograms ------------------------------------------------------------------------------------------------

    def to_network(self, mag, ref):
        """Magnitudes -> [-1, 1]; silence becomes -1, the reference 1."""
        if self.scale == "log":
            db = 20.0 * tf.math.log(tf.maximum(mag / ref, 10.0 ** (-LOG_RANGE_DB / 20))) / np.log(10.0)
            return tf.minimum(2.0 * db / LOG_RANGE_DB + 1.0, 1.0)
        return tf.clip_by_value(2.0 * mag / ref - 1.0, -1.0, 1.0)

    def from_network(self, v, ref):
        """[-1, 1] -> magnitudes."""
        if self.scale == "log":
            return ref * 10.0 ** ((v - 1.0) * LOG_RANGE_DB / 40.0)
        return ref * (v + 1.0) / 2.0

    def preprocess(self, noisy, clean):
        """(n,) pair -> (patches, 256, 256, 1) pair, both divided by the noisy maximum; the last patch ends in silence."""
        mags = [magnitude(wav) for wav in (noisy, clean)]  # (T, 256)
        ref = tf.maximum(tf.reduce_max(mags[0]), TINY)
        return tuple(to_patches(self.to_network(mag, ref)) for mag in mags)

    def enhance_patches(self, patches):
        """(k, 256, 256, 1) -> the same, one patch after the other, so that batch norm sees one patch at a time."""

        def enhance(patch):
            masks = [tf.ones((1, *shape)) for shape in self.mask_shapes]
            if self.test_dropout:
                masks = [2.0 * tf.round(tf.random.uniform(mask.shape)) for mask in masks]
            return self.generator([patch[None], *masks], training=self.bn_stats == "input")[0]

        return tf.map_fn(enhance, patches, fn_output_signature=tf.TensorSpec((FRAMES, BINS, 1), tf.float32))

    def enhance_segment(self, noisy):
        """(n,) -> (n,): enhanced magnitude, noisy phase."""
        spec = signal.stft(noisy, pad_mode="constant", **STFT)  # (T, 257)
        mag = signal.magnitude(spec)
        ref = tf.maximum(tf.reduce_max(mag[:, :BINS]), TINY)
        patches = self.enhance_patches(to_patches(self.to_network(mag[:, :BINS], ref)))  # (k, 256, 256, 1)
        enhanced = self.from_network(tf.reshape(patches, [-1, BINS])[: tf.shape(mag)[0]], ref)  # (T, 256)
        top = mag[:, BINS:] if self.top_bin == "noisy" else tf.zeros_like(mag[:, BINS:])
        return signal.istft(signal.with_phase_of(tf.concat([enhanced, top], 1), spec), tf.shape(noisy)[0], **STFT)


def magnitude(wav):
    """(n,) -> (T, 256): |STFT| of whole frames without padding at the start, top bin dropped; 65792 samples give 256."""
    frames = signal.frame(wav, STFT["n_fft"], STFT["hop_length"])
    window = signal.window_samples(STFT["window"], STFT["n_fft"]).astype(np.float32)
    return signal.magnitude(tf.signal.rfft(frames * window))[:, :BINS]


def to_patches(v):
    """(T, 256) -> (ceil(T / 256), 256, 256, 1), filled up with silence (-1)."""
    v = tf.pad(v, [[0, -tf.shape(v)[0] % FRAMES], [0, 0]], constant_values=-1.0)
    return tf.reshape(v, [-1, FRAMES, BINS, 1])
