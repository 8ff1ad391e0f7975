"""The toy corpus: sixteen synthetic speakers who say digit strings and short sentences, made by espeak-ng.

The package ships the result (`ganse_tf/toy`), so that every notebook and test has speech without a download. This
script is how it was made:

    python -m data_prep.toy_corpus --out DIR          # generate (needs the program espeak-ng)
    python -m data_prep.toy_corpus --verify           # check the shipped files against their manifest

A speaker is an espeak-ng voice (accent + voice quality), a base pitch, a speaking rate and a vocal-tract factor: the
synthesised sound is read as if it had been recorded at `22050 * tract` Hz, which moves all formants by that factor, as
a shorter or longer vocal tract does. Digits are synthesised word by word and joined with random pauses, so that the
word boundaries in the manifest are exact to the sample; sentences are synthesised whole and carry no boundaries.
Speakers are split into train, valid and test; no sentence of one split is spoken in another.

Samples are 16-bit PCM whose lowest `ZERO_BITS` bits are zero: FLAC does not store them, which makes the files 40 %
smaller. The rounding noise lies 51 dB below the speech.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from data_prep import manifest

SAMPLE_RATE = 16000
ESPEAK_RATE = 22050  # Hz, what espeak-ng writes
LEVEL_DB = -26.0  # dBFS, RMS over the utterance (the active level of ITU-T P.56 measurements)
ZERO_BITS = 4
STRINGS_PER_SPEAKER = 12
SENTENCES_PER_SPEAKER = 10
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHIPPED = Path(__file__).resolve().parent.parent / "ganse_tf" / "toy"
COLUMNS = ("name", "clean", "sample_rate", "speaker", "gender", "kind", "text", "words", "split", "seconds", "sha256")


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker; `pitch` is espeak's 0-99, `speed` words per minute, `tract` the formant factor."""

    name: str
    split: str
    voice: str
    pitch: int
    speed: int
    tract: float

    @property
    def gender(self):
        return self.name[0]


SPEAKERS = (
    Speaker("f01", "train", "en-us+f2", 50, 150, 1.00),
    Speaker("f02", "train", "en+f4", 60, 165, 1.04),
    Speaker("f03", "train", "en-gb-scotland+linda", 42, 155, 0.97),
    Speaker("f04", "train", "en-us+belinda", 46, 170, 1.10),
    Speaker("f05", "train", "en-029+f5", 52, 145, 1.07),
    Speaker("m01", "train", "en-us+m3", 62, 160, 1.00),
    Speaker("m02", "train", "en+m7", 50, 150, 0.94),
    Speaker("m03", "train", "en-gb-scotland+klatt2", 38, 165, 1.00),
    Speaker("m04", "train", "en-us+victor", 68, 175, 1.05),
    Speaker("m05", "train", "en-gb-x-gbclan+Denis", 48, 155, 0.97),
    Speaker("f06", "valid", "en-us+Andrea", 40, 145, 1.04),
    Speaker("m06", "valid", "en-gb-x-rp+m2", 58, 160, 0.98),
    Speaker("f07", "test", "en-gb-x-rp+aunty", 60, 155, 0.94),
    Speaker("f08", "test", "en-us-nyc+Annie", 46, 150, 0.98),
    Speaker("m07", "test", "en-us+m6", 40, 155, 0.95),
    Speaker("m08", "test", "en-gb-x-gbcwmd+klatt4", 66, 165, 1.03),
)

