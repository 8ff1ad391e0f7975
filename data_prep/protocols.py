"""The data recipes of the eleven papers: which speech, which noises, which SNRs, how many of each.

    python -m data_prep timit --source TIMIT --source noisex92=NOISEX --protocol unetgan --out DIR    the paper's corpora
    python -m data_prep librispeech --protocol unetgan --accept-license --out DIR                    free stand-ins
    python -m data_prep toy --protocol unetgan --limit 20 --out DIR                                  offline, for class

Numbers are the papers' where a comment says nothing else; "ours" marks what a paper leaves open. Three rules hold in every
recipe, also where a paper says nothing: speakers of one split never speak in another; a stretch of a noise recording is
used in one split only (`where`, shares of its length); test noise called unseen is never trained on.
"""

import math
from dataclasses import dataclass, field, replace

from data_prep import mix
from data_prep.corpus import PrepError, rank

FIRST_2_MINUTES = (0.0, 117 / 235.2)  # UNetGAN: "first/last 2 minutes" of 235.2 s would share 5 s; cut at 117 s (ours)
VALID_PIECE = (117 / 235.2, 146 / 235.2)  # ours: validation noise is not test noise either
LAST_PIECE = (146 / 235.2, 1.0)
FIRST_HALF, NEXT_TENTH, REST = (0.0, 0.5), (0.5, 0.6), (0.6, 1.0)  # ours, for papers that name no times
WHOLE = (0.0, 1.0)
FEWEST_SPEAKERS = 2  # ours: of a validation set, because one voice may be unlike all others


@dataclass(frozen=True)
class Noise:
    """One noise of a recipe: where the paper took it from, its free stand-in, and what replaces both offline.

    `real` and `stand_in` are (corpus, item); the pseudo-corpus "made" is `ganse_tf.noises.make(item)`, and "speech" is
    made from recordings (ssn: spectrum of the training speech; babble6: six voices of LibriSpeech dev-clean).
    """

    name: str
    stand_in: tuple
    offline: str
    real: tuple | None = None


@dataclass(frozen=True)
class Split:
    """One split of a recipe.

    `pool` maps a corpus to the parts that speakers are taken from; `utterances` is how many (None = all that are there);
    `every` makes each utterance x noise x SNR, otherwise each utterance gets one draw (SNRs weighted by `weights`).
    `speakers` and `per_speaker` fix who speaks how often; `same_speakers_as` names a split with the same voices.
    """

    name: str
    pool: dict
    utterances: int | None
    noises: tuple = ()
    snrs: tuple = ()
    where: tuple = WHOLE
    every: bool = True
    weights: tuple = ()
    clean: bool = False
    speakers: int | None = None
    per_speaker: int | None = None
    same_speakers_as: str = ""

    def mixtures_of(self, utterances):
        """Number of manifest rows for this many utterances."""
        noisy = (len(self.noises) * len(self.snrs) if self.every else 1) if self.noises else 0
        return utterances * (noisy + self.clean)


@dataclass(frozen=True)
class Protocol:
    """A recipe. `kind`: "mix" (speech + noise), "pairs" (the corpus is already noisy) or "smooth" (post-filter)."""

    name: str
    paper: str
    kind: str
    real: str
    stand_ins: tuple = ()
    noises: tuple = ()
    splits: tuple = ()
    validation: str = ""
    gender: str = ""
    min_samples: int = 0
    reverberant: bool = False
    seconds_of_made_noise: int = 240
    notes: tuple = field(default=())

    def noise(self, name):
        return next(noise for noise in self.noises if noise.name == name)

    def counts(self):
        """Split -> number of manifest rows where the recipe fixes it."""
        return {s.name: s.mixtures_of(s.utterances) for s in self.splits if s.utterances is not None}


def _noisex(name, item, stand_in, offline):
    return Noise(name, ("demand", stand_in), offline, ("noisex92", item))


def _demand(name, offline):
    return Noise(name, ("demand", name), offline)


