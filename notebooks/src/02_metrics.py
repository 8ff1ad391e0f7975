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
# # Metrics: what PESQ, STOI and SI-SDR hear
#
# **Title:** Metrics · **Description:** one clean sentence spoilt in many ways, and what each score says about it; silent and delayed
# files · **Accelerator:** none needed · **Time:** under 2 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/02_metrics.ipynb)
#
# After this notebook you can
# 1. say for each score what it hears and what it is deaf to: level, delay, phase, band width;
# 2. find two sounds on which the scores disagree, and say which one your ears believe;
# 3. report scores honestly when files are silent, broken or late.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %%
#@title Settings
utterance = "m08_d06"  #@param {type:"string"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# ## 1. The family
#
# Every metric is called the same way, the clean reference first: `metric(clean, enhanced, sample_rate)`.
#
# | score | compares | range | better |
# |---|---|---|---|
# | PESQ-WB, PESQ-NB | loudness patterns in ear-like bands, as a listener's mark (ITU-T P.862) | 1 to 4.64 (WB), 4.55 (NB) | higher |
# | STOI | envelopes of third-octave bands over 0.4 s: can the words be understood? | 0 to 1 | higher |
# | SI-SDR | samples, after the best volume was found | no limits, dB | higher |
# | SNR, SSNR | samples as they are, over the whole file or per 30-ms frame | dB; SSNR -10 to 35 | higher |
# | LSD | log-spectra, frame by frame | 0 and up, dB | lower |

# %%
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
import scipy.stats
from IPython.display import Markdown

from ganse_tf import data, metrics, noises, signal, viz

plt.rcParams["figure.dpi"] = 80  # dots per inch: keeps this file small
speech = next(u for u in data.toy_corpus() if u.name == utterance)
clean, rate = speech.wav, speech.sample_rate
names = ("pesq_wb", "stoi", "si_sdr", "snr", "ssnr", "lsd")
print(speech.text)
print({name: round(value, 2) for name, value in metrics.score(clean, clean, rate, names).items()}, "for a perfect copy")
viz.player(clean, rate, "clean")

# %% [markdown]
# ## 2. SI-SDR by hand
#
# A recording is one long vector. SI-SDR splits the estimate $y$ into a part along the clean signal $s$ and the rest:
#
# $$a = \frac{\langle y, s\rangle}{\langle s, s\rangle}, \qquad \text{SI-SDR} = 10 \log_{10} \frac{\lVert a s\rVert^2}{\lVert y - a s\rVert^2}$$
#
# **Predict, then run:** noise is added at 10 dB SNR. What is the SI-SDR? And when the result is played at half volume?

# %%
noise = noises.make("white", len(clean), rate, seed=seed)
noisy, _ = data.mix(clean, noise, 10, seed=seed)
s, y = clean - clean.mean(), noisy - noisy.mean()
a = (y @ s) / (s @ s)
by_hand = 10 * np.log10(np.sum((a * s) ** 2) / np.sum((y - a * s) ** 2))
print(f"a = {a:.3f}, SI-SDR by hand {by_hand:.3f} dB, ganse_tf {metrics.si_sdr(clean, noisy, rate):.3f} dB")
print(f"at half volume: SI-SDR {metrics.si_sdr(clean, 0.5 * noisy, rate):.3f} dB, but SNR {metrics.snr(clean, 0.5 * noisy, rate):.3f} dB")

# %% [markdown]
# ## 3. One sentence, spoilt in many ways
#
# **Predict first.** Which of these changes can you hear at all? Which score will drop for half the volume, for a delay of one
# millisecond, for a sentence that is cut off at 2 kHz?

# %%
def late(wav, samples):
    return np.concatenate([np.zeros(samples, wav.dtype), wav[: len(wav) - samples]])


def lowpass(wav, hertz):
    return scipy.signal.sosfiltfilt(scipy.signal.butter(6, hertz, fs=rate, output="sos"), wav)


