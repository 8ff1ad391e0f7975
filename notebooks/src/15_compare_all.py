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
# # All systems on the same files
#
# **Title:** comparing systems · **Papers:** all that have released weights in this package · **Description:** same noisy files, same
# measures, cost, and what a discriminator changes · **Accelerator:** none · **Time:** about 3 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/15_compare_all.ipynb)
#
# After this notebook you can
# 1. compare systems on the same files, with the noisy input and a classical filter as reference;
# 2. weigh quality against parameters and computing time;
# 3. say which differences a handful of files can show, and which not.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"n_files": 2, "only": "metricgan"}}
#@title Settings
n_files = 8  #@param {type:"slider", min:2, max:88}
only = ""  #@param {type:"string"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `only="metricgan"` compares the presets whose name begins with these letters; empty means all that this copy of the package ships.
#
# ## 1. Who takes part
#
# Every preset is a generator with its trained weights. A name that ends in `_d_off` is the same generator trained by plain regression,
# without a discriminator. `gives` says what the paper wanted: *speech* to be heard, or *features* for a recogniser; the sound of the
# latter is made from the features only so that we can listen, and their scores are no verdict on the paper.

# %%
import base64
import html
import io
import time

import matplotlib.pyplot as plt
import numpy as np
import soundfile
from IPython.display import HTML, Markdown

from ganse_tf import data, metrics, presets, viz
from ganse_tf.downstream.classical import BASELINES

names = [name for name in presets.names() if name.startswith(only)]
models = {name: ganse_tf.from_preset(name) for name in names}
OTHER_TASK = {"GANPostfilter": "sharper speech (removes no noise)"}
gives = {name: OTHER_TASK.get(type(model).__name__, model.outputs) for name, model in models.items()}
lines = ["| preset | paper | works on | gives | G parameters | trained (CPU minutes) |", "|---|---|---|---|---|---|"]
for name, model in models.items():
    card = presets.cards()[name]
    minutes = sum(stage["cpu_minutes"] for stage in card["stages"])
    lines.append(f"| `{name}` | {model.paper} | {model.domain} | {gives[name]} | {card['parameters']:,} | {minutes:.0f} |")
Markdown("\n".join(lines))

# %% [markdown]
# ## 2. Enhance and score
#
# The test files are sentences of the toy corpus' test speakers: synthetic speech and noise made by code, which no system has heard in
# training. The first call of a network builds its graph, so the clock starts with the second.

# %%
pairs = sorted(data.toy_pairs("test", n=n_files, snr_db=(0, 5, 10), seed=seed), key=lambda p: len(p.clean))
rate, seconds = pairs[0].sample_rate, sum(len(p.clean) for p in pairs) / pairs[0].sample_rate
systems = {"noisy": lambda wav, r: wav, **BASELINES, **{name: model.enhance for name, model in models.items()}}
MEASURES = ("pesq_wb", "stoi", "si_sdr", "ssnr", "csig", "cbak", "covl")
sounds, tables, rtf = {}, {}, {}
for name, enhance in systems.items():
    enhance(pairs[0].noisy, rate)
    start = time.perf_counter()
    sounds[name] = [enhance(p.noisy, rate) for p in pairs]
    rtf[name] = (time.perf_counter() - start) / seconds
    scored = ((p.name, p.clean, wav, rate) for p, wav in zip(pairs, sounds[name]))
    tables[name] = metrics.score_pairs(scored, MEASURES, progress=False)
print(f"{len(pairs)} files, {seconds:.0f} s; noise: {', '.join(sorted({p.noise for p in pairs}))}")
Markdown(metrics.markdown(tables))

# %% [markdown]
# ## 3. The same as bars
#
# One panel per measure, the noisy input as a dashed line. **Before you look:** will the same system win everywhere?

