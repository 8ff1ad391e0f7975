"""ganse_tf.audio: what goes in comes out, and what is refused is explained."""

import doctest
import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile

from ganse_tf import audio
from ganse_tf.audio import AudioError


def tone(n=16000, sample_rate=16000, channels=None, peak=0.5):
    wav = (peak * np.sin(2 * np.pi * 440 * np.arange(n) / sample_rate)).astype(np.float32)
    return wav if channels is None else np.stack([wav * (c + 1) / channels for c in range(channels)], axis=1)


# ---- write and read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", audio.AUDIO_SUFFIXES)
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize(("n", "sample_rate"), [(12345, 16000), (44101, 44100)])
def test_every_format_keeps_shape_and_rate(tmp_path, suffix, channels, n, sample_rate):
    path = tmp_path / f"a{suffix}"
    wav = tone(n, sample_rate, channels)
    audio.write(path, wav, sample_rate)
    back, rate = audio.read(path)
    assert rate == sample_rate and type(rate) is int
    assert back.dtype == np.float32 and back.shape == wav.shape
    error = np.abs(back - wav)[n // 10 : -n // 10].max()
    assert error < (0.51 / 32768 if suffix in (".wav", ".flac") else 0.05)


def test_float_wav_is_exact_even_beyond_full_scale(tmp_path):
    wav = tone(peak=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.write(tmp_path / "a.wav", wav, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], wav)


def test_pcm16_keeps_16_bit_values_exactly(tmp_path):
    values = np.arange(-32768, 32768, dtype=np.int32)
    audio.write(tmp_path / "a.wav", values / 32768.0, 16000)
    back, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_clipping_is_counted_and_never_wraps(tmp_path, suffix):
    wav = np.array([0.0, 0.25, 1.5, -2.0, 1.0, -1.0], np.float32)
    with pytest.warns(UserWarning, match=r"2 of 6 samples lie outside \[-1, 1\] \(peak 2\.00\).*Multiply.*0\.49"):
        audio.write(tmp_path / f"a{suffix}", wav, 16000)
    back, _ = audio.read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(back, np.clip(wav, -1, 32767 / 32768), atol=1e-7)


def test_write_makes_missing_folders(tmp_path):
    audio.write(tmp_path / "new" / "deeper" / "a.wav", tone(), 16000)
    assert audio.read(tmp_path / "new" / "deeper" / "a.wav")[0].shape == (16000,)


def test_read_resamples_only_when_asked_and_never_when_strict(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, tone(44100, 44100), 44100)
    assert audio.read(path)[1] == 44100
    wav, rate = audio.read(path, sample_rate=16000)
    assert rate == 16000 and wav.shape == (16000,)
    np.testing.assert_allclose(wav[100:-100], tone(16000)[100:-100], atol=2e-3)
    message = r"44100 Hz; expected 16000 Hz.*data_prep/mix\.py.*audio\.resample\(wav, 44100, 16000\)"
    with pytest.raises(AudioError, match=message):
        audio.read(path, sample_rate=16000, strict=True)
    assert audio.read(path, sample_rate=44100, strict=True)[1] == 44100


def test_mono_is_the_mean_of_the_channels(tmp_path):
    audio.write(tmp_path / "a.wav", tone(channels=2), 16000, subtype="FLOAT")
    wav, _ = audio.read(tmp_path / "a.wav", mono=True)
    np.testing.assert_allclose(wav, 0.75 * tone(), atol=1e-6)
    audio.write(tmp_path / "b.wav", tone(), 16000)
    assert audio.read(tmp_path / "b.wav", mono=True)[0].shape == (16000,)


# ---- resample --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 999, 16000, 44101])
@pytest.mark.parametrize(("orig", "target"), [(44100, 16000), (16000, 44100), (8000, 16000), (16000, 16000)])
def test_resample_gives_the_promised_length(n, orig, target):
    assert audio.resample(np.ones(n), orig, target).shape == (round(n * target / orig),)
    assert audio.resample(np.ones((n, 2)), orig, target).shape == (round(n * target / orig), 2)


@pytest.mark.parametrize(("orig", "target"), [(44100, 16000), (16000, 48000), (48000, 16000)])
def test_resample_keeps_a_tone_in_place_and_removes_what_would_alias(orig, target):
    out = audio.resample(tone(orig, orig), orig, target)
    np.testing.assert_allclose(out[200:-200], tone(target, target)[200:-200], atol=1e-3)
    if target < orig:
        high = np.sin(2 * np.pi * 0.6 * target * np.arange(orig) / orig)  # above the new Nyquist frequency
        assert np.abs(audio.resample(high, orig, target)[200:-200]).max() < 1e-4


def test_resample_leaves_its_input_alone():
    wav = tone()
    same = audio.resample(wav, 16000, 16000)
    same[:] = 0
    assert wav.any()


# ---- validate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_validate_returns_native_float32(dtype):
    out = audio.validate(tone().astype(dtype), 16000)
    assert out.dtype == np.float32 and out.dtype.isnative
    np.testing.assert_allclose(out, tone(), atol=1e-3)


def test_validate_takes_lists_numpy_rates_and_many_channels():
    assert audio.validate([0.0, 0.5], np.int64(16000)).dtype == np.float32
    assert audio.validate([0.0, 0.5], 16000.0).shape == (2,)
    assert audio.validate(np.zeros((100, 16)), 16000).shape == (100, 16)
    assert audio.validate(np.zeros((3, 6)), 16000).shape == (3, 6)  # three samples of 5.1 sound


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (np.zeros(4, np.int16), r"dtype int16; expected floats.*divide by 32768"),
        (np.zeros(4, np.int32), r"dtype int32; expected floats.*32768"),
        (np.zeros(4, np.uint8), r"dtype uint8; expected floats.*- 128\) / 128"),
        ([1, 2, 3], r"dtype int64; expected floats"),
        (np.zeros(4, np.complex64), r"dtype complex64; expected real floats.*istft"),
        (np.zeros(4, bool), r"dtype bool; expected real floats.*mask"),
        (np.array([0.1, None]), r"dtype object; expected real floats"),
        ("speech.wav", r"expected real floats.*audio\.read"),
        (np.array(["0.1", "0.2"]), r"expected real floats"),
        ([[0.1, 0.2], [0.3]], r"cannot be made an array"),
        (0.5, r"shape \(\) \(0 dimensions\); expected \(samples,\)"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\) \(3 dimensions\); expected \(samples,\) or \(samples, channels\)"),
        (np.zeros((2, 16000)), r"shape \(2, 16000\).*channels.*first.*\(wav\.T\)"),
        (np.zeros((16, 16384)), r"batch.*wav\[0\]"),
        (np.zeros(0), r"empty \(0 samples\)"),
        ([], r"empty \(0 samples\)"),
        (np.zeros((0, 2)), r"empty \(0 samples\)"),
        ([0.1, np.nan, np.inf], r"NaN or inf: 2 of 3 values, the first at index 1"),
        ([[0.1, 0.2], [0.3, np.nan]], r"NaN or inf: 1 of 4 values, the first at index \(1, 1\)"),
        (np.full(4, 12000.0), r"peak of 12000; expected floats with full scale 1.*divide by 32768"),
    ],
)
def test_validate_refuses_with_received_expected_fix(wav, message):
    with pytest.raises(AudioError, match=f"(?s)^wav .*{message}"):
        audio.validate(wav, 16000)


