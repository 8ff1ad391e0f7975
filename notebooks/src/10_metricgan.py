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
# # MetricGAN: a discriminator that has learnt to hear
#
# **Title:** MetricGAN · **Paper:** Fu, Liao, Tsao, Lin, ICML 2019, [arXiv:1905.04874](https://arxiv.org/abs/1905.04874), with options of
# MetricGAN+ ([arXiv:2104.03538](https://arxiv.org/abs/2104.03538)) · **Description:** D predicts a score that has no gradient; G climbs
# the prediction · **Accelerator:** none for `tiny`, GPU for `paper` · **Time:** about 7 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/10_metricgan.ipynb)
#
# After this notebook you can
# 1. explain why D's label is a score and not "real" or "fake";
# 2. run the outer schedule (score, teach D, replay, move G) and read its logs;
# 3. use any Python function as a training target, and say what it does to the sound.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"minutes": 0.1, "epochs": 3}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper", "plus"]
metric = "stoi"  #@param ["stoi", "pesq_wb", "estoi"]
epochs = 10  #@param {type:"slider", min:3, max:200}
minutes = 1.0  #@param {type:"number"}
seed = 1  #@param {type:"integer"}

# %%
import keras
import numpy as np
import tensorflow as tf

from ganse_tf import callbacks, data, metrics, viz
from ganse_tf.models.metricgan import MetricGAN

build = {"tiny": MetricGAN.tiny, "plus": MetricGAN.plus, "paper": MetricGAN}[preset]
keras.utils.set_random_seed(seed)
model = build(metric=metric, seed=seed)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters; target metric {metric}")

# %% [markdown]
# ## 1. The paper in one picture

# %%
fig = viz.architecture(model, "MetricGAN (tiny: MetricGAN+ options, a cheaper D)")
viz.show(fig)

# %% [markdown]
# ## 2. Listen

# %%
train = data.toy_pairs("train", n=100, snr_db=(-5, 0, 5, 10), seed=seed)
test = data.toy_pairs("test", n=8, snr_db=(0, 5), seed=seed)
noisy, clean, rate = test[0].load()
print(test[0].text, "|", test[0].noise, test[0].snr_db, "dB")
viz.player(noisy, rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# G sees log(1 + |STFT|), frame by frame, and answers with a mask between 0.05 and 1.2. The phase stays the noisy one.

# %%
examples = data.examples(train, model, batch_size=2, seed=seed, crop_seconds=1.5)
noisy_batch, clean_batch = next(iter(examples))
feature = model.to_feature(tf.abs(model.spectrum(noisy_batch)))
mask = model.generator(feature)
print("waveforms", noisy_batch.shape, "-> features", feature.shape, "-> mask", mask.shape)
print(f"mask between {float(tf.reduce_min(mask)):.3f} and {float(tf.reduce_max(mask)):.3f}: an untrained G says 0.6 everywhere")

# %% [markdown]
# ## 4. D on one batch: it is given the answer sheet
#
# D sees a pair: the candidate **and its clean reference**. A cGAN's D sees the noisy input instead; here D is a marker with the
# model answer beside the student's. Its labels are the scores.
#
# The paper's D sees two spectrograms. `tiny` shows D what the metric's ears would notice (`d_input="loudness"`, ours): 64 mel bands
# of both, at the same level and compressed like loudness, and their difference. `benchmarks/learn/surrogate.md` measures why: the
# paper's D soon ranks utterances, but takes far longer to rank two *masks of the same utterance*, and that is the slope G needs.

# %%
seen = model.view(*(tf.abs(model.spectrum(wav)) for wav in (noisy_batch, clean_batch)))
print("what D sees:", seen.shape)
_, enhanced = model.enhance_batch(noisy_batch)
print("D(enhanced, clean):", np.round(model.judge(enhanced, clean_batch), 3), " true score:", model.score(clean_batch, enhanced))
print("D(clean, clean):   ", np.round(model.judge(clean_batch, clean_batch), 3), " true score: 1 by definition")

# %% [markdown]
# ## 5. The losses
#
# $$L_D = E[(D(y,y)-1)^2 + (D(G(x),y)-Q')^2] \qquad L_G = E[(D(G(x),y)-s)^2],\; s=1$$
#
# **Predict, then run:** D says 0.9 for clean speech and 0.5 for an enhanced file whose score is 0.6. $L_D$? $L_G$?

# %%
l_d = model.discriminator_loss([tf.constant([0.9]), tf.constant([0.5])], [tf.constant([1.0]), tf.constant([0.6])])
print("L_D =", round(float(l_d), 4), "  L_G =", (0.5 - 1.0) ** 2)

# %% [markdown]
# No gradient flows through the metric: it is called on NumPy arrays, outside the graph. Only D has a slope for G to climb.
#
# ## 6. The outer schedule
#
# One epoch: score everything, teach D, let it repeat old lessons from the replay buffer, then move G.

# %%
import inspect

print(inspect.getsource(MetricGAN.fit_epoch))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
report = model.update_d(enhanced, clean_batch, tf.constant(model.score(clean_batch, enhanced)))
print({name: round(float(value), 4) for name, value in report.items()})
print("G untouched by D's step:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))
d_before = [v.numpy() for v in model.discriminator.variables]
report = model.update_g(noisy_batch, clean_batch)
print({name: round(float(value), 4) for name, value in report.items()})
print("D untouched by G's step:", all(np.array_equal(a, b) for a, b in zip(d_before, model.discriminator.variables)))

# %% [markdown]
# ## 7. Train: D off and D on
#
# D off means: the same G, trained by the squared error of compressed magnitudes, no metric anywhere. With D on, `tiny` keeps half of
# this term in G's loss (the paper: none): a D that is still wrong could otherwise drive the mask to its floor of 0.05, where the
# gradient is 0 and G never comes back.

# %%
def trained(adversarial_weight, **options):
    keras.utils.set_random_seed(seed)
    fresh = build(metric=metric, seed=seed, adversarial_weight=adversarial_weight, **options)
    fresh.compile()
    dataset = data.examples(train, fresh, batch_size=2, seed=seed, crop_seconds=1.5)
    stop = [callbacks.TimeBudget(minutes)] if adversarial_weight == 0 else []
    return fresh, fresh.fit(dataset, epochs=1000 if stop else epochs, utterances=50, verbose=0, callbacks=stop)


d_off, _ = trained(0.0)
start = d_off.generator.get_weights()

keras.utils.set_random_seed(seed)
d_on = build(metric=metric, seed=seed)
d_on.compile()
d_on.generator.set_weights(start)  # MetricGAN goes on from the regression: declared, and quicker than from zero
history = d_on.fit(data.examples(train, d_on, batch_size=2, seed=seed, crop_seconds=1.5), epochs=epochs, utterances=50, verbose=0)

# %%
fig = viz.curves(history, ["metric", "surrogate_error", "d_loss", "g_adv"], scores="metric", title=f"MetricGAN, target {metric}")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history, ["metric", "surrogate_error", "d_loss"]))