TIMIT_TRAIN = {"timit": ("train",), "librispeech": ("dev-clean",), "toy": ("train",)}
TIMIT_VALID = {"timit": ("train",), "librispeech": ("dev-clean",), "toy": ("valid",)}
TIMIT_CORE = {"timit": ("core",), "librispeech": ("test-clean",), "toy": ("test",)}
TIMIT_TEST = {"timit": ("core", "test"), "librispeech": ("test-clean",), "toy": ("test",)}

UNETGAN_SNRS = (0, -3, -5, -7, -10, -12, -15, -17, -20)
UNETGAN_SEEN = ("babble", "factory1", "destroyerengine", "destroyerops")
UNETGAN = Protocol(
    name="unetgan",
    paper="Hao et al., UNetGAN: a robust speech enhancement approach in time domain, Interspeech 2019",
    kind="mix",
    real="timit",
    stand_ins=("librispeech", "toy"),
    noises=(
        _noisex("babble", "babble", "PRESTO", "babble"),
        _noisex("factory1", "factory1", "DWASHING", "engine"),
        _noisex("destroyerengine", "destroyerengine", "TMETRO", "wind"),
        _noisex("destroyerops", "destroyerops", "OOFFICE", "pink"),
        _noisex("factory2", "factory2", "STRAFFIC", "clicks"),
    ),
    splits=(
        Split("train", TIMIT_TRAIN, 600, UNETGAN_SEEN, (0, -5, -10, -15), FIRST_2_MINUTES),
        Split("valid", TIMIT_VALID, 50, (*UNETGAN_SEEN, "factory2"), UNETGAN_SNRS, VALID_PIECE),
        Split("test", TIMIT_TEST, 100, (*UNETGAN_SEEN, "factory2"), UNETGAN_SNRS, LAST_PIECE),
    ),
    min_samples=16384,
    notes=(
        "factory2 is unseen: it occurs in validation and test only.",
        "The paper's first and last 2 minutes of a 235 s recording share 5 s; here training ends at 117 s, validation uses "
        "117-146 s and test the rest, so that no stretch is used twice (ours).",
        "Utterances shorter than 16384 samples are left out, as in the authors' data builder.",
    ),
)

DNN_GAN_SEEN = ("babble", "factory", "ssn", "oproom", "engine")
DNN_GAN_UNSEEN = ("factory2", "buccaneer1")
DNN_GAN = Protocol(
    name="dnn_gan",
    paper="Pandey and Wang, On adversarial training and loss functions for speech enhancement, ICASSP 2018",
    kind="mix",
    real="timit",
    stand_ins=("librispeech", "toy"),
    noises=(
        _noisex("babble", "babble", "PRESTO", "babble"),
        _noisex("factory", "factory1", "DWASHING", "engine"),
        Noise("ssn", ("speech", "ssn"), "speech_shaped", ("speech", "ssn")),
        _noisex("oproom", "destroyerops", "OOFFICE", "pink"),
        _noisex("engine", "destroyerengine", "TMETRO", "wind"),
        _noisex("factory2", "factory2", "STRAFFIC", "clicks"),
        _noisex("buccaneer1", "buccaneer1", "TBUS", "white"),
    ),
    splits=(
        Split("train", TIMIT_TRAIN, 2000, DNN_GAN_SEEN, (-5, 0), FIRST_HALF),
        Split("valid", TIMIT_VALID, 50, DNN_GAN_SEEN, (-5, 0), NEXT_TENTH),
        Split(
            "test", TIMIT_CORE, 192, (*DNN_GAN_SEEN, *DNN_GAN_UNSEEN), (-5, 0, 5), REST, speakers=24, per_speaker=8
        ),
    ),
    notes=(
        "5 dB and the noises factory2 and buccaneer1 are unseen in training.",
        "ssn has the long-term spectrum of the training speech.",
        "The paper has no validation set and no noise times: 50 utterances of other training speakers, and halves of the "
        "recordings, are ours.",
    ),
)

