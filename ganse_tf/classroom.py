"""Self-checks for exercises: `check("a1.l1", my_l1)` says in plain words what is right and what is not yet.

    from ganse_tf.classroom import check
    check("a1.l1", my_l1)          # the function itself, without parentheses
    check("a2.stft", my_stft, my_istft)

The answers are plain functions with fixed arguments; `describe("a1.l1")` says which. These tests are public: they help
to learn and do not grade. A grader calls `check(..., strict=True)`, which raises instead of printing.

To add an exercise, write a function that gets the student's function (an `Answer`, called like the function itself),
raises `Wrong` with one sentence when something is off, and is given to `add`:

    def test_double(double):
        number("double(2)", double(2), 4, mistakes={2: "that is the number itself"})

    classroom.add("nb07.double", test_double, "double(x) -> two times x")
"""

import difflib
import inspect
import math
from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-4  # relative and absolute; float32 in any order of summation stays below
SHOWN = 6  # numbers of an array that a message prints in full


class Wrong(AssertionError):
    """A student's answer is not right yet; the message says what was seen and what to look at."""

    def _render_traceback_(self):  # notebooks show this instead of the frames of the checking code
        return [f"Not yet: {self}"]


@dataclass(frozen=True)
class Exercise:
    """One check: `test(*answers)` raises `Wrong`; `usage` is what the student has to write."""

    test: object
    usage: str

    @property
    def arguments(self):
        return list(inspect.signature(self.test).parameters)


def check(exercise, *answers, strict=False):
    """Test the function(s) a student wrote for an exercise and print the verdict.

    Args:
        exercise: id such as "a1.l1"; `exercises()` lists them.
        *answers: the function or functions, in the order `describe` gives.
        strict: raise `Wrong` when the answer is not right (for graders and automatic tests).

    Returns:
        bool, True when every test passed.

    Raises:
        ValueError: an unknown id or the wrong number of functions.
        Wrong: with `strict`, when the answer is not right.

    Example:
        >>> from ganse_tf import losses
        >>> check("a1.l1", losses.l1)
        a1.l1: passed.
        True
    """
    found = _find(exercise)
    if len(answers) != len(found.arguments):
        call = ", ".join([f'"{exercise}"', *found.arguments])
        raise ValueError(f"{exercise} tests {len(found.arguments)} function(s), not {len(answers)}: check({call}).")
    try:
        found.test(*(Answer(answer, name) for answer, name in zip(answers, found.arguments)))
    except Wrong as reason:
        if strict:
            raise
        print(f"{exercise}: not yet. {reason}")
        return False
    print(f"{exercise}: passed.")
    return True


def exercises():
    """All ids, sorted."""
    return sorted(EXERCISES)


def describe(exercise):
    """What the student has to write, e.g. "l1(target, estimate) -> mean absolute error, one number"."""
    return _find(exercise).usage


def add(exercise, test, usage):
    """Add an exercise (see the top of this module).

    Args:
        exercise: new id, "unit.name".
        test: function of one argument per function the student writes; the argument's name appears in messages.
        usage: one line: the functions with their arguments and what they return.
    """
    if exercise in EXERCISES and EXERCISES[exercise].usage != usage:
        raise ValueError(f"There is an exercise {exercise!r} already: {EXERCISES[exercise].usage}. Choose another id.")
    EXERCISES[exercise] = Exercise(test, usage)


