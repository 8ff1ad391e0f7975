"""From sound files to training examples: pairs, mixing at an SNR, the toy corpus, and `tf.data`.

    from ganse_tf import data
    pairs = data.pairs("corpus")                     # corpus/noisy/*.wav with corpus/clean/*.wav, or a manifest.csv
    model.fit(data.examples(pairs, model, batch_size=16), epochs=10)

A *pair* is one noisy recording and the clean recording of the same length. A `Mixer` makes new pairs without end from
clean speech and noise. `examples` turns either into the batches a model trains on. Only `examples` needs TensorFlow,
and imports it when it is called. The names below live in `corpus.py`, `mixing.py` and `data_records.py`.
"""

import time
import zlib

import numpy as np

from ganse_tf import audio
from ganse_tf.corpus import (
    MANIFEST_COLUMNS,
    SAMPLE_RATE,
    Pair,
    Utterance,
    check_sides,
    header,
    is_path,
    load_mono,
    pack,
    pairs,
    read_manifest,
    toy_corpus,
    unpack,
    wrong_rate,
)
from ganse_tf.data_records import Records, write_records
from ganse_tf.mixing import Mixer, generator, mix, toy_pairs

__all__ = [
    "MANIFEST_COLUMNS", "Mixer", "Pair", "Records", "Utterance", "examples", "mix", "pairs", "read_manifest",
    "toy_corpus", "toy_pairs", "write_records",
]  # fmt: skip
SHUFFLE_BYTES = 64 * 2**20  # size of the shuffle buffer of `examples`
MAX_SHUFFLE = 10000  # examples in that buffer at most
COUNT_SECONDS = 2.0  # time `examples` spends on counting the examples of an epoch