def with_noise(kind, snr_db):
    return data.mix(clean, noises.make(kind, len(clean), rate, seed=seed), snr_db, seed=seed)[0]


spec = signal.stft(clean, 512, 128)
random_phase = np.random.default_rng(seed).uniform(-np.pi, np.pi, spec.shape).astype(np.float32)
gaps = np.arange(len(clean)) // 800 % 6 == 3  # 50 ms of every 300 ms
spoilt = {
    "half volume": 0.5 * clean,
    "sign turned": -clean,
    "1 ms late": late(clean, 16),
    "20 ms late": late(clean, 320),
    "random phase": signal.istft(signal.polar(np.abs(spec), random_phase), len(clean), 512, 128).numpy(),
    "echo after 100 ms": clean + 0.5 * late(clean, 1600),
    "nothing above 2 kHz": lowpass(clean, 2000),
    "clipped at 0.1": np.clip(clean, -0.1, 0.1),
    "gaps of 50 ms": np.where(gaps, 0, clean),
    "white noise, 20 dB": with_noise("white", 20),
    "white noise, 10 dB": noisy,
    "babble, 10 dB": with_noise("babble", 10),
    "wind, 0 dB": with_noise("wind", 0),
}
spoilt = {name: np.asarray(wav, np.float32) for name, wav in spoilt.items()}
scores = {name: metrics.score(clean, wav, rate, names) for name, wav in spoilt.items()}
lines = ["| what was done | PESQ-WB | STOI | SI-SDR | SNR | SSNR | LSD |", "|---|---:|---:|---:|---:|---:|---:|"]
lines += [f"| {name} | " + " | ".join(f"{score[m]:.2f}" for m in names) + " |" for name, score in scores.items()]
Markdown("\n".join(lines))

# %% [markdown]
# Read the table by columns:
#
# * **PESQ** levels and aligns the two sounds before it listens. Volume, sign and delay do not exist for it. It dislikes noise in the
#   pauses, even where it is faint, and forgives a missing treble.
# * **STOI** forgives whatever leaves the slow envelopes alone: steady noise costs little, an echo or clipping more.
# * **SI-SDR** forgives volume and sign, and nothing else. One millisecond late is a disaster, a random phase even more so.
# * **SNR and SSNR** forgive nothing: half volume alone costs them dearly.
#
# The same as a picture, each column from its worst to its best value:

# %%
shown = ("pesq_wb", "stoi", "si_sdr", "ssnr")
values = np.array([[score[m] for m in shown] for score in scores.values()])
ranks = scipy.stats.rankdata(values.round(2), axis=0)  # equal scores share a rank
ranks = (ranks - ranks.min(0)) / np.ptp(ranks, axis=0)
fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
ax.imshow(ranks, cmap="cividis", aspect="auto")
ax.set_xticks(range(len(shown)), ["PESQ-WB", "STOI", "SI-SDR (dB)", "SSNR (dB)"])
ax.set_yticks(range(len(scores)), list(scores))
for i, row in enumerate(values):
    for j, value in enumerate(row):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if ranks[i, j] > 0.5 else "white")
ax.set_title("bright: good rank in its column, dark: bad rank")
apart = ranks.max(1) - ranks.min(1)
most = list(scores)[int(apart.argmax())]
viz.show(fig, f"Ranks of {len(scores)} spoilt sounds by four scores. The scores disagree most about '{most}'.")

# %% [markdown]
# ## 4. Listen where they disagree
#
# The cell finds the pair of sounds about which PESQ and SI-SDR disagree most, by rank. **Listen first, then read the
# scores.** Which of the two would you rather have in a telephone call?