def _find(exercise):
    if exercise not in EXERCISES:
        close = difflib.get_close_matches(str(exercise), EXERCISES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no exercise {exercise!r}.{hint} Exercises: {', '.join(exercises())}.")
    return EXERCISES[exercise]


# ---- tools for tests -------------------------------------------------------------------------------------------------


class Answer:
    """A student's function; whatever goes wrong inside becomes `Wrong` with the arguments in the message."""

    def __init__(self, function, name):
        if not callable(function):
            raise Wrong(f"{name} is {_show(function)}; pass the function itself, without parentheses.")
        self.function, self.name = function, name

    def __call__(self, *args):
        call = f"{self.name}({', '.join(_show(arg) for arg in args)})"
        try:
            result = self.function(*args)
        except NotImplementedError:
            raise Wrong(f"{self.name} is not written yet: replace raise NotImplementedError() with your code.") from None
        except Exception as error:
            raise Wrong(f"{call} stopped with {type(error).__name__}: {error}") from error
        if result is None:
            raise Wrong(f"{call} returned None. Is a `return` missing?")
        return result


def _show(value):
    """A short text of an argument: numbers in full, large arrays as dtype and shape, objects as their type."""
    if isinstance(value, (int, float, str)):
        return repr(value)
    try:
        array = np.asarray(value)
    except Exception:
        return type(value).__name__
    if array.dtype.kind not in "fiub":
        return type(value).__name__
    if array.size <= SHOWN:
        return str(array.round(4).tolist())
    return f"{array.dtype}{list(array.shape)}"


def array(what, got, shape=None):
    """`got` as a float64 array, or `Wrong` if it is none, has another shape or holds NaN."""
    try:
        values = np.asarray(got, np.float64)
    except (TypeError, ValueError) as error:
        raise Wrong(f"{what} is a {type(got).__name__}; expected numbers.") from error
    if shape is not None and values.shape != tuple(shape):
        raise Wrong(f"{what} has shape {values.shape}; expected {tuple(shape)}.")
    if not np.isfinite(values).all():
        raise Wrong(f"{what} holds NaN or infinity; look for log(0), a division by 0 or an exp that is too large.")
    return values


def number(what, got, want, mistakes=(), tolerance=TOLERANCE):
    """Compare one number; `mistakes` maps well-known wrong results to the hint that helps."""
    value = float(array(what, got, shape=()))
    if math.isclose(value, want, rel_tol=tolerance, abs_tol=tolerance):
        return
    hints = [hint for wrong, hint in dict(mistakes).items() if math.isclose(value, wrong, rel_tol=tolerance)]
    raise Wrong(f"{what} is {value:.6g}; expected {want:.6g}.{f' Hint: {hints[0]}.' if hints else ''}")


def near(what, got, want, hint="", tolerance=TOLERANCE):
    """Compare arrays; the message names the worst place."""
    want = np.asarray(want, np.float64)
    values = array(what, got, shape=want.shape)
    worst = np.unravel_index(np.abs(values - want).argmax(), want.shape)
    if abs(values[worst] - want[worst]) > tolerance * max(1.0, float(np.abs(want).max())):
        place = ", ".join(str(int(i)) for i in worst)
        hint = f" Hint: {hint}." if hint else ""
        raise Wrong(f"{what} differs: at index [{place}] it is {values[worst]:.6g}; expected {want[worst]:.6g}.{hint}")


def gradient(what, function, x):
    """d function(x) / d x as float64; `Wrong` if no gradient comes through."""
    import tensorflow as tf

    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    if not tf.is_tensor(y) or (slope := tape.gradient(y, x)) is None:
        raise Wrong(f"no gradient comes through {what}. Use tf. functions from input to output, not NumPy or .numpy().")
    return np.asarray(slope, np.float64)


def _tensor(values):
    import tensorflow as tf

    return tf.constant(values, tf.float32)


def _rng(seed=0):
    return np.random.default_rng(seed)


# ---- a1: losses ------------------------------------------------------------------------------------------------------

TARGET, ESTIMATE = [1.0, 2.0, 3.0], [1.0, 4.0, 0.0]  # differences 0, -2, 3


def _test_l1(l1):
    what = f"l1({TARGET}, {ESTIMATE})"
    number(what, l1(_tensor(TARGET), _tensor(ESTIMATE)), 5 / 3, {
        5.0: "that is the sum; divide by the number of values (tf.reduce_mean)",
        1 / 3: "the signs cancelled; take the absolute value before the mean",
        -1 / 3: "the signs cancelled; take the absolute value before the mean",
        13 / 3: "that is the mean square, the L2 loss",
    })  # fmt: skip
    number("l1 of two equal signals", l1(_tensor(TARGET), _tensor(TARGET)), 0.0)
    number("l1 of a batch (2, 2)", l1(_tensor([[0.0, 0.0], [0.0, 0.0]]), _tensor([[4.0, 0.0], [0.0, 0.0]])), 1.0,
           {4.0: "sum over one axis only? take one mean over everything", 2.0: "take one mean over all axes"})  # fmt: skip
    slope = gradient("l1", lambda x: l1(_tensor(TARGET), x), [2.0, 1.0, 5.0])
    near("the gradient of l1 (estimate above, below, above the target)", slope, [1 / 3, -1 / 3, 1 / 3])


def _test_l2(l2):
    what = f"l2({TARGET}, {ESTIMATE})"
    number(what, l2(_tensor(TARGET), _tensor(ESTIMATE)), 13 / 3, {
        13.0: "that is the sum; divide by the number of values (tf.reduce_mean)",
        13 / 6: "leave out the factor 1/2",
        math.sqrt(13 / 3): "leave out the square root",
        5 / 3: "that is the mean absolute error, the L1 loss",
    })  # fmt: skip
    number("l2 of two equal signals", l2(_tensor(TARGET), _tensor(TARGET)), 0.0)
    slope = gradient("l2", lambda x: l2(_tensor(TARGET), x), [2.0, 1.0, 5.0])
    near("the gradient of l2", slope, [2 / 3, -2 / 3, 4 / 3])


def _test_least_squares(least_squares):
    number("least_squares([[1], [0]], 1)", least_squares(_tensor([[1.0], [0.0]]), 1.0), 0.5, {
        1.0: "that is the sum; take the mean over the batch",
        0.25: "leave out the factor 1/2: SEGAN's equations put it in front of the loss",
    })  # fmt: skip
    sigmoid = (1 / (1 + math.exp(-3.0)) - 1) ** 2
    number("least_squares([[3]], 1)", least_squares(_tensor([[3.0]]), 1.0), 4.0, {
        sigmoid: "no sigmoid here: the scores of a least-squares D are unbounded",
        0.0: "do not clip: a score above its label costs as much as one below",
        2.0: "square the difference, or leave out the factor 1/2",
    })  # fmt: skip
    number("least_squares([[-1]], 0)", least_squares(_tensor([[-1.0]]), 0.0), 1.0, {-1.0: "square the difference"})
    slope = gradient("least_squares", lambda x: least_squares(x, 1.0), [[0.0]])
    near("the gradient of least_squares at score 0, label 1 (the score has to grow)", slope, [[-2.0]])


def _test_cross_entropy(cross_entropy):
    number("cross_entropy([[0]], 1)", cross_entropy(_tensor([[0.0]]), 1.0), math.log(2), {
        -math.log(2): "the sign is missing: a loss is minus the log-probability",
        1.0: "use the natural logarithm, not log2",
    })  # fmt: skip
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    number("cross_entropy([[2]], 1)", cross_entropy(_tensor([[2.0]]), 1.0), right, {
        wrong: "label 1 means that the logit should be large: -log sigmoid(logit)",
        -math.log(2): "apply the sigmoid first: D gives logits, not probabilities",
    })  # fmt: skip
    number("cross_entropy([[2]], 0)", cross_entropy(_tensor([[2.0]]), 0.0), wrong, {
        right: "label 0 is -log(1 - sigmoid(logit)); does your function use the label?",
    })  # fmt: skip
    number("cross_entropy([[0], [2]], 1)", cross_entropy(_tensor([[0.0], [2.0]]), 1.0), (math.log(2) + right) / 2, {
        math.log(2) + right: "that is the sum; take the mean over the batch",
    })  # fmt: skip
    loud = array("cross_entropy([[-200]], 1), where the sigmoid is 0 in float32,", cross_entropy(_tensor([[-200.0]]), 1.0))
    number("cross_entropy([[-200]], 1), where the sigmoid is 0 in float32,", loud, 200.0)


# ---- a2: sound -------------------------------------------------------------------------------------------------------


def _test_stft(stft, istft):
    wav = _rng(1).uniform(-0.5, 0.5, 4001).astype(np.float32)
    for n_fft, hop in ((512, 128), (512, 256), (400, 100)):
        spec = np.asarray(stft(wav, n_fft, hop))
        where = f"stft of {len(wav)} samples with n_fft {n_fft} and hop {hop}"
        if spec.dtype.kind != "c" or spec.ndim != 2 or spec.shape[1] != n_fft // 2 + 1:
            raise Wrong(f"{where} is {spec.dtype}{list(spec.shape)}; expected complex (frames, {n_fft // 2 + 1}): time first.")
        back = array(f"istft(stft(wav)) with n_fft {n_fft} and hop {hop}", istft(spec, n_fft, hop, len(wav)), wav.shape)
        error = np.abs(back - wav)
        if error.max() > TOLERANCE:
            middle = error[n_fft:-n_fft].max()
            hint = "divide by the sum of the squared windows" if middle > TOLERANCE else (
                "only the edges are wrong: pad n_fft // 2 samples on both sides, and the end up to a whole hop")  # fmt: skip
            raise Wrong(f"istft(stft(wav)) with n_fft {n_fft} and hop {hop} is off by up to {error.max():.3g} at sample "
                        f"{int(error.argmax())}; expected less than {TOLERANCE}. Hint: {hint}.")  # fmt: skip
    bin_ = 32
    tone = np.sin(2 * np.pi * bin_ / 512 * np.arange(4096)).astype(np.float32)
    loudest = int(np.abs(np.asarray(stft(tone, 512, 128))).mean(0).argmax())
    if loudest != bin_:
        raise Wrong(f"a tone at 32/512 of the sample rate is loudest in bin {loudest} of 512-point frames; expected {bin_}.")


def _test_mix(mix):
    rng = _rng(2)
    clean = (0.1 * rng.standard_normal(8000)).astype(np.float32)
    noise = (0.3 * rng.uniform(-1, 1, 8000)).astype(np.float32)
    for snr_db in (0.0, 10.0, -5.0):
        kept = clean.copy(), noise.copy()
        noisy = array(f"mix(clean, noise, {snr_db:g})", mix(clean, noise, snr_db), clean.shape)
        if not (np.array_equal(clean, kept[0]) and np.array_equal(noise, kept[1])):
            raise Wrong("mix changed its inputs in place. Make a new array: scaled = gain * noise, not noise *= gain.")
        added = noisy - clean.astype(np.float64)
        if not added.any() or abs(np.corrcoef(added, noise)[0, 1]) < 0.999:
            raise Wrong("mix(clean, noise, snr_db) - clean is not a scaled copy of the noise. Scale the noise, leave clean.")
        got = 10 * math.log10(np.sum(clean.astype(np.float64) ** 2) / np.sum(added**2))
        if abs(got - snr_db) > 0.01:
            hints = {-snr_db: "the fraction is upside down", 2 * snr_db: "amplitudes need 10 ** (snr_db / 20)",
                     snr_db / 2: "powers need 10 ** (snr_db / 10), amplitudes 10 ** (snr_db / 20)"}  # fmt: skip
            hint = next((f" Hint: {h}." for wrong, h in hints.items() if snr_db and abs(got - wrong) < 0.01), "")
            raise Wrong(f"mix(clean, noise, {snr_db:g}) has an SNR of {got:.2f} dB; expected {snr_db:.2f} dB.{hint}")


def _test_preemphasis(preemphasis):
    near("preemphasis([1, 1, 1], 0.95)", preemphasis(np.ones(3, np.float32), 0.95), [1.0, 0.05, 0.05],
         "y[0] = x[0] and y[n] = x[n] - coef * x[n - 1]")  # fmt: skip
    near("preemphasis([0, 1, 0, 0], 0.5)", preemphasis(np.array([0, 1, 0, 0], np.float32), 0.5), [0.0, 1.0, -0.5, 0.0],
         "use the sample before, x[n - 1], of the input (not of the output)")  # fmt: skip


def _test_irm(irm):
    clean, noise = np.array([[3.0, 1.0]], np.float32), np.array([[4.0, 1.0]], np.float32)
    mask = array("irm([[3, 1]], [[4, 1]])", irm(clean, noise), clean.shape)
    hints = {9 / 25: "take the square root (beta = 0.5)", 3 / 7: "square the magnitudes first: the ratio is one of powers",
             0.75: "divide by the sum of both powers, not by the noise"}  # fmt: skip
    hint = next((h for wrong, h in hints.items() if math.isclose(mask[0, 0], wrong, rel_tol=TOLERANCE)), "")
    near("irm([[3, 1]], [[4, 1]])", mask, [[0.6, math.sqrt(0.5)]], hint)
    silence = np.zeros((1, 2), np.float32)
    mask = array("irm of silence (0 / 0)", irm(silence, silence), silence.shape)
    if mask.min() < 0 or mask.max() > 1:
        raise Wrong(f"irm of silence is {mask.max():g}; expected a value between 0 and 1. Add a tiny number below the line.")


# ---- a3: the steps of a GAN ------------------------------------------------------------------------------------------


def _test_d_step(d_step):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    length, half = 8, 0.5  # noisy and clean speech are equal here, and G says 0.5: only G's output can be told from clean
    noisy = tf.constant(_rng(3).standard_normal((32, length)), tf.float32)
    said = keras.layers.Dense(length, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(half))
    generator = keras.Sequential([keras.Input([length]), said], name="generator")
    sides = [keras.Input([length], name=name) for name in ("candidate", "noisy")]
    hidden = keras.layers.Dense(16, "tanh")(keras.layers.Concatenate()(sides))
    discriminator = keras.Model(sides, keras.layers.Dense(1)(hidden), name="discriminator")
    optimizer = keras.optimizers.Adam(0.01)
    before = [[np.array(w) for w in net.trainable_variables] for net in (generator, discriminator)]

    def moved(net, old):
        return any(not np.array_equal(a, np.array(b)) for a, b in zip(old, net.trainable_variables))

    for step in range(60):
        array("the loss d_step returns", d_step(generator, discriminator, optimizer, noisy, noisy), ())
        if moved(generator, before[0]):
            raise Wrong("d_step moved the generator. Ask the tape for discriminator.trainable_variables only.")
        if step == 0 and not moved(discriminator, before[1]):
            raise Wrong("d_step left the discriminator as it was. Apply the gradients: optimizer.apply_gradients(zip(...)).")
    real, fake = (float(tf.reduce_mean(discriminator([x, noisy]))) for x in (noisy, generator(noisy)))
    if real - fake < 0.2:
        raise Wrong(f"after 60 steps D gives clean speech {real:.2f} and enhanced speech {fake:.2f}; clean should be far "
                    "above. Check the labels (clean 1, enhanced 0) and that D sees generator(noisy).")  # fmt: skip


def _test_gradient_reversal(gradient_reversal):
    x = _tensor([1.0, -2.0, 3.0])
    near("gradient_reversal([1, -2, 3], 0.5) forward", gradient_reversal(x, 0.5), [1.0, -2.0, 3.0],
         "forward, the layer hands its input through unchanged")  # fmt: skip
    for scale in (1.0, 0.5):
        slope = gradient("gradient_reversal", lambda v, s=scale: gradient_reversal(v, s) ** 2, [1.0, -2.0, 3.0])
        near(f"the gradient of gradient_reversal(x, {scale:g}) ** 2 at [1, -2, 3]", slope, [-2 * scale, 4 * scale, -6 * scale],
             "backward, multiply by minus the scale (tf.custom_gradient)")  # fmt: skip


# ---- a4: MetricGAN ---------------------------------------------------------------------------------------------------


def _test_pesq_to_unit(pesq_to_unit):
    number("pesq_to_unit(2.0)", pesq_to_unit(2.0), 0.5, {
        0.4: "add 0.5 first: the scale of PESQ begins at -0.5",
        2 / 4.5: "the scale runs from -0.5 to 4.5: add 0.5, then divide by 5",
        2.5: "divide by the length of the scale, 5",
    })  # fmt: skip
    number("pesq_to_unit(-0.5)", pesq_to_unit(-0.5), 0.0)
    number("pesq_to_unit(4.644), the wide-band score of a perfect copy,", pesq_to_unit(4.644), 1.0, {
        5.144 / 5: "clip to [0, 1]: D's label for clean speech is 1",
    })  # fmt: skip


# ---- nb02: metrics ---------------------------------------------------------------------------------------------------


def _test_mean_of_valid(mean_of_valid):
    mean, failures = _two("mean_of_valid([2, nan, 4])", mean_of_valid([2.0, math.nan, 4.0]))
    number("the mean of [2, nan, 4]", mean, 3.0, {2.0: "a failure is not a 0: divide by the number of valid scores"})
    number("the failures of [2, nan, 4]", failures, 1)
    mean, failures = _two("mean_of_valid([0, 0, 1])", mean_of_valid([0.0, 0.0, 1.0]))
    number("the mean of [0, 0, 1]", mean, 1 / 3, {1.0: "0 is a valid score; leave out only what is not a number"})
    number("the failures of [0, 0, 1]", failures, 0)


def _two(what, got):
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong(f"{what} should return two numbers: (mean, failures).")
    return got


def _test_si_sdr(si_sdr):
    clean, error = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    what = "si_sdr(s, s + 0.1 e), e at a right angle to s and as strong,"
    number(what, si_sdr(clean, clean + 0.1 * error), 20.0, {
        10.0: "the sums of squares are powers: 10 log10, and square the error", 40.0: "powers need 10 log10, not 20",
        -20.0: "the fraction is upside down",
    }, tolerance=1e-3)  # fmt: skip
    number("si_sdr of the same at three times the level", si_sdr(clean, 3 * (clean + 0.1 * error)), 20.0, {
        10 * math.log10(4 / np.sum((3 * (clean + 0.1 * error) - clean) ** 2)): "scale the clean signal by <y, s> / <s, s>",
        10 * math.log10(9 * 4 / np.sum((3 * (clean + 0.1 * error) - clean) ** 2)): "the error is y - a s, not y - s",
    }, tolerance=1e-3)  # fmt: skip
    number("si_sdr where the estimate has a constant offset of 5", si_sdr(clean, clean + 0.1 * error + 5), 20.0,
           {10 * math.log10(4 / (0.04 + 100)): "subtract the mean of both signals first"}, tolerance=1e-3)  # fmt: skip


def _test_delay(delay):
    wav = _rng(5).standard_normal(2000).astype(np.float32)
    for samples in (0, 1, 37, -20):
        late = np.roll(np.pad(wav, 100), samples)
        got = float(array(f"delay of a copy that comes {samples} samples later", delay(np.pad(wav, 100), late), ()))
        if got != samples:
            hint = " Hint: the sign is wrong; a later copy has a positive delay." if got == -samples else ""
            raise Wrong(f"delay of a copy that comes {samples} samples later is {got:g}.{hint}")
    got = float(delay(np.pad(wav, 100), -0.1 * np.roll(np.pad(wav, 100), 12)))
    if got != 12:
        raise Wrong(f"delay of a quiet copy with its sign turned, 12 samples later, is {got:g}. Hint: take the absolute "
                    "value of the cross-correlation before the argmax.")  # fmt: skip


# ---- nb05: cGAN ------------------------------------------------------------------------------------------------------


def _test_to_network(to_network):
    got = array("to_network([0, 1, 2, 3], 2)", to_network(np.array([0.0, 1.0, 2.0, 3.0], np.float32), 2.0), (4,))
    hint = "silence is -1 and the reference 1: 2 mag / ref - 1"
    if math.isclose(got[3], 2.0, rel_tol=TOLERANCE):
        hint = "clean speech may be louder than the noisy reference: clip to [-1, 1]"
    near("to_network([0, 1, 2, 3], 2)", got, [-1.0, 0.0, 1.0, 1.0], hint)


def _test_eer(eer):
    cases = ([2, 3, 4], [0, 1, 2.5], 1 / 3), ([1, 2], [-1, 0], 0.0), ([2, 3, 4, 5], [0, 1, 2.5, 4.5], 0.25)
    for targets, impostors, want in cases:
        what = f"eer({targets}, {impostors})"
        hints = {1 - want: "a high score should speak for the claimed speaker"} if want else {
            1.0: "a high score should speak for the claimed speaker"}  # fmt: skip
        number(what, eer(np.array(targets, float), np.array(impostors, float)), want, hints)
    many = eer(np.array([1.0, 2.0]), np.array([0.0] * 98 + [3.0, 3.0]))
    number("eer of 2 true and 100 false claims", many, 0.01, {
        0.02: "at the best threshold 2 of 100 false claims pass and no true one is refused: the EER is the mean of both shares",
    })  # fmt: skip


# ---- nb06: the postfilter --------------------------------------------------------------------------------------------


def _test_join_weights(join_weights):
    both = join_weights(4)
    if not isinstance(both, (tuple, list)) or len(both) != 2:
        raise Wrong("join_weights(4) should return two arrays: (falling, rising).")
    falling, rising = (array(f"{what}, join_weights(4)[{i}],", both[i], (4,)) for i, what in enumerate(("falling", "rising")))
    total = falling + rising
    if np.ptp(total) > TOLERANCE:
        raise Wrong(f"falling + rising is {total.round(4).tolist()}; expected 1 in every bin. Hint: use the periodic Hamming "
                    "window of 8 samples, cos(2 pi n / 8); np.hamming divides by 7.")  # fmt: skip
    number("falling + rising", total[0], 1.0, {1.08: "the halves add up to 1.08; divide both by that"})
    near("rising, join_weights(4)[1],", rising, (0.54 - 0.46 * np.cos(np.pi * np.arange(4) / 4)) / 1.08,
         "rising is the first half of the window, falling the second")  # fmt: skip


def _test_variance_ratio(variance_ratio):
    natural = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], np.float32)
    made = natural * [0.5, 2.0] + 7
    got = array("variance_ratio of 3 frames and 2 bins", variance_ratio(natural, made), (2,))
    hints = {4.0: "natural speech stands below the line", 0.5: "variance, not standard deviation"}
    hint = next((h for wrong, h in hints.items() if math.isclose(got[0], wrong, rel_tol=TOLERANCE)), "")
    near("variance_ratio where `made` has half and twice the deviation", got, [0.25, 4.0],
         hint or "variance over the frames (axis 0), bin by bin")  # fmt: skip


