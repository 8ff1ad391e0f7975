"""Digit recogniser: shapes, CTC decoding, channel growth that changes nothing, learning, the four-way comparison."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import signal
from ganse_tf.downstream import asr


def spoken(text, frames_per_digit=16, n_bins=20, seed=0):
    """Features in which every digit lights two bands of its own: easy to learn."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(frames_per_digit * (1 + len(text.split())), n_bins)) * 0.3
    for i, digit in enumerate(asr.to_labels(text)):
        start = frames_per_digit * i + frames_per_digit // 2
        features[start : start + frames_per_digit // 2, 2 * digit : 2 * digit + 2] += 3
    return features.astype(np.float32)


def random_texts(n, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(asr.DIGITS, size=rng.integers(2, 5))) for _ in range(n)]


def test_output_has_a_quarter_of_the_frames_and_eleven_symbols():
    for frames in (1, 4, 5, 99):
        logits = asr.DigitRecogniser(n_bins=30)(np.zeros((2, frames, 30), np.float32))
        assert logits.shape == (2, -(-frames // 4), 11)
        assert asr.steps(frames) == -(-frames // 4)


def test_padding_does_not_change_a_transcript():
    recogniser = asr.DigitRecogniser(n_bins=20)
    short, long = spoken("one two", seed=1), spoken("three four five six", seed=2)
    short = short[:-1]  # odd and even lengths
    recogniser.adapt([short, long])
    padded, n_frames = asr.pad([short, long])
    together = recogniser(padded, n_frames).numpy()
    alone = recogniser(short[None], n_frames[:1]).numpy()
    np.testing.assert_allclose(together[0, : asr.steps(len(short))], alone[0], atol=1e-5)


def test_greedy_merges_repeats_and_drops_blanks():
    blank = asr.BLANK
    assert asr.greedy([blank, 1, 1, blank, 1, 2, 2, blank]) == "one one two"
    assert asr.greedy([blank, blank]) == ""


def test_labels_and_their_error():
    assert asr.to_labels("nine zero") == [9, 0]
    with pytest.raises(ValueError, match="only knows zero, one, .* received the transcript 'ten'"):
        asr.to_labels("ten")
    with pytest.raises(ValueError, match="2 feature arrays and 1 texts"):
        asr.train(asr.DigitRecogniser(20), [spoken("one")] * 2, ["one"])
    with pytest.raises(ValueError, match=r"shape \(40, 20, 1\); expected \(frames, bins\) or \(frames, bins, 2\)"):
        asr.as_channels(np.zeros((40, 20)), channels=2)


def test_a_new_channel_changes_nothing_until_it_is_trained():
    recogniser = asr.DigitRecogniser(n_bins=20)
    recogniser.adapt([spoken("one two")])
    stacked = recogniser.with_channels(2)
    noisy, enhanced = spoken("four five"), spoken("six", frames_per_digit=24)
    x = np.stack([noisy, enhanced], axis=-1)
    np.testing.assert_allclose(stacked(x[None]), recogniser(noisy[None]), atol=1e-5)
    assert stacked.count_params() == recogniser.count_params() + 3 * 3 * 16 + 2 * 20
    same = recogniser.with_channels(1)
    same.conv1.kernel.assign(same.conv1.kernel + 1)
    assert not np.array_equal(same.conv1.kernel, recogniser.conv1.kernel)  # a copy, not the same weights
    with pytest.raises(ValueError, match="fewer than the 2"):
        stacked.with_channels(1)


def test_training_learns_and_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    texts = random_texts(120, seed=0)
    features = [spoken(t, seed=i) for i, t in enumerate(texts)]
    recogniser = asr.DigitRecogniser(n_bins=20, width=32)
    losses = asr.train(recogniser, features, texts, epochs=12, learning_rate=5e-3)
    assert losses[-1] < 0.3 * losses[0]
    test_texts = random_texts(20, seed=1)
    test = [spoken(t, seed=1000 + i) for i, t in enumerate(test_texts)]
    assert asr.word_error_rate(recogniser, test, test_texts) < 0.15
    recogniser.save(tmp_path / "digits.keras")
    again = keras.saving.load_model(tmp_path / "digits.keras")
    assert asr.transcribe(again, test) == asr.transcribe(recogniser, test)


def test_the_loss_is_minus_log_probability_per_digit():
    """Uniform logits over 1 step: p(one digit) = 1 / 11."""
    recogniser = asr.DigitRecogniser(n_bins=20)
    recogniser.to_logits.kernel.assign(tf.zeros_like(recogniser.to_logits.kernel))
    recogniser.compile(keras.optimizers.SGD(0.0))
    batch = (np.zeros((1, 4, 20, 1), np.float32), np.array([4], np.int32), np.array([[3]], np.int32), np.array([1], np.int32))
    recogniser.train_step(tuple(map(tf.constant, batch)))
    assert float(recogniser.loss_mean.result()) == pytest.approx(np.log(11), rel=1e-5)


def test_digit_set_is_parallel_and_repeatable():
    def features(wav, sample_rate):
        return wav[: len(wav) // 160 * 160].reshape(-1, 160)

    one, two = (asr.digit_set("valid", features, snrs_db=(5,), kinds=("white",), seed=3) for _ in range(2))
    assert len(one.clean) == len(one.noisy) == len(one.texts) > 0
    assert all(c.shape == n.shape for c, n in zip(one.clean, one.noisy))
    assert all(set(text.split()) <= set(asr.DIGITS) for text in one.texts)
    assert len(one.wavs) == len(one.texts) and one.sample_rate == 16000
    np.testing.assert_array_equal(one.noisy[0], two.noisy[0])
    assert not np.array_equal(one.noisy[0], one.clean[0])
    assert len(asr.digit_set("valid", features, kinds=("white",), copies=2).texts) == 2 * len(one.texts)


def test_compare_returns_the_rows_of_the_papers_tables(monkeypatch):
    trained = []

    def only_normalise(recogniser, features, texts, *args, **kwargs):
        trained.append((recogniser.channels, features[0].shape))
        if not np.any(recogniser.mean):
            recogniser.adapt(features)

    monkeypatch.setattr(asr, "train", only_normalise)
    texts = random_texts(8, seed=0)
    clean = [spoken(t, seed=i) for i, t in enumerate(texts)]
    noisy = [x + 1.0 for x in clean]
    data = asr.DigitSet(clean, noisy, texts, wavs=[])
    rows = asr.compare(data, data, {"ideal": lambda d: [x - 1.0 for x in d.noisy]}, epochs=1, retrain_epochs=1)
    assert [(r["recogniser"], r["test"], r["enhancer"]) for r in rows] == [
        ("ASR-Clean", "clean", "none"),
        ("ASR-Clean", "noisy", "none"),
        ("ASR-MTR", "clean", "none"),
        ("ASR-MTR", "noisy", "none"),
        ("ASR-Clean", "noisy", "ideal"),
        ("ASR-MTR", "noisy", "ideal"),
        ("ASR-MTR, retrained", "noisy", "ideal"),
        ("ASR-MTR, hybrid", "noisy", "ideal"),
    ]
    assert rows[4]["wer"] == rows[0]["wer"] >= 0  # this enhancer gives the clean features back
    assert rows[6]["wer"] == rows[5]["wer"] and rows[7]["wer"] == rows[3]["wer"]  # start as ASR-MTR, new weights zero
    assert trained == [(1, x.shape) for x in clean[:1] * 3] + [(2, (*clean[0].shape, 2))]
    assert asr.table(rows).splitlines()[2] == f"| ASR-Clean | clean | none | {100 * rows[0]['wer']:.1f} |"


@pytest.mark.slow
def test_learns_the_toy_digits_of_unseen_speakers():
    def features(wav, sample_rate):
        return signal.log_mel(wav, sample_rate).numpy()

    keras.utils.set_random_seed(0)
    train, test = asr.digit_set("train", features), asr.digit_set("test", features)
    recogniser = asr.DigitRecogniser(n_bins=128)
    asr.train(recogniser, train.clean, train.texts)
    clean = asr.word_error_rate(recogniser, test.clean, test.texts)
    assert clean < 0.2 < asr.word_error_rate(recogniser, test.noisy, test.texts)
