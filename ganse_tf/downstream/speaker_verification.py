"""Speaker verification with GMM-UBM: does enhancement help a machine that must recognise the voice? (cGAN paper)

A universal background model (UBM), a Gaussian mixture of the speech of many people, is adapted to each enrolled
speaker. With posteriors p(k | x_t) of the enrolment frames, N_k = sum_t p(k | x_t), E_k = sum_t p(k | x_t) x_t / N_k:

    mu_k(speaker) = a_k E_k + (1 - a_k) mu_k(UBM),   a_k = N_k / (N_k + r)            (only the means move)
    score = mean over frames of ln p(x_t | speaker) - ln p(x_t | UBM)

A trial compares a test utterance with a claimed speaker. The equal error rate (EER) lies at the threshold where the
share of true claims refused equals the share of false claims accepted. Lower is better, 50 % is guessing.

Differs from the paper: 64 Gaussians (paper 512, for 4380 utterances). The paper does not give the relevance factor, the
speech detection and the normalisation: r = 16 as in Reynolds et al., frames within 30 dB of the loudest, cepstral mean
and variance normalisation. Its 57 features are read as 19 MFCC with first and second differences.

References:
    D. Reynolds, T. Quatieri, R. Dunn, "Speaker verification using adapted Gaussian mixture models", Digital Signal
    Processing 10, 2000, sections 3-4.
    D. Michelsanti, Z.-H. Tan, "Conditional generative adversarial networks for speech enhancement and noise-robust
    speaker verification", Interspeech 2017, section 4.
"""

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganse_tf import audio, data, metrics, scoring

N_MFCC = 19  # times three = the paper's 57
FRAME_SECONDS, HOP_SECONDS = 0.025, 0.010
SPEECH_RANGE_DB = 30.0  # frames more than this below the loudest are pauses
EM_STEPS = 10
RELEVANCE = 16.0  # Reynolds et al., section 3.4
TEST_SNRS_DB = (0, 5, 10, 15, 20, None)  # the paper's columns; None is clean