# %%
hearable = [name for name in scores if name not in ("half volume", "sign turned") and not name.endswith("late")]
rank = {m: dict(zip(hearable, np.argsort(np.argsort([scores[n][m] for n in hearable])))) for m in ("pesq_wb", "si_sdr")}
lean = {name: int(rank["pesq_wb"][name]) - int(rank["si_sdr"][name]) for name in hearable}
loved_by_pesq, loved_by_sdr = max(lean, key=lean.get), min(lean, key=lean.get)
viz.player(spoilt[loved_by_pesq], rate, "sound A")

# %%
viz.player(spoilt[loved_by_sdr], rate, "sound B")

# %%
for label, name in (("A", loved_by_pesq), ("B", loved_by_sdr)):
    score = scores[name]
    print(f"{label} = {name:20s} PESQ-WB {score['pesq_wb']:.2f}  STOI {score['stoi']:.2f}  SI-SDR {score['si_sdr']:6.2f} dB")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for i, name in enumerate(hearable):
    point = scores[name]["si_sdr"], scores[name]["pesq_wb"]
    ax.scatter(*point, color=viz.COLOURS[i % len(viz.COLOURS)], marker="os^Dv<>P*"[i % 9], label=name)
ax.set(xlabel="SI-SDR (dB)", ylabel="PESQ-WB", title="If they agreed, the points would lie on a rising line")
ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
together = np.corrcoef([[scores[n][m] for n in hearable] for m in ("si_sdr", "pesq_wb")])[0, 1]
viz.show(fig, f"PESQ-WB against SI-SDR for {len(hearable)} audible changes: correlation {together:.2f}.")

# %% [markdown]
# Neither is wrong: they answer different questions. PESQ was fitted to listeners of telephone codecs, SI-SDR measures a distance
# between waveforms. **A paper that reports only the score it trained on has shown that training works, not that the sound is better.**
#
# Also: **name the mode.** Wide-band and narrow-band PESQ are different scales:

# %%
for name in ("white noise, 20 dB", "babble, 10 dB", "nothing above 2 kHz"):
    wb, nb = (metric(clean, spoilt[name], rate) for metric in (metrics.pesq_wb, metrics.pesq_nb))
    print(f"{name:20s} PESQ-WB {wb:.2f}   PESQ-NB {nb:.2f}")

# %% [markdown]
# ## 5. Late files
#
# Many systems delay: a causal network, a codec, a filter. The ear does not mind. Who does?

# %%
steps = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
kept = ("pesq_wb", "stoi", "si_sdr", "ssnr")
by_delay = [metrics.score(clean, late(clean, n), rate, kept) for n in steps]
fig, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
for ax, group in zip(axes, (("pesq_wb", "stoi"), ("si_sdr", "ssnr"))):
    for i, m in enumerate(group):
        ax.plot([1000 * n / rate for n in steps], [score[m] for score in by_delay], linestyle=viz.DASHES[i], color=viz.COLOURS[2 * i],
                marker="o", markersize=3, label={"pesq_wb": "PESQ-WB", "stoi": "STOI", "si_sdr": "SI-SDR (dB)", "ssnr": "SSNR (dB)"}[m])
    ax.set_xscale("symlog", linthresh=1000 / rate)
    ax.set_xticks([0, 0.1, 1, 10, 64], ["0", "0.1", "1", "10", "64"])
    ax.set(xlabel="delay (ms)", ylabel="score")
    ax.legend()
one = by_delay[1]
viz.show(fig, f"Scores of perfect speech that comes too late. One sample late: SI-SDR {one['si_sdr']:.1f} dB, SSNR {one['ssnr']:.1f} dB, "
         f"PESQ-WB {one['pesq_wb']:.2f}, STOI {one['stoi']:.3f}. 64 ms late: STOI {by_delay[-1]['stoi']:.2f}.")

# %% [markdown]
# **Rule:** find the delay once per system (not per file: that would hide errors), shift, then score. The cross-correlation finds it:

# %%
def delay_of(clean, other):
    correlation = scipy.signal.correlate(other, clean, method="fft")
    return int(np.abs(correlation).argmax()) - (len(clean) - 1)


