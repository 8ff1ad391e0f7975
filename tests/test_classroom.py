"""Self-checks: right answers pass, every well-known mistake gets the hint that was written for it."""

import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import classroom, losses, metrics, signal
from ganse_tf.classroom import Wrong, check


def mix(clean, noise, snr_db):
    return clean + noise * np.sqrt(np.sum(clean**2) / np.sum(noise**2)) * 10 ** (-snr_db / 20)


def preemphasis(wav, coef):
    return np.append(wav[0], wav[1:] - coef * wav[:-1])


def irm(clean, noise):
    return np.sqrt(clean**2 / (clean**2 + noise**2 + 1e-12))


def margin_loss(distances, margin):
    return tf.reduce_mean(tf.maximum(0.0, margin - distances))


def worst_segment(logits):
    return tf.nn.softplus(-tf.reduce_min(logits, axis=1))


def paired(before, after):
    change = (after - before)[np.isfinite(after - before)]
    return change.mean(), np.mean(change > 0)


def d_step(generator, discriminator, optimizer, noisy, clean):
    with tf.GradientTape() as tape:
        d_real, d_fake = discriminator([clean, noisy]), discriminator([generator(noisy), noisy])
        loss = losses.least_squares(d_real, 1.0) + losses.least_squares(d_fake, 0.0)
    gradients = tape.gradient(loss, discriminator.trainable_variables)
    optimizer.apply_gradients(zip(gradients, discriminator.trainable_variables))
    return loss


def gradient_reversal(x, scale):
    @tf.custom_gradient
    def reverse(v):
        return tf.identity(v), lambda upstream: -scale * upstream

    return reverse(x)


def stft(wav, n_fft, hop):
    return signal.stft(wav, n_fft=n_fft, hop_length=hop)


def istft(spec, n_fft, hop, length):
    return signal.istft(spec, length, n_fft=n_fft, hop_length=hop)


def pesq_to_unit(score):
    return min(max((score + 0.5) / 5, 0.0), 1.0)


def mean_of_valid(scores):
    valid = [score for score in scores if not np.isnan(score)]
    return np.mean(valid), len(scores) - len(valid)


def si_sdr(clean, enhanced):
    clean, enhanced = clean - clean.mean(), enhanced - enhanced.mean()
    target = np.sum(enhanced * clean) / np.sum(clean**2) * clean
    return 10 * np.log10(np.sum(target**2) / np.sum((enhanced - target) ** 2))


def delay(clean, late):
    return np.abs(np.correlate(late, clean, "full")).argmax() - (len(clean) - 1)


def eer(targets, impostors):
    thresholds = np.append(np.union1d(targets, impostors), np.inf)
    rates = np.array([(np.mean(targets < t), np.mean(impostors >= t)) for t in thresholds])
    return rates[np.abs(rates[:, 0] - rates[:, 1]).argmin()].mean()


def first_false_alarms(targets, impostors):
    thresholds = np.append(np.union1d(targets, impostors), np.inf)
    rates = np.array([(np.mean(targets < t), np.mean(impostors >= t)) for t in thresholds])
    return rates[np.abs(rates[:, 0] - rates[:, 1]).argmin()].max()


def join_weights(n):
    window = (0.54 - 0.46 * np.cos(np.pi * np.arange(2 * n) / n)) / 1.08
    return window[n:], window[:n]


def average_windows(windows):
    total, count = np.zeros((len(windows) + 4, windows.shape[2])), np.zeros((len(windows) + 4, 1))
    for i, window in enumerate(windows):
        total[i : i + 5] += window
        count[i : i + 5] += 1
    return total / count


def masked_error(clean, mapped, mask):
    return tf.reduce_sum(mask[..., None] * (clean - mapped) ** 2) / tf.reduce_sum(mask)


def mask_loss(logits, log_noisy, log_clean):
    return 0.5 * tf.reduce_mean((log_noisy - tf.nn.softplus(-logits) - log_clean) ** 2)


def erb_centres(fmin, fbase, fmax, per_erb):
    def erb(f):
        return 9.265 * np.log1p(f / (24.7 * 9.265))

    steps = np.arange(-np.floor((erb(fbase) - erb(fmin)) * per_erb), np.floor((erb(fmax) - erb(fbase)) * per_erb) + 1)
    return np.expm1((erb(fbase) + steps / per_erb) / 9.265) * 24.7 * 9.265


