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
# # FSEGAN: enhance what the recogniser reads
#
# **Title:** FSEGAN · **Paper:** Donahue, Li, Prabhavalkar, ICASSP 2018, [arXiv:1711.05747](https://arxiv.org/abs/1711.05747) ·
# **Description:** log-mel in, log-mel out; scored by a digit recogniser · **Accelerator:** none for `tiny`, GPU for `paper` ·
# **Time:** about 5 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/07_fsegan.ipynb)
#
# After this notebook you can
# 1. read a log-mel spectrum and say what the recogniser loses in noise;
# 2. say why D gives eight answers per window and which frames each of them sees;
# 3. put an enhancer before a recogniser in the four ways that the paper compares, and read its word error rates.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 4, "sick_steps": 4, "asr_epochs": 1, "n_train": 6, "n_digits": 8, "n_test": 2}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
corpus = "toy"  #@param {type:"string"}
steps = 240  #@param {type:"slider", min:4, max:20000}
sick_steps = 40  #@param {type:"slider", min:4, max:1000}
asr_epochs = 30  #@param {type:"slider", min:1, max:60}
n_train = 220  #@param {type:"integer"}
n_digits = 120  #@param {type:"integer"}
n_test = 8  #@param {type:"integer"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `steps` are updates of G, without and with D; `sick_steps` those of a training that is meant to fail; `asr_epochs` train each of the
# two recognisers on `n_digits` digit strings. `preset="paper"` with `corpus="/path/to/pairs"` on a GPU is the paper's size of network.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, viz
from ganse_tf.downstream import asr
from ganse_tf.models.fsegan import BETA_1, FSEGAN, LEARNING_RATE, log_mel
from ganse_tf.optimizers import FusedAdam

tf.get_logger().setLevel("ERROR")  # no advice about tracing: every network below is new and is traced once
KINDS = ("white", "pink", "babble")
BATCH = 8  # DEVIATION: the paper's 100 windows per step would take minutes
RATE = 2e-3  # DEVIATION: pix2pix's Adam(2e-4, 0.5) is for long trainings
build = (lambda **kw: FSEGAN(in_channels=1, **kw)) if preset == "paper" else FSEGAN.tiny
keras.utils.set_random_seed(seed)
model = build(seed=seed)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters, moving averages included")

# %% [markdown]
# ## 1. The paper in one picture
#
# A recogniser never hears a waveform: it reads log-mel spectra. So G works on these, as on a picture: a U-Net that halves time and
# frequency seven times until one point is left, and comes back. No z, no batch norm, a linear output. D sees the pair (noisy,
# candidate) and ends with **eight** numbers: one decision per 16 frames.

# %%
fig = viz.architecture(model, "FSEGAN")
viz.show(fig)

# %% [markdown]
# ## 2. Listen
#
# Strings of digits, because a small recogniser can learn them in a minute.

