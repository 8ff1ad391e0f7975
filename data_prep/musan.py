"""MUSAN (OpenSLR 17): music, speech and noise, 16 kHz; the free stand-in for FSEGAN's private noise.

    musan/{music,speech,noise}/<source>/*.wav and a LICENSE in every source folder

Size and MD5 are given by at least five public preparation scripts.
"""

from data_prep.corpus import Archive, Card, LayoutError, Recording, chosen_parts, wavs

SIZE, MD5 = 11086114085, "0c472d4fc0c5141eca47ad1ffeb2a7df"
CARD = Card(
    name="musan",
    title="MUSAN: a music, speech, and noise corpus",
    home="https://www.openslr.org/17",
    licence="CC BY 4.0 as a compilation; every source folder has a LICENSE file of its own",
    citation="D. Snyder, G. Chen, D. Povey: MUSAN: A Music, Speech, and Noise Corpus. arXiv:1510.08484, 2015.",
    parts=("noise", "music", "speech"),
    default_parts=("noise", "music", "speech"),
)


def archives(parts):
    """One archive holds all parts; only those asked for are unpacked."""
    keep = "(^|/)(" + "|".join(parts) + ")/"
    return [Archive("musan.tar.gz", ("https://www.openslr.org/resources/17/musan.tar.gz",), SIZE, MD5, keep=keep)]


def find(folder, parts=None):
    """Recordings of each part. Speech goes into `clean`, music and noise into `noisy` (there is no speech to keep)."""
    recordings = []
    for part in chosen_parts(CARD, parts):
        files = [path for path in wavs(folder) if part in path.relative_to(folder).parts[:-1]]
        if not files:
            raise LayoutError(f"{folder} has no musan/{part}/<source>/*.wav in it; see {CARD.home}.")
        for path in files:
            side = "clean" if part == "speech" else "noisy"
            kind = "" if part == "speech" else part
            recordings.append(Recording(name=path.stem, noise=kind, part=part, **{side: str(path)}))
    return recordings