def mfcc(wav, sample_rate):
    """Computes 19 MFCC with differences on the speech frames, normalised to zero mean and unit variance.

    Args:
        wav: float array (n,).
        sample_rate: Hz.

    Returns:
        float32 array (speech frames, 57).

    Raises:
        ganse_tf.audio.AudioError: sound that is not usable, or shorter than 0.1 s.

    Example:
        >>> import numpy as np
        >>> mfcc(np.random.default_rng(0).normal(size=16000).astype("float32"), 16000).shape
        (101, 57)
    """
    import librosa

    wav = audio.validate(wav, sample_rate)
    if wav.ndim != 1 or len(wav) < 0.1 * sample_rate:
        raise audio.AudioError(
            f"Speaker features need mono sound of at least 0.1 s; received shape {wav.shape} at {sample_rate} Hz. "
            "Average the channels, or join short pieces of the same speaker."
        )
    win, hop = round(FRAME_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
    n_fft = 1 << (win - 1).bit_length()
    power = np.abs(librosa.stft(wav, n_fft=n_fft, hop_length=hop, win_length=win, window="hamming")) ** 2
    mel = librosa.feature.melspectrogram(S=power, sr=sample_rate, n_mels=26, fmax=min(sample_rate / 2, 7600.0))
    cepstra = librosa.feature.mfcc(S=librosa.power_to_db(mel, amin=1e-10, top_db=None), n_mfcc=N_MFCC + 1)[1:]
    features = np.concatenate([librosa.feature.delta(cepstra, width=5, order=k) if k else cepstra for k in range(3)])
    level_db = 10 * np.log10(power.sum(axis=0) + 1e-10)
    speech = features.T[level_db > level_db.max() - SPEECH_RANGE_DB]
    return ((speech - speech.mean(axis=0)) / (speech.std(axis=0) + 1e-3)).astype(np.float32)


def map_means(ubm, features, relevance=RELEVANCE):
    """Adapts the means of a mixture to new data by maximum a posteriori estimation.

    Args:
        ubm: fitted ``sklearn.mixture.GaussianMixture``, diagonal covariance.
        features: float array (frames, dims) of the enrolment speech.
        relevance: r in frames, > 0: a component that saw r frames moves half of the way.

    Returns:
        float64 array (components, dims).

    Example:
        >>> from types import SimpleNamespace as Namespace
        >>> ubm = Namespace(means_=np.ones((1, 1)), predict_proba=lambda x: np.ones((len(x), 1)))
        >>> map_means(ubm, np.full((8, 1), 3.0)).round(4)
        array([[1.6667]])

    References:
        Reynolds et al. 2000, equations (11)-(14).
    """
    posteriors = ubm.predict_proba(features)  # (frames, components)
    counts = posteriors.sum(axis=0)[:, None]
    expected = posteriors.T @ features / np.maximum(counts, 1e-10)
    alpha = counts / (counts + relevance)
    return alpha * expected + (1 - alpha) * ubm.means_


class SpeakerVerifier:
    """A UBM and the models of the enrolled speakers.

    Args:
        n_components: Gaussians of the UBM; paper 512, here 64 (a toy has few frames).
        relevance: relevance factor of the adaptation, in frames.
        seed: of the UBM's start (k-means++).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> verifier = SpeakerVerifier(n_components=2).fit([rng.normal(size=(200, 3))])
        >>> verifier.enrol("anna", [rng.normal(loc=1.0, size=(100, 3))])
        >>> verifier.scores(rng.normal(loc=1.0, size=(50, 3)))["anna"] > 0
        True
    """

    def __init__(self, n_components=64, relevance=RELEVANCE, seed=0):
        self.n_components, self.relevance, self.seed = n_components, relevance, seed
        self.ubm, self.speakers = None, {}

    def fit(self, features):
        """Trains the UBM on a list of (frames, dims) arrays with 10 EM steps; returns the verifier itself."""
        mixture = _sklearn().mixture.GaussianMixture(
            self.n_components, covariance_type="diag", max_iter=EM_STEPS, reg_covar=1e-3, init_params="k-means++",
            random_state=self.seed,
        )
        frames = np.concatenate(list(features))
        if len(frames) < 10 * self.n_components:
            raise ValueError(
                f"The UBM has {self.n_components} components but only {len(frames)} frames to learn from; give at "
                f"least 10 per component, or set n_components={max(len(frames) // 10, 1)}."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*did not converge.*")  # ten steps are the recipe
            self.ubm = mixture.fit(frames)
        self.speakers = {}
        return self

    def enrol(self, speaker, features):
        """Adapts a model for `speaker` to a list of (frames, dims) arrays."""
        if self.ubm is None:
            raise ValueError("There is no background model yet; call fit(background_features) before enrol.")
        model = copy.copy(self.ubm)
        model.means_ = map_means(self.ubm, np.concatenate(list(features)), self.relevance)
        self.speakers[speaker] = model

    def scores(self, features):
        """Mean log-likelihood ratio per frame (nats) of every enrolled speaker's claim, as {speaker: float}."""
        if not self.speakers:
            raise ValueError("Nobody is enrolled; call enrol(speaker, features) for everyone who may be claimed.")
        background = self.ubm.score_samples(features)
        return {name: float(np.mean(m.score_samples(features) - background)) for name, m in self.speakers.items()}


@dataclass
class Protocol:
    """Who trains the UBM, who enrols with what, what is tested: {speaker: [waveform, ...]}, and their rate in Hz."""

    background: dict
    enrolment: dict
    test: dict
    sample_rate: int


def toy_protocol(n_enrol=6, n_test=10):
    """Lists for the toy corpus: UBM from its 10 training speakers; the 6 others enrol with `n_enrol` utterances.

    Returns:
        Protocol with n_test test utterances per speaker, none of which is used for enrolment.
    """
    background, others = {}, {}
    for utterance in data.toy_corpus():
        target = background if utterance.split == "train" else others
        target.setdefault(utterance.speaker, []).append(utterance.wav)
    enrolment = {speaker: wavs[::2][:n_enrol] for speaker, wavs in others.items()}  # strings and sentences
    test = {speaker: wavs[1::2][:n_test] for speaker, wavs in others.items()}
    return Protocol(background, enrolment, test, data.toy_corpus("test")[0].sample_rate)


def folder_protocol(folder, background=None, n_enrol=3, sample_rate=16000):
    """Lists for folders with one sub-folder per speaker (LibriSpeech layout; chapters below it are joined).

    Args:
        folder: the first `n_enrol` files of every speaker (by name) enrol, the others test.
        background: folder with other speakers for the UBM. None: the enrolment speech of everybody, which is only right
            for a first try because the UBM then knows the speakers.
        n_enrol: enrolment files per speaker.
        sample_rate: Hz to which everything is resampled.

    Returns:
        Protocol.

    Raises:
        FileNotFoundError: no speaker folder with sound, or one with too few files.
    """
    speakers = _speaker_files(folder)
    short = {name: len(files) for name, files in speakers.items() if len(files) <= n_enrol}
    if short:
        raise FileNotFoundError(
            f"Every speaker needs more than n_enrol={n_enrol} files, so that some are left to test; too few: {short}."
        )
    load = lambda files: [audio.read(f, sample_rate=sample_rate, mono=True)[0] for f in files]  # noqa: E731
    enrolment = {name: load(files[:n_enrol]) for name, files in speakers.items()}
    test = {name: load(files[n_enrol:]) for name, files in speakers.items()}
    if background is None:
        return Protocol(enrolment, enrolment, test, sample_rate)
    others = {name: load(files) for name, files in _speaker_files(background).items() if name not in speakers}
    return Protocol(others, enrolment, test, sample_rate)


def verify(protocol, front_ends, noise, snrs_db=TEST_SNRS_DB, multi_condition=False, n_components=64, seed=0):
    """Runs the verification experiment of the cGAN paper and returns one EER per front end and SNR.

    Every front end treats enrolment and test speech alike, as in the paper; the UBM always comes from untreated clean
    speech. Test noise is taken from the second half of `noise`, enrolment noise from its first half.

    Args:
        protocol: from `toy_protocol` or `folder_protocol`.
        front_ends: {name: enhance(wav, sample_rate) -> wav, or None for no enhancement}.
        noise: float array (n,), at the protocol's sample rate.
        snrs_db: SNR of the test speech in dB; None is clean.
        multi_condition: False: speaker models from clean speech (test 2 of the paper); True: also from noisy speech at
            10 and 20 dB (test 3).
        n_components: Gaussians of the UBM.
        seed: of the UBM and of the noise positions, which are the same for every front end.

    Returns:
        List of dicts with front_end, snr_db, eer (0-1), n_target, n_impostor (numbers of trials).

    Example:
        >>> from ganse_tf import noises
        >>> rows = verify(toy_protocol(), {"none": None}, noises.make("white", 80000), snrs_db=[10])  # doctest: +SKIP

    References:
        Michelsanti and Tan 2017, section 4, tables 2 and 3.
    """
    rate = protocol.sample_rate
    background = [mfcc(wav, rate) for wavs in protocol.background.values() for wav in wavs]
    verifier = SpeakerVerifier(n_components, seed=seed).fit(background)
    rows = []
    for name, enhance in front_ends.items():
        features = lambda wav: mfcc(wav if enhance is None else enhance(wav, rate), rate)  # noqa: E731, B023
        for speaker, wavs in protocol.enrolment.items():
            conditions = [None, 10, 20] if multi_condition else [None]
            noisy = [_noisy(w, noise, s, (0.0, 0.5), seed + i) for i, w in enumerate(wavs) for s in conditions]
            verifier.enrol(speaker, [features(wav) for wav in noisy])
        for snr_db in snrs_db:
            targets, impostors = [], []
            for speaker, wavs in protocol.test.items():
                for i, wav in enumerate(wavs):
                    x = features(_noisy(wav, noise, snr_db, (0.5, 1.0), seed + i))
                    for claimed, score in verifier.scores(x).items():
                        (targets if claimed == speaker else impostors).append(score)
            rows.append(
                {"front_end": name, "snr_db": snr_db, "eer": metrics.eer(targets, impostors),
                 "n_target": len(targets), "n_impostor": len(impostors)}
            )  # fmt: skip
    return rows


def table(rows):
    """Markdown text of the rows of `verify`: one line per front end, EER in % per SNR and the mean."""
    snrs = list(dict.fromkeys(row["snr_db"] for row in rows))
    lines = []
    for name in dict.fromkeys(row["front_end"] for row in rows):
        eers = [100 * row["eer"] for row in rows if row["front_end"] == name]
        lines.append([name, *(f"{e:.2f}" for e in [*eers, np.mean(eers)])])
    return scoring.markdown_table(["EER %", *("clean" if s is None else f"{s} dB" for s in snrs), "mean"], lines)


def _noisy(wav, noise, snr_db, part, seed):
    return wav if snr_db is None else data.mix(wav, noise, snr_db, seed=seed, part=part)[0]


def _speaker_files(folder):
    """{speaker: sorted sound files} of the sub-folders of `folder`."""
    endings = (".flac", ".wav", ".ogg")
    speakers = {}
    for sub in sorted(p for p in Path(folder).glob("*") if p.is_dir()):
        files = sorted(p for p in sub.rglob("*") if p.suffix.lower() in endings)
        if files:
            speakers[sub.name] = files
    if not speakers:
        raise FileNotFoundError(
            f"{str(folder)!r} has no sub-folder with {', '.join(endings)} files; expected one folder per speaker, as "
            "in LibriSpeech (speaker/chapter/*.flac)."
        )
    return speakers


def _sklearn():
    try:
        import sklearn
        import sklearn.mixture
    except ImportError as error:
        raise ImportError(
            "Speaker verification needs scikit-learn, which is not installed: pip install 'ganse_tf[downstream]'."
        ) from error
    return sklearn
