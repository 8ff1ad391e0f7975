"""NOISEX-92: fifteen noises of 235 s at 19.98 kHz; DNN-GAN's and UNetGAN's noises; the user's own copy.

    babble.wav buccaneer1.wav ... white.wav, or the same names with .mat

The licence is unclear, so nothing is downloaded. One mirror on GitHub holds 8 kHz, 8-bit copies: refused, because nothing
above 4 kHz can be brought back. 19 980 Hz becomes 16 000 Hz by the exact ratio 800/999.
"""

from pathlib import Path

from data_prep import sound
from data_prep.corpus import Card, LayoutError, Recording, chosen_parts

NAMES = (
    "babble", "buccaneer1", "buccaneer2", "destroyerengine", "destroyerops", "f16", "factory1", "factory2", "hfchannel",
    "leopard", "m109", "machinegun", "pink", "volvo", "white",
)  # fmt: skip
SECONDS = 235.0
LOWEST_RATE = 16000  # Hz
CARD = Card(
    name="noisex92",
    title="NOISEX-92",
    home="http://spib.linse.ufsc.br/noise.html",
    licence="unclear; not to be passed on",
    citation="A. Varga, H. Steeneken: Assessment for automatic speech recognition: II. NOISEX-92: a database and an "
    "experiment to study the effect of additive noise on speech recognition systems. Speech Communication 12, 1993.",
    automatic=False,
    stand_in="demand (CC BY-SA 3.0) and the noises of ganse_tf.noises",
    layout="babble.wav, factory1.wav, ... (or .mat), 19.98 kHz, 16 bits",
    parts=NAMES,
    default_parts=NAMES,
)


def archives(parts=()):
    return []


def find(folder, parts=None):
    """The noises asked for; refuses copies that have lost their upper half or their end."""
    there = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in (".wav", ".mat") and path.stem.lower() in NAMES:
            if path.stem.lower() not in there or path.suffix.lower() == ".wav":
                there[path.stem.lower()] = path
    recordings = []
    for name in chosen_parts(CARD, parts):
        if name not in there:
            raise LayoutError(f"{folder} has no {name}.wav or {name}.mat. Expected {CARD.layout}.")
        rate, n_samples = sound.info(there[name])
        if rate < LOWEST_RATE:
            raise LayoutError(
                f"{there[name]} has {rate} Hz; NOISEX-92 has 19980 Hz. A copy with less than {LOWEST_RATE} Hz lacks the upper "
                f"half of the spectrum (a well-known mirror is 8 kHz, 8 bits): get the original files."
            )
        if n_samples < SECONDS * rate:
            raise LayoutError(
                f"{there[name]} lasts {n_samples / rate:.1f} s; NOISEX-92 recordings last {SECONDS:.0f} s. The recipes use "
                f"its beginning for training and its end for testing: get the whole file."
            )
        recordings.append(Recording(name=name, noisy=str(there[name]), noise=name, part=name))
    return recordings
