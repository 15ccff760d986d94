"""Batches and their random numbers: the same bits as those of `kernels.reference`, where the formulas stand."""

import math

import numpy as np

from vae_np.kernels.cpu.jit import NO_WRAPPERS, exact, njit
from vae_np.kernels.reference import COS_SERIES, LOG_SERIES, SIN_SERIES

WORD, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOG_2, SQRT_HALF, QUARTER_TURN = math.log(2), math.sqrt(0.5), 2.0**-30 * (math.pi / 2)
COUNTERS = 64  # counters that become random numbers at a time, in a loop without a branch, which can be vectorised
FRACTION, HALF_EXPONENT = np.int64((1 << 52) - 1), np.int64(1022 << 52)

inline = njit(nogil=True, error_model="numpy", forceinline=True, **NO_WRAPPERS)  # every bit is specified


@exact
def gather(data, rows, x):
    divisor = x.dtype.type(255 if data.itemsize == 1 else 1)
    for b in range(rows.shape[0]):
        source, target = data[rows[b]], x[b]
        for d in range(target.shape[0]):
            target[d] = x.dtype.type(source[d]) / divisor
    return x


@inline
def philox(a, b, c, d, key):
    low, high = key & WORD, key >> SHIFT
    for _ in range(10):
        ac, cc = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (cc >> SHIFT) ^ b ^ low, cc & WORD, (ac >> SHIFT) ^ d ^ high, ac & WORD
        low, high = (low + STEPS[0]) & WORD, (high + STEPS[1]) & WORD
    return a, b, c, d


@inline
def log_uniform(w):
    bits = np.float64((np.float64(2.0) * w + 1.0) * 2.0**-33).view(np.int64)
    m, exponent = np.int64((bits & FRACTION) | HALF_EXPONENT).view(np.float64), np.float64((bits >> 52) - 1022)
    small = m < SQRT_HALF
    m, exponent = 2.0 * m if small else m, exponent - 1.0 if small else exponent
    s = (m - 1.0) / (m + 1.0)
    return s * polynomial(LOG_SERIES, s * s) + exponent * LOG_2


@inline
def circle(w):
    quarter = (w + np.uint64(1 << 29)) >> np.uint64(30)
    angle = np.float64(np.int64(w) - np.int64(quarter << np.uint64(30))) * QUARTER_TURN
    cosine, sine = polynomial(COS_SERIES, angle * angle), polynomial(SIN_SERIES, angle * angle) * angle
    odd, half = quarter & np.uint64(1) != 0, quarter & np.uint64(2) != 0
    cosine, sine = -sine if odd else cosine, cosine if odd else sine
    return -cosine if half else cosine, -sine if half else sine


@inline
def polynomial(coefficients, t):
    p = coefficients[-1]
    for k in range(len(coefficients) - 2, -1, -1):
        p = p * t + coefficients[k]
    return p


@exact
def normals(key, step, examples, eps):
    blocks = (eps.shape[2] + 3) // 4
    sample, example, block = np.empty((3, COUNTERS), np.uint64)
    four, last, l, b, j = np.empty((4, COUNTERS)), eps.shape[0] * eps.shape[1] * blocks, 0, 0, 0
    for start in range(0, last, COUNTERS):
        n = min(COUNTERS, last - start)
        for i in range(n):
            sample[i], example[i], block[i] = l, examples[b], j
            j += 1
            if j == blocks:
                j, b = 0, b + 1
            if b == eps.shape[1]:
                b, l = 0, l + 1
        for i in range(COUNTERS):
            w = philox(block[i], example[i], sample[i], np.uint64(step), np.uint64(key))
            for k in (0, 2):
                radius = math.sqrt(-2.0 * log_uniform(w[k]))
                cosine, sine = circle(w[k + 1])
                four[k, i], four[k + 1, i] = radius * cosine, radius * sine
        for i in range(n):
            row = eps[np.int64(sample[i]), (start + i) // blocks % eps.shape[1]]
            first = 4 * np.int64(block[i])
            for k in range(min(4, row.shape[0] - first)):
                row[first + k] = four[k, i]
    return eps


@exact
def binarize(pixels, key, step, examples, x):
    u = np.empty((4, COUNTERS))
    for b in range(pixels.shape[0]):
        row, target, example = pixels[b], x[b], np.uint64(examples[b])
        for start in range(0, row.shape[0], 4 * COUNTERS):
            for i in range(COUNTERS):
                w = philox(np.uint64(start // 4 + i), example, np.uint64(0), np.uint64(step), np.uint64(key))
                for k in range(4):
                    u[k, i] = np.float64(w[k]) * 2.0**-32
            for d in range(min(row.shape[0] - start, 4 * COUNTERS)):
                target[start + d] = 1 if u[d & 3, d >> 2] < row[start + d] else 0
    return x
