"""Is this copy of VoiceBank+DEMAND, and are these metrics, the ones that everybody's tables use?

    python -m ganse_tf calibrate DIR

The unprocessed noisy test set has scores that every paper prints. If ours differ, nothing that is computed afterwards can
be compared with a paper. The reference is what the Python tool of CMGAN prints for these 824 files; the literature rounds
it to 1.97 / 3.35 / 2.44 / 2.63 / 1.68 / 0.91-0.92.

When a score is off, the audio itself is questioned: does every noisy file contain its clean file, in time and at the
same level (pairing)? Does the spectrum end the way a good 48 -> 16 kHz conversion leaves it (resampler)? If the audio is
right, PESQ is not (mode or build).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganse_tf import audio, data

PAIRS = 824
SAMPLE_RATE = 16000  # Hz


@dataclass(frozen=True)
class Reference:
    """One column of the row: what papers print, what CMGAN's tool prints, how far we may be from the latter."""

    title: str
    literature: float
    tool: float
    tolerance: float
    decimals: int


REFERENCE = {
    "pesq_wb": Reference("PESQ-WB", 1.97, 1.972, 0.005, 3),
    "csig": Reference("CSIG", 3.35, 3.345, 0.01, 3),
    "cbak": Reference("CBAK", 2.44, 2.443, 0.01, 3),
    "covl": Reference("COVL", 2.63, 2.632, 0.01, 3),
    "ssnr": Reference("SSNR (dB)", 1.68, 1.679, 0.02, 3),
    "stoi": Reference("STOI", 0.92, 0.912, 0.002, 3),
}
NARROW_BAND_PESQ = (2.7, 3.4)  # published narrow-band scores of these files: 2.79, 2.87, 3.32
OTHER_SSNR = 6.13  # dB, of a definition that removes the mean and rescales first (ClearerVoice SpeechScore)

LOWEST_CORRELATION = 0.5  # the hardest test files have about 0 dB: correlation 0.7; strangers have less than 0.1
LONGEST_LAG_S = 0.02
LEVEL_DB = 0.5  # noise that is not correlated with speech moves the projection by less
EDGE_DB = -6.0  # 7.9-8 kHz against 7-7.5 kHz: plain decimation leaves 0 dB, short filters -2 dB, soxr less than -50 dB
EDGE_DIFFERENCE_DB = 20.0
NARROW_DB = -40.0  # 4.2-7 kHz against 1-3.8 kHz: once 8 kHz, the upper half is empty


