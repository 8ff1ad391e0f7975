"""Wall Street Journal, WSJ0 (LDC93S6A) and WSJ1 (LDC94S13A): FSEGAN's speech; the user's own copy.

    wsj0/si_tr_s/<speaker>/*.wv1      SI-84, and with wsj1/si_tr_s/<speaker>/*.wv1 SI-284   (part si284)
    wsj1/si_dt_20/<speaker>/*.wv1     development test dev93                                (part dev93)
    wsj0/si_et_20/<speaker>/*.wv1     Nov'92 evaluation, 20k words                          (part eval92)
    .../*.dot                         transcripts: "text (utterance)"

`.wv1` is NIST SPHERE, usually compressed with `shorten`, which only the LDC's `sph2pipe` unpacks. Convert first:

    find WSJ -iname '*.wv1' -exec sh -c 'sph2pipe -f wav "$1" "${1%.*}.wav"' _ {} \\;

Where both files are there, the .wav is used. The index files (`doc/indices/...ndx`) choose the utterances when they are
found; otherwise whole folders are taken. Speaker 401 of WSJ0 is left out, as in Kaldi's recipe.
"""

import re
from pathlib import Path

from data_prep import sound
from data_prep.corpus import Card, LayoutError, PrepError, Recording, chosen_parts

FOLDERS = {"si284": ("wsj0/si_tr_s", "wsj1/si_tr_s"), "dev93": ("wsj1/si_dt_20",), "eval92": ("wsj0/si_et_20",)}
INDICES = {
    "si284": ("tr_s_wv1.ndx", "si_tr_s.ndx"),
    "dev93": ("h1_p0.ndx",),
    "eval92": ("si_et_20.ndx",),
}
SPLITS = {"si284": "train", "dev93": "valid", "eval92": "test"}
LEFT_OUT = "401"
CARD = Card(
    name="wsj",
    title="Wall Street Journal: CSR-I (WSJ0, LDC93S6A) and CSR-II (WSJ1)",
    home="https://catalog.ldc.upenn.edu/LDC93S6A",
    licence="LDC user agreement (fee or membership); not to be passed on",
    citation="D. Paul, J. Baker: The design for the Wall Street Journal-based CSR corpus. Workshop on Speech and Natural "
    "Language, 1992.",
    automatic=False,
    stand_in="librispeech (train-clean-100, dev-clean, test-clean; CC BY 4.0)",
    layout="wsj0/si_tr_s, wsj1/si_tr_s, wsj1/si_dt_20, wsj0/si_et_20 with *.wv1 or *.wav, and the *.dot transcripts",
    parts=tuple(FOLDERS),
    default_parts=tuple(FOLDERS),
)


def archives(parts=()):
    return []


def find(folder, parts=None):
    """Every utterance of the parts, with its transcript."""
    folder = Path(folder)
    files = {}  # utterance -> path, .wav preferred
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".wv1", ".wav") and re.fullmatch(r"\w{8}", path.stem):
            if path.stem.lower() not in files or path.suffix.lower() == ".wav":
                files[path.stem.lower()] = path
    texts = _texts(folder)
    recordings = []
    for part in chosen_parts(CARD, parts):
        listed = _indexed(folder, INDICES[part])
        found = []
        for name, path in files.items():
            place = "/".join(p.lower() for p in path.relative_to(folder).parts[:-1])
            inside = any(f"{place}/".find(f"{where}/") >= 0 for where in FOLDERS[part])
            if inside and (not listed or name in listed) and path.parent.name != LEFT_OUT:
                found.append((name, path))
        if not found:
            raise LayoutError(f"{folder} has no utterances in {' or '.join(FOLDERS[part])}. Expected {CARD.layout}.")
        header = sound.sphere_header(found[0][1])
        if header is not None and "shorten" in str(header.get("sample_coding", "")):
            raise PrepError(
                f"{found[0][1]} is compressed with shorten. Convert your copy once with the LDC's sph2pipe (the command is "
                f"in the help text of data_prep/wsj.py), then run again; the .wav files beside the .wv1 will be used."
            )
        for name, path in sorted(found):
            recordings.append(
                Recording(
                    name=name, clean=str(path), speaker=name[:3], text=texts.get(name, ""), split=SPLITS[part], part=part
                )
            )
    return recordings


def _indexed(folder, names):
    """Utterances listed in the index files ("11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1"), or an empty set.

    Several discs hold the same file name for different word lists; only one found alone can be trusted.
    """
    listed = set()
    for name in names:
        paths = [path for path in folder.rglob("*") if path.name.lower() == name]
        if len(paths) != 1:
            return set()
        for line in paths[0].read_text(encoding="latin-1").splitlines():
            if ":" in line and not line.startswith(";"):
                listed.add(Path(line.split(":", 1)[1].strip()).stem.lower())
    return listed


def _texts(folder):
    """Utterance -> text, from all .dot files."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".dot"):
        for line in path.read_text(encoding="latin-1").splitlines():
            match = re.fullmatch(r"(.*?)\s*\((\w{8})\)\s*", line)
            if match:
                found[match[2].lower()] = match[1]
    return found
