"""Score the systems that are not made for the ear on their own task: `python -m results.tasks [--pairs FOLDER --label vbd]`.

FSEGAN and AFM map features for a recogniser: their error against the features of clean speech, before and after. The
post-filter sharpens over-smoothed speech: how much of the variance of natural speech is there, and how far the spectrum is
from it, before and after. The scores go to the cards of the presets; `results.make` prints them under "Other tasks". The test
sets are those of `results.score`.
"""

import argparse

import numpy as np

from ganse_tf import data, metrics, oversmooth, presets
from ganse_tf.downstream import senone
from ganse_tf.models import fsegan
from results import score


def mapping(model, loaded):
    """FSEGAN: mean |difference| of natural log-mel energies; AFM: mean square of normalised log filterbank energies."""
    before, after = [], []
    for _, noisy, clean, _ in loaded:
        if isinstance(model, fsegan.FSEGAN):
            noisy, clean = (fsegan.log_mel(wav).numpy() for wav in (noisy, clean))
            made, error = model.enhance_features(noisy), np.abs
        else:
            made = model.normalise(model.map_features(noisy)).numpy()
            noisy, clean = (model.normalise(senone.lfb(wav, model.sample_rate)).numpy() for wav in (noisy, clean))
            error = np.square
        before.append(error(noisy - clean).mean())
        after.append(error(made - clean).mean())
    name = "log-mel L1" if isinstance(model, fsegan.FSEGAN) else "mean square error of normalised log energies"
    return {"noisy": {name: before}, "mapped": {name: after}}


def sharpening(model, loaded):
    """Variance ratio (1 is natural) and log-spectral distance in dB of log amplitudes."""
    found = {"over-smoothed": {}, "sharpened": {}}
    for pair in oversmooth.pairs(data.Utterance(name, clean, rate) for name, _, clean, rate in loaded):
        smooth, natural, _ = pair.load()
        smooth, natural = model.log_amplitude(smooth), model.log_amplitude(natural).numpy()
        for kind, made in (("over-smoothed", smooth.numpy()), ("sharpened", model.enhance_log_amplitude(smooth).numpy())):
            ratio = np.mean(oversmooth.variance_ratio(natural, made))
            distance = np.mean(metrics.log_spectral_distance(np.exp(natural), np.exp(made)))
            for name, value in (("variance ratio", ratio), ("LSD (dB)", distance)):
                found[kind].setdefault(name, []).append(value)
    return found


def means(values):
    return {name: round(float(np.mean(v)), 4) for name, v in values.items()}


TASKS = {"FSEGAN": mapping, "AFM": mapping, "GANPostfilter": sharpening}  # class -> its own task


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args, label = score.parse(parser, arguments)
    loaded, _ = score.test_set(args.pairs)
    title = score.SETS.get(label, label)
    for name in presets.names():
        if task := TASKS.get(score.facts(name)["class"]):
            found = {kind: means(values) for kind, values in task(presets.from_preset(name), loaded).items()}
            score.write_on_card(name, f"own task, {title}", found)
            print(f"{name}, {title}: {found}", flush=True)


if __name__ == "__main__":
    main()
