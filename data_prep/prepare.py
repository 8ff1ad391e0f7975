"""From the name of a corpus, or of a paper's recipe, to a finished folder. All corpora go the same way:

    card -> licence -> disk estimate -> download -> unpack -> layout check -> 16 kHz audio -> manifest -> marker

    OUT/archives/      what was downloaded, and checksums.json (may be deleted afterwards)
    OUT/audio/         clean/, noisy/, noise/: mono WAV at 16 kHz
    OUT/manifest.csv   one row per recording; `ganse_tf.data.pairs(OUT / "manifest.csv")` reads it
    OUT/prepared.json  marker of a finished folder: settings and the SHA-256 of the manifest
    OUT/corpora/       (recipes) the archives of the corpora that were mixed
    OUT/noises/        (recipes) the noises at 16 kHz, each named after its origin
"""

import hashlib
import importlib
import os
import shutil
from pathlib import Path

import numpy as np

from data_prep import build, download, mix, protocols, sound
from data_prep.corpus import SAMPLE_RATE, PrepError, chosen_parts, limited, rank
from data_prep.unpack import unpack
from ganse_tf import noises
from ganse_tf.mixing import generator

NAMES = (
    "voicebank_demand", "demand", "musan", "librispeech", "ljspeech", "timit", "wsj", "chime3", "rsr2015", "blizzard2011",
    "noisex92", "toy",
)  # fmt: skip
OWN_NOISES = "noises"  # --source noises=DIR: files named after the recipe's noises
SSN_UTTERANCES = 200  # enough for a stable long-term spectrum
SSN_FFT = 1024
BABBLE_VOICES = 6  # the cGAN paper's babble
BABBLE_PART = "dev-clean"  # speakers of no other part of LibriSpeech
MIXTURE_BYTES = SAMPLE_RATE * mix.MIXTURE_BITS // 8  # per second of one file
CONVERTED_BYTES = SAMPLE_RATE * mix.CONVERTED_BITS // 8


def corpus_module(name):
    """The module `data_prep.<name>`."""
    if name not in NAMES:
        raise PrepError(f"There is no corpus {name!r}. Choose from: {', '.join(NAMES)}.")
    return importlib.import_module(f"data_prep.{name}")


class Run:
    """One call of the command: its settings, and how it talks."""

    def __init__(self, out, *, sources=None, accept_license=False, workers=1, seed=0, verify=False, say=print, progress=None):
        self.out = Path(out)
        self.sources = {name: Path(path).expanduser() for name, path in (sources or {}).items()}
        self.accept_license, self.workers, self.seed, self.verify = accept_license, workers, seed, verify
        self.say, self.progress = say, progress
        for name, path in self.sources.items():
            if not path.is_dir():
                raise PrepError(f"--source {name}={path}: there is no such folder.")

    def agree(self, names):
        """Print every card, and stop when a licence must be accepted first."""
        waiting = []
        for name in names:
            card = corpus_module(name).CARD
            self.say(card.text())
            if card.must_accept and not self.accept_license and name not in self.sources:
                waiting.append(f"{card.name}: {card.licence}")
        if waiting:
            listed = "\n  ".join(waiting)
            raise PrepError(
                f"These licences must be accepted before anything is downloaded:\n  {listed}\n"
                f"Read them at the addresses above, then add --accept-license."
            )

    def raw(self, name, parts, home, mirror=""):
        """Recordings of a corpus as distributed: from --source, or downloaded and unpacked below `home`."""
        module = corpus_module(name)
        card = module.CARD
        parts = chosen_parts(card, parts)
        if name == "toy":
            return module.find(self.sources.get(name), parts)
        if name in self.sources:
            return module.find(self.sources[name], parts)
        if not card.automatic:
            raise PrepError(
                f"{card.title} is never downloaded here. Point at your own copy with --source DIR (or --source {name}=DIR); "
                f"expected layout: {card.layout}. Free stand-in: {card.stand_in}."
            )
        for half in (home / "unpacked").glob("*.unpacking"):  # of a killed run, perhaps of other parts
            shutil.rmtree(half)
        if mirror:
            self.say(download.check_disk(self.out, 2 * module.MIRROR_BYTES, f"{name}: download and unpack"))
            module.fetch_mirror(home / "archives", home / "unpacked" / f"mirror-{'-'.join(parts)}", parts, say=self.say)
            return module.find(home / "unpacked", parts)
        wanted = module.archives(parts)
        missing = [a for a in wanted if not (home / "archives" / a.name).is_file()]
        not_unpacked = [a for a in wanted if not (home / "unpacked" / a.stem / ".complete").is_file()]
        needed = sum(max(0, a.estimate - _half(home / "archives" / a.name)) for a in missing)
        needed += sum(int(a.estimate * card.unpacked_ratio) for a in not_unpacked)
        self.say(download.check_disk(self.out, needed, f"{card.name}: download and unpack"))
        for archive in wanted:
            path = download.fetch(
                archive, home / "archives", progress=self.progress, say=self.say, verify=self.verify
            )
            unpack(path, home / "unpacked" / archive.stem, keep=archive.keep)
        logs = getattr(module, "LOGS", None)
        if logs is not None and (home / "archives" / logs.name).is_file():
            unpack(download.fetch(logs, home / "archives", say=self.say), home / "unpacked" / logs.stem)
        return module.find(home / "unpacked", parts)


