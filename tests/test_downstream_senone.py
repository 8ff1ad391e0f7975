"""Senone models: parameter counts of the AFM specification, labels, deltas, Viterbi, learning."""

import functools
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data
from ganse_tf.downstream import senone


def test_parameter_counts_are_the_papers():
    quick = functools.partial(senone.projected_lstm, recurrent_initializer="zeros")  # orthogonal matrices take a minute
    model = senone.build_acoustic_model(recurrent=quick)
    assert model.count_params() == 26_848_196
    assert model.output_shape == (None, None, 3012)
    assert senone.build_dnn().count_params() == 33_311_684


def test_tiny_models_give_a_distribution_over_31_senones():
    assert senone.N_SENONES == 31
    for model, dim in ((senone.tiny_acoustic_model(), 29), (senone.tiny_dnn(), 957)):
        x = np.random.default_rng(0).normal(size=(7, dim)).astype(np.float32)
        posterior = senone.posteriors(model, [x, x[:4]])
        assert [p.shape for p in posterior] == [(7, 31), (4, 31)]
        np.testing.assert_allclose(posterior[0].sum(axis=-1), 1, rtol=1e-5)
        np.testing.assert_allclose(posterior[1], posterior[0][:4], rtol=1e-4)  # no look-ahead, no effect of padding


def test_another_recurrent_layer_can_be_plugged_in():
    model = senone.build_acoustic_model(31, 29, layers=1, recurrent=lambda u, p: keras.layers.GRU(p, return_sequences=True))
    assert any(isinstance(layer, keras.layers.GRU) for layer in model.layers)


def test_lfb_frames_and_silence():
    features = senone.lfb(np.zeros(16000, np.float32))
    assert features.shape == (1 + (16000 - 400) // 160, 29)
    np.testing.assert_allclose(features, np.log(1e-8), rtol=1e-6)


def test_deltas_of_a_line_are_its_slope_and_work_in_a_graph():
    static = np.stack([3.0 * np.arange(12), np.ones(12)], axis=1).astype(np.float32)
    out = tf.function(senone.add_deltas)(static[None])[0].numpy()
    assert out.shape == (12, 6)
    np.testing.assert_allclose(out[4:8, 2], 3.0, rtol=1e-6)
    np.testing.assert_allclose(out[:, 3], 0, atol=1e-6)
    np.testing.assert_allclose(out[4:8, 4], 0, atol=1e-5)
    # Edges repeat the end: at t = 0, (1 * 3 + 2 * 6) / 10
    assert out[0, 2] == pytest.approx(1.5)


def test_splice_makes_957_inputs_in_time_order():
    features = np.arange(20.0, dtype=np.float32)[:, None] * np.ones((1, 87), np.float32)
    out = senone.splice(features).numpy()
    assert out.shape == (20, 957)
    assert out[10, ::87].tolist() == list(range(5, 16))
    assert out[0, ::87].tolist() == [0] * 6 + [1, 2, 3, 4, 5]


def test_alignments_cut_words_into_equal_states():
    utterance = SimpleNamespace(words=(("two", 0.0625, 0.1525), ("zero", 0.1525, 0.2125)))
    labels = senone.alignments(utterance, n_frames=24)
    assert labels.tolist() == [0] * 5 + [7] * 3 + [8] * 3 + [9] * 3 + [1] * 2 + [2] * 2 + [3] * 2 + [0] * 4
    assert labels.dtype == np.int32


def test_alignments_of_the_toy_corpus_find_the_loud_frames():
    utterance = next(u for u in data.toy_corpus("valid") if u.words)
    features = senone.lfb(utterance.wav, utterance.sample_rate).numpy()
    labels = senone.alignments(utterance)
    assert len(labels) == len(features)
    level = features.mean(axis=1)
    assert level[labels > 0].mean() > level[labels == 0].mean() + 3


def test_alignments_explain_what_is_missing():
    with pytest.raises(ValueError, match="no word boundaries"):
        senone.alignments(SimpleNamespace(words=()), 10)
    with pytest.raises(ValueError, match="'ten' has no states; expected one of zero, one"):
        senone.alignments(SimpleNamespace(words=(("ten", 0.0, 1.0),)), 10)


def scores_of(labels, strength=5.0):
    return strength * np.eye(senone.N_SENONES)[labels]


def labels_of(text, frames=4, gap=3):
    out = [0] * gap
    for word in text.split():
        for state in senone.senones_of(word):
            out += [state] * frames
        out += [0] * gap
    return np.array(out)


def test_decode_finds_digits_with_and_without_pauses():
    for text in ("one", "two two", "nine zero eight three", ""):
        assert senone.decode(scores_of(labels_of(text))) == text
        assert senone.decode(scores_of(labels_of(text, gap=0) if text else labels_of(text))) == text


def test_decode_repairs_single_frames_and_obeys_the_word_penalty():
    labels = labels_of("four five")
    labels[6] = 20  # one frame of another word
    assert senone.decode(scores_of(labels)) == "four five"
    assert senone.decode(scores_of(labels, 1.0), word_penalty=100.0) == ""


def test_forced_alignment_returns_the_labels_that_made_the_scores():
    for gap in (0, 3):
        labels = labels_of("six six one", gap=gap)
        np.testing.assert_array_equal(senone.force_align(scores_of(labels), "six six one"), labels)
    with pytest.raises(ValueError, match="2 frames cannot hold the 3 states of 'six'"):
        senone.force_align(scores_of([0, 0]), "six")


def test_viterbi_agrees_with_trying_all_paths():
    rng = np.random.default_rng(0)
    scores, move, start, end = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)

    def total(path):
        steps = sum(move[a, b] for a, b in zip(path, path[1:]))
        return start[path[0]] + end[path[-1]] + steps + sum(scores[t, s] for t, s in enumerate(path))

    best = max(itertools.product(range(3), repeat=5), key=total)
    assert tuple(senone._viterbi(scores, move, start, end)) == best


