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
# # MMSE-GAN: a fooled discriminator is not enough
#
# **Title:** MMSE-GAN · **Paper:** Soni, Shah, Patil, ICASSP 2018, "Time-frequency masking-based speech enhancement using generative
# adversarial network", [authors' code and paper](https://github.com/Neil-Shah/GANs-for-Speech-Enhancement) ·
# **Description:** gammatone spectrum, a mask learnt implicitly, GAN with and without a squared error · **Accelerator:** none ·
# **Time:** about 2 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/13_mmsegan.ipynb)
#
# After this notebook you can
# 1. describe a gammatone filterbank and turn a mask per band back into a waveform;
# 2. tell explicit from implicit mask learning, and say why the loss is taken in the logarithmic domain;
# 3. explain why a GAN alone can fool its discriminator and still be wrong.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 10, "n_train": 6, "n_test": 1}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
corpus = "toy"  #@param {type:"string"}
steps = 600  #@param {type:"slider", min:10, max:20000}
n_train = 70  #@param {type:"integer"}
n_test = 2  #@param {type:"integer"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `steps` counts updates, 1000 frames each, as in the paper. `n_test` is the number of test sentences per SNR.
# `preset="paper"` with `corpus="/path/to/voicebank"` (a folder that `python -m data_prep voicebank_demand` made) is the paper's experiment;
# the network is so small that a CPU will do.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, signal, viz
from ganse_tf.models import mmsegan
from ganse_tf.models.mmsegan import MMSEGAN
from ganse_tf.optimizers import FusedAdam

SEEN = ("babble", "engine", "pink", "speech_shaped", "wind")
TRAIN_SNRS_DB, TEST_SNRS_DB = (0, 5, 10, 15), (2.5, 7.5, 12.5, 17.5)  # those of VoiceBank+DEMAND
BATCH = 1000  # frames, the paper's
build = MMSEGAN.tiny if preset == "tiny" else MMSEGAN
keras.utils.set_random_seed(seed)
model = build(seed=seed)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters")

# %% [markdown]
# ## 1. The paper in one picture
#
# G's last step is an addition: log(noisy) + log(mask) = log(enhanced). Only this sum is judged, so nobody ever tells G the right mask:
# it is learnt **implicitly**. D sees one frame of 64 numbers, clean or enhanced, and not the noisy one.

# %%
fig = viz.architecture(model, "MMSE-GAN")
viz.show(fig)

# %% [markdown]
# ## 2. Listen

# %%
train = data.toy_pairs("train", n=n_train, snr_db=TRAIN_SNRS_DB, kinds=SEEN, seed=seed) if corpus == "toy" else data.pairs(corpus)
example = data.toy_pairs("test", n=1, snr_db=2.5, kinds=("engine",), seed=seed)[0]
noisy, clean, rate = example.load()
print(example.text, "|", example.noise, example.snr_db, "dB")
viz.player(noisy[: 2 * rate], rate, "noisy")

# %% [markdown]
# ## 3. What the model sees: a gammatone front end
#
# 64 filters shaped like those of the inner ear: narrow and close together at low frequencies, wide and sparse at high ones.
#
# **Predict, then run:** how many of the 64 filters lie below 1 kHz? In an STFT with 64 bins up to 8 kHz it would be 8.

# %%
centres, responses = signal.gammatone_filters()
print(f"{np.sum(centres < 1000)} of {len(centres)} filters below 1 kHz; the first at {centres[0]:.0f} Hz, the last at {centres[-1]:.0f} Hz")
gains = 20 * np.log10(np.abs(np.fft.rfft(responses, 4096)) + 1e-6)
fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
for i in range(0, 64, 7):
    ax.semilogx(np.arange(1, 2049) * 8000 / 2048, gains[i, 1:], label=f"{centres[i]:.0f} Hz")
ax.set(xlabel="frequency (Hz)", ylabel="gain (dB)", ylim=(-40, 3), xlim=(40, 8000), title="Every seventh filter")
ax.legend(fontsize=7, ncols=2, title="centre", loc="lower left")
plt.show()

# %% [markdown]
# *The picture: ten of the filters; on a logarithmic axis they are about equally wide above 1 kHz.*
#
# The network's input is the logarithm of the windowed RMS of every band, 20 ms at a time, every 10 ms, and three frames of context on
# each side.