METRICGAN_TRAIN = ("DKITCHEN", "DWASHING", "NRIVER", "OHALLWAY", "OMEETING", "PSTATION", "TCAR", "TMETRO", "pink", "wind")
METRICGAN_TEST = ("engine", "white", "street", "babycry")
METRICGAN = Protocol(
    name="metricgan",
    paper="Fu et al., MetricGAN, ICML 2019 (TIMIT experiment; with voicebank_demand: the VoiceBank+DEMAND one)",
    kind="mix",
    real="timit",
    stand_ins=("librispeech", "toy"),
    noises=(
        *(_demand(name, kind) for name, kind in zip(METRICGAN_TRAIN[:8], 4 * ("pink", "wind"))),
        Noise("pink", ("made", "pink"), "pink"),
        Noise("wind", ("made", "wind"), "wind"),
        _demand("PRESTO", "babble"),
        Noise("engine", ("made", "engine"), "engine"),
        Noise("white", ("made", "white"), "white", ("made", "white")),
        Noise("street", ("demand", "STRAFFIC"), "speech_shaped"),
        Noise("babycry", ("made", "clicks"), "clicks"),
    ),
    splits=(
        Split("train", TIMIT_TRAIN, 300, METRICGAN_TRAIN, (-8, -4, 0, 4, 8)),
        Split("valid", TIMIT_VALID, 100, ("PRESTO",), (-10, -5, 0, 5, 10)),
        Split("test", TIMIT_TEST, 100, METRICGAN_TEST, (-12, -6, 0, 6, 12)),
    ),
    notes=(
        "The paper takes ten noises from G. Hu's 100 non-speech sounds and does not say which: these ten are ours. Give "
        "files of the same names with --source noises=DIR to use others.",
        "The paper's validation SNRs run from -10 to 10 dB; steps of 5 dB are ours.",
        "No corpus used here has a crying baby: clicks, also short and loud, stand in.",
    ),
)

SFORKGAN_SEEN = ("babble", "factory1", "white", "destroyerengine", "pink")
SFORKGAN_UNSEEN = ("factory2", "destroyerops")
SFORKGAN = Protocol(
    name="sforkgan",
    paper="Lin et al., Speech enhancement using forked GANs with spectral subtraction, Interspeech 2019",
    kind="mix",
    real="timit",
    stand_ins=("librispeech", "toy"),
    noises=(
        _noisex("babble", "babble", "PRESTO", "babble"),
        _noisex("factory1", "factory1", "DWASHING", "engine"),
        Noise("white", ("made", "white"), "white", ("noisex92", "white")),
        _noisex("destroyerengine", "destroyerengine", "TMETRO", "wind"),
        Noise("pink", ("made", "pink"), "pink", ("noisex92", "pink")),
        _noisex("factory2", "factory2", "STRAFFIC", "clicks"),
        _noisex("destroyerops", "destroyerops", "OOFFICE", "speech_shaped"),
    ),
    splits=(
        Split("train", TIMIT_TRAIN, 2000, SFORKGAN_SEEN, (-5, 0, 5, 10, 15), FIRST_HALF, every=False),
        Split("valid", TIMIT_VALID, 100, SFORKGAN_SEEN, (-5, 0, 5, 10, 15), NEXT_TENTH, every=False),
        Split(
            "test", TIMIT_CORE, 192, (*SFORKGAN_SEEN, *SFORKGAN_UNSEEN), (-5, 0, 5, 10, 15), REST, speakers=24,
            per_speaker=8,
        ),
    ),
    notes=("The paper says TIMIT and a wide range of noises, no more: noises, SNRs and counts are ours.",),
)  # fmt: skip