def _half(path):
    """Bytes of a download that was interrupted."""
    part = path.with_name(path.name + ".part")
    return part.stat().st_size if part.is_file() else 0


def finished(run, recipe):
    """The manifest when `run.out` already holds exactly this recipe, else None."""
    marker = build.prepared(run.out)
    if marker is None:
        return None
    build.check_same(marker, recipe, run.out)
    shutil.rmtree(run.out / ".building", ignore_errors=True)  # when the last run was killed while it tidied up
    run.say(f"{run.out} is already prepared ({marker['rows']} rows); nothing to do.")
    return run.out / "manifest.csv"


def prepare(name, run, *, parts=None, limit=None, mirror="", protocol=None):
    """Prepare one corpus as it is; returns the path of the manifest.

    Args:
        name: of the corpus.
        run: `Run`.
        parts: subsets, None = the card's default.
        limit: at most this many recordings per split.
        mirror: "huggingface" for VoiceBank+DEMAND.
        protocol: a recipe of kind "pairs" or "smooth", which only chooses splits or the work done per file.
    """
    module = corpus_module(name)
    if mirror and mirror != getattr(module, "MIRROR", None):
        raise PrepError(f"{name} has no mirror {mirror!r}. Only voicebank_demand has one: --mirror huggingface.")
    recipe = {
        "corpus": name, "parts": list(chosen_parts(module.CARD, parts)), "limit": limit, "sample_rate": SAMPLE_RATE,
        "resampler": sound.RESAMPLER, "mirror": mirror, "protocol": protocol.name if protocol else "", "seed": run.seed,
    }  # fmt: skip
    with build.locked(run.out):
        run.agree([name])
        _announce(run, name, protocol)
        done = finished(run, recipe)
        if not done:
            recordings = run.raw(name, parts, run.out, mirror)
            if protocol is not None:
                recordings = protocols.relabel(protocol, recordings, run.seed)
            recordings = limited(recordings, limit)
            smooth = protocol is not None and protocol.kind == "smooth"
            _room_for(run, recordings, CONVERTED_BYTES)
            build.build(
                run.out, [mix.Convert(recording) for recording in recordings], mix.smooth if smooth else mix.convert, recipe,
                workers=run.workers, progress=run.progress,
            )  # fmt: skip
        shutil.rmtree(run.out / "unpacked", ignore_errors=True)
    return _report(run, name)


