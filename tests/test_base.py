"""The base class: resume after kill -9, guards, mixed precision, two devices, long files, errors for students."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import audio
from ganse_tf.base import EnhancementGAN
from ganse_tf.callbacks import TimeBudget, TrainingDiverged
from ganse_tf.models.mmsegan import MMSEGAN
from ganse_tf.models.segan import SEGAN
from tests.common import copy_of, same

TRAIN = """
import hashlib, sys, time
import keras, numpy as np, tensorflow as tf
from ganse_tf import data
from ganse_tf.models.{module} import {name}

folder, pause = sys.argv[1], float(sys.argv[2])
keras.utils.set_random_seed(1)
tf.config.experimental.enable_op_determinism()
model = {build}
model.compile()
pairs = data.toy_pairs("train", n=12, snr_db=(5,))
dataset = data.examples(pairs, model, batch_size=4, seed=3, crop_seconds=1.0)

class Slow(keras.callbacks.Callback):  # gives the parent time to kill this process in the middle of an epoch
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch, flush=True)
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(pause)

model.fit(dataset, epochs=3, verbose=0, callbacks=[Slow()], backup_dir=folder)
digest = hashlib.sha256()
for v in [*model.trainable_variables, *model.g_optimizer.variables, *model.d_optimizer.variables]:
    digest.update(np.ascontiguousarray(v).tobytes())
print("digest", digest.hexdigest(), int(model.step), flush=True)
"""
CASES = {
    "segan": dict(module="segan", name="SEGAN", build="SEGAN(segment=1024, widths=(4, 8), seed=2)"),
    "metricgan": dict(
        module="metricgan",
        name="MetricGAN",
        build="MetricGAN.plus(metric='stoi', lstm_units=4, dense_units=4, d_filters=(2, 2, 2, 2), seed=2)",
    ),
}


def run_training(script, folder, pause=0.0, kill_in_epoch=None):
    one_thread = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}  # sums split over threads may round differently from run to run
    command = [sys.executable, str(script), str(folder), str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread)
    for line in process.stdout:
        if line.startswith("digest"):
            process.wait()
            return line.strip()
        if kill_in_epoch is not None and line.strip() == f"epoch {kill_in_epoch}":
            time.sleep(2 * pause)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return "killed"
    raise AssertionError(process.stderr.read()[-2000:])


ROUNDS = pytest.mark.xfail(
    strict=False, reason="the restored state is bit-equal, but SEGAN's last epoch has ended with other bits in some runs"
)


@pytest.mark.parametrize("case", ["metricgan", pytest.param("segan", marks=ROUNDS)])
def test_training_killed_in_the_middle_of_an_epoch_resumes_bit_for_bit(tmp_path, case):
    script = tmp_path / "train.py"
    script.write_text(TRAIN.format(**CASES[case]))
    whole = run_training(script, tmp_path / "a")
    assert run_training(script, tmp_path / "b", pause=0.2, kill_in_epoch=2) == "killed"
    assert (tmp_path / "b").exists()  # a backup is waiting
    assert run_training(script, tmp_path / "b") == whole


def small(**kwargs):
    model = SEGAN(segment=1024, widths=(4, 8), **kwargs)
    model.compile()
    return model


def windows(n=8, seed=0):
    rng = np.random.default_rng(seed)
    clean = 0.1 * rng.standard_normal((n, 1024, 1)).astype(np.float32)
    return clean + 0.05 * rng.standard_normal(clean.shape).astype(np.float32), clean


def test_nan_stops_training_with_advice():
    model = small()
    noisy, clean = windows()
    clean[5] = np.nan
    with pytest.raises(TrainingDiverged, match="learning rate 10 times smaller"):
        model.fit(tf.data.Dataset.from_tensor_slices((noisy, clean)).batch(4), epochs=1, verbose=0)


def test_fit_before_compile_says_what_to_do():
    with pytest.raises(ValueError, match="compile"):
        SEGAN(segment=1024, widths=(4, 8)).fit(None)


def test_time_budget_stops():
    model = small()
    dataset = tf.data.Dataset.from_tensor_slices(windows()).batch(4).repeat()
    history = model.fit(dataset, steps_per_epoch=50, epochs=1000, verbose=0, callbacks=[TimeBudget(0.02)])
    assert len(history.history["g_loss"]) < 1000
    with pytest.raises(ValueError, match="positive"):
        TimeBudget(0)


def test_mixed_float16_scales_both_optimisers():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = small()
        assert isinstance(model.g_optimizer, keras.optimizers.LossScaleOptimizer)
        assert isinstance(model.d_optimizer, keras.optimizers.LossScaleOptimizer)
        before = copy_of(model.generator.trainable_variables)
        batch = tuple(tf.constant(x) for x in windows())
        norms = []
        for _ in range(20):  # the first scale, 32768, may be too large: such steps are skipped and the scale is halved
            model.reset_metrics()
            logs = model.train_step(batch)
            norms.append(float(logs["g_grad_norm"]))
        assert logs["g_loss"].dtype == tf.float32 and np.isfinite(float(logs["g_loss"]))
        assert min(norms) < 1000  # unscaled
        assert not same(before, model.generator.trainable_variables)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_xla_gives_the_same_losses():
    batch = tuple(tf.constant(x) for x in windows())
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(1)
        model = SEGAN(segment=1024, widths=(4, 8), use_z=False)  # XLA draws other random numbers
        model.compile(jit_compile=jit)
        losses.append([model.train_on_batch(*batch, return_dict=True)["g_loss"] for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


TWO_DEVICES = """
import numpy as np, keras, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from ganse_tf.models.segan import SEGAN
rng = np.random.default_rng(0)
clean = 0.1 * rng.standard_normal((16, 1024, 1)).astype("f")
noisy = clean + 0.05 * rng.standard_normal(clean.shape).astype("f")
data = tf.data.Dataset.from_tensor_slices((noisy, clean)).batch(8)
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = SEGAN(segment=1024, widths=(4, 8), use_z=False, adversarial_weight={weight})
        model.compile()
    found.append(model.fit(data, epochs=3, verbose=0).history["g_l1"])
