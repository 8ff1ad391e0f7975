# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # UNetGAN: speech that is ten times quieter than the noise
#
# **Title:** UNetGAN · **Paper:** Hao, Su, Wang, Zhang, Batushiren, Interspeech 2019, [arXiv:2010.15521](https://arxiv.org/abs/2010.15521) ·
# **Description:** a U-Net on the waveform and a patch discriminator, for very low signal-to-noise ratios ·
# **Accelerator:** none for `tiny`, GPU for `paper` · **Time:** about 4 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/14_unetgan.ipynb)
#
# After this notebook you can
# 1. explain decimation, linear interpolation and skip connections of a U-Net on a waveform;
# 2. say why the loss that the paper prints "saturates", and measure it;
# 3. test a model on noise it has heard and on noise it has not, and read the difference.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 4, "n_test": 1}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
corpus = "toy"  #@param {type:"string"}
steps = 160  #@param {type:"slider", min:4, max:20000}
n_test = 3  #@param {type:"integer"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `steps` counts updates of G, so the result does not depend on how fast the computer is. `n_test` is the number of test sentences per
# condition. `preset="paper"` with `corpus="/path/to/clean/speech"` on a GPU, batches of 150 and about 58,000 steps is the paper's size.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, layers, losses, metrics, signal, viz
from ganse_tf.models.unetgan import TRAIN_SNRS_DB, UNetGAN
from ganse_tf.optimizers import FusedAdam

SEEN, UNSEEN = ("engine", "pink", "wind"), ("speech_shaped",)  # noise in training; noise kept for the test
BATCH = 8
G_RATE, D_RATE = 3e-3, 1e-3  # DEVIATION: the paper's 2e-4 for both is for 58,000 steps
WEIGHT = 0.02  # DEVIATION: of the adversarial term (paper: 1), so that it does not drown the other; section 7
build = UNetGAN.tiny if preset == "tiny" else UNetGAN
keras.utils.set_random_seed(seed)
model = build(seed=seed, adversarial_weight=WEIGHT)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters, moving averages included")

# %% [markdown]
# ## 1. The paper in one picture
#
# G goes down eight levels: filter at full rate, then drop every other sample. Three dilated convolutions in the middle look far to both
# sides. On the way up the signal is interpolated to twice the rate and joined with what the way down saw.

# %%
fig = viz.architecture(model, "UNetGAN")
viz.show(fig)

# %% [markdown]
# ## 2. Listen
#
# **Predict, then run:** at -10 dB the noise has ten times the power of the speech. How many digits can you write down?

