"""DEMAND: 18 real environments, 16 microphones, 5 minutes each; we take microphone 1 at 16 kHz.

    <ENVIRONMENT>_16k.zip: ch01.wav ... ch16.wav in one folder (SCAFE exists at 48 kHz only and is resampled)

VoiceBank+DEMAND's test noises are DEMAND recordings: training on the living room, office, bus, square or cafe leaks them.
Sizes and MD5 sums agree in three independent preparation scripts; none is known for SCAFE.
"""

from data_prep.corpus import Archive, Card, LayoutError, Recording, chosen_parts, wavs

URL = "https://zenodo.org/records/1227121/files/"
FACTS = {  # environment: (bytes, MD5) of its 16 kHz zip
    "DKITCHEN": (110501049, "7ffbf52d7f4699f96927846103dc8788"),
    "DLIVING": (80170627, "46741384d9e434a0bd8b3ec1830b6052"),
    "DWASHING": (102343250, "7e5ee9437ce9409c5f9a779b6212a240"),
    "NFIELD": (86536782, "a740046c6f4e174e16f5d568aaec5024"),
    "NPARK": (86029332, "80f1385a34d7f1705758926b57f138ce"),
    "NRIVER": (98689565, "54264db61d3fe073fb81f2e40e0d19b5"),
    "OHALLWAY": (77941854, "fe918bbb0e63e73d09ba7f4843ef33f1"),
    "OMEETING": (82703355, "62f7cfe7fe6d30b7d8a215fe37c2dfd2"),
    "OOFFICE": (88995191, "7b61cc2d182d5a654cb9c3101ddd4041"),
    "PCAFETER": (107431494, "99927d148128254141a9417d051510bb"),
    "PRESTO": (111292815, "b98d2e6854eeebb397f29a8ad7457092"),
    "PSTATION": (119441094, "d7448009f6c2aeb6ba570375df1750a3"),
    "SPSQUARE": (110928528, "205d0e7b8fe74504a2f8d252fc414b9e"),
    "STRAFFIC": (118572691, "2efa87262f272bbf9ba578088e81939c"),
    "TBUS": (128916709, "706b11b0d8504f9f3b3f3211e91b3863"),
    "TCAR": (130045975, "4d930012796bd298932245a26189f973"),
    "TMETRO": (126589090, "95daf4df678e13b120e14211e6d89571"),
}
AT_48_KHZ = "SCAFE"
CHANNEL = "ch01"
CARD = Card(
    name="demand",
    title="DEMAND: a collection of multi-channel recordings of acoustic noise in diverse environments",
    home="https://zenodo.org/records/1227121",
    licence="CC BY-SA 3.0 (document and record text; Zenodo's metadata say CC BY 4.0: we follow the stricter one)",
    citation="J. Thiemann, N. Ito, E. Vincent: The Diverse Environments Multi-channel Acoustic Noise Database (DEMAND). "
    "Proc. Meetings on Acoustics 19, 2013. doi:10.5281/zenodo.1227121",
    must_accept=True,
    parts=(*FACTS, AT_48_KHZ),
    default_parts=tuple(FACTS),
    unpacked_ratio=0.1,  # one microphone of sixteen
)


def archives(parts):
    """One zip per environment; only microphone 1 is unpacked."""
    found = []
    for part in parts:
        name = f"{part}_48k.zip" if part == AT_48_KHZ else f"{part}_16k.zip"
        found.append(Archive(name, (URL + name,), *FACTS.get(part, ()), keep=rf"(^|/){CHANNEL}\.wav$"))
    return found


def find(folder, parts=None):
    """Microphone 1 of every environment, named after it."""
    recordings = []
    for part in chosen_parts(CARD, parts):
        files = [
            path
            for path in wavs(folder)
            if path.stem == CHANNEL and any(p.startswith(part) for p in path.relative_to(folder).parts[:-1])
        ]
        if not files:
            raise LayoutError(f"{folder} has no {part}*/{CHANNEL}.wav in it. Expected the unpacked zip of {CARD.home}.")
        recordings.append(Recording(name=part, noisy=str(files[0]), noise=part, part=part))
    return recordings