RSR_TRAIN = {"rsr2015": ("enhancer",), "librispeech": ("train-clean-100",), "toy": ("train",)}
RSR_ENROL = {"rsr2015": ("enrol",), "librispeech": ("train-clean-100",), "toy": ("test",)}
RSR_TEST = {"rsr2015": ("test",), "librispeech": ("train-clean-100",), "toy": ("test",)}
RSR_UBM = {"rsr2015": (), "librispeech": ("train-clean-100",), "toy": ("valid",)}
CGAN_NOISES = ("babble", "white", "cantine", "market", "airplane")
CGAN = Protocol(
    name="cgan",
    paper="Michelsanti and Tan, Conditional GANs for speech enhancement and speaker verification, Interspeech 2017",
    kind="mix",
    real="rsr2015",
    stand_ins=("librispeech", "toy"),
    noises=(
        Noise("babble", ("speech", "babble6"), "babble", ("speech", "babble6")),
        Noise("white", ("made", "white"), "white", ("made", "white")),
        Noise("cantine", ("demand", "PCAFETER"), "speech_shaped"),
        Noise("market", ("demand", "SPSQUARE"), "pink"),
        Noise("airplane", ("made", "engine"), "engine"),
    ),
    splits=(
        Split("train", RSR_TRAIN, 4350, CGAN_NOISES, (10, 20), FIRST_HALF, speakers=50, per_speaker=87),
        Split("enrol", RSR_ENROL, 147, clean=True, speakers=49, per_speaker=3),
        Split(
            "test", RSR_TEST, 294, CGAN_NOISES, (0, 5, 10, 15, 20), REST, clean=True, speakers=49, per_speaker=6,
            same_speakers_as="enrol",
        ),
    ),
    gender="m",
    notes=(
        "Men only. Training at 10 and 20 dB only; test at 0 to 20 dB and clean, as in the paper.",
        "train: 50 men x 29 phrases x 3 sessions; enrol: 49 other men x 3; test: the same 49 men x 6.",
        "cantine, market and airplane are recordings that were never published: stand-ins on either corpus.",
        "The paper trains its universal background model on the 4380 utterances of TIMIT's men: python -m data_prep timit, "
        "rows with gender m. On LibriSpeech there are no pass-phrases: the trials are text-independent.",
    ),
)  # fmt: skip

FSEGAN_SNRS = tuple(range(31))
FSEGAN_MEAN_DB = 11.0


def weights_with_mean(values, mean):
    """Probabilities p_k proportional to exp(-t k) on `values`, with t such that their mean is `mean` (bisection).

    Example:
        >>> p = weights_with_mean((0, 1, 2), 1.0)
        >>> [round(x, 3) for x in p]
        [0.333, 0.333, 0.333]
    """
    low, high = -1.0, 1.0
    for _ in range(200):
        t = (low + high) / 2
        p = [math.exp(-t * v) for v in values]
        if sum(v * w for v, w in zip(values, p)) / sum(p) > mean:
            low = t
        else:
            high = t
    return tuple(w / sum(p) for w in p)


FSEGAN = Protocol(
    name="fsegan",
    paper="Donahue, Li, Prabhavalkar, Exploring speech enhancement with GANs for robust speech recognition, ICASSP 2018",
    kind="mix",
    real="wsj",
    stand_ins=("librispeech", "toy"),
    noises=(Noise("music", ("musan", "music"), "engine"), Noise("ambient", ("musan", "noise"), "babble")),
    splits=(
        Split(
            "train", {"wsj": ("si284",), "librispeech": ("train-clean-100",), "toy": ("train",)}, None,
            ("music", "ambient"), FSEGAN_SNRS, (0.0, 0.8), every=False,
            weights=weights_with_mean(FSEGAN_SNRS, FSEGAN_MEAN_DB),
        ),
        Split(
            "valid", {"wsj": ("dev93",), "librispeech": ("dev-clean",), "toy": ("valid",)}, None,
            ("music", "ambient"), FSEGAN_SNRS, (0.8, 0.9), every=False,
            weights=weights_with_mean(FSEGAN_SNRS, FSEGAN_MEAN_DB),
        ),
        Split(
            "test", {"wsj": ("eval92",), "librispeech": ("test-clean",), "toy": ("test",)}, None,
            ("music", "ambient"), tuple(round(v + 0.2, 1) for v in FSEGAN_SNRS), (0.9, 1.0), every=False,
            weights=weights_with_mean(FSEGAN_SNRS, FSEGAN_MEAN_DB),
        ),
    ),
    reverberant=True,
    notes=(
        "The paper's noise and room simulator are private; only the shape of the task is reproduced: SNRs of 0-30 dB with "
        "mean 11 dB (test: 0.2-30.2 dB), a room drawn for every utterance, dry clean target.",
        "The SNR distribution (exponential tilt), the rooms (data_prep/rooms.py), one microphone instead of two, and "
        "MUSAN as music and ambient noise are ours. The SNR is that of the reverberant speech.",
    ),
)  # fmt: skip