shifted = late(with_noise("babble", 10), 200)
lag = delay_of(clean, shifted)
print(f"found {lag} samples; SI-SDR before {metrics.si_sdr(clean, shifted, rate):.2f} dB, "
      f"after the shift {metrics.si_sdr(clean[:-lag], shifted[lag:], rate):.2f} dB")

# %% [markdown]
# ## 6. Silent and broken files
#
# What is the PESQ of silence? There is none. The C code of PESQ raises an error, `pystoi` returns 0 or 0.00001, a division gives NaN
# or infinity. `ganse_tf.metrics` answers NaN and says why:

# %%
silence = np.zeros_like(clean)
broken = np.where(np.arange(len(clean)) == 100, np.nan, clean)
for label, reference, output in (("output is silent", clean, silence), ("reference is silent", silence, clean),
                                 ("one NaN in the output", clean, broken), ("0.2 s only", clean[8000:11200], noisy[8000:11200])):
    found, reasons = metrics.score_with_reasons(reference, output, rate, ("pesq_wb", "stoi", "si_sdr"))
    print(f"{label}: " + ", ".join(f"{m} {found[m]:.2f}" for m in found), "|", "; ".join(dict.fromkeys(reasons.values())) or "no failure")

# %% [markdown]
# Why not just leave such files out? Because then a system can win by failing. Meet **Mute**: it returns the noisy file, but if the
# noise is strong (it cheats and looks), it returns silence.
#
# **Predict, then run:** Mute never improves a single file. Will its mean PESQ be higher or lower than that of the noisy files?

# %%
test = data.toy_pairs("test", n=8, snr_db=(0, 20), kinds=("babble", "white"), seed=seed)


def mute(pair):
    return np.zeros_like(pair.noisy) if pair.snr_db < 10 else pair.noisy


def table_of(system):
    return metrics.score_pairs(((p.name, p.clean, system(p), p.sample_rate) for p in test), ("pesq_wb", "stoi", "si_sdr"), progress=False)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tables = {"noisy": table_of(lambda pair: pair.noisy), "Mute": table_of(mute)}
Markdown(metrics.markdown(tables))

# %% [markdown]
# The means of Mute look better, because its worst files are gone. The counts beside them tell the truth: that is why every table in
# this package counts failures and prints them. If you must rank systems with failures, compare them on the files that all of them
# survived, and say how many those were:

# %%
fine = [i for i, row in enumerate(tables["Mute"].rows) if not math.isnan(row["pesq_wb"])]
for label, table in tables.items():
    print(f"{label}: PESQ-WB {np.mean([table.rows[i]['pesq_wb'] for i in fine]):.3f} on the {len(fine)} of {len(test)} files that both survived")

# %% [markdown]
# **Checkpoint.** A paper reports PESQ 3.0 for its network and 2.0 for noisy speech. Name four questions you would ask before you
# believe it.
#
# <details><summary>What to think about</summary>
# Wide or narrow band? Which files, which SNRs, how many failures? Was PESQ also the training target? What do the other scores say, and
# the ears?
# </details>
#
# ## Exercises
#
# 1. **(easy)** Write the mean that counts failures instead of hiding them.
# 2. **(medium)** Write SI-SDR. Mind the means and the scaling.
# 3. **(hard)** Write the function that finds the delay between two recordings, whatever their level and sign.

# %%
from ganse_tf.classroom import check, describe

print(describe("nb02.mean_of_valid"))
check("nb02.mean_of_valid", lambda scores: (np.mean(scores), 0))  # replace by your function

# %%
print(describe("nb02.si_sdr"))
check("nb02.si_sdr", lambda clean, enhanced: 10 * np.log10(np.sum(clean**2) / np.sum((enhanced - clean) ** 2)))  # replace

# %%
print(describe("nb02.delay"))
check("nb02.delay", lambda clean, late: 0)  # replace by your function