def follow(protocol, name, run, *, parts=None, limit=None):
    """Make a paper's mixtures from corpus `name`; returns the path of the manifest."""
    if parts is not None:
        raise PrepError(f"--parts cannot be combined with --protocol {protocol.name}: the recipe chooses the parts itself.")
    origin = origins(protocol, name, run.sources)
    recipe = {
        "corpus": name, "protocol": protocol.name, "limit": limit, "sample_rate": SAMPLE_RATE, "seed": run.seed,
        "resampler": sound.RESAMPLER, "noises": {noise: ":".join(source) for noise, source in origin.items()},
    }  # fmt: skip
    with build.locked(run.out):
        run.agree(_corpora(name, origin))
        _announce(run, name, protocol, origin)
        done = finished(run, recipe)
        if not done:
            speech_parts = {part for split in protocol.splits for part in split.pool[name]}
            recordings = run.raw(name, sorted(speech_parts), run.out / "corpora" / name)
            chosen = protocols.select(
                protocol, recordings, name, seed=run.seed, limit=limit, n_samples=lambda r: _length(r.clean)
            )
            files = noise_files(protocol, origin, chosen, run)
            jobs = protocols.plan(
                protocol, chosen, lambda split, noise: stretches(split, files[noise], run.seed), seed=run.seed
            )
            _check_counts(protocol, jobs, limit)
            _room_for(run, [job.recording for job in jobs for _ in job.mixtures], 2 * MIXTURE_BYTES)
            build.build(run.out, jobs, mix.mix, recipe, workers=run.workers, progress=run.progress)
        for unpacked in (run.out / "corpora").glob("*/unpacked"):
            shutil.rmtree(unpacked, ignore_errors=True)
    return _report(run, name)


def origins(protocol, corpus, sources):
    """Noise name -> (corpus, item): the paper's own noise where it is to be had, else the stand-in."""
    found = {}
    for noise in protocol.noises:
        own = _own_noise(sources.get(OWN_NOISES), noise.name)
        if own is not None:
            found[noise.name] = (OWN_NOISES, f"{own.name} {download.digests(own, 'sha256')[0]}")
        elif corpus == "toy":
            found[noise.name] = ("made", noise.offline)
        elif noise.real and (noise.real[0] in sources or corpus_is_free(noise.real[0])):
            found[noise.name] = noise.real
        else:
            found[noise.name] = noise.stand_in
    return found


def corpus_is_free(name):
    """True for what we can always get: free corpora and noises made here."""
    return name in ("made", "speech") or corpus_module(name).CARD.automatic


def _own_noise(folder, name):
    """The file of --source noises=DIR called like this noise, or None."""
    if folder is None:
        return None
    for path in sorted(folder.iterdir()):
        if path.stem.lower() == name.lower() and path.suffix.lower() in (".wav", ".flac", ".mat"):
            return path
    return None


def _corpora(name, origin):
    """The corpora a recipe needs, speech first."""
    names = [name]
    for corpus, item in origin.values():
        if corpus == "speech" and item == "babble6":
            corpus = "librispeech"
        if corpus in NAMES and corpus not in names:
            names.append(corpus)
    return names


def noise_files(protocol, origin, chosen, run):
    """Noise name -> list of 16 kHz WAV files; converts or makes what is not there yet."""
    files, by_corpus = {}, {}
    for noise, (corpus, item) in origin.items():
        by_corpus.setdefault(corpus, []).append((noise, item))
    folder = run.out / "noises"
    for corpus, wanted in by_corpus.items():
        if corpus == "made":
            for noise, item in wanted:
                path = folder / f"{noise}--made-{item}.wav"
                seconds = protocol.seconds_of_made_noise
                files[noise] = [_store(path, lambda n=noise, i=item, s=seconds: _made(i, s, f"{protocol.name}/{n}"))]
        elif corpus == "speech":
            for noise, item in wanted:
                files[noise] = [_from_speech(item, noise, folder, chosen, protocol, run)]
        elif corpus == OWN_NOISES:
            for noise, item in wanted:
                source = _own_noise(run.sources[OWN_NOISES], noise)
                path = folder / f"{noise}--own-{item.split()[-1][:8]}.wav"
                files[noise] = [_store(path, lambda p=source: sound.read_at(p))]
        elif corpus == "musan":
            recordings = run.raw("musan", sorted({item for _, item in wanted}), run.out / "corpora" / "musan")
            for noise, item in wanted:
                files[noise] = [Path(r.noisy) for r in recordings if r.part == item]
        else:
            recordings = run.raw(corpus, sorted({item for _, item in wanted}), run.out / "corpora" / corpus)
            paths = {r.part: r.noisy for r in recordings}
            for noise, item in wanted:
                path = folder / f"{noise}--{corpus}-{item}.wav"
                files[noise] = [_store(path, lambda p=paths[item]: sound.read_at(p))]
    return files


