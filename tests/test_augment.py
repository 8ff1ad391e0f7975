"""augment.py: masks stay within their width, differ between examples, repeat with their seed; fades by hand."""

import doctest
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import augment


def test_docstring_examples_run():
    result = doctest.testmod(augment, extraglobs={"tf": tf})
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize("function, axis", [(augment.freq_mask, 2), (augment.time_mask, 1)])
def test_one_contiguous_band_per_example(function, axis):
    spec = np.random.default_rng(0).uniform(1, 2, [200, 50, 30]).astype(np.float32)
    masked = function(spec, 8, seed=(1, 2)).numpy()
    hidden = masked == 0
    assert np.array_equal(masked[~hidden], spec[~hidden])
    lines = hidden.all(axis=3 - axis)  # (example, place): whole rows or columns
    assert lines.sum() * spec.shape[3 - axis] == hidden.sum()
    widths = lines.sum(-1)
    assert set(widths) == set(range(9))  # every width from 0 to 8 occurs among 200 examples
    edges = np.abs(np.diff(lines.astype(int), axis=-1, prepend=0, append=0)).sum(-1)
    assert (edges[widths > 0] == 2).all()  # contiguous
    assert lines[:, 0].any()
    assert lines[:, -1].any()


def test_masks_repeat_with_the_seed_and_change_with_it():
    spec = tf.ones([4, 50, 30])
    draw = [augment.time_mask(spec, 20, seed=(0, s), value=-1.0).numpy() for s in (3, 3, 4)]
    assert np.array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    assert set(np.unique(draw[0])) == {-1.0, 1.0}


def test_masks_in_a_graph_with_unknown_shape_and_a_band_wider_than_the_spectrum():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 30]), tf.TensorSpec([2], tf.int32)])
    def both(spec, seed):
        masked = augment.time_mask(augment.freq_mask(spec, 100, seed), 5, seed)
        assert masked.shape.as_list() == [None, None, 30]
        return masked

    masked = both(tf.ones([64, 9, 30]), [0, 0]).numpy()
    assert masked.shape == (64, 9, 30)
    assert (masked == 0).all(axis=(1, 2)).any()  # wide bands may hide all


def test_fades_by_hand():
    ones = np.ones([2, 6], np.float32)
    np.testing.assert_allclose(augment.fade(ones, 3, 2), [[0, 0.5, 1, 1, 1, 0]] * 2)
    np.testing.assert_allclose(augment.fade(ones[0], 3, 0, "exponential")[:3], [0, np.expm1(0.5) / np.expm1(1), 1], rtol=1e-6)
    np.testing.assert_allclose(augment.fade(ones[0], 3, 0, "logarithmic")[:3], [0, np.log2(1.5), 1], rtol=1e-6)
    np.testing.assert_array_equal(augment.fade(ones), ones)
    with pytest.raises(ValueError, match="mode='cosine'; expected one of linear, exponential, logarithmic"):
        augment.fade(ones, 1, 1, "cosine")


def test_tfio_works_never_raises_and_gives_a_reason(monkeypatch):
    works, reason = augment.tfio_works()
    assert isinstance(works, bool)
    assert reason.endswith(".")
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    works, reason = augment.tfio_works()
    assert not works
    assert "cannot be imported" in reason

    def broken(*args, **kwargs):
        raise NotImplementedError("unable to open file: libtensorflow_io.so")

    fake = types.SimpleNamespace(audio=types.SimpleNamespace(decode_wav=broken), __version__="0.37.1")
    monkeypatch.setitem(sys.modules, "tensorflow_io", fake)
    works, reason = augment.tfio_works()
    assert not works
    assert "fail under TensorFlow" in reason


# ---- the same operations of tensorflow-io, where it is installed


@pytest.fixture(scope="module")
def tfio():
    return pytest.importorskip("tensorflow_io", reason="tensorflow-io is optional; it cannot be imported here")


@pytest.mark.parametrize("mode", ["linear", "exponential", "logarithmic"])
def test_fade_equals_tfios(tfio, mode):
    wav = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    theirs = tfio.audio.fade(wav, fade_in=100, fade_out=200, mode=mode)
    np.testing.assert_allclose(augment.fade(wav, 100, 200, mode), theirs, atol=1e-5)


@pytest.mark.parametrize("name, axis", [("freq_mask", 1), ("time_mask", 0)])
def test_masks_draw_the_same_kind_of_band_as_tfios(tfio, name, axis):
    spec = np.ones([40, 60], np.float32)
    theirs = {int((getattr(tfio.audio, name)(spec, 10).numpy().min(1 - axis) == 0).sum()) for _ in range(100)}
    ours = {int((getattr(augment, name)(spec, 10, (0, s)).numpy().min(1 - axis) == 0).sum()) for s in range(100)}
    assert max(theirs) <= 10
    assert max(ours) <= 10
    assert theirs <= ours | {10}


def test_compiled_tfio_decodes_what_we_expect(tfio):
    works, reason = augment.tfio_works()
    if not works:
        pytest.skip(reason)
    assert tfio.__version__ in reason
