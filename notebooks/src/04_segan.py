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
# # SEGAN: a GAN on the raw waveform
#
# **Title:** SEGAN · **Paper:** Pascual, Bonafonte, Serrà, Interspeech 2017, [arXiv:1703.09452](https://arxiv.org/abs/1703.09452) ·
# **Description:** waveform in, waveform out; least squares and L1 · **Accelerator:** none for `tiny`, GPU for `paper` ·
# **Time:** about 6 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/04_segan.ipynb)
#
# After this notebook you can
# 1. draw SEGAN's generator and say where z and the skip connections enter;
# 2. compute its two losses by hand and run one training step line by line;
# 3. say, from your own table, what the discriminator adds to plain L1 regression.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"epochs": 1, "n_train": 6}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
epochs = 4  #@param {type:"slider", min:1, max:86}
n_train = 80  #@param {type:"integer"}
batch_size = 4  #@param {type:"integer"}
corpus = "toy"  #@param {type:"string"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `preset="paper"` with `corpus="/path/to/voicebank"` (a folder that `python -m data_prep voicebank_demand` made) on a GPU is the
# paper's experiment (86 epochs at batch 400).

# %%
import keras
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, optimizers, viz
from ganse_tf.models.segan import SEGAN

keras.utils.set_random_seed(seed)
model = SEGAN.tiny(seed=seed) if preset == "tiny" else SEGAN(seed=seed)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters")

# %% [markdown]
# ## 1. The paper in one picture
#
# The picture is drawn from the networks that will be trained, not by hand. G halves the length and widens the channels until a
# short code is left, adds noise z, and comes back; each skip connection hands the decoder the detail that the code has lost.

# %%
fig = viz.architecture(model, "SEGAN")
viz.show(fig)

# %% [markdown]
# ## 2. Listen

# %%
kinds = ("babble", "engine", "pink", "wind")
train = data.toy_pairs("train", n=n_train, snr_db=(-5, 0, 5), kinds=kinds, seed=seed) if corpus == "toy" else data.pairs(corpus)
test = data.toy_pairs("test", n=8, snr_db=(-2.5, 2.5), kinds=kinds, seed=seed)
noisy, clean, rate = test[0].load()
print(test[0].text, "|", test[0].noise, test[0].snr_db, "dB")
viz.player(noisy, rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# One example is 16384 samples, about one second, cut every 8192 samples. **Pre-emphasis** `y[n] = x[n] - 0.95 x[n-1]` lifts the
# high frequencies, where speech is weak and an L1 loss would not care.

# %%
examples = data.examples(train, model, batch_size=16, seed=seed)
noisy_batch, clean_batch = next(iter(examples))
print("noisy", noisy_batch.shape, "clean", clean_batch.shape, noisy_batch.dtype)
before, after = (np.abs(np.fft.rfft(x)) for x in (clean[:16384], model.preprocess(noisy[:16384], clean[:16384])[1][0, :, 0]))
print("share of energy above 4 kHz: before %.4f, after pre-emphasis %.4f" % tuple((m[4096 * 2 :] ** 2).sum() / (m**2).sum() for m in (before, after)))

# %% [markdown]
# ## 4. G and D on one batch
#
# **Predict, then run:** what shape has z? What does D give for one pair: a probability?

# %%
inputs = model.with_z(noisy_batch)
enhanced = model.generator(inputs)
scores = model.discriminator([enhanced, noisy_batch])
print("noisy", inputs[0].shape, "z", inputs[1].shape, "-> enhanced", enhanced.shape)
print("D's scores:", np.round(scores[:4, 0], 3), "(unbounded: least squares, no sigmoid)")

# %% [markdown]
# ## 5. The losses
#
# $$\min_D \tfrac12 E[(D(x,\tilde x)-1)^2] + \tfrac12 E[D(G(z,\tilde x),\tilde x)^2] \qquad
# \min_G \tfrac12 E[(D(G(z,\tilde x),\tilde x)-1)^2] + 100\,|G(z,\tilde x)-x|_1$$
#
# **Predict, then run:** D gives 1 and 0 to two real pairs and 0.5 and -0.5 to two enhanced ones. What is D's loss?

# %%
d_real, d_fake = tf.constant([[1.0], [0.0]]), tf.constant([[0.5], [-0.5]])
print("D's loss:", float(model.discriminator_loss(d_real, d_fake)))
g_total, g_terms = model.generator_loss(clean_batch, enhanced, scores)
print("G's loss:", float(g_total), {name: round(float(value), 4) for name, value in g_terms.items()})

# %% [markdown]
# With an untrained G, `100 * g_l1` is much larger than `g_adv`: at first SEGAN is a regression, and D only sees to the texture.
#
# ## 6. One training step, line by line
#
# This is `model.train_step` without its reporting. Note the two tapes and what each optimiser is given.

# %%
import inspect

print(inspect.getsource(SEGAN.train_step))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
with tf.GradientTape() as d_tape:  # D's turn
    d_real = model.score_real(clean_batch, noisy_batch)
    d_fake = model.discriminator([tf.stop_gradient(enhanced), noisy_batch], training=True)
    d_loss = model.discriminator_loss(d_real, d_fake)
d_norm = model.minimise(d_tape, d_loss, "discriminator")
print(f"d_loss {float(d_loss):.3f}, gradient norm {float(d_norm):.3f}")
print("G untouched:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))

with tf.GradientTape() as g_tape:  # G's turn
    enhanced = model.generator(model.with_z(noisy_batch), training=True)
    g_loss, g_terms = model.generator_loss(clean_batch, enhanced, model.discriminator([enhanced, noisy_batch], training=True))
g_norm = model.minimise(g_tape, g_loss, "generator")
print(f"g_loss {float(g_loss):.3f}, gradient norm {float(g_norm):.3f}")

# %% [markdown]
# ## 7. Train
#
# Twice, from the same start: D off (`adversarial_weight=0`, plain L1 regression) and D on. The paper's RMSprop(2e-4) needs its 86
# epochs; `tiny` takes Adam with a step that falls to 0, at low SNRs, so that a few hundred steps show something.

# %%
def adam(rate, dataset):
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * int(dataset.cardinality()))
    return optimizers.FusedAdam(decay, beta_1=0.5, global_clipnorm=5.0)


def trained(adversarial_weight):
    keras.utils.set_random_seed(seed)
    fresh = type(model)(**{**model.get_config(), "adversarial_weight": adversarial_weight, "name": None})
    dataset = data.examples(train, fresh, batch_size=batch_size, seed=seed)
    fresh.compile(*((adam(1e-3, dataset), adam(2e-4, dataset)) if preset == "tiny" else ()))
    history = fresh.fit(dataset, epochs=epochs, verbose=0)
    return fresh, history


d_off, _ = trained(0.0)
d_on, history = trained(1.0)
print("steps:", int(d_off.step), "without D,", int(d_on.step), "with D (each costs about twice as much)")

# %%
fig = viz.curves(history, ["g_l1", "d_real", "d_fake", "g_loss", "d_loss"], title="SEGAN, D on")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history, ["g_l1", "d_real", "d_fake"]))