SENTENCES = {
    "train": """
        The small boat drifted past the harbour wall.
        Please bring two cups of tea and some bread.
        My brother fixed the old bicycle last night.
        A cold wind blew over the empty field.
        She keeps her maps in a long wooden box.
        The train to the coast leaves at noon.
        We heard music from the house next door.
        He wrote a short letter to his teacher.
        Fresh apples are cheaper on market days.
        The yellow bird sings before the sun is up.
        Turn the handle slowly and pull the door.
        Our neighbours painted their fence dark green.
        They sat by the fire and told good stories.
        The river is too deep to cross on foot.
        I lost my gloves somewhere in the park.
        Put the heavy books on the lower shelf.
        A young fox was sleeping under the hedge.
        The baker opens his shop at five each morning.
        Her voice was quiet but very clear.
        The path behind the church leads to a farm.
        Nobody saw the cat jump through the window.
        He measured the room and drew a simple plan.
        The soup needs a little more salt and pepper.
        Rain ran down the glass in thin lines.
        We should check the weather before we go.
        The museum shows tools made from stone.
        Her uncle grows beans, onions and sweet peas.
        The clock in the hall is always ten minutes fast.
        A green light means that the road is free.
        The children built a bridge of sand and sticks.
        You can borrow my umbrella until the weekend.
        The doctor asked him to breathe deeply.
        Snow covered every roof in the village.
        That machine cuts paper into equal sheets.
        She speaks four languages without any effort.
        The judge listened to both sides of the case.
        Few people know the way across the moor.
        His watch stopped during the long journey.
        The garden gate makes a strange noise.
        I would rather walk than wait for the bus.
        The new phone fits easily in a pocket.
        They found an old coin beneath the floor.
        Thick smoke rose from the factory chimney.
        Make sure that the lamp is switched off.
        The orchestra tuned before the curtain rose.
        A large ship brought coffee, sugar and rice.
        We usually eat lunch outside in July.
        The lecture was shorter than I had feared.
        He threw the ball over the garden shed.
        Both sisters play the violin rather well.
        This jacket is warm enough for the mountains.
        The answer was hidden on the last page.
        Some bees had settled on the orange tree.
        The captain checked the engine once again.
        Our cousin teaches chemistry in the north.
        Leave your shoes and your bag by the door.
        The sharp corner scratched the kitchen table.
        A thousand lamps lit the wide square.
        The pilot waited for better visibility.
        Just measure the voltage and write it down.
    """,
    "valid": """
        The farmer sold three sheep at the fair.
        Every evening she walks along the canal.
        The printer has run out of paper again.
        An early frost killed the tomato plants.
        They share a large office near the station.
        He pushed the chair closer to the stove.
        The blue van was parked behind the school.
        Could you lend me a pencil for an hour?
        The view from the tower is worth the climb.
        Half of the class had already finished.
        Her favourite jumper shrank in the wash.
        A loud bang woke the sleeping dog.
    """,
    "test": """
        The postman left a parcel on the stairs.
        We planted roses along the southern wall.
        The lift is broken, so use the steps.
        My grandfather used to repair fishing nets.
        A silver car stopped at the corner shop.
        She poured hot milk into a tall mug.
        The bridge was closed after the storm.
        Several students missed the final bus.
        His jokes are better than his cooking.
        The moon was shining over the quiet lake.
        Never touch a cable with wet hands.
        An owl lives in the roof of the barn.
        The shop around the corner sells cheese.
        He took a photograph of every statue.
        Their journey began on a frosty Thursday.
        The red team scored in the last minute.
        I cannot read this without my glasses.
        The lake froze early that winter.
        A gentle voice answered the telephone.
        Choose a number and keep it secret.
        The tailor shortened both sleeves for free.
        We watched the geese fly towards the sea.
        The old theatre will open again in May.
        Wash the spoons and dry them with a towel.
    """,
}
SENTENCES = {split: [line.strip() for line in text.strip().splitlines()] for split, text in SENTENCES.items()}


def espeak_version():
    """Version string of the installed espeak-ng ("1.51"), or None when the program is missing."""
    if shutil.which("espeak-ng") is None:
        return None
    out = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    return out.split(":")[1].split()[0]