@pytest.mark.parametrize("rate", [0, -16000, 16000.5, np.nan, np.inf, "16000", None, True, [16000]])
def test_bad_rates_are_refused_everywhere(tmp_path, rate):
    message = r"expected a whole number of Hz above 0, for example 16000"
    with pytest.raises(AudioError, match=message):
        audio.validate([0.1], rate)
    with pytest.raises(AudioError, match=r"orig_rate is .*" + message):
        audio.resample([0.1], rate, 16000)
    with pytest.raises(AudioError, match=r"target_rate is .*" + message):
        audio.resample([0.1], 16000, rate)
    with pytest.raises(AudioError, match=message):
        audio.write(tmp_path / "a.wav", [0.1], rate)
    if rate is not None:
        with pytest.raises(AudioError, match=message):
            audio.read(tmp_path / "a.wav", sample_rate=rate)


def test_audio_error_is_a_value_error():
    assert issubclass(AudioError, ValueError)


# ---- files that cannot be used ---------------------------------------------------------------------------------------


def test_missing_file_suggests_a_name(tmp_path):
    audio.write(tmp_path / "speech.wav", tone(), 16000)
    with pytest.raises(AudioError, match=r"There is no file '.*speach\.wav'. Did you mean 'speech\.wav'\?"):
        audio.read(tmp_path / "speach.wav")
    with pytest.raises(AudioError, match=r"There is no file.*Look into its folder"):
        audio.read(tmp_path / "completely_different.flac")
    with pytest.raises(AudioError, match=r"There is no file.*Its folder '.*nowhere' does not exist either"):
        audio.read(tmp_path / "nowhere" / "a.wav")


