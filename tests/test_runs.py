"""A training in a folder: what it writes, how it goes on after its end, a stop and a crash, what it refuses."""

import csv

import keras
import numpy as np
import pytest

from ganse_tf import audio, data, runs
from ganse_tf.models.metricgan import MetricGAN
from ganse_tf.models.segan import SEGAN
from tests.common import same

PLAN = runs.Plan("SEGAN", limit=3, batch_size=8, seed=1)


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    """The tiny presets of this file are tinier."""
    monkeypatch.setattr(SEGAN, "tiny", classmethod(lambda cls, **kw: cls(segment=4096, widths=(2, 4), **kw)))
    sizes = dict(metric="stoi", lstm_units=4, dense_units=4, d_filters=(2, 2, 2, 2))
    monkeypatch.setattr(MetricGAN, "tiny", classmethod(lambda cls, **kw: cls.plus(**{**sizes, **kw})))


class Crash(keras.callbacks.Callback):
    """A context manager and callback that ends the process' luck in an epoch."""

    def __init__(self, epoch, step):
        super().__init__()
        self.place = epoch, step

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise KeyboardInterrupt


def rows(out):
    with open(out / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_its_files_ends_and_goes_on(tmp_path):
    out, said = tmp_path / "run", []
    assert runs.train(PLAN, out, epochs=2, validate=1, say=said.append) == 2
    assert sorted(p.name for p in out.iterdir()) == ["curves.png", "history.csv", "model.keras", "run.json"]
    assert [row["epoch"] for row in rows(out)] == ["0", "1"]
    assert {"g_loss", "d_real", "val_pesq_wb", "val_stoi"} <= set(rows(out)[0])
    assert said == ["SEGAN (tiny), 3 pairs of the toy corpus, batches of 8."]

    assert runs.train(PLAN, out, epochs=2, say=said.append) == 2
    assert said[-1].endswith("has its 2 epochs: nothing to do. Give a larger --epochs to go on, or another --out.")

    assert runs.train(PLAN, out, epochs=3, validate=0, say=said.append) == 3
    assert f"Going on with '{out}' after 2 epochs." in said
    assert [row["epoch"] for row in rows(out)] == ["0", "1", "2"] and rows(out)[2]["val_stoi"] == "NA"
    assert int(runs.load(out).step) == int(runs.load(out / "model.keras").step) > 0

    with pytest.raises(ValueError, match="holds another training: seed was 1, is 2. Choose another --out"):
        runs.train(runs.Plan("SEGAN", limit=3, batch_size=8, seed=2), out, epochs=5)


def test_a_crash_loses_at_most_the_running_epoch(tmp_path):
    """Killed in epoch 3 of 3 and started again: the same weights, optimisers and history as without the crash."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    runs.train(PLAN, whole, epochs=3, validate=0, say=lambda text: None)
    with pytest.raises(KeyboardInterrupt):
        runs.train(PLAN, broken, epochs=3, validate=0, show=lambda: Crash(2, 0), say=lambda text: None)
    assert (broken / "backup").exists() and not (broken / "model.keras").exists()
    with pytest.raises(ValueError, match="has not ended: give the train command again"):
        runs.load(broken)
    said = []
    assert runs.train(PLAN, broken, epochs=3, validate=0, say=said.append) == 3
    assert said[0].endswith("from its last whole epoch.")
    a, b = runs.load(whole), runs.load(broken)
    assert same(a.weights, b.weights) and same(a.g_optimizer.variables, b.g_optimizer.variables)
    assert rows(whole) == rows(broken)


def test_metricgan_trains_on_whole_utterances_one_by_one(tmp_path):
    said = []
    with pytest.raises(ValueError, match="differ in length and do not fit into a batch of 2. Give --crop 2"):
        runs.train(runs.Plan("MetricGAN", limit=2, batch_size=2), tmp_path / "run", epochs=1, say=said.append)
    assert runs.train(runs.Plan("MetricGAN", limit=2), tmp_path / "run", epochs=1, validate=0, say=said.append) == 1
    assert said == ["MetricGAN (tiny), 2 pairs of the toy corpus, batches of 1."]


def corpus(folder, splits):
    """A folder with noisy/, clean/ and a manifest that gives every pair its split."""
    lines = ["name,noisy,clean,sample_rate,split"]
    rng = np.random.default_rng(0)
    for i, split in enumerate(splits):
        for side in ("noisy", "clean"):
            audio.write(folder / side / f"{i}.wav", rng.uniform(-0.1, 0.1, 16000), 16000)
        lines.append(f"{i},noisy/{i}.wav,clean/{i}.wav,16000,{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_test_pairs_are_never_trained_on(tmp_path):
    folder = corpus(tmp_path, ["train", "test", "train", "valid", "train"])
    found, valid, about = runs._data(runs.Plan("SEGAN", data=str(folder)), validate=4)
    assert [pair.name for pair in found] == ["0", "2", "4"] and [pair.name for pair in valid] == ["3"]
    assert about == f"3 pairs of '{folder}'"
    found, _, _ = runs._data(runs.Plan("SEGAN", data=str(folder / "manifest.csv"), limit=2), validate=0)
    assert [pair.name for pair in found] == ["0", "4"]  # evenly spaced
    folder = corpus(tmp_path / "test_only", ["test", "test"])
    with pytest.raises(ValueError, match=r"no pairs of split train \(only: test\). Test data is not for training."):
        runs._data(runs.Plan("SEGAN", data=str(folder)), validate=4)


def test_speech_and_noise_folders_are_mixed_on_the_fly(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("speech/a", "speech/b", "noise/c"):
        audio.write(tmp_path / f"{name}.wav", rng.uniform(-0.1, 0.1, 16000), 16000)
    found, valid, about = runs._data(runs.Plan("SEGAN", data=str(tmp_path), limit=7), validate=4)
    assert isinstance(found, data.Mixer) and len(found) == 7 and valid == []
    assert about == f"7 pairs per epoch, mixed from '{tmp_path}'"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and holds no training"):
        runs.train(PLAN, tmp_path, epochs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_is_not_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no model.keras; expected the folder that train --out wrote"):
        runs.load(tmp_path)
    (tmp_path / "model.keras").write_text("not a model")
    with pytest.raises(ValueError, match="cannot be loaded as a model of ganse_tf"):
        runs.load(tmp_path)


def test_history_replaces_epochs_that_are_run_again(tmp_path):
    log = runs.EpochLog(tmp_path / "history.csv")
    for epoch in range(3):
        log.on_epoch_end(epoch, {"g_loss": 1.0 + epoch})
    again = runs.EpochLog(tmp_path / "history.csv")
    again.on_epoch_end(1, {"g_loss": 9.0, "val_stoi": 0.5})
    kept = [(row["epoch"], row["g_loss"], row["val_stoi"]) for row in rows(tmp_path)]
    assert kept == [("0", "1.0", "NA"), ("1", "9.0", "0.5")]
