"""Batches and their noise: the same bits as `kernels.reference`, where the formulas stand."""

import math

import numpy as np

from kernels.cpu.jit import exact
from kernels.reference import COS_SERIES, LOG_SERIES, SIN_SERIES

WORD, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOG_2, SQRT_HALF, QUARTER_TURN = math.log(2), math.sqrt(0.5), 2.0**-30 * (math.pi / 2)
FRACTION, HALF_EXPONENT = np.int64((1 << 52) - 1), np.int64(1022 << 52)


@exact
def gather(data, rows, x):
    divisor = x.dtype.type(255 if data.itemsize == 1 else 1)
    for b in range(rows.shape[0]):
        source, target = data[rows[b]], x[b]
        for d in range(target.shape[0]):
            target[d] = x.dtype.type(source[d]) / divisor
    return x


@exact
def philox(a, b, c, d, key):
    low, high = key & WORD, key >> SHIFT
    for _ in range(10):
        ac, cc = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (cc >> SHIFT) ^ b ^ low, cc & WORD, (ac >> SHIFT) ^ d ^ high, ac & WORD
        low, high = (low + STEPS[0]) & WORD, (high + STEPS[1]) & WORD
    return a, b, c, d


@exact
def log_uniform(w):
    bits = np.float64((np.float64(2.0) * w + 1.0) * 2.0**-33).view(np.int64)
    m, exponent = np.int64((bits & FRACTION) | HALF_EXPONENT).view(np.float64), (bits >> 52) - 1022
    if m < SQRT_HALF:
        m, exponent = 2.0 * m, exponent - 1
    s = (m - 1.0) / (m + 1.0)
    p = LOG_SERIES[-1]
    for k in range(len(LOG_SERIES) - 2, -1, -1):
        p = p * (s * s) + LOG_SERIES[k]
    return s * p + exponent * LOG_2


@exact
def circle(w):
    quarter = (w + np.uint64(1 << 29)) >> np.uint64(30)
    angle = np.int64(w - (quarter << np.uint64(30))) * QUARTER_TURN
    square = angle * angle
    cosine, sine = COS_SERIES[-1], SIN_SERIES[-1]
    for k in range(len(COS_SERIES) - 2, -1, -1):
        cosine = cosine * square + COS_SERIES[k]
        sine = sine * square + SIN_SERIES[k]
    sine = sine * angle
    if quarter & np.uint64(1):
        cosine, sine = -sine, cosine
    if quarter & np.uint64(2):
        cosine, sine = -cosine, -sine
    return cosine, sine


@exact
def normal_pair(w, w_angle):
    radius = math.sqrt(-2.0 * log_uniform(w))
    cosine, sine = circle(w_angle)
    return radius * cosine, radius * sine


@exact
def normals(key, step, examples, eps):
    for l in range(eps.shape[0]):
        for b in range(eps.shape[1]):
            row = eps[l, b]
            for block in range((row.shape[0] + 3) // 4):
                w = philox(np.uint64(block), np.uint64(examples[b]), np.uint64(l), np.uint64(step), np.uint64(key))
                four = normal_pair(w[0], w[1]) + normal_pair(w[2], w[3])
                for k in range(min(4, row.shape[0] - 4 * block)):
                    row[4 * block + k] = four[k]
    return eps


@exact
def binarize(pixels, key, step, examples, x):
    for b in range(pixels.shape[0]):
        row, target = pixels[b], x[b]
        for block in range((row.shape[0] + 3) // 4):
            w = philox(np.uint64(block), np.uint64(examples[b]), np.uint64(0), np.uint64(step), np.uint64(key))
            for k in range(min(4, row.shape[0] - 4 * block)):
                target[4 * block + k] = 1 if np.float64(w[k]) * 2.0**-32 < row[4 * block + k] else 0
    return x