# %%
log_noisy, log_clean = (mmsegan.log_frames(mmsegan.bands(wav)).numpy() for wav in (noisy, clean))
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
for ax, values, title in zip(axes, (log_noisy, log_clean), ("noisy", "clean")):
    image = ax.imshow(values.T, origin="lower", aspect="auto", cmap="magma", vmin=log_noisy.max() - 9, vmax=log_noisy.max(),
                      extent=(0, len(values) * 0.01, 0, 64))  # fmt: skip
    ax.set(xlabel="time (s)", title=title)
axes[0].set_ylabel("band")
fig.colorbar(image, ax=axes, label="natural log of amplitude")
plt.show()
batch = next(iter(data.examples(train[:2], model, batch_size=BATCH, seed=seed)))
context_batch, noisy_batch, clean_batch = batch
print("context", context_batch.shape, "= 7 x 64, normalised; log noisy frame", noisy_batch.shape, "and log clean frame", clean_batch.shape, "as they are")

# %% [markdown]
# *The picture: the gammatone spectrum, half of its bands below about 1.4 kHz; the right panel is the target.*
#
# **There and back.** A mask of ones should give the sound back, except for what no filter covers: a sixth of the energy of this engine
# noise lies below 50 Hz, under the lowest filter. And what would the best mask between 0 and 1 give?

# %%
def resynthesise(wav, mask):
    """Weigh the gammatone bands of a noisy waveform and add them up again: what `enhance` does with G's mask."""
    made = signal.gammatone_synthesis(mmsegan.bands(wav), mask)
    return signal.deemphasis(made, mmsegan.EMPHASIS).numpy()[: len(wav)]


ideal = np.exp(np.minimum(log_clean - log_noisy, 0))
print(f"mask of ones: SI-SDR {metrics.si_sdr(noisy, resynthesise(noisy, np.ones_like(ideal)), rate):.1f} dB against its own input")
print(f"noisy {metrics.si_sdr(clean, noisy, rate):.1f} dB, ideal mask {metrics.si_sdr(clean, resynthesise(noisy, ideal), rate):.1f} dB against clean")
ax = viz.mask(ideal, rate, hop_length=mmsegan.HOP_LENGTH, title="ideal mask, from the clean speech", mel=True)
viz.show(ax.figure)

# %% [markdown]
# ## 4. G and D on one batch
#
# **Predict, then run:** an untrained sigmoid says about 0.5. By how much does log(enhanced) differ from log(noisy)?

# %%
mask, log_enhanced = model.generator([context_batch, noisy_batch])
print("mask", mask.shape, f"mean {float(tf.reduce_mean(mask)):.2f}; mean change of the log {float(tf.reduce_mean(log_enhanced - noisy_batch)):.2f}")
cached = data.examples(train, model, batch_size=BATCH, seed=seed).cache()  # features are made once; the filterbank is the slow part
model.adapt(cached)  # one mean and one deviation of the clean log spectrum, for D's input
print("D's logits:", np.round(model.judge(log_enhanced)[:4, 0], 2), "(a sigmoid comes in the loss)")

# %% [markdown]
# ## 5. The losses
#
# $c$ clean, $h$ noisy, $m$ mask.
#
# $$L_D = -E[\log D(c)] - E[\log(1 - D(h m))] \qquad L_G = -E[\log D(h m)] + \tfrac12 E[(\log(h m) - \log c)^2]$$
#
# **Predict, then run:** two bands, h = c = (1, 1), mask (1/e, 1). The squared error? And $L_D$ when all logits are 0?

# %%
total, terms = model.generator_loss(tf.constant([[0.0, 0.0]]), tf.constant([[-1.0, 0.0]]), tf.zeros([1, 1]))
print("half the mean squared error:", 0.5 * float(terms["g_l2"]), "| adversarial term:", round(float(terms["g_adv"]), 4), "| together:", round(float(total), 4))
print("L_D at logits 0:", round(float(model.discriminator_loss(tf.zeros([1, 1]), tf.zeros([1, 1]))), 4))

# %% [markdown]
# Why the logarithm? A weak consonant has a hundredth of the amplitude of a vowel. In the linear domain its error would not count.
#
# ## 6. One training step, line by line

# %%
import inspect

