"""VoiceBank+DEMAND (Valentini-Botinhao 2017): the corpus of SEGAN, MetricGAN, CP-GAN and MMSE-GAN.

    clean_trainset_28spk_wav/p226_001.wav   noisy_trainset_28spk_wav/p226_001.wav   11 572 pairs, 28 speakers
    clean_testset_wav/p232_001.wav          noisy_testset_wav/p232_001.wav             824 pairs, p232 and p257
    log_trainset_28spk.txt, log_testset.txt ("p232_001 bus 17.5"), optional: noise and SNR of every file

48 kHz in the archives; converted once to 16 kHz, clean and noisy through the same resampler. The first thing to do with
the result is `python -m ganse_tf calibrate DIR`: its noisy test row must be 1.97 PESQ.

There is no official validation set. Ours: the training speakers p226 and p287 (as in SpeechBrain's recipe).

MD5 sums: each agrees in at least three independent public repositories (28-speaker and test zips). The archives of the
older handle 10283/1942, which the SEGAN and MMSE-GAN papers cite, are marked superseded by this one.

`--mirror huggingface` takes the 16 kHz copy `JacobLinCool/VoiceBank-DEMAND-16k`, pinned to one revision: 2.3 GB instead of
5.6 GB, nothing to resample. Nobody says which resampler made it, so scores may differ in the second decimal.
"""

import os
import re
import shutil
from pathlib import Path

from data_prep.corpus import Archive, Card, LayoutError, PrepError, Recording, chosen_parts, wavs
from data_prep.download import write_text

HANDLE = "https://datashare.ed.ac.uk"


def _archive(name, sequence, uuid, md5, size=None, about=0):
    """The file's current address (DSpace 7) and its old one; the MD5 decides whether what comes is right."""
    urls = (
        f"{HANDLE}/bitstreams/{uuid}/download",
        f"{HANDLE}/bitstream/handle/10283/2791/{name}?sequence={sequence}&isAllowed=y",
    )
    return Archive(name, urls, size, md5, about=about)


ARCHIVES = {
    "train": (
        _archive("clean_trainset_28spk_wav.zip", 2, "245452b6-6235-44b6-a6f9-e7eb19797769",
                 "d2d5a45ec32f8fcbf201bde0447e20ba", size=2486057279),
        _archive("noisy_trainset_28spk_wav.zip", 6, "ecb5a102-bb00-46d3-8af5-40c79823b837",
                 "1fca9e8bafb8cd069f6653c6d92f9e9c", size=2830205201),
    ),
    "test": (
        _archive("clean_testset_wav.zip", 1, "dec213d3-bf57-4777-9663-c24bdce92d5e",
                 "34eb1c0ba7ef667e9b966866c542fc16", about=154_300_000),
        _archive("noisy_testset_wav.zip", 5, "13c1bfbf-14a6-41db-9b41-8f7310f01ad5",
                 "fb1b86caa31e8ba5b506c0c64da9aab5", about=170_600_000),
    ),
}  # fmt: skip
LOGS = Archive("logfiles.zip", ())  # no address is known; used when the user puts it into OUT/archives
PAIRS = {"train": 11572, "test": 824}
FOLDERS = {
    "train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"),
    "test": ("clean_testset_wav", "noisy_testset_wav"),
}
TRAIN_SPEAKERS = tuple(
    "p226 p227 p228 p230 p231 p233 p236 p239 p243 p244 p250 p254 p256 p258 p259 p267 p268 p269 p270 p273 p274 p276 p277 "
    "p278 p279 p282 p286 p287".split()
)
TEST_SPEAKERS = ("p232", "p257")
VALID_SPEAKERS = ("p226", "p287")
CARD = Card(
    name="voicebank_demand",
    title="Noisy speech database for training speech enhancement algorithms and TTS models (VoiceBank+DEMAND)",
    home=f"{HANDLE}/handle/10283/2791 (doi:10.7488/ds/2117)",
    licence="CC BY 4.0",
    citation="C. Valentini-Botinhao: Noisy speech database for training speech enhancement algorithms and TTS models. "
    "University of Edinburgh, CSTR, 2017. doi:10.7488/ds/2117",
    must_accept=True,
    parts=("train", "test"),
    default_parts=("train", "test"),
    unpacked_ratio=1.3,
)
MIRROR = "huggingface"
MIRROR_REPO = "JacobLinCool/VoiceBank-DEMAND-16k"
MIRROR_REVISION = "4497db342d7312978c45690591fda86117831940"
MIRROR_BYTES = 2_280_000_000  # download size on its card, for the estimate


def archives(parts):
    """Clean and noisy zip of each part."""
    return [archive for part in parts for archive in ARCHIVES[part]]