# ---- nb07: FSEGAN ----------------------------------------------------------------------------------------------------


def _test_mel_gain(mel_gain):
    log_noisy, log_enhanced = (np.array(x, np.float32) for x in ([0.0, -1.0, 2.0], [-math.log(2), 0.0, 2.0]))
    got = array("mel_gain([0, -1, 2], [-ln 2, 0, 2])", mel_gain(log_noisy, log_enhanced), (3,))
    hint = "undo the natural logarithm: exp(log_enhanced - log_noisy)"
    if math.isclose(got[1], math.e, rel_tol=TOLERANCE):
        hint = "a gain above 1 would amplify noise: stop at 1"
    near("mel_gain([0, -1, 2], [-ln 2, 0, 2])", got, [0.5, 1.0, 1.0], hint)


def _test_word_error_rate(word_error_rate):
    number('word_error_rate("one two three", "one three")', word_error_rate("one two three", "one three"), 1 / 3, {
        1.0: "divide by the number of words that were said", 2 / 3: "after a deletion the rest moves up: use the edit distance",
        2.0: "after a deletion the rest moves up: use the edit distance", 0.5: "divide by the words said, not by those heard",
    })  # fmt: skip
    for said, heard, want in (("one two", "one two", 0.0), ("one two", "", 1.0), ("one", "two one three", 2.0),
                              ("one two three four", "two three five four", 0.5)):  # fmt: skip
        number(f'word_error_rate("{said}", "{heard}")', word_error_rate(said, heard), want)