print(found)
np.testing.assert_allclose(found[0], found[1], rtol={tolerance})
"""


@pytest.mark.parametrize("weight, tolerance", [(0.0, 1e-4), (1.0, 2e-2)])
def test_two_devices_give_the_losses_of_one(weight, tolerance):
    """With D the tolerance is wider: virtual batch norm takes its statistics per device, as on the authors' four GPUs."""
    code = TWO_DEVICES.format(weight=weight, tolerance=tolerance)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]


class Halver(EnhancementGAN):
    """Halves the sound: shows what enhance() does around a model."""

    window, overlap = 4000, 400

    def enhance_segment(self, noisy):
        return 0.5 * noisy


def test_windows_and_cross_fades_add_up_to_the_whole():
    for n in (1, 399, 400, 401, 4000, 4001, 7600, 7601, 50_003):
        wav = np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32)
        np.testing.assert_allclose(Halver().enhance(wav), 0.5 * wav, atol=1e-6)


class Squarer(EnhancementGAN):
    """Not linear: what comes out depends on the level."""

    def enhance_segment(self, noisy):
        return noisy * tf.abs(noisy)


def test_level_db_makes_the_result_independent_of_the_level():
    wav = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    model = Squarer(level_db=-26.0)
    np.testing.assert_allclose(model.enhance(0.01 * wav), 0.01 * model.enhance(wav), rtol=1e-4)
    gain = 10 ** (-26 / 20) / np.sqrt(np.mean(wav**2))
    np.testing.assert_allclose(model.enhance(wav), gain * wav * np.abs(wav), rtol=1e-4)
    np.testing.assert_array_equal(Squarer().enhance(wav), wav * np.abs(wav))
    assert not model.enhance(np.zeros(100, np.float32)).any()
    assert Squarer.from_config(model.get_config()).level_db == -26.0


def test_stereo_channels_are_enhanced_separately_and_rate_comes_back():
    t = np.arange(44100) / 44100
    wav = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1).astype(np.float32)
    enhanced = Halver().enhance(wav, sample_rate=44100)
    assert enhanced.shape == wav.shape
    np.testing.assert_allclose(enhanced[2000:-2000, 0], 0.5 * wav[2000:-2000, 0], atol=2e-3)
    assert np.all(enhanced[:, 1] == 0)


@pytest.mark.parametrize(
    "wav, rate, message",
    [
        (np.zeros(0, np.float32), 16000, "empty"),
        (np.array([0.1, np.nan], np.float32), 16000, "NaN"),
        (np.zeros(10, np.int16), 16000, "32768"),
        (np.zeros((2, 3, 4), np.float32), 16000, "dimension"),
        (np.zeros(10, np.float32), -1, "rate"),
        ("speech.wav", 16000, "read"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(wav, rate, message):
    with pytest.raises(audio.AudioError, match=message):
        Halver().enhance(wav, sample_rate=rate)


def test_statistics_of_no_examples_are_refused():
    with pytest.raises(ValueError, match="shorter than one training example"):
        MMSEGAN.tiny().adapt([])


def test_negative_adversarial_weight_is_refused():
    with pytest.raises(ValueError, match="adversarial_weight"):
        SEGAN(segment=1024, widths=(4, 8), adversarial_weight=-1)


def test_import_is_light_and_silent():
    code = (
        "import sys, ganse_tf; assert 'tensorflow' not in sys.modules and 'librosa' not in sys.modules; "
        "assert 'matplotlib' not in sys.modules; ganse_tf.audio, ganse_tf.metrics, ganse_tf.data; "
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
