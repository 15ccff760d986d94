"""What is said of a wrong array: the kind of the mistake, or nothing; never another kind."""

import itertools
import pathlib
import re

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from vae_np.testing import KINDS, Diagnosis, check_kernels, diagnose
from vae_np.testing.diagnosis import order

# ------------------------------------------------------------------------------------------------------ known mistakes


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def with_part(array, part, value):
    array = array.copy()
    array[part] = value
    return array


SIZES = {"batch": 6, "samples": 5, "inputs": 11}
PROPERTY_STRUCTURES = ("dense", "integers", "sparse", "symmetric", "antisymmetric", "alike", "rows alike", "signs")


def random_array(rng, shape, structure):
    array = rng.normal(size=shape)
    if structure == "integers":
        array = rng.integers(-2, 3, shape).astype(float)
    elif structure == "sparse":
        array = array * (rng.random(shape) < 0.4)
    elif structure == "signs":
        array = np.sign(array)
    elif structure == "alike":
        array = np.full(shape, rng.normal())
    elif structure == "rows alike":
        array = np.broadcast_to(array[:1], shape).copy() if len(shape) else array
    elif len(shape) == 2 and shape[0] == shape[1] and structure == "symmetric":
        array = array + array.T
    elif structure == "antisymmetric":
        array = array - (array.T if len(shape) == 2 and shape[0] == shape[1] else np.flip(array))
    return np.asarray(array)


def wrong_answers(rng, wanted, sizes, terms, factors):
    """Yield (kind, wrong answer): what is made of a right array by mistakes of known kinds, each of which can be seen."""
    some = normal(*wanted.shape, seed=int(rng.integers(1000)))
    n = range(wanted.ndim)
    factor = next(iter(factors.values()))
    masks = [rng.random(wanted.shape) < 0.5, wanted < 0, *(np.indices(wanted.shape)[axis] == rng.integers(wanted.shape[axis]) for axis in n)]
    yield "zero", np.zeros_like(wanted)
    yield "sign", -wanted
    for c in (2, 1 / 2, -2, rng.normal(), *sizes.values(), *(1 / size for size in sizes.values())):
        yield "factor", c * wanted
    for axes in itertools.permutations(n):
        yield "transposed", np.transpose(wanted, axes)
    for axis in n:
        yield "reversed", np.flip(wanted, axis)
        if wanted.shape[axis] > 2:
            yield "rolled", np.roll(wanted, 1, axis)
            yield "rolled", np.roll(wanted, -1, axis)
        for kind, reduce in ("sum", np.sum), ("mean", np.mean):
            reduced = reduce(wanted, axis=axis, keepdims=True)
            if np.ptp(wanted, axis=axis).any() and abs(reduced).max() > 1e-9:
                yield f"doubled {kind}", np.broadcast_to(reduced, wanted.shape)
                yield f"doubled {kind}", reduced.squeeze(axis)
    for term in terms.values():
        yield "missing term", wanted - term
        yield "doubled term", wanted + term
        yield "sign of a term", wanted - 2 * term
        yield "factor of a term", wanted + rng.normal() * term
    yield "extra factor", wanted * factor
    yield "missing factor", wanted / factor
    yield "offset", wanted + rng.normal()
    yield "stabiliser", wanted * (1 + 1e-6 * some)
    for mask in masks:
        yield "not finite", np.where(mask, rng.choice([np.nan, np.inf, -np.inf]), wanted) if mask.any() else wanted
        if (wanted[mask] != 0).any() and (wanted[~mask] != 0).any():
            yield "signs", np.where(mask, -wanted, wanted)
            yield "mask", np.where(mask, 0, wanted)
            yield "mask", np.where(mask, some, wanted)
