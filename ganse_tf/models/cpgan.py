r"""CP-GAN: Context Pyramid Generative Adversarial Network for Speech Enhancement (a reconstruction).

G. Liu, K. Gong, X. Liang, Z. Chen, ICASSP 2020, pp. 6624-6628, https://doi.org/10.1109/ICASSP40776.2020.9054060
Waveform in (16384 samples at 16 kHz, 1.024 s), waveform out.

RECONSTRUCTION: the paper is closed access and has no public code.  Its Figure 1, one loss equation and its implementation
section are known to us as a reader's public notes quote them; the rest is ours, see below.  Do not take a score of this
model for a score of the paper's.

The idea: noise hurts at many time scales.  G is a feature pyramid: five densely connected blocks halve the length, 1x1
convolutions bring their outputs to one width, and on the way up coarse features are added to finer ones.  The maps of
blocks 2 to 5 meet at a quarter of the length.  Two D judge pairs (candidate, noisy): D_g the whole second, D_l segments of
it, and G must mend its *worst* segment.  x is clean, x' enhanced, y noisy, i counts the segments:

    L_G^local = -log min_i D_l(x'_i, y_i)                                                              (the known equation)
    L_G       = -E log D_g(x', y) + E L_G^local + lambda |x' - x|_1,   lambda = 100
    L_Dg      = -E log D_g(x, y) - E log(1 - D_g(x', y))
    L_Dl      = -E 1/n sum_i log D_l(x_i, y_i) - E 1/n sum_i log(1 - D_l(x'_i, y_i))

The minimum is over the segments of *one* utterance, the mean over the batch comes after it.  On logits l = logit(D_l):
-log min_i D_l = softplus(-min_i l_i), one segment of each utterance gets all the gradient.

Known: the wiring of G; 32/64/128/256/512 channels of the blocks, 128 of the pyramid, all kernels 31 but the 1x1; D_g with 11
convolutions and one dense layer; D_l with 5 convolutions (32/64/96/128/256), global average pooling, dense 100 and 1;
segments of varying length; 16384 samples with hop 8192; pairs for both D.  From this follows: stride 2 per block, for only
then is block 2 at a quarter of the length, where the text has the pyramid meet.

Differs from the paper (not in the sources -> our choice; effect not measured unless a file is named)
- Width inside the blocks: every convolution adds 32 channels, also the first one of G. 16 gives 10.8 M parameters
  instead of 14.5 M, as many as the block's output 137.6 M.
- Dense connections by concatenation; Figure 1 draws 7 arcs of the 10 -> all 10.
- LeakyReLU(0.2), no normalisation, tanh at the end, Glorot weights, biases; linear interpolation on the way up.
- D_g: channels 16 ... 1024 (SEGAN has the same 11 layers). D_l: stride 2 (its view is then 931 samples).
- Segments: one length of 2048, 4096, 8192 per batch, drawn; all signals are cut side by side after the same circular
  shift, so every sample is judged. `local_reduction="mean"` puts the mean loss in place of the worst segment's.
- All losses but the known one, their weights (1, 1, 100), and whether the paper has an L1 term at all; Adam(2e-4, 0.5,
  0.999), G's gradient norm at most 5, one step of both D per step of G.
- `input_skip=True` (`tiny()` has it) adds the noisy waveform to G's last layer, which starts at 0: the way up interpolates and
  has little above 4 kHz.
- Pre-emphasis 0.95 as SEGAN (`emphasis=0` switches it off); no z, as none is drawn.
- Inference: windows of 16384 samples, hop 8192, Hann cross-fade; `inference="blocks"` puts windows side by side.
- No result of the paper was available to us. `benchmarks/learn/cpgan.md` compares D off, D_g, both, worst and mean segment.
"""

import keras
import tensorflow as tf

from ganse_tf import layers, losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

SEGMENT = 16384  # samples
KERNEL = 31
CHANNELS = (32, 64, 128, 256, 512)  # of the five dense blocks
PYRAMID = 128  # channels of all pyramid maps
DENSE_LAYERS = 4  # convolutions in a block, before the one with stride
GROWTH = 32  # channels that each adds; our choice
D_WIDTHS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)  # SEGAN's
LOCAL_WIDTHS, LOCAL_DENSE = (32, 64, 96, 128, 256), 100
LENGTHS = (2048, 4096, 8192)  # samples of a local segment; our choice
LEAK = 0.2  # our choice, as all below
L1_WEIGHT, GLOBAL_WEIGHT, LOCAL_WEIGHT = 100.0, 1.0, 1.0
EMPHASIS = 0.95
LEARNING_RATE, BETA_1, CLIP_NORM = 2e-4, 0.5, 5.0


