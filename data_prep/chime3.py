"""CHiME-3 (LDC2017S24): six microphones on a tablet, in a bus, cafe, pedestrian area and street; AFM's corpus.

    data/audio/16kHz/isolated/tr05_{bus,caf,ped,str}_{real,simu}/<speaker>_<text>_<ENV>.CH1..6.wav (real also CH0)
    data/audio/16kHz/isolated/tr05_org/<speaker>_<text>_ORG.wav        what was mixed into the simulated training set
    data/audio/16kHz/isolated/dt05_bth/<speaker>_<text>_BTH.CH0..6.wav booth recordings behind the simulated dev set
    data/transcriptions/*.dot_all                                      "text (utterance)"

Microphone 5 is the noisy side. The clean side is tr05_org (training, simulated), the booth recording (dev, simulated) or
the close-talking microphone CH0 (real): the last is not a clean copy of the same signal (another microphone, with noise
of its own), so it may serve for features and recognition but not for PESQ or SI-SDR.

1 600 real + 7 138 simulated = 8 738 training pairs, as in the AFM paper.
"""

import re
from pathlib import Path

from data_prep.corpus import Card, LayoutError, Recording, chosen_parts

CHANNEL = "CH5"
CLOSE_TALK = "CH0"
ENVIRONMENTS = ("bus", "caf", "ped", "str")
PARTS = ("tr05_real", "tr05_simu", "dt05_real", "dt05_simu")
PAIRS = {"tr05_real": 1600, "tr05_simu": 7138}
CARD = Card(
    name="chime3",
    title="CHiME-3 (LDC2017S24)",
    home="https://www.chimechallenge.org/challenges/chime3/data",
    licence="LDC user agreement; not to be passed on",
    citation="J. Barker, R. Marxer, E. Vincent, S. Watanabe: The third 'CHiME' speech separation and recognition "
    "challenge: dataset, task and baselines. ASRU 2015.",
    automatic=False,
    stand_in="librispeech with DEMAND's TBUS, PCAFETER, SPSQUARE, STRAFFIC (--protocol afm)",
    layout="data/audio/16kHz/isolated/{tr05,dt05}_{bus,caf,ped,str}_{real,simu}/*.CH5.wav, tr05_org, dt05_bth",
    parts=PARTS,
    default_parts=PARTS,
)


def archives(parts=()):
    return []


def find(folder, parts=None):
    """Pairs (microphone 5, clean or close-talking) of the parts."""
    folder = Path(folder)
    roots = sorted(p.parent for p in folder.rglob("tr05_org") if p.is_dir())
    if not roots:
        raise LayoutError(f"{folder} does not look like CHiME-3: expected {CARD.layout}.")
    root, texts = roots[0], _texts(folder)
    recordings = []
    for part in chosen_parts(CARD, parts):
        subset, kind = part.split("_")
        for environment in ENVIRONMENTS:
            for path in sorted((root / f"{subset}_{environment}_{kind}").glob(f"*.{CHANNEL}.wav")):
                name = path.name.removesuffix(f".{CHANNEL}.wav")
                speaker, sentence = name.split("_")[:2]
                clean = _clean_side(root, path, subset, kind, speaker, sentence)
                if not clean.is_file():
                    raise LayoutError(f"{path} has no clean partner; expected {clean}. The copy is not whole.")
                recordings.append(
                    Recording(
                        name=f"{name}_{kind.upper()}", clean=str(clean), noisy=str(path), speaker=speaker,
                        text=texts.get(name.lower(), texts.get(sentence.lower(), "")), noise=environment,
                        split="train" if subset == "tr05" else "test", part=part,
                    )
                )  # fmt: skip
        count = sum(recording.part == part for recording in recordings)
        if part in PAIRS and count != PAIRS[part]:
            raise LayoutError(f"{root} has {count} utterances in {part}, CHiME-3 has {PAIRS[part]}. The copy is not whole.")
    return recordings


def _clean_side(root, path, subset, kind, speaker, sentence):
    """Where the other half of a noisy file is."""
    if kind == "real":
        return path.with_name(path.name.replace(CHANNEL, CLOSE_TALK))
    if subset == "tr05":
        return root / "tr05_org" / f"{speaker}_{sentence}_ORG.wav"
    return root / "dt05_bth" / f"{speaker}_{sentence}_BTH.{CHANNEL}.wav"


def _texts(folder):
    """Utterance -> text, from every .dot and .dot_all file."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".dot", ".dot_all")):
        for line in path.read_text(encoding="latin-1").splitlines():
            match = re.fullmatch(r"(.*?)\s*\((\w+)\)\s*", line)
            if match:
                found[match[2].lower()] = match[1]
    return found