# ---- nb08: DNN-GAN ---------------------------------------------------------------------------------------------------


def _test_scaled_smm(scaled_smm):
    clean, noisy = np.array([1.0, 2.0, 30.0, 0.0], np.float32), np.array([2.0, 1.0, 1.0, 4.0], np.float32)
    got = array("scaled_smm([1, 2, 30, 0], [2, 1, 1, 4])", scaled_smm(clean, noisy), (4,))
    hint = "0 becomes -1 and 10 becomes 1: mask / 5 - 1" if got[3] >= 0 else "clip the mask at 10 before you scale it"
    near("scaled_smm([1, 2, 30, 0], [2, 1, 1, 4])", got, [-0.9, -0.6, 1.0, -1.0], hint)


def _test_average_windows(average_windows):
    ones = array("average_windows of 4 windows of ones", average_windows(np.ones((4, 5, 2), np.float32)), (8, 2))
    hint = "an inner frame lies in 5 windows, those at the ends in 1, 2, 3, 4: divide by their number"
    near("average_windows of 4 windows of ones", ones, np.ones((8, 2)), hint)
    windows = _rng(4).standard_normal((6, 5, 3)).astype(np.float32)
    want = [np.mean([windows[i, t - i] for i in range(6) if 0 <= t - i < 5], axis=0) for t in range(10)]
    near("average_windows of 6 windows of random numbers", average_windows(windows), want,
         "window i holds the frames i to i + 4")  # fmt: skip


