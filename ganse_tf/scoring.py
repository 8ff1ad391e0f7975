"""Scores of many files: a pool of worker processes, a table of results, and the comparison of two folders.

A worker is *spawned*: it starts as a fresh Python that imports `ganse_tf.metrics` (NumPy, pesq, pystoi) and no more. A
forked one would inherit TensorFlow's locks and hang; threads would not help, because PESQ's C code keeps its state in
global variables and holds the interpreter lock.
"""

import collections
import contextlib
import csv
import multiprocessing
import os
import pathlib
import sys
from concurrent import futures
from dataclasses import dataclass

import numpy as np

from ganse_tf import audio, metrics

LABELS = {  # column title and decimals of a printed table
    "pesq_wb": ("PESQ-WB", 2), "pesq_nb": ("PESQ-NB", 2), "stoi": ("STOI", 3), "estoi": ("ESTOI", 3),
    "si_sdr": ("SI-SDR (dB)", 2), "snr": ("SNR (dB)", 2), "ssnr": ("SSNR (dB)", 2), "llr": ("LLR", 3),
    "wss": ("WSS", 2), "csig": ("CSIG", 2), "cbak": ("CBAK", 2), "covl": ("COVL", 2), "lsd": ("LSD (dB)", 2),
}  # fmt: skip
FACTS = ("name", "sample_rate", "seconds")  # columns of a row before its scores
IN_FLIGHT = 4  # pairs per worker that wait or run: keeps the workers busy and the memory small


