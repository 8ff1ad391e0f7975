"""ganse_tf: eleven GAN speech-enhancement papers as Keras 3 models you can read, run and compare.

    import ganse_tf
    model = ganse_tf.from_preset("metricgan")
    enhanced = model.enhance(noisy, sample_rate=44100)

Importing the package downloads nothing, prints nothing and does not load TensorFlow: every name below is imported
when it is first used.
"""

import importlib

from ganse_tf.version import __version__

_MODELS = {
    "SEGAN": "segan", "CGAN": "cgan", "GANPostfilter": "postfilter", "FSEGAN": "fsegan", "DNNGAN": "dnn_gan",
    "AFM": "afm", "MetricGAN": "metricgan", "SForkGAN": "sforkgan", "CPGAN": "cpgan", "MMSEGAN": "mmsegan",
    "UNetGAN": "unetgan",
}  # fmt: skip
_MODULES = (
    "audio", "base", "callbacks", "classroom", "data", "downstream", "layers", "losses", "metrics", "models", "noises",
    "optimizers", "oversmooth", "presets", "signal", "viz",
)  # fmt: skip
_FUNCTIONS = {"from_preset": "presets", "check_setup": "setup_check"}

__all__ = ["__version__", *_MODELS, *_MODULES, *_FUNCTIONS]


def __getattr__(name):
    if name in _MODELS:
        return getattr(importlib.import_module(f"ganse_tf.models.{_MODELS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ganse_tf.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"ganse_tf.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"ganse_tf has no {name!r}. It has: {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
