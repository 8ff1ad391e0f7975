r"""FSEGAN: Exploring Speech Enhancement with Generative Adversarial Networks for Robust Speech Recognition.

C. Donahue, B. Li, R. Prabhavalkar, ICASSP 2018, https://arxiv.org/abs/1711.05747
Log-mel spectrum in (windows of 128 frames x 128 bands, 1.28 s, one or two microphones), clean log-mel spectrum out.

The idea: a recogniser never hears a waveform, so enhance what it reads.  G is pix2pix's U-Net without z, without batch norm
and with a linear output; D looks at the pair (noisy, candidate) and gives one decision for each of 8 steps along time.
x is noisy, y clean:

    L_D = -E[log D(x, y)] - E[log(1 - D(x, G(x)))]                                       (eq. 1, as trained)
    L_G = -E[log D(x, G(x))] + 100 E|y - G(x)|                                           (eq. 2, as trained)

`adversarial_weight=0` is the paper's competitor, G trained by the L1 term alone; in its Table 2 it is the better one as soon
as the recogniser is retrained.  `ganse_tf.downstream.asr.compare` makes such tables; `enhance_features` is what it needs.

The paper stops at features: there is no waveform in it.  To let you listen, `enhance` turns G's answer into a gain per mel
band, exp(G(x) - x) at most 1, spreads it over the STFT bins and multiplies the noisy STFT with it.  The sound keeps the noisy
phase and G can only turn bands down: it is a way to hear what G did, not what the recogniser gets.

The paper builds on pix2pix and the TensorFlow code of C. Hesse ("affinelayer" below, as of 2017): what is not in the paper
is theirs.

Differs from the paper
- Min-max loss: printed; affinelayer, as everybody, lets G maximise log D instead. So do we.
- Front end: FFT length, window, mel formula and floor are not given -> 1024 (with 512 one mel band is empty), Hann, HTK
  mel, log(max(mel, 1e-3)), so that pauses of digital silence do not rule the L1 term. Effect: not measured.
- "Zero mean, unit variance": over what is not given -> one mean and deviation per band from the training set, noisy and
  clean pooled (`adapt`, called by `fit`; deviation at least 1e-3).
- Windows are cut from whole utterances' frames: 1.28 s of samples would give 125 frames, not 128. The last window of an
  utterance repeats its last frame and is trimmed; the paper does not say. `window_hop=64` averages overlapping windows.
- Weights start from N(0, 0.02), affinelayer's; thinner networks start larger (`convolution`). Effect on `tiny()`, batch 8,
  Adam(1e-3, 0.5), 160 steps: L1 of the last 20 0.59 instead of 0.72 deviations.
- Convolution biases: not mentioned; affinelayer had none in 2017. `use_bias=True` adds them. Effect: not measured.
- Dropout: pix2pix's only source of noise; the paper's G is "deterministic" -> none. Effect: not measured.
- Batch norm: the paper takes it out of G, so D keeps it (batch statistics, real and fake apart). Effect: not measured.
- pix2pix's resizing, cropping and mirroring are left out.
- Early stopping on the WER of ASR-Clean is the user's; `validation_data` logs val_g_l1.
- Stereo: the paper's input is stereo, and so are the defaults; a mono recording stands for both microphones.
  `in_channels=1` for mono corpora, as in `tiny()`.
- Recogniser and data: connected digits with CTC and additive noise instead of listen-attend-spell on WSJ with rooms. What
  each enhancer is worth to each recogniser there: benchmarks/learn/fsegan.md.
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

STFT = dict(n_fft=1024, hop_length=160, win_length=512)  # 32 ms window, 10 ms hop, section 3.2; n_fft ours
FRAMES, BANDS, HOP = 128, 128, 64  # of one window, 1.28 s with half overlap in training, section 3.2
MEL = dict(n_mels=BANDS, fmin=125.0, fmax=7500.0, floor=1e-3)  # section 3.2; floor ours
WIDTHS = (1, 2, 4, 8, 8, 8, 8)  # encoder channels in units of `filters`; the first four are also D's
FILTERS = 64
DECISIONS = 8  # of D along time
LEAK, BN_EPSILON, INIT = 0.2, 1e-5, 0.02  # affinelayer
L1_WEIGHT = 100.0  # eq. 2
LEARNING_RATE, BETA_1 = 2e-4, 0.5  # Adam, affinelayer
STD_FLOOR = 1e-3  # a band that never changes would otherwise divide by zero


def build_generator(in_channels=2, filters=FILTERS, use_bias=False):
    """The U-Net-128: seven halvings, seven doublings with skip connections, linear output, no batch norm."""
    widths = [filters * w for w in WIDTHS]
    noisy = keras.Input((FRAMES, BANDS, in_channels), name="noisy")  # (B, 128, 128, 2): time, mel bands, microphones
    x, skips = noisy, []
    for i, width in enumerate(widths):
        if i > 0:
            x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"e{i + 1}_leaky")(x)
        x = keras.layers.Conv2D(width, 4, 2, name=f"e{i + 1}", **convolution(filters, use_bias))(x)  # halved 7 times
        skips.append(x)  # (B, 64, 64, 64) ... (B, 1, 1, 512): the skip leaves before the activation
    for i, width in enumerate([*reversed(widths[:-1]), 1]):
        x = keras.layers.ReLU(name=f"d{i + 1}_relu")(x)
        dtype = "float32" if i == len(widths) - 1 else None
        options = dict(name=f"d{i + 1}", dtype=dtype, **convolution(filters, use_bias))
        x = keras.layers.Conv2DTranspose(width, 4, 2, **options)(x)  # doubled 7 times
        if i < len(widths) - 1:
            x = keras.layers.Concatenate(name=f"d{i + 1}_skip")([x, skips[-2 - i]])  # (B, 2, 2, 1024) ... (B, 64, 64, 128)
    return keras.Model(noisy, x, name="generator")  # (B, 128, 128, 1)


def convolution(filters, use_bias, padding="same"):
    """Options of one convolution, made anew for each: an initialiser that is shared would repeat itself.

    With fewer filters the weights start larger, so that a layer passes on as much of its input as at the paper's size.
    """
    init = keras.initializers.RandomNormal(stddev=INIT * (FILTERS / filters) ** 0.5)
    return dict(padding=padding, use_bias=use_bias, kernel_initializer=init)


def build_discriminator(in_channels=2, filters=FILTERS, use_bias=False, decisions=DECISIONS):
    """[noisy, candidate] -> logits (B, 8): four halvings, then a layer that merges the 8 bands left at every time step."""
    halvings = (FRAMES // decisions).bit_length() - 1  # of time; the other layers halve the bands only
    noisy = keras.Input((FRAMES, BANDS, in_channels), name="noisy")  # (B, 128, 128, 2)
    candidate = keras.Input((FRAMES, BANDS, 1), name="candidate")
    x = keras.layers.Concatenate(name="pair")([noisy, candidate])  # (B, 128, 128, 3)
    for i, width in enumerate(WIDTHS[:4]):
        strides = (2 if i < halvings else 1, 2)
        x = keras.layers.Conv2D(filters * width, 4, strides, name=f"c{i + 1}", **convolution(filters, use_bias))(x)
        if i > 0:  # momentum 1: no averages, D is never used after training
            gamma = keras.initializers.RandomNormal(mean=1.0, stddev=INIT)
            norm = dict(momentum=1.0, epsilon=BN_EPSILON, gamma_initializer=gamma, name=f"c{i + 1}_bn")
            x = keras.layers.BatchNormalization(**norm)(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"c{i + 1}_leaky")(x)  # (B, 64, 64, 64) ... (B, 8, 8, 512)
    merge = dict(kernel_size=(1, x.shape[2]), dtype="float32", name="c5")
    x = keras.layers.Conv2D(1, **merge, **convolution(filters, use_bias, "valid"))(x)  # (B, 8, 1, 1)
    logits = keras.layers.Reshape((decisions,), dtype="float32", name="logits")(x)  # (B, 8)
    return keras.Model([noisy, candidate], logits, name="discriminator")


def log_mel(wav, sample_rate=EnhancementGAN.sample_rate):
    """The features that G and the recogniser share: (..., n) at 16 kHz -> natural log-mel (..., T, 128).

    T = 1 + (n - 512) // 160 whole frames without padding.

    Example:
        >>> log_mel(np.zeros(20832)).shape.as_list()
        [128, 128]
    """
    if sample_rate != EnhancementGAN.sample_rate:
        raise ValueError(f"sample_rate is {sample_rate} Hz; the mel bands reach 7500 Hz: give audio.resample(wav, ..., 16000).")
    return signal.log_mel(wav, sample_rate, **STFT, **MEL)


@keras.saving.register_keras_serializable(package="ganse_tf")
class FSEGAN(EnhancementGAN):
    """FSEGAN with the paper's sizes: G 41,816,064, D 2,761,472 parameters; `FSEGAN.tiny()` for a laptop.

    Args:
        in_channels: microphones, 2 (paper) or 1.
        filters, d_filters: channels of the first layer of G and D; the others are multiples. Paper's base: 64.
        use_bias: biases in all convolutions.
        decisions: of D along time, 8 (paper), 16, 32, 64 or 128, with the same number of weights.
        l1_weight: weight of the L1 term (paper: 100).
        window_hop: frames between windows when enhancing; 128 (paper) has no overlap, smaller ones are averaged.
        adversarial_weight, seed: see `EnhancementGAN`; 0 is the paper's L1-only enhancer. The model draws nothing.

    Example:
        >>> model = FSEGAN.tiny()
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=16), epochs=10)
        >>> features = model.enhance_features(fsegan.log_mel(noisy))  # (T, 128), for a recogniser

    References:
        Donahue, Li and Prabhavalkar 2018, sections 2 and 3; Isola et al. 2017 (pix2pix); affinelayer/pix2pix-tensorflow.
    """

    paper = "Donahue, Li, Prabhavalkar 2018: FSEGAN"
    url = "https://arxiv.org/abs/1711.05747"
    domain = "log-mel spectrum"
    outputs = "features"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1")
    choices = dict(in_channels=(2, 1), decisions=(8, 16, 32, 64, 128))

    def __init__(
        self, in_channels=2, filters=FILTERS, d_filters=FILTERS, use_bias=False, decisions=DECISIONS, l1_weight=L1_WEIGHT,
        window_hop=FRAMES, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if not 1 <= window_hop <= FRAMES:
            raise ValueError(f"window_hop is {window_hop} frames; use 1 to {FRAMES}: {FRAMES} (paper) has no overlap.")
        self.in_channels, self.l1_weight, self.window_hop = in_channels, l1_weight, window_hop
        self.generator = build_generator(in_channels, filters, use_bias)
        self.discriminator = build_discriminator(in_channels, d_filters, use_bias, decisions)
        self.add_statistics((BANDS,), STD_FLOOR)

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks for one microphone with a quarter of the channels (G 2.6 M): minutes on two CPU cores."""
        return cls(**{"in_channels": 1, "filters": 16, "d_filters": 16, **kwargs})

    def default_optimizers(self):
        """Adam(2e-4, 0.5) for both."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE, beta_1=BETA_1) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 1 with logits, mean over all decisions; the sum of both terms, not halved."""
        return losses.cross_entropy(d_real, 1.0) + losses.cross_entropy(d_fake, 0.0)

    def generator_loss(self, clean, enhanced, d_fake=None):
        """Eq. 2: the total and its terms."""
        g_l1 = losses.l1(clean, enhanced)
        g_adv = tf.zeros_like(g_l1) if d_fake is None else losses.cross_entropy(d_fake, 1.0)
        return self.adversarial_weight * g_adv + self.l1_weight * g_l1, {"g_adv": g_adv, "g_l1": g_l1}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Normalise and enhance. 2. D: clean windows are 1, enhanced ones 0. 3. G: pull D to 1, stay near the clean one."""
        noisy, clean = (self.normalise(x) for x in data[:2])  # (B, 128, 128, 2), (B, 128, 128, 1)
        report = {}
        with tf.GradientTape() as g_tape:
            enhanced = self.generator(noisy, training=True)  # (B, 128, 128, 1)
            d_fake = None
            if self.adversarial_weight:
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = self.discriminator([noisy, clean], training=True)  # (B, 8); each call has its own
                    d_fake = self.discriminator([noisy, enhanced], training=True)  # batch statistics
                    d_loss = self.discriminator_loss(d_real, d_fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake), d_grad_norm=d_norm)
                d_fake = self.discriminator([noisy, enhanced], training=True)  # the D that has just learnt
            g_loss, terms = self.generator_loss(clean, enhanced, d_fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        noisy, clean = (self.normalise(x) for x in data[:2])
        return self.log(g_l1=losses.l1(clean, self.generator(noisy, training=False)))

    # ---- features ----------------------------------------------------------------------------------------------------

    def normalise(self, features):
        """Log-mel (..., 128 bands, channels) -> zero mean, unit deviation per band."""
        return (features - self.mean[:, None]) / self.std[:, None]

    def statistics_rows(self, *sides):
        """Log-mel frames, noisy and clean pooled, (rows, 128)."""
        return tf.concat([tf.reshape(tf.einsum("btfc->btcf", side), [-1, BANDS]) for side in sides], 0)

    def preprocess(self, noisy, clean):
        """Noisy (n,) or (n, 2), clean (n,) -> half-overlapping windows (k, 128, 128, C), (k, 128, 128, 1); none below 1.3 s."""
        noisy = self.microphones(log_mel(tf.transpose(noisy)))  # (T, 128, C)
        return tuple(tf.signal.frame(x, FRAMES, HOP, axis=0) for x in (noisy, log_mel(clean)[..., None]))

    def microphones(self, features):
        """Log-mel (T, 128) or (C, T, 128) -> (T, 128, in_channels); mono stands for both microphones."""
        features = features[None] if features.shape.rank == 2 else features
        if features.shape[0] == 1:
            features = tf.repeat(features, self.in_channels, axis=0)
        if features.shape[0] != self.in_channels:
            raise ValueError(
                f"The recording has {features.shape[0]} channels; this model reads {self.in_channels}. Take one channel, "
                "wav[:, 0], or build FSEGAN(in_channels=2)."
            )
        return tf.transpose(features, [1, 2, 0])

    def enhance_windows(self, features):
        """Log-mel (T, 128, C) -> enhanced log-mel (T, 128): windows in a row, the last filled up with the last frame."""
        n = tf.shape(features)[0]
        count = 1 + tf.maximum(0, -((FRAMES - n) // self.window_hop))  # 1 + ceil((n - 128) / hop)
        places = tf.range(count)[:, None] * self.window_hop + tf.range(FRAMES)  # (k, 128)
        windows = tf.gather(self.normalise(features), tf.minimum(places, n - 1))  # (k, 128, 128, C)
        enhanced = self.generator(windows, training=False)[..., 0] * self.std + self.mean  # (k, 128, 128)
        places = tf.reshape(places, [-1])
        return tf.math.unsorted_segment_mean(tf.reshape(enhanced, [-1, BANDS]), places, tf.reduce_max(places) + 1)[:n]

    def enhance_features(self, features):
        """Enhance the log-mel spectrum of a recording for a recogniser.

        Args:
            features: (T, 128) from `log_mel`, natural logarithm, not normalised; for stereo (2, T, 128).

        Returns:
            float32 NumPy array (T, 128) on the same scale.

        Raises:
            ValueError: another shape.

        Example:
            >>> FSEGAN.tiny().enhance_features(log_mel(np.zeros(16000))).shape
            (97, 128)
        """
        features = np.asarray(features, np.float32)
        if features.ndim not in (2, 3) or features.shape[-1] != BANDS or features.shape[-2] == 0:
            raise ValueError(
                f"features has shape {features.shape}; expected (frames, {BANDS}) from fsegan.log_mel(wav), or "
                f"(2, frames, {BANDS}) for stereo, with at least one frame."
            )
        if "features" not in self._trackers.graphs:  # one trace for all lengths
            signature = [tf.TensorSpec([None, BANDS, self.in_channels], tf.float32)]
            self._trackers.graphs["features"] = tf.function(self.enhance_windows, input_signature=signature)
        return self._trackers.graphs["features"](self.microphones(tf.constant(features))).numpy()

    # ---- sound, to listen (not in the paper) -------------------------------------------------------------------------

    def channels(self, wav):
        """As in the base; a model for two microphones reads both channels of a stereo recording at once."""
        return [wav] if self.in_channels == 2 and wav.shape[1:] == (2,) else super().channels(wav)

    def enhance_segment(self, noisy):
        """(n,) or (n, C) -> the same: mel gains exp(G(x) - x) <= 1 on the noisy STFT of each channel, noisy phase."""
        wavs = tf.transpose(noisy)
        spec = signal.stft(wavs, **STFT)  # (T, 513) or (C, T, 513)
        mel = signal.log_mel(wavs, self.sample_rate, centred=True, **STFT, **MEL)  # (T, 128): as training, ends padded
        enhanced = self.enhance_windows(self.microphones(mel))  # (T, 128)
        gain = tf.exp(tf.minimum(enhanced - mel, 0.0))
        spec *= tf.cast(signal.mel_gain_to_bins(gain), spec.dtype)
        return tf.transpose(signal.istft(spec, tf.shape(noisy)[0], **STFT))