# %%
def bars(measures):
    fig, axes = plt.subplots(1, len(measures), figsize=(9, 0.28 * len(tables) + 1.2), sharey=True, layout="constrained")
    labels = list(tables)
    words = []
    for ax, (measure, title) in zip(axes, measures.items()):
        values = np.array([tables[name].means()[measure] for name in labels])
        kind = ["#999999" if name in ("noisy", *BASELINES) else "#E69F00" if name.endswith("_d_off") else "#0072B2" for name in labels]
        hatch = ["" if name in ("noisy", *BASELINES) else "///" if name.endswith("_d_off") else "..." for name in labels]
        drawn = ax.barh(range(len(labels)), np.nan_to_num(values), color=kind, hatch=hatch, edgecolor="black", linewidth=0.6)
        ax.bar_label(drawn, [f"{v:.2f}" for v in values], padding=2, fontsize=7)
        ax.axvline(values[0], color="black", linestyle="--", linewidth=1)
        ax.set(title=title, yticks=range(len(labels)), yticklabels=labels)
        ax.tick_params(labelsize=8)
        ax.margins(x=0.3)
        words.append(f"{title}: best {labels[int(np.nanargmax(values))]} ({np.nanmax(values):.2f}), noisy {values[0]:.2f}.")
    axes[0].invert_yaxis()
    viz.show(fig, "Mean scores as bars; plain: no network, hatched: D off, dotted: D on; dashed line: noisy input. " + " ".join(words))


bars({"pesq_wb": "PESQ-WB", "stoi": "STOI", "si_sdr": "SI-SDR (dB)", "ssnr": "SSNR (dB)"})

# %% [markdown]
# ## 4. What does the discriminator change?
#
# For every system that is there with D off and D on: the difference file by file. A paired difference is sharper than a difference of
# means, because the files differ more from each other than the systems do.

# %%
twins = [name for name in names if f"{name}_d_off" in names]
lines = ["| system | measure | D on minus D off | files that got better |", "|---|---|---|---|"]
for name in twins:
    for measure in ("pesq_wb", "stoi", "si_sdr"):
        off, on = (np.array([row[measure] for row in tables[row_name].rows]) for row_name in (f"{name}_d_off", name))
        change = (on - off)[np.isfinite(on - off)]
        lines.append(f"| `{name}` | {measure} | {change.mean():+.3f} | {int((change > 0).sum())} of {len(change)} |")
Markdown("\n".join(lines) if twins else "No system is there with D off and D on in this copy of the package.")

# %% [markdown]
# **Read it carefully.** Each row compares two trainings with one seed each. If all files change in the same direction, the two *networks*
# differ; whether the *method* differs needs more seeds.
#
# ## 5. What does it cost?
#
# RTF, the real-time factor, is the computing time divided by the length of the sound, here on the machine that runs this notebook (and
# whatever else it is doing): below 1 is faster than real time.

# %%
gain = {name: tables[name].means()["pesq_wb"] - tables["noisy"].means()["pesq_wb"] for name in systems}
count = {name: presets.cards()[name]["parameters"] for name in names}
lines = ["| system | G parameters | RTF | PESQ-WB gained |", "|---|---|---|---|"]
for name in list(systems)[1:]:
    lines.append(f"| {name} | {count[name]:,} | {rtf[name]:.3f} | {gain[name]:+.2f} |" if name in count else
                 f"| {name} | - | {rtf[name]:.3f} | {gain[name]:+.2f} |")
Markdown("\n".join(lines))

# %%
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name in list(systems)[1:]:
    marker = "s" if name in BASELINES else "o" if name.endswith("_d_off") else "^"
    ax.scatter(rtf[name], gain[name], marker=marker, color="#999999" if name in BASELINES else "#E69F00" if marker == "o" else "#0072B2", edgecolor="black")
    if not name.endswith("_d_off"):  # the circle near a triangle is the same system without D
        ax.annotate(name, (rtf[name], gain[name]), textcoords="offset points", xytext=(5, 3), fontsize=7)
