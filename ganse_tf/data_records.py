"""TFRecord shards of whole pairs: a copy of a big corpus that reads fast from slow or remote disks.

    data.write_records(data.pairs("corpus"), "records")             # once
    model.fit(data.examples(data.Records("records"), model))        # as often as you like

Ten thousand small files are slow on a network drive (Google Drive in Colab, for one); a few files of 100 MB that are
read from front to back are not. On a local disk cached FLAC files do as well (`benchmarks/pipeline.md`).
A record holds one pair as 16-bit integers. The pairs are shuffled once when they are written, so that neighbours in a
shard are not all from one speaker; per epoch the shards change places and `examples` shuffles once more.
"""

import json
from pathlib import Path

import numpy as np

from ganse_tf import audio
from ganse_tf.corpus import pack, pairs, wrong_rate
from ganse_tf.mixing import generator

SHARD_BYTES = 100 * 2**20
SHARDS_AT_ONCE = 4  # shards that are read in turn
INDEX = "records.json"


def write_records(source, folder, shard_bytes=SHARD_BYTES, seed=0):
    """Write pairs as TFRecord shards.

    Args:
        source: list of Pair, anything `data.pairs` takes, or a Mixer (its epoch 0).
        folder: to write into; it must not hold finished records. Its index is written last, so that an interrupted
            run is not taken for a whole one.
        shard_bytes: size at which the next shard begins, in bytes.
        seed: of the order in the shards.

    Returns:
        Records.

    Raises:
        AudioError: the folder holds records already, pairs of different rates, samples beyond full scale.
    """
    import tensorflow as tf

    folder, found = Path(folder), pairs(source)
    if (folder / INDEX).exists():
        raise audio.AudioError(
            f"'{folder}' holds finished records already. Use data.Records('{folder}'), or delete it to write it anew."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("pairs-*.tfrecord"):
        old.unlink()  # of an interrupted run
    shards, lengths, sample_rate, writer, written = [], [], None, None, 0
    try:
        for number, place in enumerate(generator("records", seed).permutation(len(found))):
            pair = found[place]
            noisy, clean, rate = pair.load()
            sample_rate = sample_rate or rate
            if rate != sample_rate:
                raise wrong_rate(pair.name, rate, sample_rate)
            noisy, clean = pack(noisy), pack(clean)
            if noisy.dtype != np.int16 or clean.dtype != np.int16:
                raise audio.AudioError(
                    f"{pair.name} goes beyond full scale (peak > 1), which 16-bit records cannot hold. Scale noisy and "
                    "clean down by one common factor first."
                )
            if writer is None or written >= shard_bytes:
                if writer is not None:
                    writer.close()
                shards.append(f"pairs-{len(shards):05d}.tfrecord")
                writer, written = tf.io.TFRecordWriter(str(folder / shards[-1])), 0
            features = {
                "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
                "name": _bytes(tf, pair.name.encode()),
                "noisy": _bytes(tf, noisy.astype("<i2").tobytes()),
                "clean": _bytes(tf, clean.astype("<i2").tobytes()),
            }
            record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            writer.write(record)
            written += len(record)
            lengths.append(len(clean))
    finally:
        if writer is not None:
            writer.close()
    index = {"sample_rate": sample_rate, "shards": shards, "lengths": lengths}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return Records(folder)


def _bytes(tf, value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


class Records:
    """Pairs stored by `write_records`; give it to `data.examples`.

    Args:
        folder: that `write_records` wrote.

    Raises:
        AudioError: no finished records there, or a shard is missing.

    Example:
        >>> batches = data.examples(data.Records("records"), model)  # doctest: +SKIP
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise audio.AudioError(
                f"'{folder}' holds no finished records: {INDEX} is missing. Use data.write_records(pairs, folder) first."
            )
        index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        self.sample_rate, self._shards, self._lengths = index["sample_rate"], index["shards"], index["lengths"]
        missing = [name for name in self._shards if not (self.folder / name).is_file()]
        if missing:
            raise audio.AudioError(f"'{folder}' lacks {', '.join(missing)}. Copy it again, or write it anew.")

    def __len__(self):
        return len(self._lengths)

    def lengths(self):
        """Samples of every pair."""
        return self._lengths

    def longest(self):
        """Samples of the longest pair."""
        return max(self._lengths)

    def order(self, epoch, seed, shuffle):
        """Names of the shards in the order of an epoch."""
        names = np.array([str(self.folder / name) for name in self._shards])
        names = generator(seed, "order", epoch).permutation(names) if shuffle else names
        return np.array([name.encode() for name in names], dtype=object)

    item_dtype = "string"

    def waveforms(self, dataset):
        """Dataset of (epoch, shard) -> dataset of (epoch, number, noisy, clean)."""
        import tensorflow as tf

        features = {
            "number": tf.io.FixedLenFeature([], tf.int64),
            "noisy": tf.io.FixedLenFeature([], tf.string),
            "clean": tf.io.FixedLenFeature([], tf.string),
        }

        def parse(epoch, record):
            found = tf.io.parse_single_example(record, features)
            sides = (tf.io.decode_raw(found[side], tf.int16, little_endian=True) for side in ("noisy", "clean"))
            return epoch, found["number"], *(tf.cast(wav, tf.float32) / audio.INT16_SCALE for wav in sides)

        def shard(epoch, name):
            return tf.data.TFRecordDataset(name).map(lambda record: (epoch, record))

        dataset = dataset.interleave(shard, cycle_length=SHARDS_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.map(parse, tf.data.AUTOTUNE)