def test_cross_entropy_ignores_padding():
    logits = np.zeros((1, 3, 31), np.float32)
    logits[0, 2, 5] = 100.0  # a padded frame that would cost 100
    assert float(senone.cross_entropy(np.array([[1, 2, -1]]), logits)) == pytest.approx(np.log(31), rel=1e-6)


def test_error_rates_are_pooled():
    posterior = [np.eye(31)[[0, 1, 2, 3]], np.eye(31)[[0, 0]]]
    assert senone.senone_error(posterior, [np.array([0, 1, 2, 9]), np.array([0, 0])]) == pytest.approx(1 / 6)
    prior = np.full(31, 1 / 31)
    posterior = [np.eye(31)[labels_of("one two")] * 0.9 + 0.1 / 31, np.eye(31)[labels_of("five")] * 0.9 + 0.1 / 31]
    assert senone.digit_error(posterior, ["one two", "six"], prior) == pytest.approx(1 / 3)


def test_priors_are_smoothed_frequencies():
    prior = senone.priors([np.array([0, 0, 1])], n_senones=3)
    np.testing.assert_allclose(prior, [3 / 6, 2 / 6, 1 / 6])


def test_training_learns_frame_labels_and_checks_lengths():
    keras.utils.set_random_seed(0)
    rng, model = np.random.default_rng(0), senone.build_acoustic_model(31, 31, layers=1, units=32, projection=16)
    texts = ["one two", "three", "seven nine zero"] * 8
    labels = [labels_of(t) for t in texts]
    features = [(np.eye(31)[y] + 0.1 * rng.normal(size=(len(y), 31))).astype(np.float32) for y in labels]
    losses = senone.train(model, features, labels, epochs=25, learning_rate=2e-2)
    assert losses[-1] < 0.1 * losses[0]
    assert senone.senone_error(senone.posteriors(model, features), labels) < 0.02
    with pytest.raises(ValueError, match=r"\(0, 6, 5\)"):
        senone.train(model, [np.zeros((6, 31))], [np.zeros(5)])


def test_normaliser_uses_the_statistics_it_was_made_from():
    rng = np.random.default_rng(0)
    features = [rng.normal(3.0, 2.0, size=(50, 4)) for _ in range(3)]
    out = np.concatenate([senone.normaliser(features)(f) for f in features])
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-4)


def test_clean_recogniser_reads_clean_speech_better_than_noise():
    keras.utils.set_random_seed(0)
    utterances = [u for u in data.toy_corpus("train") if u.words][:3]
    judge = senone.CleanRecogniser([*utterances, SimpleNamespace(words=())], epochs=60)
    features = [senone.lfb(u.wav).numpy() for u in utterances]
    labels, texts = [senone.alignments(u) for u in utterances], [u.text for u in utterances]
    clean = judge.error_rates(features, labels, texts)
    noise = judge.error_rates([np.zeros_like(f) for f in features], labels, texts)
    assert set(clean) == {"senone error (%)", "digit error (%)"}
    assert clean["senone error (%)"] < 20 and clean["digit error (%)"] < 20 < 50 < noise["senone error (%)"]


@pytest.mark.slow
def test_learns_the_toy_digits_of_unseen_speakers():
    keras.utils.set_random_seed(0)
    sets = {s: [u for u in data.toy_corpus(s) if u.words] for s in ("train", "test")}
    features = {s: [senone.lfb(u.wav, u.sample_rate).numpy() for u in us] for s, us in sets.items()}
    labels = {s: [senone.alignments(u, len(f)) for u, f in zip(us, features[s])] for s, us in sets.items()}
    normalise, model = senone.normaliser(features["train"]), senone.tiny_acoustic_model()
    senone.train(model, [normalise(f) for f in features["train"]], labels["train"], epochs=15)
    posterior = senone.posteriors(model, [normalise(f) for f in features["test"]])
    assert senone.senone_error(posterior, labels["test"]) < 0.5
    assert senone.digit_error(posterior, [u.text for u in sets["test"]], senone.priors(labels["train"])) < 0.3