def _store(path, make):
    """Write a noise once (24 bits, peak at most 0.99: its level is set when it is mixed); returns the path."""
    if not path.is_file():
        wav = np.asarray(make(), np.float64)
        peak = np.abs(wav).max()
        if peak == 0:
            raise PrepError(f"{path.name}: the noise is silent.")
        build.write_wav(path, wav * min(1.0, 0.99 / peak), SAMPLE_RATE, mix.MIXTURE_BITS)
    return path


def _made(kind, seconds, key):
    """A synthetic noise with a seed of its own."""
    return noises.make(kind, seconds * SAMPLE_RATE, SAMPLE_RATE, rank("noise", key) % 2**31)


def _from_speech(item, noise, folder, chosen, protocol, run):
    """Noise made of speech: stationary with its spectrum (ssn), or voices at once (babble6)."""
    n_samples = protocol.seconds_of_made_noise * SAMPLE_RATE
    if item == "ssn":
        spoken = chosen[protocol.splits[0].name]
        key = hashlib.sha256("|".join(r.name for r in spoken).encode()).hexdigest()[:8]
        return _store(folder / f"{noise}--speech-ssn-{key}.wav", lambda: speech_shaped(spoken, n_samples, run.seed))
    path = folder / f"{noise}--librispeech-{BABBLE_PART}-{BABBLE_VOICES}voices-{run.seed}.wav"
    if path.is_file():
        return path
    recordings = run.raw("librispeech", [BABBLE_PART], run.out / "corpora" / "librispeech-babble")
    return _store(path, lambda: babble(recordings, n_samples, run.seed))