# %% [markdown]
# **Reading the curves.** `surrogate_error` is the mean of |D - Q'|: while it is large, G climbs a wrong hill. `metric` is the true
# score of G's output on the training mixtures.
#
# ## 8. Is D a good marker? Predicted against true scores

# %%
import matplotlib.pyplot as plt

truth, predicted, kind = [], [], []
for p in test:
    for label, wav in (("noisy", p.noisy), ("enhanced", d_on.enhance(p.noisy)), ("clean", p.clean)):
        truth.append(float(d_on.score(p.clean[None], wav[None])[0]))
        predicted.append(float(d_on.judge(tf.constant(wav[None]), tf.constant(p.clean[None]))[0]))
        kind.append(label)
fig, ax = plt.subplots(figsize=(4.5, 4))
for label, marker in (("noisy", "o"), ("enhanced", "^"), ("clean", "s")):
    at = [i for i, k in enumerate(kind) if k == label]
    ax.scatter([truth[i] for i in at], [predicted[i] for i in at], marker=marker, label=label)
ax.plot([0, 1], [0, 1], "k--", linewidth=1)
ax.set(xlabel=f"true score ({metric})", ylabel="D's prediction", title="The surrogate on unseen speakers")
ax.legend()
fig.tight_layout()
plt.show()
print(f"correlation {np.corrcoef(truth, predicted)[0, 1]:.2f}, mean error {np.mean(np.abs(np.subtract(truth, predicted))):.3f}")

# %% [markdown]
# *The picture: one point per test file and kind of speech; on the dashed diagonal D is right.*
#
# ## 9. Look and listen again

# %%
enhanced_on = d_on.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced_on, clean, rate, titles=("noisy", f"MetricGAN tiny ({metric})", "clean"))
viz.show(fig)

# %%
final = d_on.generator(d_on.to_feature(tf.abs(d_on.spectrum(noisy[None]))))[0].numpy()
ax = viz.mask(final, rate, title="mask")
viz.show(ax.figure)

# %%
viz.player(enhanced_on, rate, "enhanced")

# %% [markdown]
# ## 10. Score: noisy, classical, D off, D on

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("pesq_wb", "stoi", "si_sdr")
rows = {"noisy": lambda wav, r: wav, "Wiener": BASELINES["Wiener"], "regression (D off)": d_off.enhance, f"MetricGAN tiny ({metric})": d_on.enhance}
if "metricgan" in ganse_tf.presets.names():
    rows["released metricgan (PESQ, real speech)"] = ganse_tf.from_preset("metricgan").enhance
tables = {}
for label, enhance in rows.items():
    scored = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in test)
    tables[label] = metrics.score_pairs(scored, names, progress=False)
Markdown(metrics.markdown(tables))

# %% [markdown]
# **The paper against ours.** On VoiceBank+DEMAND the paper reports PESQ-WB 1.97 for noisy speech and 2.86 for MetricGAN with PESQ as
# target; MetricGAN+ reports 3.15, and 2.71 for the same G trained by mean squared error. Those are hundreds of epochs of 100
# utterances on a GPU; above are minutes on synthetic speech.
#
# ## Exercises
#
# 1. **(easy)** Write the normalisation of PESQ to [0, 1] and check it below.
# 2. **(medium)** Set `target=0.6`. Does the metric settle at 0.6? What has G taken away?
# 3. **(hard)** Train with `history_portion=0` and with 0.2 and draw the scatter plot of section 8 for both. The MetricGAN+ paper reports
#    PESQ 2.82 without replay and 3.05 with 20 %.

# %%
from ganse_tf.classroom import check, describe

print(describe("a4.pesq_to_unit"))
check("a4.pesq_to_unit", lambda score: score / 5)  # replace by your function
