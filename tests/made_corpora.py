"""Small archives and folders in the layouts of the real corpora, made of noise and tones. No real recording is involved."""

import hashlib
import io
import tarfile
import zipfile

import numpy as np
import soundfile

RATE = 16000


def speech(key, seconds=1.2, rate=RATE):
    """Something with syllables: harmonics under a slow envelope, int16; another key, another sound."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:4], "little"))
    t = np.arange(round(seconds * rate)) / rate
    f0 = rng.uniform(90, 220)
    tone = sum(np.sin(2 * np.pi * k * f0 * t + rng.uniform(0, 6)) / k for k in range(1, 20))
    wav = tone * (0.2 + np.abs(np.sin(2 * np.pi * 3 * t + rng.uniform(0, 6)))) + 0.01 * rng.standard_normal(len(t))
    return np.round(8000 * wav / np.abs(wav).max()).astype(np.int16)


def noise(key, seconds=6.0, rate=RATE):
    """Gaussian noise, int16."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:4], "little"))
    return np.round(2000 * rng.standard_normal(round(seconds * rate))).clip(-32768, 32767).astype(np.int16)


def coded(pcm, rate=RATE, kind="WAV"):
    """int16 samples as the bytes of a WAV, FLAC or NIST SPHERE file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, rate, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def zipped(files):
    """{path: bytes} as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def tarred(files, mode="w:gz"):
    """{path: bytes} as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def md5(data):
    return hashlib.md5(data).hexdigest()


def librispeech(part, speakers=4, utterances=6, seconds=1.2, extra=()):
    """One part of LibriSpeech as {path: bytes}; speakers are numbered after the part, women and men in turn."""
    first = 100 * (1 + ["dev-clean", "test-clean", "train-clean-100"].index(part))
    files = {"LibriSpeech/SPEAKERS.TXT": b";ID |SEX| SUBSET |MINUTES| NAME\n"}
    for speaker in range(first, first + speakers):
        files["LibriSpeech/SPEAKERS.TXT"] += f"{speaker} | {'FM'[speaker % 2]} | {part} | 8.0 | Somebody\n".encode()
        folder = f"LibriSpeech/{part}/{speaker}/7"
        lines = []
        for i in range(utterances):
            name = f"{speaker}-7-{i:04d}"
            files[f"{folder}/{name}.flac"] = coded(speech(name, seconds), kind="FLAC")
            lines.append(f"{name} WORDS OF NUMBER {i}\n")
        files[f"{folder}/{speaker}-7.trans.txt"] = "".join(lines).encode()
    return {**files, **dict(extra)}


def demand(environment, seconds=6.0):
    """A DEMAND zip with two of the sixteen microphones."""
    return zipped({f"{environment}/ch{i:02d}.wav": coded(noise((environment, i), seconds)) for i in (1, 2)})


def voicebank(names, folder, noisy, rate=48000, nested=False):
    """One VoiceBank+DEMAND zip; the noisy file is the clean one plus noise."""
    files = {}
    for name in names:
        pcm = speech(name, 0.8, rate).astype(np.int32)
        if noisy:
            pcm = pcm + noise((name, "n"), 0.8, rate) // 4
        inside = f"{folder}/{folder}" if nested else folder
        files[f"{inside}/{name}.wav"] = coded(pcm.clip(-32768, 32767).astype(np.int16), rate)
    files[f"__MACOSX/{folder}/._{next(iter(names))}.wav"] = b"dropping"
    return zipped(files)


def timit(root, upper=True, speakers=(("train", "dr1", "fcjf0"), ("train", "dr2", "mabc0"), ("test", "dr1", "mdab0"),
                                      ("test", "dr1", "fxyz0")), sentences=("sa1", "sx11", "si1027")):
    """A TIMIT folder of a few speakers (mdab0 is in the core test set); `.WAV` are NIST SPHERE."""
    case = str.upper if upper else str.lower
    for side, region, speaker in speakers:
        folder = root / case("timit") / case(side) / case(region) / case(speaker)
        folder.mkdir(parents=True)
        for sentence in sentences:
            name = case(sentence)
            pcm = speech((speaker, sentence))
            (folder / f"{name}.{case('wav')}").write_bytes(coded(pcm, kind="NIST"))
            (folder / f"{name}.{case('txt')}").write_text(f"0 {len(pcm)} She had {sentence}.\n")
            (folder / f"{name}.{case('wrd')}").write_text("1600 4800 she\n4800 8000 had\n")
    return root
