r"""MMSE-GAN: Time-Frequency Masking-Based Speech Enhancement Using Generative Adversarial Network.

M. H. Soni, N. Shah, H. A. Patil, ICASSP 2018, pp. 5039-5043
https://github.com/Neil-Shah/GANs-for-Speech-Enhancement (the authors' code and paper)
Seven frames of a 64-channel gammatone spectrum in, one mask in (0, 1) for the middle frame out; noisy phase kept.

The idea: G is never told the right mask.  Its sigmoid output m is multiplied with the noisy frame h *inside* the
network, and only the product h m is judged, so the mask is learnt implicitly.  A GAN alone (v-GAN) finds masks whose
products look like speech, but not like *this* speech; a squared error on log spectra (MMSE) ties them to it:

    L_D = -E[log D(c)] - E[log(1 - D(h m))]                                      (eq. 1)
    J   = 1/2 E[(log(h m) - log c)^2]                                            (eq. 3)
    L_G = -E[log D(h m)] + J                                                     (eq. 4)

c is the clean, h the noisy gammatone frame.  `mode="dnn"` keeps J alone, `"vgan"` the adversarial term alone,
`"mmse-gan"` both.  D sees single frames, clean or enhanced, never the noisy one.

Differs from the paper
- Eq. 1 is printed with 1 - log D(G(y)) -> log(1 - D(G(y))), as in the authors' code.
- Details that only the authors' code gives are taken from it: filter design, windowed RMS per frame, mean over
  channels, one D step then one G step per batch, input normalised per utterance by one mean and one deviation.
  Their training script is for another task (no mask, linear output): network and losses are the paper's.
- Context 7 (3 + 3), frames of 20 ms, hop 10 ms: the paper's; the scripts use 5 and 9 frames, 25 ms and 5 ms.
- What D sees: not stated -> log spectra, standardised by one mean and one deviation of the clean training set (`adapt`,
  called by `fit`; per batch in the code). Effect: not measured.
- Logarithms: log m = -softplus(-logit), and amplitudes are floored at 1e-5 (digital silence is -inf in the code), or
  else silence rules the squared error. Measured with `tiny(mode="dnn")`, 400 steps on 40 toy pairs, PESQ-WB of 10
  validation pairs: noisy 1.30; floor 1e-8 1.38, 1e-5 1.64, 1e-4 1.48, 1e-3 1.30.
- Weights: Glorot uniform (the code's scales of 1e-4 and 1e-5 stop learning for long). Effect: not measured.
- Waveform: the paper says nothing; the code filters the masked channels with the time-reversed filters. We correct its
  ripple (4.8 dB at 100 Hz, Hamming window applied twice), its advance of one sample and its gain of 6.26 dB; it hides
  the last by scaling every file, clean ones too, to one level before scoring. SSNR and CBAK feel the difference.
- The normalisation of the input needs the whole utterance: not causal. Recordings over 30 s are normalised window by
  window. A constant input is divided by 1e-5 instead of 0.
- A sigmoid cannot exceed 1: where noise cancels speech (c > h) the target is out of reach and J keeps a floor.
- Weight selection by the lowest validation J is the user's: `validation_data` logs val_g_l2 = J / (1/2).
"""

import keras
import tensorflow as tf

from ganse_tf import losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

CHANNELS = 64  # gammatone filters
FRAME_LENGTH, HOP_LENGTH = 320, 160  # samples: 20 ms Hamming, 10 ms
EMPHASIS = 0.95  # pre-emphasis
SIDE = 3  # frames of context on each side: 7 in all
UNITS = 512  # three hidden layers in G and in D
L2_WEIGHT = 0.5  # of eqs. 3 and 4
LEARNING_RATE = 1e-3  # Adam
AMPLITUDE_FLOOR = 1e-5  # -100 dBFS per channel, ours
DEVIATION_FLOOR = 1e-5


