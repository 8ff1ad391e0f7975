"""A room in a few lines: the image method of Allen and Berkley for a shoebox with one source and one microphone.

FSEGAN's noisy speech is reverberant, its target is not. The paper's room simulator is private; this one reproduces the
shape of the task. Each reflection is a mirror image of the source at distance d: it arrives d / c seconds late, divided
by d, and multiplied by the wall's reflection once per bounce. Walls are alike; their absorption follows from the wanted
T60 by Eyring's formula  alpha = 1 - exp(-0.161 V / (S T60)).

The response starts at the direct sound, whose gain is 1: dry and reverberant speech stay aligned and equally loud.

References: J. Allen, D. Berkley, JASA 65(4), 1979.
"""

import numpy as np
from scipy import signal

SPEED_OF_SOUND = 343.0  # m/s
EYRING = 0.161  # s/m
SIZES_M = ((3.0, 10.0), (3.0, 8.0), (2.5, 4.0))  # our choice: living rooms to classrooms
T60_S = (0.1, 0.5)  # our choice; the paper draws T60 too, without numbers
DISTANCE_M = (0.5, 3.0)  # our choice
HIGHPASS_HZ = 100.0  # images of equal sign pile up at 0 Hz and would ring far beyond T60; the authors filter, too
WALL_M = 0.3  # nearest approach to a wall


def draw(rng):
    """A random room: (size, source, microphone) in m and T60 in s."""
    while True:
        size = np.array([rng.uniform(*limits) for limits in SIZES_M])
        source = rng.uniform(WALL_M, size - WALL_M)
        microphone = rng.uniform(WALL_M, size - WALL_M)
        if DISTANCE_M[0] <= np.linalg.norm(source - microphone) <= DISTANCE_M[1]:
            return size, source, microphone, float(rng.uniform(*T60_S))


def impulse_response(size, source, microphone, t60, sample_rate=16000):
    """Impulse response from the direct sound on, T60 long, float64.

    Args:
        size, source, microphone: (x, y, z) in m, the origin in a corner.
        t60: reverberation time in s.
        sample_rate: Hz.

    Returns:
        float64 array of round(t60 * sample_rate) samples; the first is 1 (the direct sound).
    """
    size, source, microphone = (np.asarray(v, dtype=np.float64) for v in (size, source, microphone))
    surface = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    reflection = np.exp(-0.5 * EYRING * size.prod() / (surface * t60))  # sqrt(1 - alpha), for pressure
    n_samples = round(t60 * sample_rate)
    direct = np.linalg.norm(source - microphone)
    reach = direct + SPEED_OF_SOUND * t60
    offsets, bounces = [], []  # per axis: distance of every image to the microphone, and its number of bounces
    for axis in range(3):
        n = np.arange(-int(reach / (2 * size[axis])) - 1, int(reach / (2 * size[axis])) + 2)
        images = np.concatenate([2 * n * size[axis] + source[axis], 2 * n * size[axis] - source[axis]])
        offsets.append(images - microphone[axis])
        bounces.append(np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)]))
    squared = [o**2 for o in offsets]
    distance = np.sqrt(squared[0][:, None, None] + squared[1][:, None] + squared[2])
    order = bounces[0][:, None, None] + bounces[1][:, None] + bounces[2]
    delay = np.rint((distance - direct) * sample_rate / SPEED_OF_SOUND).astype(np.int64)
    heard = (delay >= 0) & (delay < n_samples)
    gains = reflection ** order[heard] * direct / distance[heard]
    response = np.bincount(delay[heard], weights=gains, minlength=n_samples)
    highpass = signal.butter(2, HIGHPASS_HZ, "highpass", fs=sample_rate, output="sos")
    response[1:] = signal.sosfilt(highpass, response[1:])
    return response