def upsample(x):
    return np.interp(np.arange(2 * len(x)) / 2 - 0.25, np.arange(len(x)), x)


def receptive_field(levels, kernel, dilations, middle_kernel):
    return 1 + (kernel - 1) * (2**levels - 1) + (middle_kernel - 1) * sum(dilations) * 2**levels


RIGHT = {
    "nb02.mean_of_valid": [mean_of_valid], "nb02.si_sdr": [si_sdr], "nb02.delay": [delay], "nb05.eer": [eer],
    "nb05.to_network": [lambda mag, ref: np.clip(2 * mag / ref - 1, -1, 1)],
    "nb06.join_weights": [join_weights], "nb06.variance_ratio": [lambda x, y: np.var(y, 0) / np.var(x, 0)],
    "nb07.mel_gain": [lambda x, y: np.exp(np.minimum(y - x, 0))],
    "nb07.word_error_rate": [lambda said, heard: metrics.wer([said], [heard])],
    "nb08.scaled_smm": [lambda s, y: np.minimum(s / (y + 1e-8), 10) / 5 - 1], "nb08.average_windows": [average_windows],
    "nb11.log_gain": [lambda v: np.exp(-v / 2)], "nb11.margin_loss": [margin_loss],
    "nb12.worst_segment": [worst_segment], "nb15.paired": [paired],
    "nb09.relative_reduction": [lambda a, b: 100 * (a - b) / a], "nb09.masked_error": [masked_error],
    "nb13.mask_loss": [mask_loss], "nb13.erb_centres": [erb_centres],
    "nb14.saturating": [losses.saturating], "nb14.upsample": [upsample], "nb14.receptive_field": [receptive_field],
    "a1.l1": [losses.l1], "a1.l2": [losses.l2], "a1.least_squares": [losses.least_squares],
    "a1.cross_entropy": [losses.cross_entropy], "a2.stft": [stft, istft], "a2.mix": [mix],
    "a2.preemphasis": [preemphasis], "a2.irm": [irm], "a3.d_step": [d_step], "a3.gradient_reversal": [gradient_reversal],
    "a4.pesq_to_unit": [pesq_to_unit],
}  # fmt: skip


def test_every_exercise_has_a_right_answer_here():
    assert sorted(RIGHT) == classroom.exercises()


@pytest.mark.parametrize("exercise", sorted(RIGHT))
def test_right_answers_pass(exercise, capsys):
    assert check(exercise, *RIGHT[exercise]) is True
    assert capsys.readouterr().out == f"{exercise}: passed.\n"
    assert "->" in classroom.describe(exercise)


def both_steps(generator, discriminator, optimizer, noisy, clean):
    variables = discriminator.trainable_variables + generator.trainable_variables
    with tf.GradientTape() as tape:
        d_real, d_fake = discriminator([clean, noisy]), discriminator([generator(noisy), noisy])
        loss = losses.least_squares(d_real, 1.0) + losses.least_squares(d_fake, 0.0)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss


def swapped_step(generator, discriminator, optimizer, noisy, clean):
    with tf.GradientTape() as tape:
        d_real, d_fake = discriminator([clean, noisy]), discriminator([generator(noisy), noisy])
        loss = losses.least_squares(d_real, 0.0) + losses.least_squares(d_fake, 1.0)
    gradients = tape.gradient(loss, discriminator.trainable_variables)
    optimizer.apply_gradients(zip(gradients, discriminator.trainable_variables))
    return loss


def ignores_g_step(generator, discriminator, optimizer, noisy, clean):
    return d_step(lambda x: x, discriminator, optimizer, noisy, clean)


def spoiling_mix(clean, noise, snr_db):
    noise *= np.sqrt(np.sum(clean**2) / np.sum(noise**2)) * 10 ** (-snr_db / 20)
    return clean + noise


def naive_cross_entropy(logits, label):
    p = tf.sigmoid(logits)
    return -tf.reduce_mean(label * tf.math.log(p) + (1 - label) * tf.math.log(1 - p))