# %%
speech = data.toy_corpus("train") if corpus == "toy" else corpus
example = data.toy_pairs("test", n=1, snr_db=-10, kinds=("wind",), seed=seed)[0]
noisy, clean, rate = example.load()
print(example.noise, example.snr_db, "dB; the sentence is printed at the end of section 8")
viz.player(noisy[: 2 * rate], rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# Short stretches of the mixture and of the clean speech, cut at the same place. Nothing is normalised, and there is no pre-emphasis.
# The training SNRs are the paper's: 0, -5, -10 and -15 dB.

# %%
mixer = data.Mixer(
    speech, SEEN, seconds=model.segment / model.sample_rate, level_db=(-25, -20), length=512, snr_choices=TRAIN_SNRS_DB, seed=seed
)
noisy_batch, clean_batch = next(iter(data.examples(mixer, model, batch_size=BATCH, seed=seed)))
print("noisy", noisy_batch.shape, "clean", clean_batch.shape, noisy_batch.dtype)
ratio_db = 10 * np.log10(np.sum(clean_batch**2, (1, 2)) / np.sum((noisy_batch - clean_batch) ** 2, (1, 2)))
print("SNR of the eight examples in dB:", np.round(ratio_db, 1))

# %% [markdown]
# ## 4. G and D on one batch
#
# **Predict, then run:** linear interpolation with half-pixel centres makes eight samples of the four below. Which? D halves the rate three
# times and decides patch by patch: how many decisions for one example?

# %%
print("upsample:", layers.upsample(tf.constant([0.0, 4.0, 8.0, 4.0])[None, :, None], 2)[0, :, 0].numpy())
enhanced = model.generator(noisy_batch)
patches = model.discriminator([enhanced, noisy_batch])
print("enhanced", enhanced.shape, "D's logits", patches.shape, "- one per 8 samples, each looks at 106 samples")
skips = [layer.output.shape[1:] for layer in keras.Model(model.generator.input, model.generator.output).layers if layer.name.startswith("skip")]
print("channels after each join, deepest first:", [shape[-1] for shape in skips])

# %% [markdown]
# ## 5. The losses
#
# $x$ is the mixture, $y$ the clean speech, $\lambda = 20$.
#
# $$L_D = -E[\log(1 - D(x, G(x)))] - E[\log D(x, y)] \qquad L_G = E[\log(1 - D(x, G(x)))] + \lambda\,E[(y - G(x))^2]$$
#
# **Predict, then run:** D says 0.9 for clean and 0.2 for enhanced speech. $L_D$? Is the first term of $L_G$ positive or negative?

# %%
def logit(p):
    return tf.constant([np.log(p / (1 - p))], tf.float32)


print("L_D =", round(float(model.discriminator_loss(logit(0.9), logit(0.2))), 4))
print("saturating:     log(1 - D) =", round(float(losses.saturating(logit(0.2))), 4))
print("non-saturating: -log D     =", round(float(losses.cross_entropy(logit(0.2), 1.0)), 4))

# %% [markdown]
# Both forms want the same: a larger D(x, G(x)). They differ in how hard they pull when D is sure that the speech is not clean.

# %%
x = tf.linspace(-8.0, 8.0, 161)
slopes = {}
for name, loss in (("saturating, log(1 - D)", losses.saturating), ("non-saturating, -log D", lambda z: losses.cross_entropy(z, 1.0))):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    slopes[name] = np.abs(tape.gradient(value, x)) * len(x)
fig, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
for (name, slope), dashes in zip(slopes.items(), ("-", "--")):
    ax.plot(x, slope, dashes, label=name)
ax.set(xlabel="D's logit for enhanced speech (negative: D is sure)", ylabel="size of the gradient", title="How hard each form pulls")
ax.legend()
plt.show()

# %% [markdown]
# *The picture: at a logit of -8 the saturating form pulls with almost nothing, the other with full force; at +8 it is the reverse.*
#
# ## 6. One training step, line by line

# %%
import inspect

print(inspect.getsource(UNetGAN.train_step))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
with tf.GradientTape() as g_tape:
    enhanced = model.generator(noisy_batch, training=True)
    with g_tape.stop_recording(), tf.GradientTape() as d_tape:  # D's turn: nothing of this may reach G
        d_real = model.discriminator([clean_batch, noisy_batch], training=True)
        d_fake = model.discriminator([enhanced, noisy_batch], training=True)
        d_loss = model.discriminator_loss(d_real, d_fake)
    with g_tape.stop_recording():
        d_norm = model.minimise(d_tape, d_loss, "discriminator")
    print("G untouched by D's step:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))
    d_fake = model.discriminator([enhanced, noisy_batch], training=True)  # G's turn, judged by the D that has just learnt
    g_loss, terms = model.generator_loss(clean_batch, enhanced, d_fake)
g_norm = model.minimise(g_tape, g_loss, "generator")
print(f"d_loss {float(d_loss):.3f} (gradient norm {float(d_norm):.3f}), g_loss {float(g_loss):.3f} (gradient norm {float(g_norm):.3f})")
print({name: round(float(value), 4) for name, value in terms.items()})

# %% [markdown]
# ## 7. Train: D off and D on
#
# Twice from the same start. After every epoch the callback asks the current D: how large is the gradient that each form of the loss
# would send to the enhanced waveform?

# %%
class Pull(keras.callbacks.Callback):
    """Gradient norm at the enhanced waveform, for both forms of the adversarial loss, after every epoch."""

    def on_epoch_end(self, epoch, logs=None):
        made = self.model.generator(noisy_batch, training=False)
        for name, loss in (("pull_saturating", losses.saturating), ("pull_nonsaturating", lambda z: losses.cross_entropy(z, 1.0))):
            with tf.GradientTape() as tape:
                tape.watch(made)
                value = loss(self.model.discriminator([made, noisy_batch], training=True))
            logs[name] = float(tf.norm(tape.gradient(value, made)))


def trained(updates, d_rate=D_RATE, **options):
    keras.utils.set_random_seed(seed)
    fresh = build(seed=seed, **options)
    fresh.compile(FusedAdam(G_RATE), FusedAdam(d_rate))
    batches = data.examples(mixer, fresh, batch_size=BATCH, seed=seed).repeat()
    watch = [Pull()] if fresh.adversarial_weight else []
    epochs = min(8, updates)
    return fresh, fresh.fit(batches, epochs=epochs, steps_per_epoch=updates // epochs, callbacks=watch, verbose=0)


d_off, history_off = trained(steps, adversarial_weight=0.0)
d_on, history = trained(steps, adversarial_weight=WEIGHT)

# %%
fig = viz.curves(history, ["g_l2", "d_loss", "g_adv", "d_real", "d_fake"], scores="logits", title="UNetGAN, D on")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history, ["g_l2", "d_loss", "g_adv", "d_real", "d_fake", "pull_saturating", "pull_nonsaturating"]))

# %% [markdown]
# **Sick on purpose.** The same, for a quarter of the steps, with a learning rate of D twenty times as large.

# %%
_, sick = trained(max(steps // 4, 2), d_rate=20 * D_RATE, adversarial_weight=WEIGHT)
fig = viz.curves(sick, ["g_l2", "d_loss", "g_adv", "d_real", "d_fake"], scores="logits", title="D too fast")
viz.show(fig)
for name, log in (("healthy", history), ("D too fast", sick)):
    pull = [log.history[key][-1] for key in ("pull_saturating", "pull_nonsaturating")]
    print(f"{name}: last pull {pull[0]:.2e} saturating, {pull[1]:.2e} non-saturating, ratio {pull[1] / pull[0]:.1f}")

# %% [markdown]
# **Reading the curves.** Where D is in doubt (logits near 0) both forms pull alike, and it does not matter which one is trained. The surer D
# is of enhanced speech (d_fake further below 0), the less the saturating form has left: compare the two columns of the table, first
# and last row. The D that is too fast has thrown itself out: it gives clean and enhanced speech the same answer, and neither form
# gets a direction from it. At -15 dB a good D has an easy life, so the paper's printed eq. 2 is risky. The paper's own last G loss,
# 0.771, is positive; the first term of eq. 2 never is. So its authors most likely trained the other form, and it is our default.
#
# **Who leads?** At our levels the squared error is so small that 20 times it is far below the adversarial term. With the paper's weight of
# 1, G would follow a D that has seen little, and not the clean speech. So we gave the adversarial term a small weight:

# %%
last = {name: values[-1] for name, values in history.history.items()}
print(f"20 g_l2 = {20 * last['g_l2']:.4f}, g_adv = {last['g_adv']:.4f}, {WEIGHT} g_adv = {WEIGHT * last['g_adv']:.4f}")

# %% [markdown]
# ## 8. Look and listen again

# %%
enhanced_off, enhanced_on = d_off.enhance(noisy, rate), d_on.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced_on, clean, rate, titles=("noisy", "UNetGAN tiny, D on", "clean"))
viz.show(fig)

# %%
viz.player(enhanced_on[: 2 * rate], rate, "enhanced, D on")

# %%
viz.player((noisy - enhanced_on)[: 2 * rate], rate, "what was taken away")

# %%
print("The sentence:", example.text)
viz.player(clean[: 2 * rate], rate, "clean")

# %% [markdown]
# A network on the waveform has no mask. One can still be computed: how much of each point of the spectrogram is left?

# %%
before, after = (signal.magnitude(signal.stft(wav)).numpy() for wav in (noisy, enhanced_on))
ax = viz.mask(np.minimum(after / (before + 1e-6), 1), rate, title="enhanced / noisy magnitude")
viz.show(ax.figure)

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D on
#
# Test speakers, noise of the kinds heard in training, the paper's training SNRs.

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("si_sdr", "stoi", "pesq_nb")
test = [p for snr_db in TRAIN_SNRS_DB for p in data.toy_pairs("test", n=n_test, snr_db=snr_db, kinds=SEEN, seed=seed)]
rows = {"noisy": lambda wav, r: wav, "log-MMSE": BASELINES["log-MMSE"], "UNetGAN tiny, D off": d_off.enhance, "UNetGAN tiny, D on": d_on.enhance}
for released in ("unetgan", "unetgan_d_off"):
    if released in ganse_tf.presets.names():
        rows[f"released {released}"] = ganse_tf.from_preset(released).enhance


def table(pairs, systems, wanted=names):
    scored = {}
    for label, enhance in systems.items():
        made = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in pairs)
        scored[label] = metrics.score_pairs(made, wanted, progress=False)
    return scored


Markdown(metrics.markdown(table(test, rows)))

# %% [markdown]
# ## 10. The paper's finding: very low SNR, noise it knows and noise it does not
#
# The paper tests down to -20 dB, with four kinds of noise from the training and one new kind. We do the same, in small.

# %%
snrs_db = (0, -5, -10, -15, -20)
systems = {"noisy": rows["noisy"], "D off": d_off.enhance, "D on": d_on.enhance}
found = {}
for what, kinds in (("seen", SEEN), ("unseen", UNSEEN)):
    for snr_db in snrs_db:
        scored = table(data.toy_pairs("test", n=n_test, snr_db=snr_db, kinds=kinds, seed=seed), systems, ("si_sdr", "stoi"))
        for name, scores in scored.items():
            found.setdefault((what, name), []).append(scores.means())
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, metric, label in zip(axes, ("si_sdr", "stoi"), ("SI-SDR (dB)", "STOI")):
    for (what, name), means in found.items():
        style = dict(linestyle="-" if what == "seen" else ":", marker={"noisy": "o", "D off": "s", "D on": "^"}[name])
        colour = {"noisy": "0.5", "D off": viz.COLOURS[2], "D on": viz.COLOURS[4]}[name]
        ax.plot(snrs_db, [m[metric] for m in means], color=colour, label=f"{name}, {what}", **style)
    ax.set(xlabel="SNR of the input (dB)", ylabel=label, xticks=snrs_db)
    ax.grid(alpha=0.3)
axes[0].legend(fontsize=8)
plt.show()
for what in ("seen", "unseen"):
    for metric in ("si_sdr", "stoi"):
        gain = {name: np.mean([m[metric] for m in found[what, name]]) - np.mean([m[metric] for m in found[what, "noisy"]]) for name in ("D off", "D on")}
        print(f"mean gain in {metric} over the noisy input, {what} noise: D off {gain['D off']:+.3f}, D on {gain['D on']:+.3f}")

# %% [markdown]
# *The picture: solid lines for kinds of noise heard in training, dotted ones for speech-shaped noise, which was not.*
#
# **The paper against ours.** From the paper's Table 1 (PESQ is raw narrow-band P.862 there, not the MOS scale of our table):
#
# | paper, TIMIT and NOISEX-92 | STOI, mixture | STOI, UNetGAN |
# |---|---|---|
# | mean of four kinds of noise from the training, 0 to -20 dB | 0.555 | 0.828 |
# | factory2, not in the training | 0.662 | 0.699 |
# | factory1 at -20 dB | 0.426 | 0.716 |
#
# Nearly all of the gain is on noise whose other half was in the training set. The authors' data builder starts every mixture at the
# beginning of the same two minutes of noise, so the noise can be learnt by heart. Our noise is made afresh for every example. Ours is also
# a network with a ninth of the parameters, after minutes instead of 58,000 steps.
#
# What ours re-creates is the gap: with D on the SI-SDR rises by 5 dB for kinds of noise it knows, and by 1 dB for the kind it does not.
# What it does not re-create: STOI hardly moves. And D off, from the same weights and with the same batches, falls below its input
# at -10 dB and lower. Do not conclude that D is worth 7 dB: this is one seed and 160 steps. Change `seed` twice before you believe
# a difference; `python -m benchmarks.learn.unetgan` trains longer and with other weights of the adversarial term.
#
# ## Exercises
#
# 1. **(easy)** Write the adversarial term of eq. 2 so that it survives a logit of 200.
# 2. **(medium)** Write the interpolation of section 4 with NumPy.
# 3. **(hard)** How many samples does one step after the dilated convolutions see? Write it for any number of levels, then compare the
#    dilations (1, 2, 4) with (1, 1, 1): `trained(steps, adversarial_weight=WEIGHT, dilations=(1, 1, 1))`, and add its row to the table of
#    section 9. Do the same with `adversarial_weight=1.0`, the paper's, and with `adv_mode="saturating"`.

# %%
from ganse_tf.classroom import check, describe

print(describe("nb14.saturating"))
check("nb14.saturating", lambda logits: tf.reduce_mean(tf.math.log(1 - tf.sigmoid(logits))))  # replace by your function

# %%
print(describe("nb14.upsample"))
check("nb14.upsample", lambda x: np.repeat(x, 2))  # replace by your function

# %%
print(describe("nb14.receptive_field"))
check("nb14.receptive_field", lambda levels, kernel, dilations, middle_kernel: 1 + levels * (kernel - 1))  # replace by your function