def speech_shaped(recordings, n_samples, seed):
    """Gaussian noise with the long-term average spectrum of the recordings, float64 (n_samples,)."""
    import scipy.signal

    power = np.zeros(SSN_FFT // 2 + 1)
    for recording in sorted(recordings, key=lambda r: rank(seed, "ssn", r.name))[:SSN_UTTERANCES]:
        wav = sound.read_at(recording.clean)
        if len(wav) >= SSN_FFT:
            power += scipy.signal.welch(wav, SAMPLE_RATE, nperseg=SSN_FFT)[1] * len(wav)
    if not power.any():
        raise PrepError(f"No training utterance is as long as {SSN_FFT} samples; speech-shaped noise cannot be made.")
    spectrum = np.fft.rfft(generator("ssn", seed).standard_normal(n_samples))
    grid = np.linspace(0, 1, len(power))
    spectrum *= np.sqrt(np.interp(np.linspace(0, 1, len(spectrum)), grid, power / power.max()))
    return np.fft.irfft(spectrum, n_samples)


def babble(recordings, n_samples, seed):
    """Six speakers at once, each at the same RMS, float64 (n_samples,)."""
    voices = sorted({r.speaker for r in recordings}, key=lambda s: rank(seed, "babble", s))[:BABBLE_VOICES]
    if len(voices) < BABBLE_VOICES:
        raise PrepError(f"Babble needs {BABBLE_VOICES} speakers; the corpus has {len(voices)}.")
    total = np.zeros(n_samples)
    for voice in voices:
        said = np.zeros(0)
        for recording in (r for r in recordings if r.speaker == voice):
            said = np.concatenate([said, sound.read_at(recording.clean)])
            if len(said) >= n_samples:
                break
        said = np.resize(said, n_samples)  # repeats when the speaker says less
        total += said / np.sqrt(np.mean(said**2))
    return total


def stretches(split, files, seed):
    """The part of one noise that this split may use: a stretch of one file, or whole files of a pool."""
    first, last = split.where
    if len(files) > 1:
        order = sorted(files, key=lambda path: rank(seed, "pool", path.stem))
        mine = order[round(first * len(order)) : round(last * len(order))]
        if not mine:
            raise PrepError(f"{len(files)} noise recordings are too few to share them out; {split.name} would get none.")
        return [mix.Stretch(path.parent.name, str(path), 0, _length(path)) for path in mine]
    n_samples = _length(files[0])
    kind = files[0].name.split("--")[0]
    return [mix.Stretch(kind, str(files[0]), round(first * n_samples), round(last * n_samples))]


def _length(path):
    """Samples at 16 kHz."""
    rate, n_samples = sound.info(path)
    return round(n_samples * SAMPLE_RATE / rate)


def _announce(run, name, protocol, origin=None):
    """Say which recipe, and for every ingredient whether it is the paper's or a stand-in."""
    if protocol is None:
        return
    real = name == protocol.real
    run.say(f"\nProtocol {protocol.name} ({protocol.paper})")
    run.say(f"  speech: {name}, {'the corpus of the paper' if real else f'a stand-in for {protocol.real}'}")
    for noise in protocol.noises:
        source = origin[noise.name]
        own = source[0] == OWN_NOISES
        kind = "your file" if own else "as in the paper" if source == noise.real else "stand-in"
        run.say(f"  noise {noise.name}: {source[0]} {source[1]} ({kind})")
    for note in protocol.notes:
        run.say(f"  note: {note}")


def _check_counts(protocol, jobs, limit):
    """The recipe's numbers, once more, on what is about to be made."""
    made = {}
    for job in jobs:
        made[job.recording.split] = made.get(job.recording.split, 0) + len(job.mixtures)
    for split, count in protocol.counts().items() if limit is None else ():
        if made.get(split) != count:
            raise PrepError(f"--protocol {protocol.name} should give {count} {split} mixtures, but gives {made.get(split)}.")


def _room_for(run, recordings, bytes_per_second):
    """Disk estimate for the audio that will be written."""
    seconds, known = 0.0, {}
    for recording in recordings:
        path = recording.clean or recording.noisy
        if path not in known:
            rate, n_samples = sound.info(path)
            known[path] = n_samples / rate
        seconds += known[path] * (2 if recording.clean and recording.noisy else 1)
    run.say(download.check_disk(run.out, int(seconds * bytes_per_second), f"{seconds / 3600:.2f} h of audio to write"))


def _report(run, name):
    """Last words; with --verify every file is hashed again."""
    path = run.out / "manifest.csv"
    if run.verify:
        problems = build.verify(run.out, run.progress)
        for lock in sorted(run.out.rglob(download.LOCK)):
            problems += download.verify(lock.parent)
        if problems:
            some = "\n  ".join(problems[:10])
            raise PrepError(f"{run.out} has {len(problems)} damaged entries:\n  {some}\n{build._again(run.out)}")
        run.say(f"{run.out}: every archive and every file agrees with what was recorded.")
    rows = build.manifest.read(path)
    counts = {}
    for row in rows:
        counts[row["split"] or "no split"] = counts.get(row["split"] or "no split", 0) + 1
    run.say(f"{path}: {len(rows)} rows ({', '.join(f'{n} {split}' for split, n in counts.items())})")
    if name == "voicebank_demand" and counts.get("test") == corpus_module(name).PAIRS["test"]:
        run.say(f"Check it before you train: python -m ganse_tf calibrate {os.fspath(run.out)}")
    return path
