"""Does enhancement help a machine that recognises voices? python -m benchmarks.learn.cgan_verification

The experiment of the cGAN paper (tests 2 and 3) at class-room size: a GMM-UBM, speaker models adapted to clean speech (or to
clean and noisy speech: --multi-condition), test speech in noise. Equal error rates for no enhancement, STSA-MMSE and
cGAN, trained on the background speakers, whom nobody claims to be.

Real speech: --folder with one sub-folder per speaker, --background with other speakers (LibriSpeech layout).
"""

import argparse
from pathlib import Path

import keras

from benchmarks.learn import common
from benchmarks.learn.cgan import KINDS, TRAIN_SNRS_DB, train
from ganse_tf import data, noises
from ganse_tf.downstream import classical
from ganse_tf.downstream import speaker_verification as verification
from ganse_tf.models.cgan import CGAN, concatenate

NOISE_SECONDS = 60  # first half for enrolment, second half for the tests


def trained(protocol, steps, seed, rounds=2):
    """A CGAN.tiny() trained on the background speakers in noise; and the CPU minutes it took."""
    keras.utils.set_random_seed(seed)
    model = CGAN.tiny(seed=seed)
    speech = [wav for wavs in protocol.background.values() for wav in wavs]
    mixer = data.Mixer(speech, KINDS, snr_choices=TRAIN_SNRS_DB, length=rounds * len(speech), seed=seed)
    batches = data.examples(concatenate(mixer), model, batch_size=1, seed=seed)
    return model, train(model, batches, steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="real speakers, one sub-folder each; default: the toy corpus")
    parser.add_argument("--background", help="folder of other speakers, for the UBM and for training cGAN")
    parser.add_argument("--enrol", type=int, default=3, help="enrolment files per real speaker")
    parser.add_argument("--noises", nargs="+", default=["white", "babble"], choices=noises.KINDS)
    parser.add_argument("--multi-condition", action="store_true", help="test 3 of the paper instead of test 2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.folder:
        protocol = verification.folder_protocol(args.folder, args.background, n_enrol=args.enrol)
    else:
        protocol = verification.toy_protocol()
    model, minutes = trained(protocol, args.steps, args.seed)
    front_ends = {"none": None, "STSA-MMSE": classical.stsa_mmse, "cGAN": model.enhance}
    parts = []
    for kind in args.noises:
        n = NOISE_SECONDS * protocol.sample_rate
        noise = noises.make(kind, n, protocol.sample_rate, seed=args.seed + 1)
        found = verification.verify(protocol, front_ends, noise, multi_condition=args.multi_condition, seed=args.seed)
        trials = f"{found[0]['n_target']} true and {found[0]['n_impostor']} false claims per cell"
        parts += [f"{kind} noise, {trials}; EER in %, lower is better:", verification.table(found)]
    models = "clean and noisy (10, 20 dB)" if args.multi_condition else "clean"
    where = f"`{Path(args.folder).name}`" if args.folder else "the toy corpus"
    head = (
        f"{len(protocol.test)} speakers of {where}, {len(protocol.background)} others for the UBM (64 Gaussians) and for "
        f"CGAN.tiny() ({args.steps} steps, Adam(0.001 falling to 0)). Speaker models from {models} speech, treated like the "
        "test speech."
    )
    name = "cgan_verification" + ("_real" if args.folder else "") + ("_multi" if args.multi_condition else "")
    command = "python -m benchmarks.learn.cgan_verification" + (" --multi-condition" if args.multi_condition else "")
    command += " --folder SPEAKERS --background OTHERS" if args.folder else ""
    common.report(name, "Speaker verification in noise", [head, *parts], args.seed, minutes, command)


if __name__ == "__main__":
    main()