def build_generator(units=UNITS):
    """[normalised context (B, 448), log noisy frame (B, 64)] -> [mask (B, 64), log enhanced frame (B, 64)]."""
    context = keras.Input(((2 * SIDE + 1) * CHANNELS,), name="context")  # (B, 448)
    log_noisy = keras.Input((CHANNELS,), name="log_noisy")  # (B, 64), not normalised
    x = context
    for i in range(3):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{i}")(x)  # (B, 512)
    logits = keras.layers.Dense(CHANNELS, dtype="float32", name="mask_logits")(x)  # (B, 64)
    mask = keras.layers.Activation("sigmoid", dtype="float32", name="mask")(logits)
    log_enhanced = log_noisy + keras.ops.log_sigmoid(logits)  # log(h m) without the underflow of log(sigmoid)
    return keras.Model([context, log_noisy], [mask, log_enhanced], name="generator")


def build_discriminator(units=UNITS):
    """Standardised log frame (B, 64), clean or enhanced -> logit (B, 1)."""
    frame = keras.Input((CHANNELS,), name="log_frame")
    x = frame
    for i in range(3):
        x = keras.layers.Dense(units, activation="tanh", name=f"dense{i}")(x)  # (B, 512)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)  # (B, 1); its sigmoid is in the loss
    return keras.Model(frame, logit, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class MMSEGAN(EnhancementGAN):
    """MMSE-GAN with the paper's sizes: G 788,032, D 559,105 parameters; `MMSEGAN.tiny()` for class.

    Args:
        mode: "mmse-gan" (eq. 4), "vgan" (without the squared error) or "dnn" (without D).
        units: per hidden layer of G and D (paper: 512).
        l2_weight: weight of the mean squared error of log spectra (paper: 1/2).
        adversarial_weight: see `EnhancementGAN`; None means 1, or 0 with mode="dnn".
        seed: see `EnhancementGAN`; the model itself draws nothing.

    Example:
        >>> model = MMSEGAN.tiny()
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=1000), epochs=30)

    References:
        Soni, Shah and Patil 2018, eqs. 1 to 4, Table 1; authors' code Neil-Shah/GANs-for-Speech-Enhancement.
    """

    paper = "Soni, Shah, Patil 2018: Time-frequency masking-based speech enhancement using GAN"
    url = "https://github.com/Neil-Shah/GANs-for-Speech-Enhancement"
    domain = "gammatone mask"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l2")
    choices = dict(mode=("mmse-gan", "vgan", "dnn"))

    def __init__(self, mode="mmse-gan", units=UNITS, l2_weight=L2_WEIGHT, adversarial_weight=None, **kwargs):
        if adversarial_weight is None:
            adversarial_weight = 0.0 if mode == "dnn" else 1.0
        if mode == "dnn" and adversarial_weight:
            raise ValueError(f'adversarial_weight is {adversarial_weight}, but mode="dnn" has no D; use "mmse-gan".')
        if mode == "vgan" and not adversarial_weight:
            raise ValueError('adversarial_weight is 0, but mode="vgan" has no other loss; use mode="dnn".')
        super().__init__(config=options(locals()), adversarial_weight=adversarial_weight, **kwargs)
        self.mode, self.l2_weight = mode, 0.0 if mode == "vgan" else l2_weight
        self.generator = build_generator(units)
        self.discriminator = build_discriminator(units)
        self.add_statistics((), DEVIATION_FLOOR)

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks with 128 units (G 0.1 M, D 0.04 M)."""
        return cls(**{"units": 128, **kwargs})

    def default_optimizers(self):
        """Adam(1e-3) for both."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 1, with logits."""
        return losses.cross_entropy(d_real, 1.0) + losses.cross_entropy(d_fake, 0.0)

    def generator_loss(self, log_clean, log_enhanced, d_fake=None):
        """Eq. 4: the total and its terms."""
        g_l2 = losses.l2(log_clean, log_enhanced)
        g_adv = tf.zeros_like(g_l2) if d_fake is None else losses.cross_entropy(d_fake, 1.0)
        total = self.adversarial_weight * g_adv
        if self.l2_weight:
            total += self.l2_weight * g_l2
        return total, {"g_adv": g_adv, "g_l2": g_l2}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Mask. 2. D: clean frames are 1, masked frames 0. 3. G: pull D to 1, stay near the clean log spectrum."""
        context, log_noisy, log_clean = data[:3]  # (B, 448), (B, 64), (B, 64)
        report = {}
        with tf.GradientTape() as g_tape:
            _, log_enhanced = self.generator([context, log_noisy], training=True)  # (B, 64)
            d_fake = None
            if self.adversarial_weight:
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = self.judge(log_clean)  # (B, 1)
                    d_fake = self.judge(log_enhanced)  # (B, 1)
                    d_loss = self.discriminator_loss(d_real, d_fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake))
                report["d_grad_norm"] = d_norm
                d_fake = self.judge(log_enhanced)  # by the D that has just learnt
            g_loss, terms = self.generator_loss(log_clean, log_enhanced, d_fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        context, log_noisy, log_clean = data[:3]
        _, log_enhanced = self.generator([context, log_noisy], training=False)
        return self.log(g_l2=losses.l2(log_clean, log_enhanced))

    def judge(self, log_frame):
        """D's logits (B, 1) of log frames (B, 64)."""
        return self.discriminator((log_frame - self.mean) / self.std, training=True)

    def statistics_rows(self, context, log_noisy, log_clean):
        """Clean log spectrum, all bands in one row: (values,)."""
        return tf.reshape(log_clean, [-1])

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> contexts (T, 448), log noisy (T, 64) and log clean frames (T, 64); none below 20 ms."""
        log_noisy, log_clean = log_frames(bands(noisy)), log_frames(bands(clean))
        return contexts(log_noisy), log_noisy, log_clean

    def enhance_segment(self, noisy):
        """(n,) -> (n,): weigh the channels of the noisy signal frame by frame and add them up again."""
        n = tf.shape(noisy)[0]
        noisy_bands = bands(tf.pad(noisy, [[0, tf.maximum(0, FRAME_LENGTH - n)]]))  # at least one frame; (64, n)
        log_noisy = log_frames(noisy_bands)  # (T, 64)
        mask, _ = self.generator([contexts(log_noisy), log_noisy], training=False)  # (T, 64)
        enhanced = signal.gammatone_synthesis(noisy_bands, mask, FRAME_LENGTH, HOP_LENGTH)
        return signal.deemphasis(enhanced, EMPHASIS)[:n]


def bands(wav):
    """(n,) -> gammatone channels (64, n) of the pre-emphasised signal."""
    return signal.gammatone_analysis(signal.preemphasis(wav, EMPHASIS))


def log_frames(channels):
    """(64, n) -> natural logarithm of the windowed RMS per frame (T, 64); T = (n - 160) // 160."""
    return tf.math.log(tf.maximum(signal.gammatone_envelope(channels, FRAME_LENGTH, HOP_LENGTH), AMPLITUDE_FLOOR))


def contexts(log_noisy):
    """(T, 64) -> (T, 448): normalised by the utterance's one mean and one deviation, seven frames, edges repeated."""
    values = tf.cast(tf.size(log_noisy), tf.float32)
    centred = log_noisy - tf.math.divide_no_nan(tf.reduce_sum(log_noisy), values)
    deviation = tf.sqrt(tf.reduce_sum(tf.square(centred)) / tf.maximum(values - 1, 1.0))  # MATLAB's std
    x = signal.context(centred / tf.maximum(deviation, DEVIATION_FLOOR), SIDE, SIDE, pad="edge")  # (T, 7, 64)
    return tf.reshape(x, [-1, (2 * SIDE + 1) * CHANNELS])