def find(folder, parts=None):
    """All pairs below `folder`: matched by name, counted, with noise and SNR where the log files are there."""
    folder = Path(folder)
    logs = _logs(folder)
    recordings = []
    for part in chosen_parts(CARD, parts):
        clean, noisy = (_by_name(folder, name) for name in FOLDERS[part])
        lonely = sorted(set(clean) ^ set(noisy))
        if lonely:
            raise LayoutError(
                f"{folder}: {len(lonely)} {part} files have no partner ({', '.join(lonely[:3])}). Every name must be in "
                f"both {FOLDERS[part][0]} and {FOLDERS[part][1]}; unpack the archives again."
            )
        if len(clean) != PAIRS[part]:
            raise LayoutError(
                f"{folder} has {len(clean)} {part} pairs, the published set has {PAIRS[part]}. Unpack the archives again; "
                f"do not mix the 28-speaker set with the 56-speaker set."
            )
        allowed = TRAIN_SPEAKERS if part == "train" else TEST_SPEAKERS
        for name in sorted(clean):
            speaker = name.split("_")[0]
            if speaker not in allowed:
                raise LayoutError(f"{clean[name]} is of speaker {speaker}, who is not one of the {part} speakers.")
            noise, snr_db = logs.get(name, ("", None))
            split = "test" if part == "test" else "valid" if speaker in VALID_SPEAKERS else "train"
            recordings.append(
                Recording(
                    name=name, clean=str(clean[name]), noisy=str(noisy[name]), speaker=speaker, noise=noise, snr_db=snr_db,
                    split=split, part=part,
                )
            )  # fmt: skip
    return recordings


def _by_name(folder, name):
    """File name -> path below the folder called `name`; some programs unpack into a second folder of that name."""
    files = {path.stem: path for path in wavs(folder) if name in path.relative_to(folder).parts[:-1]}
    if not files:
        raise LayoutError(f"{folder} has no {name}/p*.wav in it. Expected the unpacked {name}.zip of {CARD.home}.")
    return files


def _logs(folder):
    """File name -> (noise, SNR in dB), from every log_*.txt below the folder."""
    found = {}
    for path in sorted(folder.rglob("log_t*set*.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            match = re.match(r"(p\d+_\d+)(?:\.wav)?\s+(\S+)\s+(-?\d+(?:\.\d+)?)\s*$", line)
            if match:
                found[match[1]] = (match[2], float(match[3]))
    return found


def fetch_mirror(folder, target, parts, say=print):
    """Download the pinned 16 kHz copy and lay its files out as the archives would be.

    Needs `huggingface_hub` and `pyarrow` (`pip install 'ganse_tf[hf]'`). The environment variable HF_ENDPOINT of
    huggingface_hub chooses another host.
    """
    try:
        import huggingface_hub
        import pyarrow.parquet
    except ImportError as error:
        raise PrepError(f"--mirror {MIRROR} needs {error.name}: pip install 'ganse_tf[hf]'") from error
    target = Path(target)
    if (target / ".complete").is_file():
        return target
    say(f"  {MIRROR_REPO} at revision {MIRROR_REVISION[:12]}; the resampler that made it is not documented")
    try:
        names = huggingface_hub.HfApi().list_repo_files(MIRROR_REPO, repo_type="dataset", revision=MIRROR_REVISION)
        shards = [n for n in names if n.endswith(".parquet") and Path(n).name.split("-")[0] in parts]
        paths = [
            huggingface_hub.hf_hub_download(
                MIRROR_REPO, name, repo_type="dataset", revision=MIRROR_REVISION, local_dir=folder
            )
            for name in shards
        ]
    except Exception as error:  # its HTTP library, and with it the exceptions, changed between releases
        raise PrepError(
            f"{MIRROR_REPO} could not be downloaded ({type(error).__name__}: {error}). Run again to go on, or leave "
            f"--mirror out."
        ) from error
    if not paths:
        raise PrepError(f"{MIRROR_REPO} has no parquet files for {', '.join(parts)}; found: {', '.join(names[:8])}.")
    scratch = target.with_name(target.name + ".unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    for name, path in zip(shards, paths):
        part = Path(name).name.split("-")[0]
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64, columns=["id", "clean", "noisy"]):
            for row in batch.to_pylist():
                for side, place in zip(("clean", "noisy"), FOLDERS[part]):
                    file = scratch / place / f"{_plain_name(row['id'])}.wav"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(row[side]["bytes"])
    write_text(scratch / ".complete", "{}\n")
    os.replace(scratch, target)
    return target


def _plain_name(identifier):
    """The row's id as a file name; anything but letters, digits and _ is refused."""
    if not re.fullmatch(r"p\d+_\d+", str(identifier)):
        raise LayoutError(f"{MIRROR_REPO} has a row called {identifier!r}, expected a name such as 'p232_001'.")
    return identifier