class ScorePool:
    """Scores pairs in `workers` spawned processes, or at once in this one when `workers` is 0.

    Args:
        workers: number of processes. On a machine whose cores are busy training, 0 is as fast.

    Example:
        >>> with ScorePool(workers=2) as pool:  # doctest: +SKIP
        ...     future = pool.submit(clean, enhanced, 16000, ["pesq_wb"])
        ...     scores, reasons = future.result()
    """

    def __init__(self, workers=0):
        if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 0:
            raise ValueError(f"workers is {workers!r}; expected 0 (score in this process) or a number of processes.")
        self.workers = int(workers)
        self._pool = None
        if workers:
            self._pool = futures.ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, clean, enhanced, sample_rate, names=None):
        """A future of `metrics.score_with_reasons(clean, enhanced, sample_rate, names)`."""
        future = futures.Future()
        try:
            if self._pool is not None:
                with _lean_start():
                    return self._pool.submit(metrics.score_with_reasons, clean, enhanced, sample_rate, names)
            future.set_result(metrics.score_with_reasons(clean, enhanced, sample_rate, names))
        except Exception as error:  # handed over by result(), whether it happened here or there
            future.set_exception(error)
        return future

    def close(self):
        """Stop the processes; what has not started is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def _lean_start():
    """Let processes started inside load no more than they need.

    A spawned process runs the caller's script again, TensorFlow and all, unless `__main__` has no file: hide it. And
    each would start a BLAS thread per core, so that n processes fight over the cores: one thread each.
    """
    main = sys.modules["__main__"]
    saved = {name: getattr(main, name) for name in ("__file__", "__spec__") if getattr(main, name, None) is not None}
    added = [name for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    try:
        for name in saved:
            setattr(main, name, None)
        os.environ.update(dict.fromkeys(added, "1"))
        yield
    finally:
        for name, value in saved.items():
            setattr(main, name, value)
        for name in added:
            os.environ.pop(name, None)


def score_pairs(items, metrics=None, workers=0, progress=True):
    """Score many pairs, one row each, in the order given.

    Args:
        items: iterable of (name, clean, enhanced, sample_rate); a generator may enhance while it is read.
        metrics: names from `ganse_tf.metrics.METRICS`; None is the usual set at the rate of the first pair.
        workers: 0 scores in this process, n in n spawned processes.
        progress: show a bar (only on a terminal, and if `rich` is installed).

    Returns:
        ScoreTable.

    Raises:
        ganse_tf.audio.AudioError: no pairs, lengths or rates that do not fit; the message names the pair.

    Example:
        >>> tone = np.sin(np.arange(16000) / 6)
        >>> table = score_pairs([("a", tone, 0.9 * tone, 16000)], metrics=["ssnr"])
        >>> table.means()
        {'ssnr': 20.0}
    """
    total = len(items) if hasattr(items, "__len__") else None
    rows = list(_track(_rows(items, metrics, workers), total, progress))
    if not rows:
        raise audio.AudioError("There are no pairs to score; expected (name, clean, enhanced, sample_rate) tuples.")
    return ScoreTable([row for row, _ in rows], rows[0][1])


def _rows(items, names, workers):
    """Yield (row, metric names), keeping at most IN_FLIGHT pairs per worker waiting."""
    waiting, first = collections.deque(), None
    with ScorePool(workers) as pool:
        for name, clean, enhanced, sample_rate in items:
            sample_rate = audio.check_rate(sample_rate, f"sample_rate of '{name}'")
            if first is None:
                first = name, sample_rate
                names = metrics.check_names(metrics.default_metrics(sample_rate) if names is None else names)
            elif sample_rate != first[1]:
                raise audio.AudioError(
                    f"'{first[0]}' has {first[1]} Hz and '{name}' {sample_rate} Hz; one table needs one rate, because "
                    "PESQ "
                    "and the composites mean different things at 8 and 16 kHz. Resample, or score the rates separately."
                )
            facts = dict(zip(FACTS, (str(name), sample_rate, np.size(clean) / sample_rate)))
            waiting.append((facts, pool.submit(clean, enhanced, sample_rate, names)))
            while len(waiting) >= max(IN_FLIGHT * workers, 1):
                yield _row(*waiting.popleft()), names
        while waiting:
            yield _row(*waiting.popleft()), names


def _row(facts, future):
    try:
        scores, reasons = future.result()
    except audio.AudioError as error:
        raise audio.AudioError(f"'{facts['name']}': {error}") from error
    except futures.BrokenExecutor as error:
        raise RuntimeError(
            f"A scoring process died at or near '{facts['name']}'. Score again with workers=0 to see the file it dies "
            "on; out of memory and very long files are the usual causes."
        ) from error
    return {**facts, **scores, "failures": reasons}


def _track(rows, total, progress):
    """`rows` with a progress bar on a terminal."""
    if progress and sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import track
        except ImportError:
            return rows
        return track(rows, "Scoring", total=total, console=Console(stderr=True), transient=True)
    return rows


@dataclass
class ScoreTable:
    """Scores of a test set, one row per utterance.

    Attributes:
        rows: list of dict: name, sample_rate (Hz), seconds, one float per metric (NaN = failed), and `failures`, a dict
            of metric -> reason.
        metrics: the metric names, in column order.
    """

    rows: list
    metrics: tuple

    def __len__(self):
        return len(self.rows)

    def means(self):
        """dict of metric -> mean over the utterances that have the score; NaN if none has."""
        means = {}
        for m in self.metrics:
            values = np.array([row[m] for row in self.rows], np.float64)
            values = values[~np.isnan(values)]
            means[m] = float(values.mean()) if values.size else float("nan")
        return means

    def failures(self):
        """dict of metric -> {reason: count}, only of metrics that failed somewhere."""
        counts = {}
        for m in self.metrics:
            reasons = collections.Counter(row["failures"][m] for row in self.rows if m in row["failures"])
            if reasons:
                counts[m] = dict(reasons)
        return counts

    def to_csv(self, path):
        """Write one line per utterance; floats in full, failures as "metric: reason; metric: reason"."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*FACTS, *self.metrics, "failures"])
            writer.writeheader()
            for row in self.rows:
                text = "; ".join(f"{m}: {reason.replace(';', ',')}" for m, reason in row["failures"].items())
                writer.writerow({**row, "failures": text})

    @classmethod
    def from_csv(cls, path):
        """Read what `to_csv` wrote."""
        try:
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                columns, lines = tuple(reader.fieldnames or ()), list(reader)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' cannot be read as a score table ({error}).") from error
        names = tuple(c for c in columns if c not in (*FACTS, "failures"))
        if not names or not {*FACTS, "failures"} <= set(columns) or not set(names) <= set(metrics.METRICS):
            raise ValueError(
                f"'{path}' has the columns {', '.join(columns) or '(none)'}; expected {', '.join(FACTS)}, metric names "
                "and failures, as ScoreTable.to_csv writes them."
            )
        rows = []
        for line in lines:
            row = {"name": line["name"], "sample_rate": int(line["sample_rate"]), "seconds": float(line["seconds"])}
            reasons = dict(part.split(": ", 1) for part in line["failures"].split("; ") if part)
            rows.append({**row, **{m: float(line[m]) for m in names}, "failures": reasons})
        return cls(rows, names)

    def to_markdown(self, label="enhanced"):
        """A Markdown table of the means with n, the PESQ mode and every failure; `markdown` compares several tables."""
        return markdown({label: self})

    def to_pandas(self):
        """A pandas.DataFrame, one line per utterance."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs the package 'pandas': pip install pandas (to_csv does not)") from error
        return pandas.DataFrame(self.rows, columns=[*FACTS, *self.metrics, "failures"])

    def __str__(self):
        return self.to_markdown()


def markdown_table(header, rows):
    """A header and rows of strings -> Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def markdown(tables):
    """One Markdown table of means from {label: ScoreTable}; put the noisy row first.

    Args:
        tables: dict of label -> ScoreTable.

    Returns:
        str: a line per label; under it the meaning of the columns and all failures with their count.

    Example:
        >>> tone = np.sin(np.arange(16000) / 6)
        >>> print(score_pairs([("a", tone, 0.9 * tone, 16000)], metrics=["ssnr"]).to_markdown("x 0.9"))
        |  | SSNR (dB) | n |
        |---|---|---|
        | x 0.9 | 20.00 | 1 |
        <BLANKLINE>
        Failures: none.
    """
    names = tuple(dict.fromkeys(m for table in tables.values() for m in table.metrics))
    rows, notes = [], []
    for label, table in tables.items():
        means, failures = table.means(), table.failures()
        cells = []
        for m in names:
            failed = sum(failures.get(m, {}).values())
            value = f"{means[m]:.{LABELS[m][1]}f}" if m in table.metrics and failed < len(table) else "n/a"
            cells.append(f"{value} (n={len(table) - failed})" if 0 < failed < len(table) else value)
        rows.append([label, *cells, str(len(table))])
        for m, reasons in failures.items():
            counted = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
            notes.append(f"{label}, {LABELS[m][0]}: {sum(reasons.values())} of {len(table)} failed ({counted}).")
    lines = markdown_table(["", *(LABELS[m][0] for m in names), "n"], rows)
    return "\n".join([lines, "", *_column_notes(tables, names), " ".join(["Failures:", *(notes or ["none."])])])