# ---- nb09: AFM -------------------------------------------------------------------------------------------------------


def _test_relative_reduction(relative_reduction):
    number("relative_reduction(29.44, 24.45)", relative_reduction(29.44, 24.45), 16.9497, {
        4.99: "those are percentage points; divide by the error before",
        0.169497: "give it in percent",
        20.4090: "divide by the error before, not after",
        -16.9497: "fewer errors are a positive reduction",
    })  # fmt: skip
    number("relative_reduction(10, 12)", relative_reduction(10.0, 12.0), -20.0)


def _test_masked_error(masked_error):
    clean, mapped = np.zeros((1, 3, 4), np.float32), np.zeros((1, 3, 4), np.float32)
    mapped[0, 0, :3] = 1, 2, 3
    mapped[0, 2] = 100  # padding
    got = masked_error(_tensor(clean), _tensor(mapped), _tensor([[1.0, 1.0, 0.0]]))
    number("masked_error for frames that are wrong by (1, 2, 3, 0), by nothing, and by 100 in the padding", got, 7.0, {
        1.75: "sum over bands instead of the mean",
        14.0: "divide by the number of valid frames",
        14 / 3: "divide by the number of valid frames, not of all",
        40014 / 3: "frames under a mask of 0 must not count",
        40014 / 12: "frames under a mask of 0 must not count, and bands are summed",
        20007.0: "frames under a mask of 0 must not count",
    })  # fmt: skip