def build_generator(segment=SEGMENT, channels=CHANNELS, growth=GROWTH, pyramid=PYRAMID, kernel=KERNEL, input_skip=False):
    """The pyramid of Fig. 1: five dense blocks down, added up from coarse to fine, joined at a quarter of the length."""
    noisy = keras.Input((segment, 1), name="noisy")  # (B, 16384, 1)
    x = conv(noisy, growth, kernel, name="stem")  # (B, 16384, 32)
    laterals = []
    for i, width in enumerate(channels):
        x = dense_block(x, width, growth, kernel, f"block{i + 1}")  # (B, 8192, 32), (B, 4096, 64) ... (B, 512, 512)
        laterals.append(keras.layers.Conv1D(pyramid, 1, name=f"lateral{i + 1}")(x))  # (B, 8192, 128) ... (B, 512, 128)
    first, *others = laterals  # block 1 does not belong to the pyramid, only to the head
    maps = [others.pop()]  # P5
    for lateral in reversed(others):
        maps.append(keras.layers.Add()([layers.upsample(maps[-1], 2), lateral]))  # P4, P3, P2: (B, 1024 / 2048 / 4096, 128)
    factors = [2**i for i in reversed(range(len(maps)))]  # 8, 4, 2, 1
    x = keras.layers.Concatenate(name="maps")([layers.upsample(m, f) for m, f in zip(maps, factors)])  # (B, 4096, 512)
    x = conv(x, pyramid, kernel, name="fuse")  # (B, 4096, 128)
    x = keras.layers.Add(name="head")([layers.upsample(x, 2), first])  # (B, 8192, 128)
    x, start = layers.upsample(x, 2), "zeros" if input_skip else "glorot_uniform"
    x = keras.layers.Conv1D(1, kernel, padding="same", kernel_initializer=start, name="to_wave")(x)  # (B, 16384, 1)
    if input_skip:
        x = keras.layers.Add(name="input_skip")([x, noisy])  # the network finds what to take away
    enhanced = keras.layers.Activation("tanh", dtype="float32", name="enhanced")(x)
    return keras.Model(noisy, enhanced, name="generator")


def dense_block(x, width, growth, kernel, name):
    """Every convolution sees the outputs of all before it; the last one halves the length."""
    for i in range(DENSE_LAYERS):
        new = conv(x, growth, kernel, name=f"{name}_conv{i + 1}")
        x = keras.layers.Concatenate(name=f"{name}_join{i + 1}")([x, new])  # growth channels more
    return conv(x, width, kernel, strides=2, name=f"{name}_down")


def conv(x, width, kernel, name, strides=1):
    """Convolution and LeakyReLU."""
    x = layers.FastConv1D(width, kernel, strides=strides, padding="same", name=name)(x)
    return keras.layers.LeakyReLU(negative_slope=LEAK, name=f"{name}_leaky")(x)


def build_discriminator(segment=SEGMENT, widths=D_WIDTHS, kernel=KERNEL):
    """D_g: one logit for the whole pair."""
    candidate, noisy = keras.Input((segment, 1), name="candidate"), keras.Input((segment, 1), name="noisy")
    x = keras.layers.Concatenate(name="pair")([candidate, noisy])  # (B, 16384, 2)
    for i, width in enumerate(widths):
        x = conv(x, width, kernel, strides=2, name=f"conv{i}")  # (B, 8192, 16) ... (B, 8, 1024)
    x = keras.layers.Flatten(name="flatten")(x)  # (B, 8192)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)  # (B, 1)
    return keras.Model([candidate, noisy], logit, name="discriminator")


def build_local_discriminator(widths=LOCAL_WIDTHS, dense=LOCAL_DENSE, kernel=KERNEL):
    """D_l: one logit for a pair of segments of any length."""
    candidate, noisy = keras.Input((None, 1), name="candidate"), keras.Input((None, 1), name="noisy")
    x = keras.layers.Concatenate(name="pair")([candidate, noisy])  # (B n, L, 2)
    for i, width in enumerate(widths):
        x = conv(x, width, kernel, strides=2, name=f"conv{i}")  # (B n, L/2, 32) ... (B n, L/32, 256)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)  # (B n, 256)
    x = keras.layers.Dense(dense, name="dense")(x)  # (B n, 100)
    x = keras.layers.LeakyReLU(negative_slope=LEAK, name="dense_leaky")(x)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)  # (B n, 1)
    return keras.Model([candidate, noisy], logit, name="local_discriminator")


def cut(wav, offset, length):
    """Signals (B, T, 1) -> their segments side by side (B n, length, 1), after a circular shift by `offset` samples."""
    return tf.reshape(tf.roll(wav, -offset, axis=1), [-1, length, 1])


def worst_segment_loss(logits):
    """-log min_i D_l of each utterance: logits (B, n) -> (B,)."""
    return tf.nn.softplus(-tf.reduce_min(tf.cast(logits, tf.float32), axis=1))


