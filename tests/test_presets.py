"""Released weights: a preset that is saved comes back, a damaged or unknown one is refused with a sentence."""

import json

import numpy as np
import pytest

import ganse_tf
from ganse_tf import presets
from ganse_tf.models.metricgan import MetricGAN
from ganse_tf.models.segan import SEGAN
from ganse_tf.models.sforkgan import SForkGAN

SMALL = {"segment": 64, "widths": (2, 4), "kernel": 5}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty folder of released weights."""
    monkeypatch.setattr(presets, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(presets, "INDEX", tmp_path / "weights" / "presets.json")
    presets.cards.cache_clear()
    yield presets.WEIGHTS
    presets.cards.cache_clear()


@pytest.fixture
def saved(weights):
    model = SEGAN(**SMALL, seed=7)
    path = presets.save("small", model, {"paper": model.paper, "data": "none", "limits": "knows nothing"})
    return model, path


def test_a_saved_preset_comes_back(saved):
    model, path = saved
    assert presets.names() == ["small"]
    again = ganse_tf.from_preset("small")
    assert type(again) is SEGAN and again.get_config() == {**model.get_config(), "name": again.name}
    for a, b in zip(model.generator.get_weights(), again.generator.get_weights()):
        np.testing.assert_array_equal(a.astype(np.float16).astype(np.float32), b)
    wav = (0.1 * np.sin(np.arange(500) / 5)).astype(np.float32)
    np.testing.assert_allclose(again.enhance(wav), model.enhance(wav), atol=1e-3)
    np.testing.assert_array_equal(again.enhance(wav), SEGAN.from_preset("small").enhance(wav))


def test_statistics_of_the_features_come_back(weights):
    """S-ForkGAN normalises with a mean and a deviation that are not weights of its generator."""
    model = SForkGAN(widths=(2,) * 11, seed=3)
    model.mean.assign(np.linspace(-3, 1, 257))
    model.std.assign(np.linspace(0.5, 2, 257))
    presets.save("fork", model, {})
    again = presets.from_preset("fork")
    np.testing.assert_array_equal(np.array(model.mean), np.array(again.mean))
    np.testing.assert_array_equal(np.array(model.std), np.array(again.std))
    assert int(again.step) == 0


def test_the_card_says_how_it_was_made(saved):
    model, path = saved
    card = presets.cards()["small"]
    assert card["class"] == "ganse_tf.models.segan.SEGAN" and card["file"] == path.name
    assert card["parameters"] == model.generator.count_params() and card["limits"] == "knows nothing"
    assert json.loads(presets.INDEX.read_text()) == {"small": card}


def test_a_second_preset_leaves_the_first_alone(saved):
    first = presets.cards()["small"]
    presets.save("another", SEGAN(**SMALL), {"data": "none"})
    assert presets.names() == ["another", "small"] and presets.cards()["small"] == first


def test_a_damaged_file_is_refused(saved):
    path = saved[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"preset 'small' are damaged: small.npz has SHA-256 .*Reinstall the package"):
        ganse_tf.from_preset("small")


def test_a_missing_file_is_refused(saved):
    saved[1].unlink()
    with pytest.raises(ValueError, match="preset 'small' are damaged"):
        ganse_tf.from_preset("small")


def test_unknown_names_are_answered_with_the_known_ones(saved):
    with pytest.raises(ValueError, match="There is no preset 'smal'. Released presets: small."):
        ganse_tf.from_preset("smal")


def test_without_weights_nothing_is_promised(weights):
    assert presets.names() == []
    with pytest.raises(ValueError, match="Released presets: none"):
        ganse_tf.from_preset("segan_tiny")


def test_a_preset_of_another_class_is_refused(saved):
    with pytest.raises(ValueError, match="Preset 'small' is a SEGAN, not a MetricGAN."):
        MetricGAN.from_preset("small")


def test_every_shipped_preset_loads():
    """The real folder: every card names a file that is there and undamaged, and its model enhances."""
    presets.cards.cache_clear()
    for name in presets.names():
        enhanced = ganse_tf.from_preset(name).enhance(np.zeros(16000, np.float32))
        assert enhanced.shape == (16000,) and np.isfinite(enhanced).all(), name