# ---- nb13: MMSE-GAN --------------------------------------------------------------------------------------------------


def _test_mask_loss(mask_loss):
    half = math.log(0.5)
    what = "mask_loss where the mask 0.5 is just right"
    number(what, mask_loss(_tensor([[0.0, 0.0]]), _tensor([[0.0, 1.0]]), _tensor([[half, 1.0 + half]])), 0.0)
    what, logit = "mask_loss where one of two masks is 1/e instead of 1", -math.log(math.e - 1)
    number(what, mask_loss(_tensor([[logit, 50.0]]), _tensor([[0.0, 0.0]]), _tensor([[0.0, 0.0]])), 0.25, {
        0.5: "the factor 1/2 is missing, or the sum stands in place of the mean",
        1.0: "that is the sum of squares; take half of their mean",
    })  # fmt: skip
    what = "mask_loss where the sigmoid is 0 in float32 (logit -200)"
    number(what, array(what, mask_loss(_tensor([[-200.0]]), _tensor([[0.0]]), _tensor([[0.0]])), ()), 20000.0)


def _test_erb_centres(erb_centres):
    got = np.asarray(erb_centres(50.0, 1500.0, 8000.0, 2.05), np.float64)
    if got.shape != (64,):
        raise Wrong(f"erb_centres(50, 1500, 8000, 2.05) has shape {got.shape}; expected (64,). Count 34 steps of 1 / 2.05 ERB "
                    "below 1500 Hz (math.floor) and 29 above.")  # fmt: skip
    for i, want in ((0, 59.77119), (34, 1500.0), (63, 7730.2238)):
        number(f"centre {i} in Hz", got[i], want)


# ---- nb14: UNetGAN ---------------------------------------------------------------------------------------------------


def _test_saturating(saturating):
    number("saturating([[0]])", saturating(_tensor([[0.0]])), -math.log(2), {
        math.log(2): "G minimises log(1 - D) itself, a negative number; do not change its sign",
        0.0: "apply the sigmoid first: D gives logits, not probabilities",
    })  # fmt: skip
    right, other = -math.log1p(math.exp(2.0)), -math.log1p(math.exp(-2.0))
    number("saturating([[2]])", saturating(_tensor([[2.0]])), right, {other: "that is log D; eq. 2 has log(1 - D)"})
    number("saturating([[0], [2]])", saturating(_tensor([[0.0], [2.0]])), (right - math.log(2)) / 2)
    what = "saturating([[200]]), where 1 - sigmoid is 0 in float32,"
    number(what, array(what, saturating(_tensor([[200.0]])), ()), -200.0)
    slope = gradient("saturating", saturating, [[0.0], [-10.0]])
    near("the gradient of saturating at logits 0 and -10", slope, [[-0.25], [-0.5 / (1 + math.exp(10.0))]])