# %% [markdown]
# **Reading the curves.** Healthy: `g_l1` falls, `d_real` stays above `d_fake`, neither runs away. Sick: `d_real` = 1 and
# `d_fake` = 0 exactly (D has won, G gets no direction), or both equal (D sees nothing).
#
# ## 8. Look and listen again

# %%
enhanced_off, enhanced_on = d_off.enhance(noisy, rate), d_on.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced_on, clean, rate, titles=("noisy", "SEGAN tiny, D on", "clean"))
viz.show(fig)

# %%
viz.player(enhanced_on, rate, "enhanced, D on")

# %%
residual = noisy - enhanced_on
viz.player(residual, rate, "what was taken away")

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D on

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("pesq_wb", "stoi", "si_sdr", "ssnr")
rows = {"noisy": lambda wav, r: wav, "Wiener": BASELINES["Wiener"], "SEGAN tiny, D off": d_off.enhance, "SEGAN tiny, D on": d_on.enhance}
if "segan" in ganse_tf.presets.names():
    rows["released segan (real speech)"] = ganse_tf.from_preset("segan").enhance
tables = {}
for label, enhance in rows.items():
    scored = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in test)
    tables[label] = metrics.score_pairs(scored, names, progress=False)
Markdown(metrics.markdown(tables))

# %% [markdown]
# **The paper against ours.** On VoiceBank+DEMAND (824 files) the paper's Table 1 gives PESQ-WB 1.97 for noisy, 2.22 for Wiener and
# 2.16 for SEGAN, after 86 epochs at batch 400 on four GPUs; SEGAN wins CSIG, CBAK and COVL. Ours is a network with 4 % of the
# parameters after minutes on synthetic speech: compare the rows with each other, not with the paper.
#
# ## 10. Does z do anything?
#
# The same file with ten draws of z: how much does the output change, compared with its error?

# %%
outputs = []
for draw in range(10):
    d_on.step.assign(draw)  # z depends only on (seed, step)
    outputs.append(d_on.enhance(noisy, rate))
spread, error = np.std(outputs, axis=0).mean(), np.abs(outputs[0] - clean).mean()
print(f"mean spread over z {spread:.6f}, mean absolute error {error:.6f}: ratio {spread / error:.3f}")

# %% [markdown]
# ## Exercises
#
# 1. **(easy)** Write the D loss of eq. 3 without its factors 1/2 and check it with the cell below.
# 2. **(medium)** Train with `l1_weight` 0, 1, 10, 100, 1000. The authors report that 1 is too weak. From which value on do you agree?
# 3. **(hard)** Build SEGAN with `use_z=False`, train it as long, and add its row to the table. Is z worth keeping?

# %%
from ganse_tf.classroom import check, describe

print(describe("a1.least_squares"))
check("a1.least_squares", lambda scores, label: tf.reduce_mean(scores - label))  # replace by your function
