"""`examples`: the batches themselves, their order after a resume, and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from ganse_tf import audio, data
from ganse_tf.audio import AudioError

tf = pytest.importorskip("tensorflow")
RATE, WINDOW, HOP = 16000, 2048, 1024


class Windows:
    """Stands in for a waveform model: windows with 50 % overlap."""

    sample_rate = RATE

    def __init__(self, step=0):
        self.step = step

    def preprocess(self, noisy, clean):
        return tuple(tf.signal.frame(wav, WINDOW, HOP)[..., None] for wav in (noisy, clean))


class Whole:
    """Stands in for a model of whole utterances: one padded example per pair, in a dict."""

    sample_rate = RATE
    padded = True
    step = 0

    def preprocess(self, noisy, clean):
        return {"noisy": noisy[None], "clean": clean[None]}


def batches(dataset):
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), batch) for batch in dataset]


def equal(first, second):
    if len(first) != len(second):
        return False
    return all(np.array_equal(a, b) for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second)))


def rows(found):
    """The windows of all batches as a sorted list, so that only the order is lost."""
    return sorted(window.tobytes() for batch in found for window in batch[1])


@pytest.fixture(scope="module")
def toy():
    return data.toy_pairs("train", n=12)


@pytest.fixture(scope="module")
def mixer():
    return data.Mixer(data.toy_corpus("valid")[:10], ["white", "babble"], seconds=0.5, level_db=(-30, -20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy):
    """The toy pairs as FLAC files."""
    path = tmp_path_factory.mktemp("pairs")
    for pair in toy:
        audio.write(path / "noisy" / f"{pair.name}.flac", pair.noisy, RATE)
        audio.write(path / "clean" / f"{pair.name}.flac", pair.clean, RATE)
    return path


def test_importing_does_not_load_tensorflow():
    code = "import sys; from ganse_tf import data, noises; data.toy_pairs(n=1); print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_windows_are_the_windows_of_the_pairs(toy):
    dataset = data.examples(toy, Windows(), batch_size=16)
    found = batches(dataset)
    expected = sorted(
        pair.clean[start : start + WINDOW].tobytes()
        for pair in toy
        for start in range(0, len(pair.clean) - WINDOW + 1, HOP)
    )
    assert rows(found) == expected
    assert dataset.cardinality().numpy() == len(found) == -(-len(expected) // 16)
    assert [len(batch[0]) for batch in found[:-1]] == [16] * (len(found) - 1)
    assert found[0][0].shape == (16, WINDOW, 1) and found[0][0].dtype == np.float32
    assert tf.nest.map_structure(lambda spec: tuple(spec.shape), dataset.element_spec) == ((None, WINDOW, 1),) * 2


def test_noisy_and_clean_stay_together(toy):
    of_clean = {}
    for pair in toy:
        for start in range(0, len(pair.clean) - WINDOW + 1, HOP):
            of_clean[pair.clean[start : start + WINDOW].tobytes()] = pair.noisy[start : start + WINDOW]
    for noisy, clean in batches(data.examples(toy, Windows())):
        for i in range(len(clean)):
            if clean[i].any():  # stretches of pause are all alike
                np.testing.assert_array_equal(noisy[i, :, 0], of_clean[clean[i].tobytes()])


def test_shuffle_false_keeps_the_order(toy):
    model = Windows()
    dataset = data.examples(toy, model, batch_size=1000, shuffle=False)
    (first,) = batches(dataset)
    np.testing.assert_array_equal(first[1][:3, :, 0], tf.signal.frame(toy[0].clean, WINDOW, HOP)[:3])
    model.step = 99
    assert equal([first], batches(dataset))


def test_files_give_the_same_as_arrays(toy, folder):
    names = sorted(pair.name for pair in toy)
    arrays = [next(pair for pair in toy if pair.name == name) for name in names]
    expected = batches(data.examples(arrays, Windows(), shuffle=False))
    for cache in (True, False):
        dataset = data.examples(folder, Windows(), shuffle=False, cache=cache)
        for _ in range(2):  # the second time from the cache
            for a, b in zip(expected, batches(dataset), strict=True):
                np.testing.assert_allclose(a[0], b[0], atol=2 / 32768)


def test_cache_decodes_every_file_once(folder, monkeypatch):
    read, count = audio.read, []
    monkeypatch.setattr(audio, "read", lambda *a, **k: count.append(a[0]) or read(*a, **k))
    dataset = data.examples(folder, Windows())
    assert count == []  # lengths and rates come from the headers
    batches(dataset), batches(dataset)
    assert len(count) == len(set(count)) == 24


def sources(toy, mixer, folder):
    return {
        "arrays": dict(source=toy),
        "crops": dict(source=toy, crop_seconds=0.4),
        "files": dict(source=folder),
        "mixer": dict(source=mixer),
    }


@pytest.mark.parametrize("kind", ["arrays", "crops", "files", "mixer"])
def test_a_resumed_training_sees_the_same_batches(kind, toy, mixer, folder):
    """Three epochs in one go; then epochs 2 and 3 by a new dataset and a model whose step came from a backup."""
    options = sources(toy, mixer, folder)[kind]

    def train(model, epochs):
        dataset, seen = data.examples(model=model, batch_size=8, seed=4, **options), []
        for _ in range(epochs):
            for batch in dataset:  # the order is fixed when the iteration starts; the step moves on while it runs
                seen.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), batch))
                model.step.assign_add(1)
        return seen

    whole = train(Windows(tf.Variable(0)), 3)
    per_epoch = len(whole) // 3
    resumed = train(Windows(tf.Variable(per_epoch)), 2)
    assert equal(whole[per_epoch:], resumed)
    assert not equal(whole[:per_epoch], resumed[:per_epoch])
    assert not equal(resumed[:per_epoch], resumed[per_epoch:])
    if kind in ("arrays", "files"):  # another order of the same windows
        assert rows(whole[:per_epoch]) == rows(resumed[:per_epoch])
    else:
        assert rows(whole[:per_epoch]) != rows(resumed[:per_epoch])


def test_a_keras_counter_works_as_step(toy):
    keras = pytest.importorskip("keras")
    plain = batches(data.examples(toy, Windows(7)))
    counter = keras.Variable(7, dtype="int32", trainable=False)
    assert equal(plain, batches(data.examples(toy, Windows(counter))))


def test_seed_changes_the_order_and_models_without_step_work(toy):
    class Plain:
        preprocess = Windows.preprocess

    first, again, other = (batches(data.examples(toy, Plain(), seed=seed)) for seed in (1, 1, 2))
    assert equal(first, again) and not equal(first, other)
    assert rows(first) == rows(other)


def test_mixer_examples(mixer):
    dataset = data.examples(mixer, Windows(), batch_size=4)
    found = batches(dataset)
    windows = (8000 - WINDOW) // HOP + 1
    assert sum(len(batch[0]) for batch in found) == 10 * windows
    assert dataset.cardinality().numpy() == len(found)
    fixed = data.examples(mixer, Windows(5), shuffle=False)
    assert equal(batches(fixed), batches(data.examples(mixer, Windows(6), shuffle=False)))
    np.testing.assert_array_equal(batches(fixed)[0][0][0, :, 0], mixer[0].noisy[:WINDOW])


def test_mixer_of_whole_utterances(toy):
    speech = data.toy_corpus("valid")[:5]
    known = data.examples(data.Mixer(speech, "white", length=10), Windows())
    assert known.cardinality().numpy() == len(batches(known))
    unknown = data.examples(data.Mixer(speech, "white", length=7), Windows())
    assert unknown.cardinality().numpy() == tf.data.UNKNOWN_CARDINALITY
    assert len(batches(unknown)) > 0


def test_padded_examples(toy):
    dataset = data.examples(toy, Whole(), batch_size=5)
    found = batches(dataset)
    assert [batch["clean"].shape[0] for batch in found] == [5, 5, 2] and dataset.cardinality().numpy() == 3
    lengths = {len(pair.clean): pair for pair in toy}
    for batch in found:
        assert batch["clean"].shape[1] in lengths  # the longest of the batch, no more
        for clean in batch["clean"]:
            length = np.flatnonzero(clean)[-1] + 1
            longer = [pair for n, pair in lengths.items() if n >= length]
            assert any(np.array_equal(clean[:length], pair.clean[:length]) for pair in longer)


def test_crops(toy):
    found = batches(data.examples(toy, Whole(), crop_seconds=0.5, batch_size=4))
    assert {batch["clean"].shape for batch in found} == {(4, 8000)}
    for batch in found:
        for noisy, clean in zip(batch["noisy"], batch["clean"]):
            hits = [
                (pair, start)
                for pair in toy
                for start in np.flatnonzero(pair.noisy[: len(pair.noisy) - 7999] == noisy[0])
                if np.array_equal(pair.noisy[start : start + 8000], noisy)
            ]
            assert len(hits) == 1  # a stretch of one pair, the same on both sides
            (pair, start) = hits[0]
            np.testing.assert_array_equal(pair.clean[start : start + 8000], clean)


def test_short_pairs_are_padded_or_left_short():
    short = [(np.full(3000, 0.1, np.float32), np.full(3000, 0.2, np.float32))]
    (batch,) = batches(data.examples(short, Windows(), crop_seconds=0.25, shuffle=False))
    assert batch[0].shape == (2, WINDOW, 1)  # 4000 samples
    assert not batch[0][1, 3000 - HOP :].any() and batch[0][1, : 3000 - HOP].all()
    (batch,) = batches(data.examples(short, Whole(), crop_seconds=0.25))
    assert batch["clean"].shape == (1, 3000)


def test_pairs_that_give_no_example_are_passed_over(toy):
    tiny = data.Pair("tiny", np.ones(100, np.float32), np.ones(100, np.float32))
    with_tiny = data.examples([tiny, *toy], Windows(), shuffle=False)
    assert with_tiny.cardinality().numpy() == len(batches(with_tiny))
    assert rows(batches(with_tiny)) == rows(batches(data.examples(toy, Windows())))


def test_drop_remainder(toy):
    dataset = data.examples(toy, Windows(), batch_size=16, drop_remainder=True)
    found = batches(dataset)
    assert {len(batch[0]) for batch in found} == {16} and dataset.cardinality().numpy() == len(found)


def test_counting_uses_few_runs_and_gives_up_in_time(toy, monkeypatch):
    calls = []

    class Counted(Windows):
        def preprocess(self, noisy, clean):
            tf.py_function(lambda: calls.append(1), [], [])
            return super().preprocess(noisy, clean)

    lengths = [(np.ones(n, np.float32), np.ones(n, np.float32)) for n in range(4000, 6000, 5)]
    dataset = data.examples(lengths, Counted(), batch_size=10)
    assert len(calls) < 40  # of 400 different lengths
    expected = sum((n - WINDOW) // HOP + 1 for n in range(4000, 6000, 5))
    assert dataset.cardinality().numpy() == -(-expected // 10)
    monkeypatch.setattr(data, "COUNT_SECONDS", -1.0)
    assert data.examples(lengths, Windows()).cardinality().numpy() == tf.data.UNKNOWN_CARDINALITY


def test_keras_knows_the_number_of_steps(toy):
    keras = pytest.importorskip("keras")

    class Model(keras.Model):
        sample_rate = RATE
        preprocess = Windows.preprocess
        step = 0

        def train_step(self, batch):
            return {"power": tf.reduce_mean(batch[0] ** 2)}

    seen = []
    model = Model()
    model.compile()
    dataset = data.examples(toy, model)
    log = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: seen.append(log.params["steps"]))
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=[log], shuffle=False).history
    assert seen == [dataset.cardinality().numpy()] and len(history["power"]) == 2


# ---- what is refused, before training starts -------------------------------------------------------------------------


def test_other_rates_are_refused(tmp_path):
    tone = 0.1 * np.ones(48000, np.float32)
    with pytest.raises(AudioError, match="x has 48000 Hz; expected 16000 Hz. Training data is never resampled"):
        data.examples([data.Pair("x", tone, tone, sample_rate=48000)], Windows())
    audio.write(tmp_path / "noisy" / "a.wav", tone, 44100)
    audio.write(tmp_path / "clean" / "a.wav", tone, 44100)
    with pytest.raises(AudioError, match="a has 44100 Hz; expected 16000 Hz.*audio.resample.wav, 44100, 16000."):
        data.examples(tmp_path, Windows())
    path = tmp_path / "noisy" / "a.wav"
    with pytest.raises(AudioError, match="has 44100 Hz, but the pair or manifest says 16000 Hz"):
        data.examples([data.Pair("x", path, path, sample_rate=RATE)], Windows())
    with pytest.raises(AudioError, match="The Mixer has 8000 Hz; expected 16000 Hz"):
        data.examples(data.Mixer([tone], "white", sample_rate=8000), Windows())


def test_unequal_lengths_and_bad_files_are_refused(tmp_path):
    tone = 0.1 * np.ones(4000, np.float32)
    with pytest.raises(AudioError, match="noisy has 4000 samples and clean 3999"):
        data.examples([(tone, tone[1:])], Windows())
    audio.write(tmp_path / "noisy" / "a.wav", tone, RATE)
    audio.write(tmp_path / "clean" / "a.wav", tone[:3000], RATE)
    with pytest.raises(AudioError, match="a: noisy has 4000 samples and clean 3000"):
        data.examples(tmp_path, Windows())
    sf.write(tmp_path / "clean" / "a.wav", np.stack([tone, tone], 1), RATE)
    with pytest.raises(AudioError, match="2 channels; training data and pairs are mono"):
        data.examples(tmp_path, Windows())
    (tmp_path / "clean" / "a.wav").write_text("no sound")
    with pytest.raises(AudioError, match="cannot be read as audio"):
        data.examples(tmp_path, Windows())
    with pytest.raises(AudioError, match="no file"):
        data.examples([(tmp_path / "gone.wav", tmp_path / "clean" / "a.wav")], Windows())
    with pytest.raises(AudioError, match="clean contains NaN"):
        data.examples([(tone, tone * np.nan)], Windows())


def test_too_short_for_any_example():
    tone = np.ones(1000, np.float32)
    with pytest.raises(AudioError, match="No pair is long enough for one example of Windows: the longest has 1000"):
        data.examples([(tone, tone)], Windows())


def test_bad_arguments(toy):
    with pytest.raises(TypeError, match="model is str; expected an object with preprocess"):
        data.examples(toy, "segan")
    with pytest.raises(ValueError, match="batch_size is 0"):
        data.examples(toy, Windows(), batch_size=0)
    with pytest.raises(ValueError, match="crop_seconds is 0"):
        data.examples(toy, Windows(), crop_seconds=0)


def test_preprocess_with_unequal_counts(toy):
    class Wrong(Windows):
        def preprocess(self, noisy, clean):
            return noisy[None], tf.signal.frame(clean, WINDOW, HOP)

    with pytest.raises(ValueError, match="Wrong.preprocess returned tensors of shapes .*first axis counts"):
        data.examples(toy, Wrong())