AFM_NOISES = ("bus", "caf", "ped", "str")
AFM = Protocol(
    name="afm",
    paper="Meng et al., Adversarial feature-mapping for speech enhancement, Interspeech 2018",
    kind="mix",
    real="chime3",
    stand_ins=("librispeech", "toy"),
    noises=(
        Noise("bus", ("demand", "TBUS"), "engine"),
        Noise("caf", ("demand", "PCAFETER"), "babble"),
        Noise("ped", ("demand", "SPSQUARE"), "speech_shaped"),
        Noise("str", ("demand", "STRAFFIC"), "wind"),
    ),
    splits=(
        Split(
            "train", {"librispeech": ("train-clean-100",), "toy": ("train",)}, 8738, AFM_NOISES, (0, 5, 10), FIRST_HALF,
            every=False,
        ),
        Split(
            "valid", {"librispeech": ("dev-clean",), "toy": ("valid",)}, 300, AFM_NOISES, (0, 5, 10), NEXT_TENTH,
            every=False,
        ),
        Split("test", {"librispeech": ("test-clean",), "toy": ("test",)}, 300, AFM_NOISES, (0, 5, 10), REST),
    ),
    notes=(
        "On CHiME-3 nothing is mixed: 8738 training pairs (1600 real, 7138 simulated), test on the development set, "
        "microphone 5 (AFM: real, SA-AFM: simulated).",
        "On the stand-in 8738 training mixtures are made with DEMAND recordings of the same four places; SNRs, validation "
        "and test counts are ours.",
    ),
)  # fmt: skip


def _voicebank(name, paper, validation, *notes):
    return Protocol(name, paper, "pairs", "voicebank_demand", validation=validation, notes=notes)


PROTOCOLS = {
    "segan": _voicebank(
        "segan", "Pascual, Bonafonte, Serra, SEGAN, Interspeech 2017", "none",
        "All 28 speakers train, as in the paper, which has no validation set: stop after its 86 epochs. To choose a "
        "checkpoint, prepare the corpus without --protocol (p226 and p287 are then held out).",
    ),
    "cgan": CGAN,
    "postfilter": Protocol(
        "postfilter", "Kaneko et al., GAN-based postfilter for STFT spectrograms, Interspeech 2017", "smooth",
        "blizzard2011", ("ljspeech", "toy"),
        notes=(
            "Nothing is mixed: noisy is an over-smoothed version of the natural speech (ganse_tf/oversmooth.py), which "
            "stands in for the paper's text-to-speech system on either corpus. The paper's counts are not known.",
        ),
    ),
    "fsegan": FSEGAN,
    "dnn_gan": DNN_GAN,
    "afm": AFM,
    "metricgan": METRICGAN,
    "sforkgan": SFORKGAN,
    "cpgan": _voicebank(
        "cpgan", "CP-GAN: context pyramid GAN for speech enhancement, ICASSP 2020", "speakers",
        "The paper's validation is not known: p226 and p287 (ours, as SpeechBrain).",
    ),
    "mmsegan": _voicebank(
        "mmsegan", "Soni, Shah, Patil, Time-frequency masking-based speech enhancement using GAN, ICASSP 2018", "random",
        "11 000 random training utterances and 572 for validation, as in the paper (speakers overlap; the draw is ours).",
    ),
    "unetgan": UNETGAN,
}  # fmt: skip
METRICGAN_VOICEBANK = _voicebank(
    "metricgan", "Fu et al., MetricGAN, ICML 2019 (VoiceBank+DEMAND experiment)", "speakers",
    "The paper's validation is not known: p226 and p287 (ours, as SpeechBrain).",
)  # fmt: skip
CHIME3_PAIRS = replace(AFM, kind="pairs", noises=(), splits=())
VALIDATION_UTTERANCES = 572  # MMSE-GAN