def examples(source, model, batch_size=16, shuffle=True, seed=0, crop_seconds=None, cache=True, drop_remainder=False):
    """Turn pairs into the batches a model trains on.

    pair -> `model.preprocess(noisy, clean)` -> its examples one by one -> shuffled -> batches. `preprocess` gets two
    float32 waveforms (n,) and returns tensors, alone or in a tuple or dict, whose first axis counts examples (0 is
    allowed): how many depends on the length of the pair only, and a longer one never has fewer. If `model.padded` is
    true, the time axis of the examples is free and padded with zeros to the longest of the batch.

    The order of an epoch (and the mixtures of a `Mixer`) is drawn from `(seed, model.step)`, where `model.step`, the
    saved counter of training steps, is read when the iteration starts. A training that was killed and resumed
    therefore sees exactly the batches it would have seen. This holds for one pass per `fit` epoch: not for `.repeat()`.

    Args:
        source: list of Pair, anything `pairs` takes, a `Mixer`, or `Records`.
        model: an EnhancementGAN, or any object with `preprocess` (and optionally `sample_rate`, `step`, `padded`).
        batch_size: examples per batch; the last batch of an epoch may be smaller.
        shuffle: False gives the same batches in the same order every time, also from a Mixer (for validation).
        seed: whole number.
        crop_seconds: take a random stretch of this length from every pair, another one every epoch; a shorter pair is
            padded with zeros at its end (kept short if `model.padded`). None takes whole pairs.
        cache: keep decoded files in memory as 16-bit integers (an hour of pairs at 16 kHz takes 230 MB).
        drop_remainder: leave out the last batch of an epoch when it is not full (for several replicas or fixed shapes).

    Returns:
        tf.data.Dataset; its cardinality is known when counting takes less than two seconds.

    Raises:
        AudioError: a rate other than the model's, unequal lengths, stereo, missing files, or nothing long enough.

    Example:
        >>> batches = examples(toy_pairs("train", n=8), model, batch_size=4)  # doctest: +SKIP
    """
    import tensorflow as tf

    if not hasattr(model, "preprocess"):
        raise TypeError(
            f"model is {type(model).__name__}; expected an object with preprocess(noisy, clean), such as SEGAN.tiny()."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    sample_rate = getattr(model, "sample_rate", SAMPLE_RATE)
    padded = bool(getattr(model, "padded", False))
    crop = None if crop_seconds is None else round(crop_seconds * sample_rate)
    if crop is not None and crop < 1:
        raise ValueError(f"crop_seconds is {crop_seconds}; expected a length above 0, for example 2.0, or None.")
    if isinstance(source, (Mixer, Records)):
        if source.sample_rate != sample_rate:
            raise wrong_rate(f"The {type(source).__name__}", source.sample_rate, sample_rate)
    else:
        source = _Files(pairs(source), sample_rate, cache)
    lengths, longest = source.lengths(), source.longest()
    if crop is not None:
        lengths = lengths and [min(n, crop) if padded else crop for n in lengths]
        longest = min(longest, crop) if padded else crop
    total, example_bytes = _count(tf, model, lengths, longest)
    stream = source if isinstance(source, Records) else _Stream(source)

    def epoch():
        return np.int64(np.asarray(model.step) if shuffle and hasattr(model, "step") else 0)

    def order(key):
        return stream.order(int(key), seed, shuffle)

    def items(key):
        found = tf.ensure_shape(tf.numpy_function(order, [key], stream.item_dtype), [None])
        return tf.data.Dataset.from_tensor_slices(found).map(lambda item: (key, item))

    def cut(key, i, noisy, clean):
        """The same random stretch of both sides, drawn from (seed, epoch, i); no stretch without `crop`."""
        if crop is None:
            return noisy, clean
        length = tf.shape(noisy)[0]
        places = tf.maximum(length - crop, 0) + 1
        start = tf.random.stateless_uniform([], tf.stack([key + crop_seed, i]), 0, places, tf.int32)
        missing = 0 if padded else tf.maximum(crop - length, 0)
        sides = (tf.pad(wav[start : start + crop], [[0, missing]]) for wav in (noisy, clean))
        return tuple(tf.ensure_shape(wav, [None if padded else crop]) for wav in sides)

    def preprocess(key, i, noisy, clean):
        # The 0 keeps a tuple of examples in one piece on its way into from_tensor_slices.
        return model.preprocess(*cut(key, i, noisy, clean)), 0

    crop_seed = zlib.crc32(f"crop {seed}".encode())
    dataset = tf.data.Dataset.from_tensors(0).map(lambda _: tf.ensure_shape(tf.numpy_function(epoch, [], tf.int64), []))
    dataset = stream.waveforms(dataset.flat_map(items)).map(preprocess, tf.data.AUTOTUNE)
    dataset = dataset.flat_map(lambda found, _: tf.data.Dataset.from_tensor_slices(found))
    if shuffle:
        buffer = int(np.clip(SHUFFLE_BYTES // example_bytes, 1, MAX_SHUFFLE))
        dataset = dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
    dataset = (dataset.padded_batch if padded else dataset.batch)(batch_size, drop_remainder=drop_remainder)
    if total is not None:
        batches = total // batch_size if drop_remainder else -(-total // batch_size)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    return dataset.prefetch(tf.data.AUTOTUNE)


def from_memory(columns, model, batch_size, shuffle=True, seed=0):
    """Batches from arrays that are in memory already, in an order drawn from `(seed, model.step)` as in `examples`.

    Args:
        columns: list of arrays with the same first axis, which counts examples.
        model: an EnhancementGAN.
        batch_size: rows per batch; the last one may be smaller.
        shuffle: a new order in every epoch.
        seed: whole number.

    Returns:
        tf.data.Dataset of tuples, one entry per column.
    """
    import tensorflow as tf

    columns = [tf.constant(column) for column in columns]
    n = len(columns[0])

    def epoch():
        order = np.random.default_rng([seed, int(model.step)]).permutation(n) if shuffle else np.arange(n)
        yield from (order[i : i + batch_size] for i in range(0, n, batch_size))

    rows = tf.data.Dataset.from_generator(epoch, output_signature=tf.TensorSpec([None], tf.int64))
    dataset = rows.map(lambda i: tuple(tf.gather(column, i) for column in columns))
    return dataset.apply(tf.data.experimental.assert_cardinality(-(-n // batch_size))).prefetch(2)


def _count(tf, model, lengths, longest):
    """(examples per epoch or None, bytes of the largest example), by running `preprocess` on noise of these lengths."""
    preprocess = tf.function(model.preprocess, input_signature=[tf.TensorSpec([None], tf.float32)] * 2)

    def run(n):
        wav = generator(n).uniform(-0.1, 0.1, n).astype(np.float32)
        found = tf.nest.flatten(preprocess(wav, wav))
        counts = {int(tensor.shape[0]) for tensor in found}
        if len(counts) != 1:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found)
            raise ValueError(
                f"{type(model).__name__}.preprocess returned tensors of shapes {shapes}; their first axis counts the "
                "examples and must be equal. Add it with wav[None] when a pair is one example."
            )
        return counts.pop(), sum(t.dtype.size * int(np.prod(t.shape[1:])) for t in found)

    most, example_bytes = run(longest)
    if most == 0:
        raise audio.AudioError(
            f"No pair is long enough for one example of {type(model).__name__}: the longest has {longest} samples. Use "
            "longer recordings or a model with a shorter window."
        )
    if lengths is None:
        return None, example_bytes
    # A longer pair never gives fewer examples, so what lies between two lengths with equal counts needs no run.
    distinct, repeats = np.unique(lengths, return_counts=True)
    counts, deadline = np.zeros(len(distinct), np.int64), time.monotonic() + COUNT_SECONDS
    counts[0], counts[-1] = run(distinct[0])[0], most
    spans = [(0, len(distinct) - 1)]
    while spans:
        low, high = spans.pop()
        if counts[low] == counts[high]:
            counts[low:high] = counts[low]
        elif high - low > 1:
            if time.monotonic() > deadline:
                return None, example_bytes
            middle = (low + high) // 2
            counts[middle] = run(distinct[middle])[0]
            spans += [(low, middle), (middle, high)]
    return int(counts @ repeats), example_bytes


class _Files:
    """A list of Pair, checked before training starts; files are read at first use and then kept."""

    def __init__(self, found, sample_rate, cache):
        self.pairs, self.cache = found, {} if cache else None
        self._lengths = [_length(pair, sample_rate) for pair in found]

    def __len__(self):
        return len(self.pairs)

    def lengths(self):
        return self._lengths

    def longest(self):
        return max(self._lengths)

    def at(self, epoch, i):
        """float32 (noisy, clean) of pair i, the same in every epoch."""
        pair = self.pairs[i]
        if not is_path(pair.noisy) and not is_path(pair.clean):
            return tuple(np.asarray(wav, np.float32) for wav in (pair.noisy, pair.clean))  # checked by _length
        if self.cache is None:
            return pair.load()[:2]
        if i not in self.cache:
            self.cache[i] = tuple(pack(wav) for wav in pair.load()[:2])
        return tuple(unpack(wav) for wav in self.cache[i])


def _length(pair, sample_rate):
    """Samples of a pair, from the headers of its files; refuses what could not be trained on."""
    sides = []
    for side, what in ((pair.noisy, "noisy"), (pair.clean, "clean")):
        if is_path(side):
            rate, n = header(side)
            if pair.sample_rate not in (None, rate):
                load_mono(side, pair.sample_rate, f"{pair.name}: {what}")  # explains it
        else:
            wav, rate = load_mono(side, pair.sample_rate, f"{pair.name}: {what}")
            n = len(wav)
        sides += [n, rate]
    check_sides(pair.name, *sides)
    if rate != sample_rate:
        raise wrong_rate(pair.name, rate, sample_rate)
    return n


class _Stream:
    """Brings an indexed source (`_Files` or `Mixer`) into tf.data: order of an epoch, then pair by pair."""

    item_dtype = "int64"

    def __init__(self, source):
        self.source = source

    def order(self, epoch, seed, shuffle):
        n = len(self.source)
        return generator(seed, "order", epoch).permutation(n) if shuffle else np.arange(n)

    def load(self, epoch, i):
        found = self.source.at(int(epoch), int(i))
        return (found.noisy, found.clean) if isinstance(found, Pair) else found

    def waveforms(self, dataset):
        """Dataset of (epoch, i) -> dataset of (epoch, i, noisy, clean)."""
        import tensorflow as tf

        def load(epoch, i):
            sides = tf.numpy_function(self.load, [epoch, i], [tf.float32, tf.float32])
            return epoch, i, *(tf.ensure_shape(wav, [None]) for wav in sides)

        return dataset.map(load, tf.data.AUTOTUNE)