# %%
train = data.toy_pairs("train", n=n_train, snr_db=asr.TRAIN_SNRS_DB, kinds=KINDS, seed=seed) if corpus == "toy" else data.pairs(corpus)
test = data.toy_pairs("test", n=n_test, snr_db=asr.TEST_SNRS_DB, kinds=KINDS, seed=seed)
example = next(p for p in data.toy_pairs("test", snr_db=5, kinds=KINDS, seed=seed) if p.words)
noisy, clean, rate = example.load()
print(example.text, "|", example.noise, example.snr_db, "dB")
viz.player(noisy[: 2 * rate], rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# Magnitudes of a short-time spectrum (32 ms window, 10 ms hop), summed in 128 triangular bands between 125 and 7500 Hz, natural
# logarithm. The bands are narrow where the ear is sharp. G reads windows of 128 frames (1.28 s).

# %%
def draw(pictures):
    """Log-mel spectra one below the other, on one colour scale."""
    fig, axes = plt.subplots(len(pictures), 1, figsize=(8, 1.9 * len(pictures)), sharex=True, layout="constrained")
    for ax, (title, picture) in zip(axes, pictures.items()):
        extent = (0, len(picture) / 100, 0, 128)
        image = ax.imshow(np.asarray(picture).T, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-7, vmax=3)
        ax.set(title=title, ylabel="mel band")
    axes[-1].set_xlabel("time (s)")
    fig.colorbar(image, ax=axes, label="ln magnitude")
    plt.show()


mel_noisy, mel_clean = log_mel(noisy).numpy(), log_mel(clean).numpy()
draw({"noisy": mel_noisy, "clean": mel_clean})

# %% [markdown]
# *The picture: noise fills the dark gaps between the words and between the formants. The recogniser was trained on dark gaps.*

# %%
examples = data.examples(train, model, batch_size=BATCH, seed=seed)
noisy_batch, clean_batch = next(iter(examples))
print("windows:", noisy_batch.shape, "->", clean_batch.shape, " (windows, frames, bands, channels)")
print("20832 samples give", log_mel(np.zeros(20832)).shape[0], "frames; 1.28 s = 20480 samples would give", log_mel(np.zeros(20480)).shape[0])
stereo = FSEGAN(in_channels=2, filters=4, d_filters=4)  # the paper's recordings have two microphones, its target has one
left_right = tf.stack([noisy, np.roll(noisy, 3)], axis=1)
print("stereo:", left_right.shape, "->", [tuple(x.shape) for x in stereo.preprocess(left_right, tf.constant(clean))])

# %% [markdown]
# ## 4. G and D on one batch
#
# Every band is shifted and scaled to mean 0 and deviation 1 over the training set, noisy and clean together.
#
# **Predict, then run:** what does an untrained G answer? And which frames can change D's third decision?

# %%
model.adapt(examples)  # `fit` does it by itself
x, y = model.normalise(noisy_batch), model.normalise(clean_batch)
enhanced = model.generator(x)
scores = model.discriminator([x, enhanced], training=True)
print("noisy", x.shape, "-> enhanced", enhanced.shape, "mean size", round(float(tf.reduce_mean(tf.abs(enhanced))), 4))
print("D's decisions", scores.shape, np.round(scores[0].numpy(), 2), "(logits)")
third = tf.Variable(tf.random.stateless_normal((1, 128, 128, 1), (seed, 0)))
with tf.GradientTape() as tape:
    decision = model.discriminator([x[:1], third], training=False)[0, 2]
frames = np.flatnonzero(np.abs(tape.gradient(decision, third)[0, :, :, 0]).sum(1))
print(f"decision 3 of 8 depends on frames {frames[0]} to {frames[-1]}: {len(frames)} of 128, all bands")

# %% [markdown]
# A decision per 16 frames tells G *when* it sounds wrong. One decision per window would not.
#
# ## 5. The losses
#
# $$L_D = -E[\log D(x,y)] - E[\log(1-D(x,G(x)))] \qquad L_G = -E[\log D(x,G(x))] + 100\,E\,|y-G(x)|$$
#
# **Predict, then run:** D gives logit 0 everywhere ("I cannot tell"). $L_D$? And which term of $L_G$ is larger at the start?

# %%
print("L_D =", round(float(model.discriminator_loss(tf.zeros([2, 8]), tf.zeros([2, 8]))), 4), "= 2 ln 2")
g_loss, terms = model.generator_loss(y, enhanced, scores)
print("L_G =", round(float(g_loss), 2), {name: round(float(value), 4) for name, value in terms.items()}, "; L1 counts 100 times")

# %% [markdown]
# ## 6. One training step, line by line

# %%
import inspect

print(inspect.getsource(FSEGAN.train_step))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
with tf.GradientTape() as d_tape:  # D's turn
    d_real = model.discriminator([x, y], training=True)
    d_fake = model.discriminator([x, tf.stop_gradient(enhanced)], training=True)
    d_loss = model.discriminator_loss(d_real, d_fake)
d_norm = model.minimise(d_tape, d_loss, "discriminator")
print(f"d_loss {float(d_loss):.3f}, gradient norm {float(d_norm):.3f}")
print("G untouched:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))
with tf.GradientTape() as g_tape:  # G's turn
    enhanced = model.generator(x, training=True)
    g_loss, terms = model.generator_loss(y, enhanced, model.discriminator([x, enhanced], training=True))
g_norm = model.minimise(g_tape, g_loss, "generator")
print(f"g_loss {float(g_loss):.2f}, gradient norm {float(g_norm):.2f},", {name: round(float(value), 3) for name, value in terms.items()})

# %% [markdown]
# ## 7. Train: D off and D on
#
# D off is the paper's own competitor, an "L1-only" enhancer. Both start from the same weights and see the same windows.

# %%
def trained(adversarial_weight, updates=steps, d_rate=LEARNING_RATE, epochs=8):
    keras.utils.set_random_seed(seed)
    fresh = build(seed=seed, adversarial_weight=adversarial_weight)
    fresh.compile(FusedAdam(RATE), FusedAdam(d_rate, beta_1=BETA_1))
    fresh.mean.assign(model.mean)
    fresh.std.assign(model.std)
    epochs = min(epochs, updates)
    batches = data.examples(train, fresh, batch_size=BATCH, seed=seed).repeat()
    return fresh, fresh.fit(batches, epochs=epochs, steps_per_epoch=updates // epochs, verbose=0)


d_off, history_off = trained(0.0)
print("L1 (deviations) without D:", [round(v, 3) for v in history_off.history["g_l1"]])

# %%
d_on, history = trained(1.0)
fig = viz.curves(history, ["g_l1", "g_adv", "d_loss", "d_real", "d_fake"], scores="logits", title="FSEGAN, D on")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history, ["g_l1", "g_adv", "d_loss", "d_real", "d_fake"]))

# %% [markdown]
# **Sick on purpose:** D learns fifty times as fast.

# %%
_, sick = trained(1.0, sick_steps, d_rate=1e-2, epochs=8)
fig = viz.curves(sick, ["g_l1", "g_adv", "d_loss", "d_real", "d_fake"], scores="logits", title="D too fast")
viz.show(fig)

# %% [markdown]
# **Reading the curves.** Healthy: `g_l1` falls; `d_loss` stays well above 0 and `d_real` above `d_fake`. Sick: scores that jump, or a
# `d_loss` near 0 with a large `g_adv`: D has won, and what it tells G is no longer a direction. The L1 term carries G through it here.
#
# ## 8. Look and listen again

# %%
mel_off, mel_on = d_off.enhance_features(mel_noisy), d_on.enhance_features(mel_noisy)
draw({"noisy": mel_noisy, "D off (L1 only)": mel_off, "D on (FSEGAN)": mel_on, "clean": mel_clean})
for name, made in (("noisy", mel_noisy), ("D off", mel_off), ("D on", mel_on)):
    print(f"{name:6s} log-mel L1 {np.abs(made - mel_clean).mean():.3f}, deviation over time {made.std(0).mean():.2f} (clean {mel_clean.std(0).mean():.2f})")

# %% [markdown]
# *The picture: the gaps become dark again. L1 alone answers with the median of all possible spectra, so fine detail is smoothed away;
# compare the two deviations over time with that of clean speech. A sudden step at 1.28 s or 2.56 s is a seam: as in the paper, windows
# are enhanced one after the other, without overlap. `FSEGAN.tiny(window_hop=64)` would average overlapping ones.*
#
# **How can you hear a log-mel spectrum?** The paper does not: it has no waveform. `enhance` turns G's answer into a gain per band,
# exp(G(x) - x), never above 1, spreads it over the bins of the noisy spectrum and keeps the noisy phase. It is a way to listen to
# what G did, not what the recogniser gets.

# %%
ax = viz.mask(np.exp(np.minimum(mel_on - mel_noisy, 0)), rate, hop_length=160, mel=True, title="mel gains, D on")
viz.show(ax.figure)

# %%
heard = d_on.enhance(noisy, rate)
fig = viz.triptych(noisy, heard, clean, rate, titles=("noisy", "FSEGAN tiny through mel gains", "clean"))
viz.show(fig)

# %%
viz.player(heard[: 2 * rate], rate, "enhanced through mel gains")

# %%
viz.player((noisy - heard)[: 2 * rate], rate, "what was taken away")

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D on

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("si_sdr", "stoi", "pesq_wb")
systems = {"noisy": lambda wav, r: wav, "log-MMSE": BASELINES["log-MMSE"], "FSEGAN tiny, D off": d_off.enhance, "FSEGAN tiny, D on": d_on.enhance}
for released in ("fsegan", "fsegan_d_off"):
    if released in ganse_tf.presets.names():
        systems[f"released {released} (real speech)"] = ganse_tf.from_preset(released).enhance
tables = {}
for label, enhance in systems.items():
    scored = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in test)
    tables[label] = metrics.score_pairs(scored, names, progress=False)