ax.axhline(0, color="black", linestyle="--", linewidth=1)
ax.set(xscale="log", xlabel="RTF (log scale; left is cheaper)", ylabel="PESQ-WB gained over noisy", title="Quality against cost")
ax.margins(x=0.25, y=0.15)
ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
viz.show(fig, "PESQ-WB gained over the noisy input against the real-time factor; squares: classical, circles: D off, triangles: D on.")

# %% [markdown]
# ## 6. Listen side by side
#
# The shortest file through every system. Find the words in *noisy* first, then listen to the pauses and to the consonants.

# %%
def players(index):
    """An HTML table of players, two systems per line; MP3 keeps the notebook small."""
    cells = []
    for name in [*systems, "clean"]:
        wav = pairs[index].clean if name == "clean" else sounds[name][index]
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(wav, -1, 1), rate, format="MP3", subtype="MPEG_LAYER_III")
        source = base64.b64encode(buffer.getvalue()).decode()
        score = "the target" if name == "clean" else f"PESQ {tables[name].rows[index]['pesq_wb']:.2f}, STOI {tables[name].rows[index]['stoi']:.2f}"
        cells.append(f'<td style="text-align:left"><b>{html.escape(name)}</b> ({score})<br>'
                     f'<audio controls aria-label="{html.escape(name)}" src="data:audio/mpeg;base64,{source}"></audio></td>')
    lines = ["<tr>" + "".join(cells[i : i + 2]) + "</tr>" for i in range(0, len(cells), 2)]
    return HTML(f"<table>{''.join(lines)}</table>")


p = pairs[0]
print(f"{p.text!r}, {p.noise}, {p.snr_db:g} dB SNR; {len(p.clean) / rate:.1f} s")
players(0)

# %%
ranked = sorted(names, key=lambda name: -np.nan_to_num(gain[name], nan=-9.0)) if names else ["Wiener"]
fig = viz.triptych(p.noisy, sounds[ranked[0]][0], p.clean, rate, titles=("noisy", f"{ranked[0]} (largest PESQ gain)", "clean"))
viz.show(fig)

# %% [markdown]
# ## 7. Does the measure decide who wins?

# %%
order = {measure: sorted(tables, key=lambda name: -np.nan_to_num(tables[name].means()[measure], nan=-99.0)) for measure in MEASURES}
lines = ["| place | " + " | ".join(MEASURES) + " |", "|---" * (len(MEASURES) + 1) + "|"]
lines += [f"| {i + 1} | " + " | ".join(order[measure][i] for measure in MEASURES) + " |" for i in range(min(5, len(tables)))]
print("winners:", ", ".join(sorted({places[0] for places in order.values()})))
Markdown("\n".join(lines))

# %% [markdown]
# A system that was trained for a measure has an advantage in that measure: MetricGAN for PESQ, a waveform L1 loss for SI-SDR. The
# table of real recordings, with the numbers of the papers beside ours, is in `results/README.md`; `results/index.html` lets you listen
# to more files.
#
# **The papers against ours.** The papers trained on other and larger corpora with networks of full size, and most report VoiceBank+DEMAND
# or TIMIT; none reports the toy corpus. So the table above ranks *our releases on these files* and nothing else.
#
# ## Exercises
#
# 1. **(easy)** Write `paired(before, after)`: the mean difference and the share of files that got better. Check it below.
# 2. **(medium)** Draw 1000 bootstrap samples of the files for one line of section 4 and give the 95 % interval. Is 0 inside? How many
#    files would you need to halve the interval?
# 3. **(hard)** Choose the winner by one measure on half of the files and look at its place on the other half. Repeat with 20 random halves:
#    how often is the winner the same?

# %%
from ganse_tf.classroom import check, describe

print(describe("nb15.paired"))
check("nb15.paired", lambda before, after: (np.nanmean(after - before), np.mean(after > before)))  # replace by your function