def test_folder_empty_file_and_text_file(tmp_path):
    with pytest.raises(AudioError, match=r"is a folder; expected one file"):
        audio.read(tmp_path)
    (tmp_path / "zero.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"zero\.wav' is empty \(0 bytes\)"):
        audio.read(tmp_path / "zero.wav")
    (tmp_path / "notes.wav").write_text("this is not sound, " * 50)
    with pytest.raises(AudioError, match=r"cannot be read as audio.*Expected WAV, FLAC, OGG or MP3.*ffmpeg"):
        audio.read(tmp_path / "notes.wav")
    soundfile.write(tmp_path / "header_only.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"header_only\.wav' is empty \(0 samples\)"):
        audio.read(tmp_path / "header_only.wav")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav' contains NaN or inf: 1 of 2"):
        audio.read(tmp_path / "nan.wav")


def test_path_of_a_wrong_type_is_refused():
    with pytest.raises(AudioError, match=r"path is ndarray; expected a file name"):
        audio.read(np.zeros(4))
    with pytest.raises(AudioError, match=r"path is int; expected a file name"):
        audio.write(3, [0.1], 16000)


def test_write_refuses_unknown_formats(tmp_path):
    with pytest.raises(AudioError, match=r"its suffix is '\.aac'; expected one of \.wav"):
        audio.write(tmp_path / "a.aac", [0.1], 16000)
    with pytest.raises(AudioError, match=r"its suffix is ''; expected one of"):
        audio.write(tmp_path / "a", [0.1], 16000)
    with pytest.raises(AudioError, match=r"subtype is 'PCM_24'; expected 'PCM_16'"):
        audio.write(tmp_path / "a.wav", [0.1], 16000, subtype="PCM_24")
    with pytest.raises(AudioError, match=r"only WAV holds floats\. Use 'a\.wav'"):
        audio.write(tmp_path / "a.flac", [0.1], 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"could not be written at 12345 Hz.*Write a \.wav"):
        audio.write(tmp_path / "a.mp3", tone(), 12345)
    with pytest.raises(AudioError, match=r"divide by 32768"):
        audio.write(tmp_path / "a.wav", np.zeros(4, np.int16), 16000)
    assert not list(tmp_path.glob("a.wav"))


# ---- the module ------------------------------------------------------------------------------------------------------


def test_import_loads_only_numpy():
    code = (
        "import sys, ganse_tf.audio; "
        "print(sorted({'tensorflow', 'keras', 'librosa', 'scipy', 'soundfile', 'soxr'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_docstring_examples():
    result = doctest.testmod(audio)
    assert result.attempted >= 2 and result.failed == 0
