"""Numbers that the papers print, with the table they stand in; compared in README.md with ours, never mixed with them.

None: the paper does not say, or was not available to us. A paper's "D off" is the same generator trained without a
discriminator, where the authors tried that.
"""

from dataclasses import dataclass, field

VOICEBANK = "VoiceBank+DEMAND, 824 files"
VOICEBANK_NOISY = dict(pesq_wb=1.97, csig=3.35, cbak=2.44, covl=2.63, ssnr=1.68)  # SEGAN, Table 1


@dataclass
class Reported:
    """One line of a paper: what was measured, for the noisy input and for its own systems."""

    model: str  # class name
    who: str  # the system, in the paper's words
    source: str
    scores: dict = field(default_factory=dict)  # metric -> value


# Papers that tested on VoiceBank+DEMAND. PESQ is wide-band (P.862.2), composites after Hu and Loizou.
ON_VOICEBANK = [
    Reported("SEGAN", "SEGAN", "SEGAN paper, Table 1", dict(pesq_wb=2.16, csig=3.48, cbak=2.94, covl=2.80, ssnr=7.73)),
    Reported("MetricGAN", "same G by regression (BLSTM, MSE)", "MetricGAN+ paper",
             dict(pesq_wb=2.71, csig=3.94, cbak=3.28, covl=3.32)),
    Reported("MetricGAN", "MetricGAN (P)", "MetricGAN paper, VoiceBank-DEMAND table",
             dict(pesq_wb=2.86, csig=3.99, cbak=3.18, covl=3.42)),
    Reported("MetricGAN", "MetricGAN+", "MetricGAN+ paper", dict(pesq_wb=3.15, csig=4.14, cbak=3.16, covl=3.64)),
    Reported("MMSEGAN", "same G by regression (DNN)", "MMSE-GAN paper, Table 1",
             dict(pesq_wb=2.49, csig=3.73, cbak=3.09, covl=3.09, stoi=0.93)),
    Reported("MMSEGAN", "v-GAN (D alone)", "MMSE-GAN paper, Table 1",
             dict(pesq_wb=1.41, csig=2.48, cbak=2.64, covl=1.91, stoi=0.79)),
    Reported("MMSEGAN", "MMSE-GAN", "MMSE-GAN paper, Table 1",
             dict(pesq_wb=2.53, csig=3.80, cbak=3.12, covl=3.14, stoi=0.93)),
]  # fmt: skip

# All others: (class, measure and test set, unprocessed, D off, D on, source).
ELSEWHERE = [
    ("CGAN", "PESQ-WB / STOI, one model for all noises, mean over five noises and 0 to 20 dB (RSR2015)", "2.00 / 0.72",
     None, "2.24 / 0.72", "cGAN paper, Table 1, rows a and f, means averaged here"),
    ("GANPostfilter", "no numbers known to us: the paper's tables were not available", None, None, None, None),
    ("FSEGAN", "WER %, recogniser trained on clean speech (WSJ, noise and rooms)", "72.2", None, "33.3",
     "FSEGAN paper, Table 1"),
    ("FSEGAN", "WER %, multi-condition recogniser, as trained", "20.3", "21.4", "25.4", "FSEGAN paper, Tables 1 and 2"),
    ("FSEGAN", "WER %, multi-condition recogniser, retrained on noisy and enhanced features", "20.3", "17.1", "17.6",
     "FSEGAN paper, Table 2"),
    ("DNNGAN", "STOI % / PESQ (mode not stated), unseen noise factory2 at 0 dB (TIMIT)", "76.05 / 1.95", "84.59 / 2.63",
     "85.05 / 2.61", "DNN-GAN paper, Table 2, with z"),
    ("DNNGAN", "STOI % / PESQ (mode not stated), unseen noise buccaneer1 at 0 dB (TIMIT)", "63.48 / 1.49", "71.59 / 1.71",
     "72.45 / 1.72", "DNN-GAN paper, Table 2, with z"),
    ("AFM", "WER %, recogniser trained on clean speech (CHiME-3, real development set)", "29.44", "25.81", "24.45",
     "AFM paper, real development set"),
    ("AFM", "WER %, with senones (CHiME-3, simulated development set)", "19.28", "18.51", "17.38",
     "AFM paper, simulated development set"),
    ("SForkGAN", "no numbers known to us: the paper was not available", None, None, None, None),
    ("CPGAN", "no numbers known to us: the paper is closed access", None, None, None, None),
    ("UNetGAN", "STOI / PESQ-NB (raw P.862), mean over five noises and 0 to -20 dB (TIMIT, NOISEX-92)", "0.576 / 1.317",
     None, "0.802 / 2.140", "UNetGAN paper, Table 2"),
]  # fmt: skip