def _test_upsample(upsample):
    got = array("upsample([0, 4, 8, 4])", upsample(np.array([0.0, 4.0, 8.0, 4.0], np.float32)), (8,))
    hint = "half-pixel centres: 3/4 of the nearer sample and 1/4 of the other neighbour; the ends repeat"
    if np.allclose(got, [0, 0, 4, 4, 8, 8, 4, 4]):
        hint = "that is the nearest neighbour (UpSampling1D); interpolate"
    near("upsample([0, 4, 8, 4])", got, [0, 1, 3, 5, 7, 7, 5, 4], hint)


def _test_receptive_field(receptive_field):
    number("receptive_field(1, 3, (), 3)", receptive_field(1, 3, (), 3), 3)
    number("receptive_field(2, 3, (), 3)", receptive_field(2, 3, (), 3), 7, {
        5: "level 2 works at half the rate: one of its steps counts 2 samples",
    })  # fmt: skip
    number("receptive_field(8, 15, (1, 2, 4), 3)", receptive_field(8, 15, (1, 2, 4), 3), 7155, {
        127: "every level works at half the rate of the one before: its steps count 1, 2, 4 ... samples",
        5107: "use the dilations: a kernel of 3 with dilation d reaches 2 d steps",
        3571 + 14 * 128: "the middle works at the rate after all 8 decimations: 256 samples per step",
    })  # fmt: skip


# ---- nb11: S-ForkGAN -------------------------------------------------------------------------------------------------


def _test_log_gain(log_gain):
    v = np.array([0.0, math.log(4.0), -math.log(4.0)], np.float32)
    got = array("log_gain([0, ln 4, -ln 4])", log_gain(v), (3,))
    hints = {0.25: "v is a logarithm of power; a gain multiplies magnitudes: halve the exponent",
             2.0: "the noise is subtracted: the exponent is negative", 4.0: "subtract v, and halve the exponent"}  # fmt: skip
    hint = next((h for wrong, h in hints.items() if math.isclose(got[1], wrong, rel_tol=TOLERANCE)), "")
    near("log_gain([0, ln 4, -ln 4])", got, [1.0, 0.5, 2.0], hint)


def _test_margin_loss(margin_loss):
    number("margin_loss([0.25, 0.75], 1)", margin_loss(_tensor([0.25, 0.75]), 1.0), 0.5, {
        1.0: "that is the sum; take the mean over the batch", -0.5: "margin minus distance, not the reverse",
    })  # fmt: skip
    number("margin_loss([0, 3], 1)", margin_loss(_tensor([0.0, 3.0]), 1.0), 0.5, {
        0.0: "take the maximum with 0 for every utterance before the mean",
        -0.5: "codes that are far enough apart cost nothing: max(0, ...)", 1.5: "max(0, ...), not the absolute value",
    })  # fmt: skip
    slope = gradient("margin_loss", lambda d: margin_loss(d, 1.0), [0.2, 2.0])
    near("the gradient of margin_loss at the distances 0.2 and 2", slope, [-0.5, 0.0])


# ---- nb12: CP-GAN ----------------------------------------------------------------------------------------------------


def _test_worst_segment(worst_segment):
    logits = [[2.0, -1.0, 0.5], [3.0, 4.0, 5.0]]
    got = array("worst_segment of 2 utterances with 3 segments", worst_segment(_tensor(logits)))
    if got.shape != (2,):
        raise Wrong(f"worst_segment of logits (2, 3) has shape {got.shape}; expected (2,): the minimum is over the segments of "
                    "one utterance (axis 1), the batch stays.")  # fmt: skip
    softplus = [math.log1p(math.exp(v)) for v in (1.0, -2.0, -3.0)]
    hints = {softplus[1]: "that is the best segment; take the smallest logit",
             -1.0: "the minimum of the logits is not a loss yet: -log sigmoid(minimum)"}  # fmt: skip
    hint = next((h for wrong, h in hints.items() if math.isclose(got[0], wrong, rel_tol=TOLERANCE)), "")
    near(f"worst_segment({logits})", got, [softplus[0], softplus[2]], hint)
    slope = gradient("worst_segment", lambda x: worst_segment(x), logits)
    if np.count_nonzero(slope) != 2:
        raise Wrong(f"{np.count_nonzero(slope)} of 6 segments get a gradient; expected one of each utterance, its worst.")
    loud = array("worst_segment([[-200, 0]]), where the sigmoid is 0 in float32,", worst_segment(_tensor([[-200.0, 0.0]])))
    near("worst_segment([[-200, 0]])", loud, [200.0], "tf.nn.softplus(-logit) is -log sigmoid(logit) without overflow")


# ---- nb15: comparing systems -----------------------------------------------------------------------------------------


def _test_paired(paired):
    before, after = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.5, 2.0, 4.5])
    mean, better = _two("paired([1, 2, 3, 4], [2, 2.5, 2, 4.5])", paired(before, after))
    number("the mean difference", mean, 0.25, {-0.25: "after minus before", 1.0: "that is the sum"})
    number("the share of files that got better", better, 0.75, {0.25: "that is the share that got worse", 3.0: "divide by 4"})
    mean, better = _two("paired([1, nan], [2, 5])", paired(np.array([1.0, math.nan]), np.array([2.0, 5.0])))
    number("the mean difference of [1, nan] and [2, 5]", mean, 1.0)
    number("the share that got better of [1, nan] and [2, 5]", better, 1.0, {0.5: "leave out files without both scores"})