WRONG = [
    ("nb11.log_gain", lambda v: np.exp(-v), "halve the exponent"),
    ("nb07.mel_gain", lambda x, y: np.exp(y - x), "would amplify noise"),
    ("nb07.mel_gain", lambda x, y: y - x, "undo the natural logarithm"),
    ("nb07.word_error_rate", lambda s, h: 3 * metrics.wer([s], [h]), "divide by the number of words that were said"),
    ("nb07.word_error_rate", lambda s, h: sum(a != b for a, b in zip(s.split(), h.split())) / 3, "is 0; expected 1"),
    ("nb11.log_gain", lambda v: np.exp(v / 2), "the exponent is negative"),
    ("nb11.margin_loss", lambda d, m: tf.maximum(0.0, m - tf.reduce_mean(d)), "before the mean"),
    ("nb11.margin_loss", lambda d, m: tf.reduce_mean(m - d), "codes that are far enough apart cost nothing"),
    ("nb12.worst_segment", lambda x: tf.nn.softplus(-tf.reduce_min(x)), r"has shape \(\); expected \(2,\)"),
    ("nb12.worst_segment", lambda x: tf.nn.softplus(-tf.reduce_max(x, 1)), "that is the best segment"),
    ("nb12.worst_segment", lambda x: -tf.math.log(tf.reduce_min(tf.sigmoid(x), 1)), "NaN or infinity"),
    ("nb15.paired", lambda a, b: (np.nanmean(b - a), np.mean(b > a)), "leave out files without both scores"),
    ("nb15.paired", lambda a, b: (np.nanmean(a - b), np.mean(b > a)), "after minus before"),
    ("a1.l1", lambda t, e: tf.reduce_sum(tf.abs(t - e)), "expected 1.66667.*that is the sum"),
    ("a1.l1", lambda t, e: tf.reduce_mean(t - e), "the signs cancelled"),
    ("a1.l1", lambda t, e: tf.abs(t - e), r"has shape \(3,\); expected \(\)"),
    ("a1.l1", lambda t, e: np.mean(np.abs(t.numpy() - np.asarray(e))), "no gradient comes through l1"),
    ("a1.l1", lambda t, e: None, "returned None. Is a `return` missing"),
    ("a1.l1", lambda t: t, "stopped with TypeError"),
    ("a1.l2", lambda t, e: tf.sqrt(tf.reduce_mean((t - e) ** 2)), "leave out the square root"),
    ("a1.least_squares", lambda s, y: tf.reduce_mean((tf.sigmoid(s) - y) ** 2), "is 0.161.*; expected 0.5|no sigmoid"),
    ("a1.least_squares", lambda s, y: 0.5 * tf.reduce_mean((s - y) ** 2), "leave out the factor 1/2"),
    ("a1.cross_entropy", lambda z, y: -losses.cross_entropy(z, y), "the sign is missing"),
    ("a1.cross_entropy", naive_cross_entropy, "NaN or infinity"),
    ("a1.cross_entropy", lambda z, y: losses.cross_entropy(z, 1.0), "does your function use the label"),
    ("a2.mix", lambda c, n, s: c + n, "expected 0.00 dB"),
    ("a2.mix", lambda c, n, s: mix(c, n, -s), "the fraction is upside down"),
    ("a2.mix", lambda c, n, s: mix(c, n, 2 * s), r"amplitudes need 10 \*\* \(snr_db / 20\)"),
    ("a2.mix", lambda c, n, s: 0.5 * mix(c, n, s), "not a scaled copy of the noise"),
    ("a2.mix", spoiling_mix, "changed its inputs in place"),
    ("a2.preemphasis", lambda x, a: x - a * x, r"index \[0\] it is 0.05; expected 1"),
    ("a2.irm", lambda c, n: c**2 / (c**2 + n**2 + 1e-12), "square root"),
    ("a2.irm", lambda c, n: np.sqrt(c**2 / np.maximum(c**2 + n**2, 0.0)), "irm of silence.*NaN or infinity"),
    ("a3.d_step", both_steps, "moved the generator"),
    ("a3.d_step", swapped_step, "Check the labels"),
    ("a3.d_step", ignores_g_step, r"D sees generator\(noisy\)"),
    ("a3.d_step", lambda g, d, o, x, y: tf.constant(1.0), "left the discriminator as it was"),
    ("a3.gradient_reversal", lambda x, s: x * 1.0, "backward, multiply by minus the scale"),
    ("a3.gradient_reversal", lambda x, s: -s * x, "hands its input through unchanged"),
    ("a4.pesq_to_unit", lambda q: q / 5, "add 0.5 first"),
    ("a4.pesq_to_unit", lambda q: (q + 0.5) / 5, r"clip to \[0, 1\]"),
    ("nb02.mean_of_valid", lambda x: (np.mean(np.nan_to_num(x)), 1), "a failure is not a 0"),
    ("nb02.mean_of_valid", lambda x: np.nanmean(x), "should return two numbers"),
    ("nb02.mean_of_valid", lambda x: (np.mean([v for v in x if v > 0]), sum(not v > 0 for v in x)), "0 is a valid score"),
    ("nb02.si_sdr", lambda s, y: 10 * np.log10(np.sum(s**2) / np.sum((y - s) ** 2)), "scale the clean signal by"),
    ("nb02.si_sdr", lambda s, y: 2 * si_sdr(s, y), "10 log10, not 20"),
    ("nb02.si_sdr", lambda s, y: 10 * np.log10(1 / (np.sum(y * y) * np.sum(s * s) / np.sum(y * s) ** 2 - 1)), "mean of both"),
    ("nb02.delay", lambda s, y: -delay(s, y), "a later copy has a positive delay"),
    ("nb02.delay", lambda s, y: np.correlate(y, s, "full").argmax() - (len(s) - 1), "take the absolute value"),
    ("nb05.to_network", lambda mag, ref: 2 * mag / ref - 1, r"clip to \[-1, 1\]"),
    ("nb05.to_network", lambda mag, ref: np.clip(mag / ref, -1, 1), "silence is -1"),
    ("nb05.eer", lambda t, i: eer(i, t), "should speak for the claimed speaker"),
    ("nb05.eer", first_false_alarms, "the mean of both shares"),
    ("nb06.join_weights", lambda n: [1.08 * half for half in join_weights(n)], "add up to 1.08; divide both"),
    ("nb06.join_weights", lambda n: join_weights(n)[::-1], "rising is the first half"),
    ("nb06.join_weights", lambda n: (np.hamming(2 * n)[n:], np.hamming(2 * n)[:n]), "np.hamming divides by 7"),
    ("nb06.join_weights", lambda n: join_weights(n)[0], "should return two arrays"),
    ("nb06.variance_ratio", lambda x, y: np.var(x, 0) / np.var(y, 0), "natural speech stands below the line"),
    ("nb06.variance_ratio", lambda x, y: np.std(y, 0) / np.std(x, 0), "variance, not standard deviation"),
    ("nb06.variance_ratio", lambda x, y: np.var(y) / np.var(x), r"has shape \(\); expected \(2,\)"),
    ("nb08.scaled_smm", lambda s, y: s / y / 5 - 1, "clip the mask at 10"),
    ("nb08.scaled_smm", lambda s, y: np.minimum(s / y, 10), "0 becomes -1 and 10 becomes 1"),
    ("nb08.average_windows", lambda w: np.pad(average_windows(w)[4:-4], [(4, 4), (0, 0)]), "divide by their number"),
    ("nb08.average_windows", lambda w: average_windows(w[::-1]), "window i holds the frames i to i"),
    ("nb09.relative_reduction", lambda a, b: a - b, "percentage points"),
    ("nb09.relative_reduction", lambda a, b: 100 * (a - b) / b, "divide by the error before"),
    ("nb09.masked_error", lambda c, x, m: tf.reduce_mean((c - x) ** 2), "must not count, and bands are summed"),
    ("nb09.masked_error", lambda c, x, m: masked_error(c, x, m) / 4, "sum over bands"),
    ("nb09.masked_error", lambda c, x, m: tf.reduce_sum(m[..., None] * (c - x) ** 2) / 3, "of valid frames, not of all"),
    ("nb13.mask_loss", lambda z, h, c: 2 * mask_loss(z, h, c), "factor 1/2 is missing"),
    ("nb13.mask_loss", lambda z, h, c: 0.5 * tf.reduce_mean((h + tf.math.log(tf.sigmoid(z)) - c) ** 2), "NaN or infinity"),
    ("nb13.erb_centres", lambda *a: np.linspace(50, 8000, 63), "Count 34 steps"),
    ("nb13.erb_centres", lambda *a: np.linspace(50, 8000, 64), "expected 59.7"),
    ("nb14.saturating", lambda z: -losses.saturating(z), "do not change its sign"),
    ("nb14.saturating", lambda z: tf.reduce_mean(tf.math.log_sigmoid(z)), "eq. 2 has log"),
    ("nb14.saturating", lambda z: tf.reduce_mean(tf.math.log(1 - tf.sigmoid(z))), "NaN or infinity"),
    ("nb14.upsample", lambda x: np.repeat(x, 2), "nearest neighbour"),
    ("nb14.upsample", lambda x: np.interp(np.linspace(0, 3, 8), np.arange(4), x), "half-pixel centres"),
    ("nb14.receptive_field", lambda n, k, d, m: 1 + n * (k - 1) + sum(d) * (m - 1), "counts 2 samples"),
    ("nb14.receptive_field", lambda n, k, d, m: receptive_field(n, k, (1,) * len(d), m), "use the dilations"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("exercise, answer, message", WRONG)
def test_wrong_answers_get_their_hint(exercise, answer, message, capsys):
    with pytest.raises(Wrong, match=message):
        check(exercise, answer, strict=True)
    assert check(exercise, answer) is False
    assert capsys.readouterr().out.startswith(f"{exercise}: not yet. ")


@pytest.mark.parametrize(
    "bad_stft, bad_istft, message",
    [
        (lambda w, n, h: tf.transpose(stft(w, n, h)), istft, "time first"),
        (stft, lambda s, n, h, length: 2 * istft(s, n, h, length), "sum of the squared windows"),
        (lambda w, n, h: stft(w, n, h)[:-2], lambda s, n, h, length: np.pad(istft(s, n, h, None), (0, 2 * h))[:length],
         "only the edges are wrong"),
        (lambda w, n, h: stft(w, n, h)[:, ::-1], lambda s, n, h, length: istft(s[:, ::-1], n, h, length), "loudest in bin"),
    ],
)  # fmt: skip
def test_wrong_transforms_get_their_hint(bad_stft, bad_istft, message):
    with pytest.raises(Wrong, match=message):
        check("a2.stft", bad_stft, bad_istft, strict=True)


def test_blank_exercises_and_wrong_calls_are_explained(capsys):
    def blank(target, estimate):
        raise NotImplementedError

    assert check("a1.l1", blank) is False
    assert "l1 is not written yet" in capsys.readouterr().out
    assert check("a1.l1", 1.6667) is False
    assert "pass the function itself, without parentheses" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"Did you mean 'a1.l1'\? Exercises: a1.cross_entropy"):
        check("a1.L1", losses.l1)
    with pytest.raises(ValueError, match=r'tests 2 function\(s\), not 1: check\("a2.stft", stft, istft\)'):
        check("a2.stft", stft)


def test_a_notebook_adds_its_own_exercise(monkeypatch, capsys):
    monkeypatch.setattr(classroom, "EXERCISES", dict(classroom.EXERCISES))

    def test_double(double):
        classroom.number("double(2)", double(2), 4, mistakes={2: "that is the number itself"})

    classroom.add("nb07.double", test_double, "double(x) -> two times x")
    classroom.add("nb07.double", test_double, "double(x) -> two times x")  # a cell run twice
    assert check("nb07.double", lambda x: 2 * x)
    assert not check("nb07.double", lambda x: x)
    assert "double(2) is 2; expected 4. Hint: that is the number itself." in capsys.readouterr().out
    with pytest.raises(ValueError, match="Choose another id"):
        classroom.add("a1.l1", test_double, "double(x) -> two times x")


def test_notebooks_show_the_sentence_instead_of_a_traceback():
    assert Wrong("a sentence.")._render_traceback_() == ["Not yet: a sentence."]


def test_checks_agree_with_the_package():
    """The numbers in the checks are those of `losses`, `signal` and `metrics`."""
    from ganse_tf import metrics

    clean, noise = np.array([[3.0, 1.0]], np.float32), np.array([[4.0, 1.0]], np.float32)
    np.testing.assert_allclose(signal.irm(clean, noise), irm(clean, noise), rtol=1e-5)
    assert metrics.norm_pesq(2.0) == pesq_to_unit(2.0)