@dataclass
class Calibration:
    """Result of `calibrate`: the table, and sentences about what is wrong."""

    n_pairs: int
    scores: dict
    failures: dict
    audio_problems: list = field(default_factory=list)
    explanations: list = field(default_factory=list)

    @property
    def rows(self):
        """One dict per metric: metric, ours, literature, reference, difference, tolerance, ok."""
        found = []
        for name, ref in REFERENCE.items():
            ours = self.scores.get(name, float("nan"))
            difference = ours - ref.tool
            found.append(
                {
                    "metric": name, "ours": ours, "literature": ref.literature, "reference": ref.tool,
                    "difference": difference, "tolerance": ref.tolerance, "ok": bool(abs(difference) <= ref.tolerance),
                }
            )  # fmt: skip
        return found

    @property
    def comparable(self):
        """True when the files are as many as the published test set."""
        return self.n_pairs == PAIRS

    @property
    def ok(self):
        """True when every score is within its tolerance, none failed, and the files are the test set."""
        return self.comparable and not self.failures and all(row["ok"] for row in self.rows)

    def __str__(self):
        lines = [
            f"Noisy test row of VoiceBank+DEMAND, {self.n_pairs} files",
            "",
            "| metric | ours | papers | CMGAN tool | difference | tolerance | |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            ref = REFERENCE[row["metric"]]
            verdict = ("ok" if row["ok"] else "OFF") if self.comparable else "n/a"
            lines.append(
                f"| {ref.title} | {row['ours']:.{ref.decimals}f} | {ref.literature} | {ref.tool} | {row['difference']:+.3f} | "
                f"{ref.tolerance} | {verdict} |"
            )
        lines.append("")
        lines += [f"- {sentence}" for sentence in self.explanations]
        return "\n".join(lines)


def calibrate(folder, *, workers=0, progress=True, score=None):
    """Score the noisy VoiceBank+DEMAND test set against the published row.

    Args:
        folder: what `python -m data_prep voicebank_demand --out DIR` made, or a folder with the noisy and clean files.
        workers: processes for scoring; 0 scores in this one.
        progress: show a bar.
        score: replacement for `ganse_tf.metrics.score_pairs` (tests).

    Returns:
        `Calibration`; `print` it for the table, `.ok` for the verdict.

    Raises:
        AudioError: the folder holds no pairs, or has none in its test split.

    Example:
        >>> calibrate("voicebank").ok  # doctest: +SKIP
        True

    References:
        SEGAN paper, Table 1, first row; CMGAN, src/tools, python_noisy_metrics.log.
    """
    pairs = test_pairs(folder)
    loaded, problems = [], []
    statistics = Statistics()
    for pair in pairs:
        try:
            noisy, clean, rate = pair.load()
        except audio.AudioError as error:
            problems.append(f"pairing: {error}")
            continue
        if rate != SAMPLE_RATE:
            problems.append(
                f"sample rate: {pair.name} has {rate} Hz, the published scores are of {SAMPLE_RATE} Hz files"
                f"{', and wide-band PESQ does not exist at 8 kHz' if rate == 8000 else ''}. Run python -m data_prep "
                f"voicebank_demand, which converts once with one resampler."
            )
            break
        statistics.add(pair.name, noisy, clean)
        loaded.append(pair)
    problems += statistics.problems()
    scores, failures = {}, {}
    if loaded and not any(p.startswith("sample rate") for p in problems):
        table = (score or _score_pairs())(_items(loaded), metrics=tuple(REFERENCE), workers=workers, progress=progress)
        scores, failures = table.means(), table.failures()
    result = Calibration(len(loaded), scores, failures, problems)
    result.explanations = explain(result)
    return result


def test_pairs(folder):
    """The test pairs of a prepared folder (its manifest), or all pairs of a plain one."""
    folder = Path(folder)
    if (folder / "manifest.csv").is_file():
        pairs = [pair for pair in data.pairs(folder / "manifest.csv") if pair.split == "test"]
        if not pairs:
            raise audio.AudioError(
                f"{folder / 'manifest.csv'} has no rows of the test split. Prepare it with --parts test or without --parts."
            )
        return pairs
    return data.pairs(folder)


def _items(pairs):
    """What `score_pairs` reads: (name, clean, noisy, rate), one at a time."""
    for pair in pairs:
        noisy, clean, rate = pair.load()
        yield pair.name, clean, noisy, rate


def _score_pairs():
    from ganse_tf import metrics

    return metrics.score_pairs


class Statistics:
    """What the audio itself says, gathered while the pairs are read."""

    def __init__(self):
        self.strangers, self.late, self.levels = [], [], []
        self.power = {"clean": 0.0, "noisy": 0.0}

    def add(self, name, noisy, clean):
        """Correlation, lag and level of one pair, and its long-term spectrum."""
        from scipy import signal

        reach = int(LONGEST_LAG_S * SAMPLE_RATE)
        size = 1 << (len(clean) + reach).bit_length()
        product = np.fft.irfft(np.fft.rfft(noisy, size) * np.conj(np.fft.rfft(clean, size)), size)
        around = np.concatenate([product[-reach:], product[: reach + 1]])  # lags -reach ... reach
        energy = float(np.sqrt(np.sum(clean.astype(np.float64) ** 2) * np.sum(noisy.astype(np.float64) ** 2)))
        lag = int(np.argmax(around)) - reach
        if energy == 0 or around.max() / energy < LOWEST_CORRELATION:
            self.strangers.append(name)
        elif lag:
            self.late.append((name, lag))
        else:
            self.levels.append(20 * np.log10(around[reach] / np.sum(clean.astype(np.float64) ** 2)))
        for side, wav in (("clean", clean), ("noisy", noisy)):
            self.frequencies, density = signal.welch(wav, SAMPLE_RATE, nperseg=min(1024, len(wav)), nfft=1024)
            self.power[side] = self.power[side] + density * len(wav)

    def _ratio_db(self, side, upper, lower):
        """Mean power density of one band against another's, in dB."""
        f, p = self.frequencies, self.power[side]
        bands = [p[(f >= low) & (f < high)].mean() for low, high in (upper, lower)]
        return 10 * np.log10(max(bands[0], 1e-30) / max(bands[1], 1e-30))

    def problems(self):
        """Sentences, each beginning with pairing, level or resampler."""
        found = []
        if self.strangers:
            found.append(
                f"pairing: {len(self.strangers)} noisy files do not contain their clean file ({_some(self.strangers)}). "
                f"Pair by file name, not by order."
            )
        if self.late:
            names = [f"{name} by {lag} samples" for name, lag in self.late]
            found.append(
                f"pairing: {len(self.late)} noisy files are shifted against their clean file ({_some(names)}). SSNR and CBAK "
                f"do not forgive that; convert both sides with the same program and do not trim silence."
            )
        if self.levels and abs(np.median(self.levels)) > LEVEL_DB:
            found.append(
                f"level: speech in the noisy files is {np.median(self.levels):+.1f} dB against the clean ones. SSNR and CBAK "
                f"depend on level; do not normalise the files one by one."
            )
        if np.ndim(self.power["clean"]) == 0:
            return found
        edges = {side: self._ratio_db(side, (7900, 8001), (7000, 7500)) for side in self.power}
        if self._ratio_db("noisy", (4200, 7000), (1000, 3800)) < NARROW_DB:
            found.append("resampler: there is nothing above 4 kHz; these files were at 8 kHz once. Start from the originals.")
        elif edges["noisy"] > EDGE_DB:
            found.append(
                f"resampler: the noisy spectrum runs on to 8 kHz ({edges['noisy']:+.1f} dB at the edge); a good 48 -> 16 kHz "
                f"conversion falls by 20 dB or more. Every third sample, linear interpolation or a short filter do this: "
                f"energy above 8 kHz is folded back."
            )
        elif abs(edges["noisy"] - edges["clean"]) > EDGE_DIFFERENCE_DB:
            found.append(
                f"resampler: clean and noisy files end differently below 8 kHz ({edges['clean']:+.1f} and "
                f"{edges['noisy']:+.1f} dB); they seem to come from two resamplers."
            )
        return found


def _some(names, n=3):
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")


def explain(result):
    """Sentences under the table: verdict first, then what the audio says, then what the pattern of scores says."""
    said = []
    off = {row["metric"]: row for row in result.rows if not row["ok"]}
    if result.ok:
        said.append("Calibrated: every score is within its tolerance. Tables made with these files and metrics are comparable.")
        return said + result.audio_problems
    if not result.comparable:
        said.append(
            f"{result.n_pairs} files are not the test set of {PAIRS} (speakers p232 and p257): the scores above cannot be "
            f"compared with the published ones; only the audio was checked."
        )
    elif off:
        said.append("Not calibrated: do not print these scores beside a paper's.")
    for metric, reasons in result.failures.items():
        said.append(f"{metric} failed on some files: {reasons}. A mean without them is another test set.")
    said += result.audio_problems
    if not result.comparable or not result.scores:
        return said
    pesq = result.scores["pesq_wb"]
    if "pesq_wb" in off and NARROW_BAND_PESQ[0] <= pesq <= NARROW_BAND_PESQ[1]:
        said.append(
            f"PESQ mode: {pesq:.2f} is on the narrow-band scale (P.862: 2.79 to 3.32 in other people's tables of these "
            f"files). The published 1.97 is wide-band (P.862.2, mode 'wb')."
        )
    elif "pesq_wb" in off and not {"ssnr", "stoi"} & set(off) and not result.audio_problems:
        said.append(
            "PESQ mode: SSNR and STOI are right, so the audio is; PESQ itself differs. Check the package (pesq 0.0.4, mode "
            "'wb'; builds with Corrigendum 2 differ) and that the clean file comes first."
        )
    if "ssnr" in off and not {"pesq_wb", "stoi"} & set(off):
        other = abs(result.scores["ssnr"] - OTHER_SSNR) < 0.5
        said.append(
            f"SSNR: PESQ and STOI are right, SSNR is not: level, or {'the' if other else 'a'} definition that rescales the "
            f"files first ({OTHER_SSNR} dB for this row)."
        )
    if len(off) >= 3 and not result.audio_problems:
        said.append(
            "resampler: several scores are slightly off and pairs, lags and levels are right. Other filters move PESQ and SSNR "
            "in the second decimal: convert the 48 kHz originals with python -m data_prep voicebank_demand."
        )
    return said