def synthesise(text, speaker, pitch=0, speed=0):
    """Say `text` as `speaker` (with small offsets to pitch and speed); returns float64 at 16 kHz, edges trimmed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "espeak.wav"
        command = ["espeak-ng", "-v", speaker.voice, "-p", str(speaker.pitch + pitch), "-s", str(speaker.speed + speed)]
        subprocess.run([*command, "-z", "-w", str(path), text], check=True)
        wav, rate = sf.read(path)
    if rate != ESPEAK_RATE:
        raise RuntimeError(f"espeak-ng wrote {rate} Hz, expected {ESPEAK_RATE} Hz: use version 1.50 or newer.")
    wav = soxr.resample(wav, rate * speaker.tract, SAMPLE_RATE, quality="VHQ")
    return _trim(wav)


def _trim(wav, floor=0.004, keep=80, fade=80):
    """Cut silence below `floor` of the peak, keep 5 ms around it and fade these edges (80 samples = 5 ms)."""
    loud = np.flatnonzero(np.abs(wav) > floor * np.abs(wav).max())
    wav = wav[max(0, loud[0] - keep) : loud[-1] + 1 + keep].copy()
    ramp = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / fade) ** 2
    wav[:fade] *= ramp
    wav[-fade:] *= ramp[::-1]
    return wav


def _silence(rng, low, high):
    return np.zeros(int(rng.uniform(low, high) * SAMPLE_RATE))


def digit_string(speaker, digits, rng):
    """Join single digits with pauses of 20-180 ms; returns the wave and its exact word boundaries in samples."""
    parts, words = [_silence(rng, 0.10, 0.25)], []
    position = len(parts[0])
    for i, digit in enumerate(digits):
        last = i == len(digits) - 1
        # The pitch falls through the string and ends low, as in read telephone numbers.
        pitch, speed = int(rng.integers(-3, 6)) - 8 * last, int(rng.integers(-12, 13))
        wav = synthesise(DIGITS[digit], speaker, pitch, speed)
        words.append((DIGITS[digit], position, position + len(wav)))
        gap = _silence(rng, 0.10, 0.25) if last else _silence(rng, 0.02, 0.18)
        parts += [wav, gap]
        position += len(wav) + len(gap)
    return np.concatenate(parts), words


def sentence(speaker, text, rng):
    """Say one sentence with 0.1-0.25 s of silence on both sides."""
    wav = synthesise(text, speaker, pitch=int(rng.integers(-3, 4)), speed=int(rng.integers(-8, 9)))
    return np.concatenate([_silence(rng, 0.10, 0.25), wav, _silence(rng, 0.10, 0.25)])


def quantise(wav):
    """Set the RMS to `LEVEL_DB` and round to 16-bit integers whose lowest `ZERO_BITS` bits are zero."""
    wav = wav * 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(wav**2))
    if np.abs(wav).max() >= 0.99:
        raise RuntimeError(f"The peak reaches {np.abs(wav).max():.2f}: lower LEVEL_DB.")
    return (np.round(wav * 2 ** (15 - ZERO_BITS)) * 2**ZERO_BITS).astype(np.int16)


def sha256(pcm):
    """Checksum of the samples (little-endian int16), which does not depend on the FLAC encoder."""
    return hashlib.sha256(np.asarray(pcm, dtype="<i2").tobytes()).hexdigest()


def utterances(speaker):
    """All utterances of one speaker as (name, kind, text, words in samples, int16 samples)."""
    rng = np.random.default_rng([ord(speaker.name[0]), int(speaker.name[1:])])
    # Every digit equally often: shuffled full sets, dealt out in strings of 3 to 6.
    lengths = rng.permutation([3, 4, 5, 6] * (STRINGS_PER_SPEAKER // 4))
    deck = np.concatenate([rng.permutation(10) for _ in range(-(-lengths.sum() // 10))])
    for i, digits in enumerate(np.split(deck[: lengths.sum()], np.cumsum(lengths)[:-1])):
        wav, words = digit_string(speaker, digits, rng)
        yield f"{speaker.name}_d{i + 1:02d}", "digits", " ".join(w for w, _, _ in words), words, quantise(wav)
    peers = [s.name for s in SPEAKERS if s.split == speaker.split]
    texts = SENTENCES[speaker.split]
    first = peers.index(speaker.name) * SENTENCES_PER_SPEAKER
    for i in range(SENTENCES_PER_SPEAKER):
        text = texts[(first + i) % len(texts)]
        yield f"{speaker.name}_s{i + 1:02d}", "sentence", text, [], quantise(sentence(speaker, text, rng))


def generate(out, speakers=SPEAKERS):
    """Write `out/SPEAKER/NAME.flac` and `out/manifest.csv`; returns the manifest rows."""
    if espeak_version() is None:
        raise SystemExit("espeak-ng was not found. Install it (Debian, Ubuntu, Colab: apt-get install espeak-ng).")
    out, rows = Path(out), []
    for speaker in speakers:
        (out / speaker.name).mkdir(parents=True, exist_ok=True)
        for name, kind, text, words, pcm in utterances(speaker):
            path = f"{speaker.name}/{name}.flac"
            sf.write(out / path, pcm, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
            seconds = [[word, round(a / SAMPLE_RATE, 5), round(b / SAMPLE_RATE, 5)] for word, a, b in words]
            rows.append({
                "name": name, "clean": path, "sample_rate": SAMPLE_RATE, "speaker": speaker.name,
                "gender": speaker.gender, "kind": kind, "text": text, "words": json.dumps(seconds),
                "split": speaker.split, "seconds": f"{len(pcm) / SAMPLE_RATE:.4f}", "sha256": sha256(pcm),
            })
        print(f"{speaker.name}: {speaker.voice}, {speaker.split}", file=sys.stderr)
    manifest.write(out / "manifest.csv", rows, COLUMNS)
    (out / "README.txt").write_text(
        f"Synthetic speech made by `python -m data_prep.toy_corpus` with espeak-ng {espeak_version()}.\n"
        "The sentences and digit strings were written for this package; Apache-2.0 like the rest of it.\n"
    )
    return rows


def verify(folder):
    """Compare every file of `folder` with its manifest; returns a list of problems (empty when all is well)."""
    folder, problems = Path(folder), []
    rows = manifest.read(folder / "manifest.csv")
    for row in rows:
        path = folder / row["clean"]
        if not path.is_file():
            problems.append(f"{row['clean']}: listed in the manifest, but the file is missing.")
            continue
        pcm, rate = sf.read(path, dtype="int16")
        if rate != int(row["sample_rate"]):
            problems.append(f"{row['clean']}: {rate} Hz, the manifest says {row['sample_rate']} Hz.")
        if sha256(pcm) != row["sha256"]:
            problems.append(f"{row['clean']}: the samples differ from the manifest's sha256.")
    listed = {row["clean"] for row in rows}
    problems += [
        f"{path.relative_to(folder).as_posix()}: not in the manifest."
        for path in sorted(folder.rglob("*.flac")) if path.relative_to(folder).as_posix() not in listed
    ]
    return problems


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m data_prep.toy_corpus", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder to generate the corpus into")
    parser.add_argument("--verify", nargs="?", type=Path, const=SHIPPED, help="folder to check (default: shipped one)")
    args = parser.parse_args(argv)
    if args.out is None and args.verify is None:
        parser.error("say --out DIR to generate the corpus or --verify to check it")
    if args.out is not None:
        rows = generate(args.out)
        minutes = sum(float(row["seconds"]) for row in rows) / 60
        print(f"{len(rows)} utterances, {minutes:.1f} minutes, {len(SPEAKERS)} speakers in {args.out}")
    if args.verify is not None:
        problems = verify(args.verify)
        print("\n".join(problems) if problems else f"{args.verify}: every file agrees with the manifest.")
        return 1 if problems else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