print(inspect.getsource(MMSEGAN.train_step))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
with tf.GradientTape() as g_tape:
    _, log_enhanced = model.generator([context_batch, noisy_batch], training=True)
    with g_tape.stop_recording(), tf.GradientTape() as d_tape:  # D's turn
        d_real, d_fake = model.judge(clean_batch), model.judge(log_enhanced)
        d_loss = model.discriminator_loss(d_real, d_fake)
    with g_tape.stop_recording():
        d_norm = model.minimise(d_tape, d_loss, "discriminator")
    print("G untouched by D's step:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))
    g_loss, terms = model.generator_loss(clean_batch, log_enhanced, model.judge(log_enhanced))  # G's turn
g_norm = model.minimise(g_tape, g_loss, "generator")
print(f"d_loss {float(d_loss):.3f} (gradient norm {float(d_norm):.3f}), g_loss {float(g_loss):.3f} (gradient norm {float(g_norm):.3f})")
print({name: round(float(value), 3) for name, value in terms.items()})

# %% [markdown]
# ## 7. Train: DNN (D off), v-GAN (D alone), MMSE-GAN (both)

# %%
def trained(mode, updates=steps, d_rate=mmsegan.LEARNING_RATE, epochs=10):
    keras.utils.set_random_seed(seed)
    fresh = build(mode=mode, seed=seed)
    fresh.compile(d_optimizer=FusedAdam(d_rate))
    fresh.adapt(cached)
    epochs = min(epochs, updates)
    return fresh, fresh.fit(cached.repeat(), epochs=epochs, steps_per_epoch=updates // epochs, verbose=0)


dnn, history_dnn = trained("dnn")
vgan, history_vgan = trained("vgan")
both, history = trained("mmse-gan")

# %%
fig = viz.curves(history, ["g_l2", "d_loss", "g_adv", "d_real", "d_fake"], scores="logits", title="MMSE-GAN")
viz.show(fig)

# %%
from IPython.display import Markdown

rows = {"DNN": history_dnn, "v-GAN": history_vgan, "MMSE-GAN": history}
lines = ["| | squared error of logs, first | last | D's logit for enhanced frames, last |", "|---|---:|---:|---:|"]
for name, log in rows.items():
    opinion = f"{log.history['d_fake'][-1]:.2f}" if "d_fake" in log.history and name != "DNN" else "no D"
    lines.append(f"| {name} | {log.history['g_l2'][0]:.2f} | {log.history['g_l2'][-1]:.2f} | {opinion} |")
Markdown("\n".join(lines))

# %% [markdown]
# **Sick on purpose:** the same with a learning rate of D thirty times as large.

# %%
_, sick = trained("mmse-gan", max(steps // 4, 2), d_rate=30 * mmsegan.LEARNING_RATE)
fig = viz.curves(sick, ["g_l2", "d_loss", "g_adv", "d_real", "d_fake"], scores="logits", title="MMSE-GAN, D too fast")
viz.show(fig)

# %% [markdown]
# **Reading the curves.** D in doubt keeps both logits near 0, and `d_loss` near 2 log 2 = 1.39. In the sick run look at the size of the logits
# and at `d_loss`: a tanh layer that has been pushed to its ends no longer learns. `g_l2` falls all the same, because the squared
# error needs no D. The v-GAN has no such support.
#
# ## 8. Look and listen again: three masks and the ideal one
#
# This is the paper's own argument: the masks of v-GAN against those of MMSE-GAN.

# %%
context = mmsegan.contexts(tf.constant(log_noisy))
masks = {"ideal": ideal}
for name, network in (("DNN", dnn), ("v-GAN", vgan), ("MMSE-GAN", both)):
    masks[name] = network.generator([context, tf.constant(log_noisy)], training=False)[0].numpy()
fig, axes = plt.subplots(2, 2, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
for ax, (name, values) in zip(axes.flat, masks.items()):
    image = ax.imshow(values.T, origin="lower", aspect="auto", cmap="cividis", vmin=0, vmax=1, extent=(0, len(values) * 0.01, 0, 64))
    ax.set_title(name, loc="left")
for ax in axes[1]:
    ax.set_xlabel("time (s)")
for ax in axes[:, 0]:
    ax.set_ylabel("band")
fig.colorbar(image, ax=axes, label="gain")
plt.show()
for name, values in masks.items():
    if name != "ideal":
        print(f"{name}: correlation with the ideal mask {np.corrcoef(values.ravel(), ideal.ravel())[0, 1]:.2f}, mean gain {values.mean():.2f} (ideal {ideal.mean():.2f})")

# %% [markdown]
# *The picture: a mask should be bright where there is speech. The printed correlations say how far each one is.*

# %%
enhanced = both.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced, clean, rate, titles=("noisy", "MMSE-GAN tiny", "clean"))
viz.show(fig)

# %%
viz.player(enhanced[: 2 * rate], rate, "MMSE-GAN")

# %%
viz.player(vgan.enhance(noisy, rate)[: 2 * rate], rate, "v-GAN")

# %%
viz.player((noisy - enhanced)[: 2 * rate], rate, "what MMSE-GAN took away")

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D alone, both
#
# Test speakers, the paper's test SNRs and the paper's measures, and what the ideal mask would reach.

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("si_sdr", "csig", "cbak", "covl", "pesq_wb", "stoi")
test = [p for snr_db in TEST_SNRS_DB for p in data.toy_pairs("test", n=n_test, snr_db=snr_db, kinds=SEEN, seed=seed)]


def best(noisy, clean):
    logs = (mmsegan.log_frames(mmsegan.bands(wav)) for wav in (clean, noisy))
    return resynthesise(noisy, tf.exp(tf.minimum(next(logs) - next(logs), 0.0)))


systems = {
    "noisy": lambda p: p.noisy, "log-MMSE": lambda p: BASELINES["log-MMSE"](p.noisy, p.sample_rate), "DNN (D off)": lambda p: dnn.enhance(p.noisy),
    "v-GAN (D alone)": lambda p: vgan.enhance(p.noisy), "MMSE-GAN (D on)": lambda p: both.enhance(p.noisy),
    "ideal mask": lambda p: best(p.noisy, p.clean),
}  # fmt: skip
for released in ("mmsegan", "mmsegan_d_off"):
    if released in ganse_tf.presets.names():
        network = ganse_tf.from_preset(released)
        systems[f"released {released}"] = lambda p, network=network: network.enhance(p.noisy)
tables = {}
for label, enhance in systems.items():
    scored = ((p.name, p.clean, enhance(p), p.sample_rate) for p in test)
    tables[label] = metrics.score_pairs(scored, names, progress=False)
Markdown(metrics.markdown(tables))

# %% [markdown]
# ## 10. The paper's finding: what D adds, and what it cannot do alone
#
# **The paper against ours.** The paper's Table 1, VoiceBank+DEMAND, 824 files (PESQ is wide-band):
#
# | | noisy | DNN | v-GAN | MMSE-GAN |
# |---|---|---|---|---|
# | CSIG | 3.35 | 3.73 | 2.48 | 3.80 |
# | CBAK | 2.44 | 3.09 | 2.64 | 3.12 |
# | COVL | 2.63 | 3.09 | 1.91 | 3.14 |
# | PESQ | 1.97 | 2.49 | 1.41 | 2.53 |
# | STOI | 0.91 | 0.93 | 0.79 | 0.93 |
#
# The order is the lesson: the squared error does most of the work (1.97 to 2.49), D adds a little (2.53), D alone is worse than doing
# nothing (1.41). D sees frames without their noisy input, so it can only say "this looks like speech", not "this is what was said".
#
# Our longer run, 2000 updates, is in [benchmarks/learn/mmsegan.md](../benchmarks/learn/mmsegan.md) with its command: PESQ-WB 1.27 for noisy,
# 1.88 for DNN, 1.35 for v-GAN and 1.77 for MMSE-GAN. The v-GAN is last among the networks there, too; that D adds something to the
# squared error we do not see on the toy corpus. It is synthetic speech, and D has few voices to learn from. The ideal mask of
# that run has PESQ 2.56: there is room between every network and its own front end.
#
# ## Exercises
#
# 1. **(easy)** Write the squared error of $L_G$ from G's logits. A logit of -200 must give a number.
# 2. **(medium)** Compute the 64 centre frequencies of section 3 from erb(f) = 9.265 ln(1 + f / (24.7 * 9.265)).
# 3. **(hard)** Build `MMSEGAN.tiny(l2_weight=w)` for w = 0.005, 0.05, 0.5 and 5 and draw PESQ-WB and D's last logit against w. Where does D
#    stop to matter? Predict the two ends first: which of the three rows above are they?

# %%
from ganse_tf.classroom import check, describe

print(describe("nb13.mask_loss"))
check("nb13.mask_loss", lambda logits, log_noisy, log_clean: tf.reduce_mean((log_noisy + tf.math.log(tf.sigmoid(logits)) - log_clean) ** 2))

# %%
print(describe("nb13.erb_centres"))
check("nb13.erb_centres", lambda fmin, fbase, fmax, per_erb: np.geomspace(fmin, fmax, 64))  # replace by your function