Markdown(metrics.markdown(tables))

# %% [markdown]
# These are measures for the ear. The paper asks another question: does a machine understand more?
#
# ## 10. The paper's finding: word error rates
#
# Two recognisers (two convolutions, a bidirectional LSTM, CTC): **ASR-Clean** has only heard clean digits, **ASR-MTR** only noisy ones
# (multi-style training). Test: other speakers, SNRs that are not in the training. Then four ways to use an enhancer: before ASR-Clean;
# before ASR-MTR; before an ASR-MTR retrained on enhanced features; and "hybrid", retrained on noisy and enhanced features stacked as
# two channels, the new weights starting at zero.
#
# **Predict, then run:** which recogniser gains most from an enhancer? Can an enhancer make matters worse?

# %%
def features(wav, sample_rate):
    return log_mel(wav, sample_rate).numpy()


def first(digits, n):
    return asr.DigitSet(digits.clean[:n], digits.noisy[:n], digits.texts[:n], digits.wavs[:n], digits.sample_rate)


train_digits = first(asr.digit_set("train", features, asr.TRAIN_SNRS_DB, KINDS, seed=seed), n_digits)
test_digits = first(asr.digit_set("test", features, asr.TEST_SNRS_DB, KINDS, copies=2, seed=seed), n_digits)
enhancers = {name: lambda d, m=m: [m.enhance_features(f) for f in d.noisy] for name, m in (("D off (L1 only)", d_off), ("D on (FSEGAN)", d_on))}
rows = asr.compare(train_digits, test_digits, enhancers, epochs=asr_epochs, seed=seed)
words = sum(len(text.split()) for text in test_digits.texts)
print(f"{len(train_digits.texts)} training and {len(test_digits.texts)} test strings, {words} test digits: one error is {100 / words:.2f} %")
Markdown(asr.table(rows))