def _column_notes(tables, names):
    """What the columns mean: PESQ mode, the PESQ inside the composites, and where low is good."""
    rates = sorted({row["sample_rate"] for table in tables.values() for row in table.rows})
    notes = []
    if "pesq_wb" in names:
        notes.append("PESQ-WB: wide-band MOS-LQO (P.862.2).")
    if "pesq_nb" in names:
        notes.append("PESQ-NB: narrow-band MOS-LQO (P.862.1).")
    if {"csig", "cbak", "covl"} & set(names):
        modes = ["raw narrow-band PESQ (8 kHz)" if r == 8000 else "wide-band MOS-LQO (16 kHz)" for r in rates]
        notes.append(f"CSIG, CBAK, COVL: with {' or '.join(modes)}.")
    lower = [LABELS[m][0] for m in names if m in metrics.LOWER_IS_BETTER]
    if lower:
        notes.append(f"Lower is better: {', '.join(lower)}.")
    return [" ".join(notes)] if notes else []


def evaluate_folders(clean_dir, enhanced_dir, metrics=None, workers=0, progress=True):
    """Score a folder of enhanced files against a folder of clean files with the same names (suffixes may differ).

    Args:
        clean_dir, enhanced_dir: folders of WAV, FLAC, OGG or MP3 files.
        metrics, workers, progress: as `score_pairs`.

    Returns:
        ScoreTable, rows sorted by name.

    Raises:
        ganse_tf.audio.AudioError: a folder is missing or empty, a file has no partner, or rates or lengths differ.

    Example:
        >>> print(evaluate_folders("clean", "enhanced").to_markdown())  # doctest: +SKIP
    """
    clean, enhanced = _stems(clean_dir), _stems(enhanced_dir)
    there_and_back = (clean, enhanced, clean_dir, enhanced_dir), (enhanced, clean, enhanced_dir, clean_dir)
    for here, there, folder, other in there_and_back:
        lonely = sorted(set(here) - set(there))
        if lonely:
            shown = ", ".join(here[stem].name for stem in lonely[:5])
            more = f" and {len(lonely) - 5} more" if len(lonely) > 5 else ""
            raise audio.AudioError(
                f"{len(lonely)} of {len(here)} files in '{folder}' have no partner in '{other}': {shown}{more}. "
                "Expected the same file names in both folders (suffixes may differ); rename, add or remove files."
            )

    def pairs():
        for stem in sorted(clean):
            (clean_wav, clean_rate), (wav, rate) = audio.read(clean[stem]), audio.read(enhanced[stem])
            if clean_rate != rate:
                raise audio.AudioError(
                    f"'{clean[stem]}' has {clean_rate} Hz and '{enhanced[stem]}' {rate} Hz; a pair must have one rate. "
                    f"Resample one file: audio.resample(wav, {rate}, {clean_rate})."
                )
            yield stem, clean_wav, wav, rate

    return score_pairs(_Sized(pairs(), len(clean)), metrics=metrics, workers=workers, progress=progress)


class _Sized:
    """A generator that knows its length, for the progress bar."""

    def __init__(self, items, length):
        self.items, self.length = items, length

    def __iter__(self):
        return self.items

    def __len__(self):
        return self.length


def _stems(folder):
    """dict of file name without suffix -> path of the audio files in a folder."""
    folder = pathlib.Path(folder).expanduser()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "missing"
        raise audio.AudioError(f"'{folder}' is {what}; expected a folder of audio files.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in audio.AUDIO_SUFFIXES and p.is_file())
    if not paths:
        inside = " It has sub-folders: name one of them." if any(p.is_dir() for p in folder.iterdir()) else ""
        raise audio.AudioError(f"'{folder}' holds no audio file ({', '.join(audio.AUDIO_SUFFIXES)}).{inside}")
    stems = {}
    for path in paths:
        if path.stem in stems:
            raise audio.AudioError(f"'{folder}' holds both '{stems[path.stem].name}' and '{path.name}'; remove one.")
        stems[path.stem] = path
    return stems