EXERCISES = {
    "a1.l1": Exercise(_test_l1, "l1(target, estimate) -> mean absolute error over all values, one number"),
    "a1.l2": Exercise(_test_l2, "l2(target, estimate) -> mean squared error over all values, one number"),
    "a1.least_squares": Exercise(
        _test_least_squares, "least_squares(scores, label) -> mean of (score - label) squared, one number"
    ),
    "a1.cross_entropy": Exercise(
        _test_cross_entropy, "cross_entropy(logits, label) -> mean binary cross-entropy of sigmoid(logits), one number"
    ),
    "a2.stft": Exercise(
        _test_stft,
        "stft(wav, n_fft, hop) -> complex (frames, n_fft // 2 + 1); istft(spec, n_fft, hop, length) -> wav (length,)",
    ),
    "a2.mix": Exercise(_test_mix, "mix(clean, noise, snr_db) -> clean + scaled noise at exactly this SNR in dB"),
    "a2.preemphasis": Exercise(_test_preemphasis, "preemphasis(wav, coef) -> y[n] = x[n] - coef x[n - 1], y[0] = x[0]"),
    "a2.irm": Exercise(_test_irm, "irm(clean_mag, noise_mag) -> sqrt(clean^2 / (clean^2 + noise^2)), between 0 and 1"),
    "a3.d_step": Exercise(
        _test_d_step,
        "d_step(generator, discriminator, optimizer, noisy, clean) -> D's loss, after one step of D; D takes "
        "[candidate, noisy]",
    ),
    "a3.gradient_reversal": Exercise(
        _test_gradient_reversal, "gradient_reversal(x, scale) -> x; its gradient is multiplied by -scale"
    ),
    "a4.pesq_to_unit": Exercise(_test_pesq_to_unit, "pesq_to_unit(score) -> (score + 0.5) / 5, clipped to [0, 1]"),
    "nb02.mean_of_valid": Exercise(
        _test_mean_of_valid, "mean_of_valid(scores) -> (mean of the scores that are numbers, how many are NaN)"
    ),
    "nb02.si_sdr": Exercise(_test_si_sdr, "si_sdr(clean, enhanced) -> scale-invariant SDR in dB, means removed, one number"),
    "nb02.delay": Exercise(_test_delay, "delay(clean, late) -> samples by which `late` comes after `clean`, whole number"),
    "nb05.to_network": Exercise(_test_to_network, "to_network(mag, ref) -> 2 mag / ref - 1, clipped to [-1, 1]"),
    "nb05.eer": Exercise(
        _test_eer,
        "eer(targets, impostors) -> mean of both error rates at the threshold where they are closest, a share (0 to 1)",
    ),
    "nb06.join_weights": Exercise(
        _test_join_weights,
        "join_weights(n) -> (falling, rising), arrays (n,): the halves of a periodic Hamming window, scaled so that they "
        "add up to 1",
    ),
    "nb06.variance_ratio": Exercise(
        _test_variance_ratio, "variance_ratio(natural, made) -> variance over frames of made / natural, one number per bin"
    ),
    "nb07.mel_gain": Exercise(
        _test_mel_gain, "mel_gain(log_noisy, log_enhanced) -> gain of every band, at most 1; natural logarithms of magnitudes"
    ),
    "nb07.word_error_rate": Exercise(
        _test_word_error_rate,
        'word_error_rate(said, heard) -> (substitutions + deletions + insertions) / words said; strings such as "one two"',
    ),
    "nb08.scaled_smm": Exercise(
        _test_scaled_smm, "scaled_smm(clean_mag, noisy_mag) -> clean / noisy, clipped at 10, mapped from [0, 10] to [-1, 1]"
    ),
    "nb08.average_windows": Exercise(
        _test_average_windows,
        "average_windows(windows) -> (n + 4, bins): mean of all estimates of a frame; windows is (n, 5, bins)",
    ),
    "nb09.relative_reduction": Exercise(
        _test_relative_reduction, "relative_reduction(before, after) -> by how many percent `after` is below `before`"
    ),
    "nb09.masked_error": Exercise(
        _test_masked_error,
        "masked_error(clean, mapped, mask) -> squared error, summed over bands, mean over frames with mask 1; (B, T, bands)",
    ),
    "nb13.mask_loss": Exercise(
        _test_mask_loss,
        "mask_loss(logits, log_noisy, log_clean) -> half the mean of (log_noisy + log sigmoid(logits) - log_clean) squared",
    ),
    "nb13.erb_centres": Exercise(
        _test_erb_centres, "erb_centres(fmin, fbase, fmax, per_erb) -> centre frequencies in Hz, one exactly at fbase"
    ),
    "nb14.saturating": Exercise(_test_saturating, "saturating(logits) -> mean of log(1 - sigmoid(logits)), one number"),
    "nb14.upsample": Exercise(_test_upsample, "upsample(x) -> x (n,) linearly interpolated to (2 n,), half-pixel centres"),
    "nb14.receptive_field": Exercise(
        _test_receptive_field,
        "receptive_field(levels, kernel, dilations, middle_kernel) -> samples that one step after the middle sees",
    ),
    "nb11.log_gain": Exercise(_test_log_gain, "log_gain(v) -> gain of the magnitude that subtracts v from the log power"),
    "nb11.margin_loss": Exercise(
        _test_margin_loss, "margin_loss(distances, margin) -> mean of max(0, margin - distance), one number"
    ),
    "nb12.worst_segment": Exercise(
        _test_worst_segment, "worst_segment(logits) -> (utterances,) from (utterances, segments): -log of the smallest sigmoid"
    ),
    "nb15.paired": Exercise(
        _test_paired, "paired(before, after) -> (mean of after - before, share of files with after > before), NaN left out"
    ),
}
