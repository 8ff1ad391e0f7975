"""TFRecord shards hold the same pairs, in a repeatable order."""

import numpy as np
import pytest

from ganse_tf import data
from ganse_tf.audio import AudioError

tf = pytest.importorskip("tensorflow")
RATE = 16000


class Whole:
    sample_rate = RATE
    padded = True
    step = 0

    def preprocess(self, noisy, clean):
        return noisy[None], clean[None]


def utterances(dataset):
    """(noisy, clean) of every example, padding removed."""
    found = []
    for noisy, clean in dataset:
        for n, c in zip(noisy.numpy(), clean.numpy()):
            length = np.flatnonzero(n)[-1] + 1
            found.append((n[:length], c[:length]))
    return found


@pytest.fixture(scope="module")
def toy():
    return data.toy_pairs("valid", n=12)


@pytest.fixture(scope="module")
def records(toy, tmp_path_factory):
    return data.write_records(toy, tmp_path_factory.mktemp("records"), shard_bytes=300000)


def test_the_same_sound_comes_back(toy, records):
    assert len(records) == 12 and len(list(records.folder.glob("*.tfrecord"))) > 2
    assert sorted(records.lengths()) == sorted(len(pair.clean) for pair in toy)
    dataset = data.examples(records, Whole(), batch_size=5)
    found = sorted(utterances(dataset), key=lambda pair: len(pair[0]))
    for (noisy, clean), pair in zip(found, sorted(toy, key=lambda pair: len(pair.clean)), strict=True):
        np.testing.assert_allclose(noisy, pair.noisy[: len(noisy)], atol=0.5001 / 32768)
        np.testing.assert_allclose(clean, pair.clean[: len(clean)], atol=0.5001 / 32768)
    assert dataset.cardinality().numpy() == 3


def test_order_depends_on_seed_and_step(records):
    model = Whole()
    dataset = data.examples(records, model, batch_size=1)
    first, again = utterances(dataset), utterances(dataset)
    model.step = 12
    later = utterances(dataset)
    model.step = 0
    back = utterances(data.examples(data.Records(records.folder), model, batch_size=1))
    lengths = [[len(noisy) for noisy, _ in found] for found in (first, again, later, back)]
    assert lengths[0] == lengths[1] == lengths[3] != lengths[2]
    assert sorted(lengths[0]) == sorted(lengths[2])
    still = data.examples(records, model, batch_size=1, shuffle=False)
    stored = [len(noisy) for noisy, _ in utterances(still)]
    model.step = 5
    assert stored == [len(noisy) for noisy, _ in utterances(still)]


def test_crops_are_the_same_after_a_resume(records):
    model = Whole()
    dataset = data.examples(records, model, batch_size=4, crop_seconds=0.25)
    first = utterances(dataset)
    model.step = 3
    other = utterances(dataset)
    model.step = 0
    again = utterances(dataset)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_any_tfrecord_reader_can_read_them(records):
    paths = sorted(str(path) for path in records.folder.glob("*.tfrecord"))
    raw = list(tf.data.TFRecordDataset(paths))
    assert len(raw) == 12
    example = tf.train.Example.FromString(raw[0].numpy())
    assert set(example.features.feature) == {"number", "name", "noisy", "clean"}


def test_a_mixer_can_be_stored(tmp_path):
    mixer = data.Mixer(data.toy_corpus("valid")[:3], "white", seconds=0.5, length=4)
    records = data.write_records(mixer, tmp_path / "r")
    assert records.lengths() == [8000] * 4


def test_finished_interrupted_and_damaged_folders(tmp_path, toy):
    with pytest.raises(AudioError, match="holds no finished records: records.json is missing"):
        data.Records(tmp_path)
    (tmp_path / "pairs-00007.tfrecord").write_bytes(b"left by a run that was killed")
    data.write_records(toy[:2], tmp_path)
    assert [path.name for path in tmp_path.glob("*.tfrecord")] == ["pairs-00000.tfrecord"]
    with pytest.raises(AudioError, match="holds finished records already. Use data.Records"):
        data.write_records(toy[:2], tmp_path)
    (tmp_path / "pairs-00000.tfrecord").unlink()
    with pytest.raises(AudioError, match="lacks pairs-00000.tfrecord"):
        data.Records(tmp_path)


def test_what_records_refuse(tmp_path):
    tone = np.full(2000, 0.5, np.float32)
    with pytest.raises(AudioError, match="loud goes beyond full scale"):
        data.write_records([data.Pair("loud", 3 * tone, tone)], tmp_path / "a")
    assert not (tmp_path / "a" / "records.json").exists()
    pairs = [data.Pair("a", tone, tone), data.Pair("b", tone, tone, sample_rate=8000)]
    with pytest.raises(AudioError, match="Hz; expected"):
        data.write_records(pairs, tmp_path / "b")
    records = data.write_records([data.Pair("b", tone, tone, sample_rate=8000)], tmp_path / "c")
    with pytest.raises(AudioError, match="The Records has 8000 Hz; expected 16000 Hz"):
        data.examples(records, Whole())