# %% [markdown]
# **Reading the table.** Compare with the second row (ASR-Clean, noisy) to see what an enhancer does for a recogniser that knows no noise,
# and with the fourth (ASR-MTR, noisy) to see whether it still helps one that does. With so few words, differences of a few percent
# can be chance: repeat with other seeds before you believe them.
#
# **The paper against ours.** Word error rates in % on WSJ with music, ambient noise and room simulation (Tables 1 and 2):
#
# | test | enhancer | ASR-Clean | ASR-MTR | MTR retrained | MTR hybrid |
# |---|---|---:|---:|---:|---:|
# | clean | none | 11.9 | 14.3 | | |
# | noisy | none | 72.2 | 20.3 | | |
# | noisy | SEGAN | 80.7 | 52.8 | | |
# | noisy | FSEGAN | 33.3 | 25.4 | 21.0 | 17.6 |
# | noisy | L1 only | | 21.4 | 18.0 | 17.1 |
#
# Three lessons of the paper: an enhancer halves the errors of a recogniser that knows no noise; it *harms* one that was trained on
# noise, until that one is retrained; and the L1-only enhancer is better than the GAN in every row where both were tried. A recogniser
# trained on both microphones without any enhancer reaches 19.0: the abstract's "7 %" is 19.0 to 17.6. A longer run of our experiment is in
# [benchmarks/learn/fsegan.md](../benchmarks/learn/fsegan.md). Ours differs in every size: digits, four synthetic test speakers, additive
# noise, minutes of training.
#
# ## Exercises
#
# 1. **(easy)** Write the gain that makes an enhanced log-mel spectrum audible (section 8).
# 2. **(medium)** Write the word error rate of one sentence: the smallest number of substitutions, deletions and insertions, divided by
#    the number of words that were said.
# 3. **(hard)** Build `FSEGAN.tiny(decisions=128)` (128 decisions instead of 8, with the same weights) and train it as in section 7. Then
#    repeat sections 7 and 10 with three seeds. Is the difference between 8 and 128 decisions, or between D off and D on, larger than the
#    difference between seeds?

# %%
from ganse_tf.classroom import check, describe

print(describe("nb07.mel_gain"))
check("nb07.mel_gain", lambda log_noisy, log_enhanced: log_enhanced - log_noisy)  # replace by your function

# %%
print(describe("nb07.word_error_rate"))
check("nb07.word_error_rate", lambda said, heard: sum(a != b for a, b in zip(said.split(), heard.split())))  # replace by your function