@keras.saving.register_keras_serializable(package="ganse_tf")
class CPGAN(EnhancementGAN):
    """CP-GAN, reconstructed: G 14.5 M, D_g 24.4 M, D_l 1.7 M parameters; `CPGAN.tiny()` for a laptop.

    `discriminator` is D_g, `local_discriminator` D_l. They share no weight: one Adam moves both exactly as two would.

    Args:
        segment: samples per example; a multiple of 32 and of every one of `lengths`. Paper: 16384.
        channels, pyramid: output channels of the dense blocks; channels of the pyramid's maps.
        growth: channels that a convolution inside a block adds (and of the first convolution).
        d_widths, local_widths: channels of the convolutions of D_g and D_l.
        lengths: samples of a local segment; one of them is drawn for each batch.
        l1_weight: lambda; 0 leaves the L1 term out.
        global_weight, local_weight: of the terms of D_g and D_l in G's loss; 0 leaves that D out.
        local_reduction: "min", the worst segment (the paper), or "mean".
        inference: "crossfade" or "blocks"; emphasis: coefficient of the pre-emphasis, 0 for none.
        kernel: of every convolution but the 1x1. Paper: 31. input_skip: add the noisy waveform before G's tanh.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = CPGAN.tiny()
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=8), epochs=10)
    """

    paper = "Liu, Gong, Liang, Chen 2020: CP-GAN (reconstruction)"
    url = "https://doi.org/10.1109/ICASSP40776.2020.9054060"
    domain = "waveform"
    logs = (*EnhancementGAN.logs, "d_global", "d_local", "g_adv", "g_local", "g_l1")
    choices = dict(local_reduction=("min", "mean"), inference=("crossfade", "blocks"))

    def __init__(
        self, segment=SEGMENT, channels=CHANNELS, growth=GROWTH, pyramid=PYRAMID, d_widths=D_WIDTHS, lengths=LENGTHS,
        local_widths=LOCAL_WIDTHS, l1_weight=L1_WEIGHT, global_weight=GLOBAL_WEIGHT, local_weight=LOCAL_WEIGHT,
        local_reduction="min", emphasis=EMPHASIS, inference="crossfade", kernel=KERNEL, input_skip=False, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        halvings = 2 ** len(channels)
        if segment % halvings:
            raise ValueError(f"segment is {segment}; it must be a multiple of {halvings} (a half per block): try {SEGMENT}.")
        if not lengths or any(segment % length for length in lengths):
            raise ValueError(f"lengths are {list(lengths)}; each must divide the segment: try {[segment // 4, segment // 2]}.")
        if not (l1_weight or self.adversarial_weight and (global_weight or local_weight)):
            raise ValueError("All weights of G's loss are 0: G has nothing to learn. Set l1_weight or the weight of a D.")
        self.segment, self.lengths, self.emphasis, self.inference = segment, tuple(lengths), emphasis, inference
        self.hop = segment // 2  # training windows and cross-faded windows overlap by half
        self.window, self.overlap = 8 * segment, self.hop  # of enhance(): first blocks work at full rate, so 8 s at once
        self.l1_weight, self.local_reduction = l1_weight, local_reduction
        self.global_weight, self.local_weight = global_weight, local_weight
        self.generator = build_generator(segment, tuple(channels), growth, pyramid, kernel, input_skip)
        self.discriminator = build_discriminator(segment, tuple(d_widths), kernel)
        self.local_discriminator = build_local_discriminator(tuple(local_widths), kernel=kernel)

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks, a quarter as long and much thinner, kernels of 15 (G 0.15 M): minutes on two CPU cores."""
        small = dict(segment=4096, channels=(8, 16, 24, 32, 48), growth=6, pyramid=16, kernel=15, lengths=(1024, 2048),
                     d_widths=(8, 8, 16, 16, 32, 32, 64, 64), local_widths=(8, 16, 24, 32, 64),
                     input_skip=True)  # fmt: skip
        return cls(**{**small, **kwargs})

    def default_optimizers(self):
        """Adam(2e-4, beta_1=0.5) for all networks; G's gradient is clipped to norm 5."""
        rates = dict(learning_rate=LEARNING_RATE, beta_1=BETA_1)
        return optimizers.FusedAdam(**rates, global_clipnorm=CLIP_NORM), optimizers.FusedAdam(**rates)

    def network_variables(self, network):
        """As in the base; "discriminator" means every D that has a weight in G's loss."""
        if network == "generator":
            return self.generator.trainable_variables
        in_use = [self.discriminator] * bool(self.global_weight) + [self.local_discriminator] * bool(self.local_weight)
        return [v for d in in_use for v in d.trainable_variables]

    def compile(self, g_optimizer=None, d_optimizer=None, jit_compile=False, **kwargs):
        """`EnhancementGAN.compile`; XLA works with one segment length only."""
        if jit_compile is True and len(self.lengths) > 1 and self.local_weight:
            raise ValueError(f"jit_compile=True needs fixed shapes, but segments of {self.lengths} samples are drawn; build "
                             f"the model with one length, lengths=({self.lengths[0]},), or use jit_compile=False.")  # fmt: skip
        super().compile(g_optimizer, d_optimizer, jit_compile, **kwargs)

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, real, fake):
        """L_Dg + L_Dl from the logits (global (B, 1), local (B, n)) of real and of enhanced pairs; the sum and its terms."""
        d_global, d_local = (losses.cross_entropy(r, 1.0) + losses.cross_entropy(f, 0.0) for r, f in zip(real, fake))
        return d_global + d_local, {"d_global": d_global, "d_local": d_local}

    def generator_loss(self, clean, enhanced, fake=None):
        """L_G: the total and its terms."""
        g_l1 = losses.l1(clean, enhanced)
        g_adv, g_local = tf.zeros_like(g_l1), tf.zeros_like(g_l1)
        if fake is not None:
            g_adv = losses.cross_entropy(fake[0], 1.0)
            worst = self.local_reduction == "min"
            g_local = tf.reduce_mean(worst_segment_loss(fake[1])) if worst else losses.cross_entropy(fake[1], 1.0)
        adversarial = self.global_weight * g_adv + self.local_weight * g_local
        total = self.adversarial_weight * adversarial + self.l1_weight * g_l1
        return total, {"g_adv": g_adv, "g_local": g_local, "g_l1": g_l1}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Enhance. 2. D_g and D_l: clean pairs are 1, enhanced pairs 0. 3. G: fool both, stay near the clean speech."""
        noisy, clean = data[:2]  # (B, T, 1) each
        report, fake = {}, None
        with tf.GradientTape() as g_tape:
            enhanced = self.generator(noisy, training=True)  # (B, T, 1)
            if self.adversarial_weight:
                offset, length = self.draw_cut()
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    real = self.judge(clean, noisy, offset, length)
                    fake = self.judge(enhanced, noisy, offset, length)
                    d_loss, d_terms = self.discriminator_loss(real, fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                d_real, d_fake = tf.reduce_mean(real[0]), tf.reduce_mean(fake[0])
                report = dict(d_loss=d_loss, d_real=d_real, d_fake=d_fake, d_grad_norm=d_norm, **d_terms)
                fake = self.judge(enhanced, noisy, offset, length)  # both D have just learnt
            g_loss, terms = self.generator_loss(clean, enhanced, fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        noisy, clean = data[:2]
        return self.log(g_l1=losses.l1(clean, self.generator(noisy, training=False)))

    def judge(self, candidate, noisy, offset, length):
        """Logits of both D for pairs (B, T, 1): global (B, 1) and local (B, n); zeros for a D that is left out."""
        whole = local = tf.zeros([tf.shape(noisy)[0], 1])
        if self.global_weight:
            whole = self.discriminator([candidate, noisy], training=True)
        if self.local_weight:
            segments = [cut(wav, offset, length) for wav in (candidate, noisy)]  # (B n, L, 1) each, cut alike
            local = tf.reshape(self.local_discriminator(segments, training=True), [-1, self.segment // length])
        return whole, local

    def draw_cut(self):
        """Where the segments of this step begin (circular) and how long they are, in samples; from (seed, step)."""
        seeds = [tf.stack([tf.constant(self.seed * 1009 + i), tf.convert_to_tensor(self.step)]) for i in range(2)]
        offset = tf.random.stateless_uniform([], seeds[0], 0, self.segment, tf.int32)
        if len(self.lengths) == 1:
            return offset, self.lengths[0]
        choice = tf.random.stateless_uniform([], seeds[1], 0, len(self.lengths), tf.int32)
        return offset, tf.gather(self.lengths, choice)

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> (slices, T, 1) pair: pre-emphasis, windows with 50 % overlap, the rest dropped."""
        emphasised = (signal.preemphasis(wav, self.emphasis) for wav in (noisy, clean))
        return tuple(tf.signal.frame(wav, self.segment, self.hop)[..., None] for wav in emphasised)

    def enhance_segment(self, noisy):
        """(n,) -> (n,): half a window of zeros at both ends, windows cross-faded with Hann's weights."""
        n = tf.shape(noisy)[0]
        margin, hop, window = (self.hop, self.hop, "hann") if self.inference == "crossfade" else (0, self.segment, "rect")
        wav = tf.pad(signal.preemphasis(noisy, self.emphasis), [[margin, margin]])
        frames = signal.frame(wav, self.segment, hop)  # (k, T)
        frames = self.generator(frames[..., None], training=False)[..., 0]
        enhanced = signal.overlap_add(frames, hop, window=window)[margin : margin + n]
        return signal.deemphasis(enhanced, self.emphasis)
