"""README.md and index.html of this folder from what is committed beside them: `python -m results.make [--no-page]`.

The tables come from csv/, the real-time factors from rtf.json, the papers' numbers from papers.py; none is typed in by hand.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganse_tf import catalogue, presets, scoring
from ganse_tf.downstream import classical
from results import papers, rtf, score

HERE = Path(__file__).parent
OFF = "_d_off"  # ending of the presets that were trained by plain regression
MAIN = ("pesq_wb", "stoi", "si_sdr")  # the three measures of the short tables
OTHER_TASK = {"GANPostfilter": "sharpens over-smoothed speech, removes no noise"}
ABOUT = {
    "vbd": "41 utterances of speaker p232 of the VoiceBank+DEMAND test set (CC BY 4.0); the sample favours low SNR, so its "
    "means do not compare with those of all 824 files. "
}
NONE = "n/a"
RESAMPLINGS, INTERVAL = 10_000, (2.5, 97.5)  # bootstrap over files; percentiles


@dataclass
class Results:
    """Scores of one test set."""

    label: str
    title: str
    made_from: str
    files: int
    facts: dict  # row -> class, parameters
    tables: dict  # row -> ScoreTable

    def mean(self, row, metric):
        return self.tables[row].means()[metric] if row in self.tables else float("nan")

    def failures(self, row):
        return sum(sum(found.values()) for found in self.tables[row].failures().values())

    def systems(self):
        """Names of the released systems, in the order of the papers; "metricgan" stands for its D off as well."""
        order = [row["class"] for row in catalogue.papers()]
        names = {row.removesuffix(OFF): facts["class"] for row, facts in self.facts.items() if "class" in facts}
        return sorted(names, key=lambda name: (order.index(names[name]) if names[name] in order else len(order), name))

    def of(self, system):
        """What is known of a system, whichever of its two presets exists: class, parameters."""
        return self.facts.get(system) or self.facts[system + OFF]


def load():
    """list of Results, one per test set."""
    found = []
    for label, entry in score.index().items():
        tables = {row: scoring.ScoreTable.from_csv(score.csv_path(label, row)) for row in entry["rows"]}
        found.append(Results(label, entry["title"], entry["made_from"], entry["files"], entry["rows"], tables))
    return found


def purpose(class_name):
    """"speech", or what else a system is made for."""
    gives = {row["class"]: row["outputs"] for row in catalogue.papers()}
    return OTHER_TASK.get(class_name) or ("features" if gives.get(class_name) == "features" else "speech")


def number(value, metric):
    return f"{value:.{scoring.LABELS[metric][1]}f}" if np.isfinite(value) else NONE


def title(metric):
    return scoring.LABELS[metric][0]


# ---- tables ----------------------------------------------------------------------------------------------------------


def side_by_side(results):
    """(header, rows): D off and D on next to each other, three measures."""
    header = ["system", "made for", *(f"D off: {title(m)}" for m in MAIN), *(f"D on: {title(m)}" for m in MAIN)]
    rows = []
    for row in (score.NOISY, *classical.BASELINES):
        rows.append([row, "", *(number(results.mean(row, m), m) for m in MAIN), *[""] * len(MAIN)])
    for system in results.systems():
        made_for = purpose(results.of(system)["class"])
        cells = [number(results.mean(row, m), m) for row in (system + OFF, system) for m in MAIN]
        rows.append([f"`{system}`", made_for, *cells])
    return header, rows


def everything(results):
    """(header, rows): every measure of every row, failures, parameters and speed."""
    factors = rtf.read()["rows"]
    header = ["row", "D", *(title(m) for m in score.METRICS), "failures", "parameters (G)", "RTF"]
    order = [(row, row, "-") for row in (score.NOISY, *classical.BASELINES)]
    order += [(f"`{name}{ending}`", name + ending, "off" if ending else "on")
              for ending in (OFF, "") for name in results.systems()]  # fmt: skip
    rows = []
    for shown, row, d in order:
        if row in results.tables:
            parameters = results.facts[row].get("parameters")
            cells = [number(results.mean(row, m), m) for m in score.METRICS]
            cost = [f"{parameters:,}" if parameters else "-", f"{factors[row]:g}" if row in factors else "-"]
            rows.append([shown, d, *cells, str(results.failures(row)), *cost])
    return header, rows


def difference(results, system):
    """D on minus D off, file by file: metric -> (mean, low, high); bootstrap over the files."""
    found = {}
    for metric in MAIN:
        off, on = (np.array([row[metric] for row in results.tables[r].rows]) for r in (system + OFF, system))
        delta = (on - off)[np.isfinite(on - off)]
        picks = np.random.default_rng(0).integers(len(delta), size=(RESAMPLINGS, len(delta)))
        found[metric] = (delta.mean(), *np.percentile(delta[picks].mean(axis=1), INTERVAL))
    return found


def what_d_changes(results):
    """(header, rows) of the systems that have both presets."""
    rows = []
    for system in results.systems():
        if {system, system + OFF} <= set(results.tables):
            found = difference(results, system)
            cells = ["{} [{}, {}]".format(*(f"{v:+.{scoring.LABELS[m][1]}f}" for v in found[m])) for m in MAIN]
            rows.append([f"`{system}`", *cells])
    return ["system", *(title(m) for m in MAIN)], rows


def below_noisy(results):
    """Sentences: which released rows that give speech are worse than the noisy input, and in what."""
    found = []
    for row in sorted(results.tables):
        if "class" in results.facts[row] and purpose(results.facts[row]["class"]) == "speech":
            pairs = [(m, results.mean(row, m), results.mean(score.NOISY, m)) for m in MAIN]
            worse = [f"{title(m)} {number(v, m)} < {number(n, m)}" for m, v, n in pairs if v < n]
            if worse:
                found.append(f"- `{row}`: {', '.join(worse)}")
    return found


def own_tasks(titles):
    """Lines with the scores on the cards that are no scores of these test sets: recognisers, over-smoothed speech."""
    lines = []
    for name in presets.names():
        for task, scores in presets.cards()[name].get("scores", {}).items():
            if task not in titles:
                lines += [f"- `{name}`, {task}: {_flat(scores)}"]
    return lines


def _flat(found):
    if not isinstance(found, dict):
        return f"{found:.4g}" if isinstance(found, float) else str(found)
    return "; ".join(f"{key}: {_flat(v)}" if isinstance(v, dict) else f"{key.replace('_', ' ')} {_flat(v)}"
                     for key, v in found.items())  # fmt: skip


def on_voicebank(results):
    """(header, rows): papers that tested on VoiceBank+DEMAND, each followed by ours on the excerpt."""
    shown = ("pesq_wb", "csig", "cbak", "covl", "ssnr", "stoi")
    header = ["paper", "system", "tested on", *(title(m) for m in shown), "source"]

    def line(*first, scores, source):
        return [*first, *(number(scores.get(m, float("nan")), m) for m in shown), source]

    rows = [line("all", "noisy input", papers.VOICEBANK, scores=papers.VOICEBANK_NOISY, source="SEGAN paper, Table 1")]
    ours = {row: t.means() for row, t in results.tables.items()}
    if ours:
        rows.append(line("all", "**ours:** noisy input", results.title, scores=ours[score.NOISY], source="csv/"))
    for name in dict.fromkeys(reported.model for reported in papers.ON_VOICEBANK):
        for reported in papers.ON_VOICEBANK:
            if reported.model == name:
                rows.append(line(name, reported.who, papers.VOICEBANK, scores=reported.scores, source=reported.source))
        mine = [row for row in ours if results.facts[row].get("class") == name]
        for row in sorted(mine, key=lambda row: (not row.endswith(OFF), row)):
            rows.append(line(name, f"**ours:** `{row}`", results.title, scores=ours[row], source="csv/"))
    return header, rows


def elsewhere(results):
    """(header, rows): papers that tested on other corpora, and ours on the excerpt."""
    header = ["paper", "measure", "unprocessed", "D off", "D on", "source"]
    rows = []
    for name in dict.fromkeys(entry[0] for entry in papers.ELSEWHERE):
        rows += [[entry[0], *(cell or NONE for cell in entry[1:])] for entry in papers.ELSEWHERE if entry[0] == name]
        for system in results.systems() if results.tables else []:
            if results.of(system)["class"] == name and purpose(name) == "speech":
                cells = [" / ".join(number(results.mean(row, m), m) for m in ("pesq_wb", "stoi"))
                         for row in (score.NOISY, system + OFF, system)]  # fmt: skip
                rows.append([name, f"**ours:** PESQ-WB / STOI of `{system}`, {results.title}", *cells, "csv/"])
    return header, rows


# ---- the page --------------------------------------------------------------------------------------------------------


def speed():
    """Where the real-time factors come from."""
    found = rtf.read()
    if not found["rows"]:
        return "RTF: not measured yet (`python -m results.rtf`)."
    busy = f" at a load of {found['load']:g} when it began" if found.get("load") is not None else ""
    busy += ", so other work slowed it down" if (found.get("load") or 0) > 0.5 else ""
    return (
        f"RTF: time to enhance {rtf.SECONDS} s of sound divided by {rtf.SECONDS} s, median of {rtf.REPEATS}, all rows in one "
        f"run on {found['cores']} cores of {found['machine']}, {found['date']}{busy}."
    )


def top():
    """Lines for the README of the project: the short table of the excerpt of real recordings (of the first set without it)."""
    found = load()
    results = next((r for r in found if r.label == "vbd"), found[0])
    return [f"{results.title}:", "", scoring.markdown_table(*side_by_side(results))]


def readme():
    """Text of README.md."""
    found = load()
    parts = [INTRODUCTION]
    for results in found:
        below = below_noisy(results)
        changes = what_d_changes(results)
        parts += [
            f"## {results.title[0].upper()}{results.title[1:]}",
            ABOUT.get(results.label, f"Made from `{results.made_from}`. ")
            + "Left: the same generator trained by plain regression (D off). Right: the paper's training (D on). The noisy "
            "input and the classical filters know no D; they stand on the left.",
            scoring.markdown_table(*side_by_side(results)),
        ]
        if changes[1]:
            parts += ["**What D changes.** D on minus D off, file by file: mean and, in brackets, 95 % bootstrap interval "
                      "over the files. One training each: another seed may say something else.",
                      scoring.markdown_table(*changes)]  # fmt: skip
        parts += ["**Released speech enhancers that score below the noisy input:**" + ("" if below else " none.")]
        parts += ["\n".join(below)] if below else []
        parts += [f"All measures of the {results.title}:", scoring.markdown_table(*everything(results)), speed()]
    if tasks := own_tasks({results.title for results in found}):
        parts += ["## Other tasks", "Scores that the systems got on their own task, from their cards:", "\n".join(tasks)]
    excerpt = next((r for r in found if r.label == "vbd"), Results("", "", "", 0, {}, {}))
    parts += [PAPERS, scoring.markdown_table(*on_voicebank(excerpt)), ELSEWHERE, scoring.markdown_table(*elsewhere(excerpt))]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Results

Every released system, scored alike. [index.html](index.html) lets you listen to them: download it and open it, it needs no
network.

```
python -m results.score                                # toy corpus test: the same files on every machine, offline
python -m results.score --pairs FOLDER --label vbd     # a folder with noisy/ and clean/
python -m results.tasks                                # three systems on their own task; --pairs as above
python -m results.rtf                                  # real-time factors of all rows, in one run
python -m results.make                                 # this file and index.html from csv/, rtf.json and papers.py
```

`csv/SET/ROW.csv` holds one line per utterance; every number below is a mean of such a column. `results.score` scores only
rows whose weights (SHA-256) changed. Test files are never trained on, and no checkpoint is chosen on them.

- **PESQ-WB** is wide-band MOS-LQO (P.862.2) at 16 kHz and is the PESQ inside CSIG, CBAK, COVL; **PESQ-NB** is narrow-band
  MOS-LQO. Higher is better in every column but RTF.
- **failures** counts scores that could not be computed (of all nine measures); they are in no mean.
- **made for**: "speech" enhances for the ear; "features" means that the paper's system feeds a recogniser, and its sound is
  made from the features only to be able to listen: its scores are no verdict on the paper.
- The toy corpus is synthetic speech with made noise. It shows that code works and serves to compare a system with itself."""

PAPERS = """## The papers against ours

The papers trained on other and larger data with networks of the paper's size; ours learnt from about an hour of other
recordings, for the CPU minutes that their cards state, some of them with thinner networks, and are tested on an excerpt that
favours low SNR. **The rows of a paper and ours must not be subtracted.** What can be compared is the direction: noisy to
enhanced, D off to D on. n/a: not reported.

Papers that report VoiceBank+DEMAND:"""

ELSEWHERE = """Papers that tested on other corpora. Our rows have no published counterpart; "unprocessed" is then the noisy
input:"""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-page", action="store_true", help="README.md only (no TensorFlow, a second)")
    args = parser.parse_args(arguments)
    (HERE / "README.md").write_text(readme(), encoding="utf-8")
    print(HERE / "README.md")
    if not args.no_page:
        from results import page

        path = page.write()
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
