"""What the learning proofs share: train a fixed number of steps, score on test pairs, print and write a Markdown table.

A fixed number of steps (not of minutes) makes a run repeatable: same command, seed and versions, same table.
"""

import platform
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import data, optimizers, scoring
from ganse_tf.version import __version__

FOLDER = Path(__file__).parent


class _StopAt(keras.callbacks.Callback):
    """Ends training after a number of steps, in the middle of an epoch if need be."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step) >= self.steps:
            self.model.stop_training = True


def train(model, batches, steps, g_optimizer=None, d_optimizer=None):
    """Compile, train for `steps` steps, print one line per epoch; returns CPU minutes (all cores together)."""
    model.compile(g_optimizer, d_optimizer)
    start = time.process_time()
    model.fit(batches, epochs=10**6, callbacks=[_StopAt(steps)], verbose=0 if steps < 2 else 2)
    return (time.process_time() - start) / 60


def adam(rate, updates, **kwargs):
    """Adam(beta_1=0.5) whose rate falls to 0 over so many updates, by half a cosine."""
    return optimizers.FusedAdam(keras.optimizers.schedules.CosineDecay(rate, updates), beta_1=0.5, **kwargs)


def in_memory(batches):
    """Run through `data.examples` once and keep what comes: a function batch_size -> shuffled dataset, made in no time.

    For networks so small that making their examples again every epoch would take longer than training on them.
    """
    columns = [tf.constant(np.concatenate(parts)) for parts in zip(*([np.asarray(x) for x in b] for b in batches))]
    n = len(columns[0])

    def dataset(batch_size, seed=0):
        rows = tf.data.Dataset.range(n).shuffle(n, seed=seed).batch(batch_size, drop_remainder=True)
        return rows.map(lambda i: tuple(tf.gather(column, i) for column in columns)).prefetch(2)

    return dataset


def score(pairs, enhance=None, metrics=("si_sdr", "pesq_wb", "stoi")):
    """Mean scores over pairs as {metric: float}; `enhance(wav, sample_rate)`, None for the noisy input itself.

    A score that fails for some pairs is the mean over the others; ``means["failures"]`` counts the failures.
    """

    def items():
        for pair in data.pairs(pairs):
            noisy, clean, rate = pair.load()
            yield pair.name, clean, noisy if enhance is None else enhance(noisy, rate), rate

    table = scoring.score_pairs(items(), metrics=list(metrics), progress=False)
    return {**table.means(), "failures": sum(sum(found.values()) for found in table.failures().values())}


def markdown(rows, decimals=2):
    """List of dicts with the same keys -> Markdown table; floats get `decimals` places, 4 below 0.1."""

    def text(value):
        if isinstance(value, (float, np.floating)):
            return f"{value:.{4 if 0 < abs(value) < 0.1 else decimals}f}"
        return str(value)

    return scoring.markdown_table(rows[0], [[text(v) for v in row.values()] for row in rows])


def report(name, title, parts, seed, cpu_minutes, command=None):
    """Print `parts` (strings, Markdown) and write them to benchmarks/learn/<name>.md with all that is needed to repeat them.

    `command` replaces the command line where that would name a private folder.
    """
    command = command or " ".join(["python -m benchmarks.learn." + name, *sys.argv[1:]])
    versions = f"ganse_tf {__version__}, Python {platform.python_version()}, TensorFlow {tf.__version__}, "
    versions += f"Keras {keras.__version__}, NumPy {np.__version__}"
    facts = f"`{command}`, seed {seed}, {cpu_minutes:.1f} CPU minutes of training; {versions}."
    text = "\n\n".join([f"# {title}", facts, *parts]) + "\n"
    print(text)
    (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