def choose(name, corpus):
    """The recipe for this corpus; raises `PrepError` when the paper's task cannot be made from it."""
    if name not in PROTOCOLS:
        raise PrepError(f"There is no protocol {name!r}. Choose from: {', '.join(PROTOCOLS)}.")
    if name == "metricgan" and corpus == "voicebank_demand":
        return METRICGAN_VOICEBANK
    if name == "afm" and corpus == "chime3":
        return CHIME3_PAIRS
    protocol = PROTOCOLS[name]
    if corpus not in (protocol.real, *protocol.stand_ins):
        free = f"; free stand-ins: {', '.join(protocol.stand_ins)}" if protocol.stand_ins else ", which is free"
        raise PrepError(f"--protocol {name} is made from {protocol.real}{free}. {corpus} cannot stand in for it.")
    return protocol


def relabel(protocol, recordings, seed):
    """Splits of a corpus that is already noisy, by the recipe's rule for validation."""
    if protocol.validation == "none":
        return [replace(r, split="train") if r.split == "valid" else r for r in recordings]
    if protocol.validation == "random":
        pool = sorted((r for r in recordings if r.split != "test"), key=lambda r: rank(seed, protocol.name, r.name))
        share = min(VALIDATION_UTTERANCES, len(pool) // 2)
        valid = {r.name for r in pool[:share]}
        return [r if r.split == "test" else replace(r, split="valid" if r.name in valid else "train") for r in recordings]
    return list(recordings)


def select(protocol, recordings, corpus, *, seed=0, limit=None, n_samples=None):
    """Choose the utterances of every split.

    Args:
        protocol: a "mix" recipe.
        recordings: all recordings of the corpus.
        corpus: its name.
        seed: of the draw.
        limit: at most this many utterances per split (for classrooms), or None for the recipe's own number.
        n_samples: callable recording -> length in samples; needed when the recipe drops short utterances.

    Returns:
        dict split name -> list of `Recording`; speakers are disjoint (enrol and test of cgan share theirs on purpose).

    Raises:
        PrepError: not enough speakers or utterances.
    """
    usable = [r for r in recordings if not (corpus == "timit" and r.name.split("_")[-1].startswith("sa"))]
    if protocol.gender and any(r.gender for r in usable):
        usable = [r for r in usable if r.gender == protocol.gender]
    owners, chosen = _speakers(protocol, usable, corpus, seed, limit), {}
    for split in protocol.splits:
        wanted = split.utterances if limit is None else min(limit, split.utterances or limit)
        taken = {r.name for rows in chosen.values() for r in rows}
        pool = [
            r for r in usable if r.part in split.pool[corpus] and r.speaker in owners[split.name] and r.name not in taken
        ]
        pool.sort(key=lambda r: rank(seed, protocol.name, split.name, r.name))
        if split.per_speaker:
            pool = _evenly(pool, split.per_speaker if corpus != "toy" else len(pool))
        if protocol.min_samples and n_samples:
            pool = _long_enough(pool, wanted, protocol.min_samples, n_samples)
        if wanted is not None and len(pool) < wanted:
            raise PrepError(
                f"--protocol {protocol.name} needs {wanted} utterances for {split.name}, {corpus} has {len(pool)} in "
                f"{', '.join(split.pool[corpus])}. Use --limit {len(pool)} or less for a small version."
            )
        rows = pool if wanted is None else pool[:wanted]
        chosen[split.name] = sorted((replace(r, split=split.name) for r in rows), key=lambda r: r.name)
    return chosen


def _long_enough(pool, wanted, least, n_samples):
    """The first `wanted` recordings that are long enough; stops measuring when there are enough."""
    found = []
    for recording in pool:
        if wanted is not None and len(found) == wanted:
            break
        if n_samples(recording) >= least:
            found.append(recording)
    return found


def _evenly(pool, per_speaker):
    """The first `per_speaker` recordings of every speaker, dealt speaker by speaker."""
    by_speaker = {}
    for recording in pool:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    rounds = [[rows[i] for rows in by_speaker.values() if i < len(rows)] for i in range(per_speaker)]
    return [recording for one_round in rounds for recording in one_round]


def _speakers(protocol, usable, corpus, seed, limit):
    """Split name -> set of speakers. Splits that draw from the same parts share the speakers out, small splits first."""
    owners, pools = {}, {}
    for split in protocol.splits:
        if split.same_speakers_as:
            continue
        pools.setdefault(frozenset(split.pool[corpus]), []).append(split)
    for parts, splits in pools.items():
        counts = {}
        for recording in usable:
            if recording.part in parts:
                counts[recording.speaker] = counts.get(recording.speaker, 0) + 1
        order = sorted(counts, key=lambda speaker: rank(seed, protocol.name, speaker))
        if len(splits) == 1:
            owners[splits[0].name] = _count(order, splits[0], counts, protocol, corpus, limit)
            continue
        total = sum(split.utterances for split in splits)
        for split in sorted(splits, key=lambda s: -s.per_speaker if s.per_speaker else s.utterances):
            if split.speakers and corpus != "toy":
                mine = _count(order, split, counts, protocol, corpus, limit)
            elif split is splits[0]:
                mine = order  # the training set takes whoever is left
            else:
                mine = order[: max(FEWEST_SPEAKERS, math.ceil(len(counts) * split.utterances / total))]
                needed = split.utterances if limit is None else min(limit, split.utterances)
                while sum(counts[s] for s in mine) < needed and len(mine) < len(order) - 1:
                    mine = order[: len(mine) + 1]
            owners[split.name] = set(mine)
            order = [speaker for speaker in order if speaker not in owners[split.name]]
    for split in protocol.splits:
        if split.same_speakers_as:
            owners[split.name] = owners[split.same_speakers_as]
    return owners


def _count(order, split, counts, protocol, corpus, limit):
    """`split.speakers` speakers who have enough utterances, or all of them when the recipe gives no number."""
    if not split.speakers or corpus == "toy":
        return set(order)
    least = split.per_speaker + sum(s.per_speaker for s in protocol.splits if s.same_speakers_as == split.name)
    able = [speaker for speaker in order if counts[speaker] >= (least if corpus == "librispeech" else split.per_speaker)]
    if len(able) < split.speakers and limit is None:
        raise PrepError(
            f"--protocol {protocol.name} needs {split.speakers} speakers with {least} utterances for {split.name}; {corpus} "
            f"has {len(able)}. Use --limit for a small version."
        )
    return set((able or order)[: split.speakers])


def plan(protocol, chosen, stretches, *, seed=0):
    """Pair every chosen utterance with its noises and SNRs.

    Args:
        protocol: a "mix" recipe.
        chosen: what `select` returned.
        stretches: callable (split, noise name) -> list of `mix.Stretch`; more than one is a pool to draw from.
        seed: of the draws.

    Returns:
        list of `mix.Mix` jobs.
    """
    jobs = []
    for split in protocol.splits:
        usable = {noise: stretches(split, noise) for noise in split.noises}
        for recording in chosen[split.name]:
            conditions = [(noise, snr) for noise in split.noises for snr in split.snrs]
            if not split.every and conditions:
                conditions = [_draw(split, recording, seed)]
            mixtures = [mix.Mixture(f"{recording.name}_clean")] if split.clean else []
            for noise, snr in conditions:
                name = f"{recording.name}_{noise}_{snr:g}dB"
                pool = usable[noise]
                stretch = pool[rank(seed, "stretch", name) % len(pool)] if len(pool) > 1 else pool[0]
                mixtures.append(mix.Mixture(name, stretch, float(snr)))
            jobs.append(mix.Mix(recording, tuple(mixtures), seed, protocol.reverberant))
    return jobs


def _draw(split, recording, seed):
    """One (noise, SNR) for an utterance, the same on every machine."""
    noise = split.noises[rank(seed, "noise", recording.name) % len(split.noises)]
    weights = split.weights or tuple(1 / len(split.snrs) for _ in split.snrs)
    left = rank(seed, "snr", recording.name) / 2**64
    for snr, weight in zip(split.snrs, weights):
        left -= weight
        if left < 0:
            return noise, snr
    return noise, split.snrs[-1]
