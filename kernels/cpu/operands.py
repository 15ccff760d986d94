"""The operands of matrix products at bfloat16: copies as pairs, made for one call, or kept for all steps of a training."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np.kernels.contract import LAYERS, Array
from vae_np.kernels.cpu import layers
from vae_np.kernels.cpu.argument_buffer import address_of, call_compiled
from vae_np.kernels.cpu.jit import kernel
from vae_np.kernels.cpu.layers import gradients_of_layer, prefetch_only, rows
from vae_np.kernels.cpu.pairs import WORD, number_of_pairs, pair_columns, pair_rows

BYTES = 2**16  # of numbers that are copied in one task

# What each layer multiplies by: x @ W sums over neighbours in the columns of W, dy @ W.T over neighbours in its rows.
PAIRINGS = {
    name: pair_columns if "_backward" in name else pair_rows
    for name in LAYERS
    if name.startswith("affine") and name != "affine_gradients"
}


def paired(pairing: Any, x: Array) -> Array:
    """Return a copy of a matrix as words."""
    words = np.zeros(_shape_of_words(pairing, x), WORD)
    pairing(x, words)
    return words


def _shape_of_words(pairing, x):
    height, width = x.shape
    return (number_of_pairs(height), width) if pairing is pair_rows else (height, number_of_pairs(width))


# ------------------------------------------------------------------------------------------------- copies for one call


def layers_of_pairs() -> dict[str, Callable[..., Any]]:
    """The layers that multiply, with the operands of their products rounded to bfloat16."""

    def with_paired_weights(name, pairing):
        layer = vars(layers)[name]
        return functools.wraps(layer)(lambda x, W, *others: layer(x, paired(pairing, W), *others))

    return {name: with_paired_weights(name, pairing) for name, pairing in PAIRINGS.items()} | {
        "affine_gradients": affine_gradients
    }


def affine_gradients(x, dy, W, l2, dW, db):
    x, dy_to_multiply = (paired(pair_rows, array.reshape(-1, array.shape[-1])) for array in (x, dy))
    _gradients_of_pairs(x, dy_to_multiply, dy, W, l2, dW, db)
    return dW, db


@kernel
def _gradients_of_pairs(x, dy, dy_to_sum, W, l2, dW, db):
    gradients_of_layer(x, dy, rows(dy_to_sum), W, l2, dW, db, prefetch_only(dW))


# ------------------------------------------------------------------------------------------- copies for a whole training


class Operands:
    """The operands of a step's products: the arrays themselves, or copies of them as pairs that are kept for all steps.

    Each copy is made once in a step: that of weights where they are updated, that of the results of the first half after it.
    """

    def __init__(self, are_pairs: bool) -> None:
        self.are_pairs = are_pairs
        self.weights: dict[tuple, tuple] = {}
        self.results: dict[tuple, tuple] = {}

    def of_layers(self, calls: list[tuple[str, tuple]]) -> list[tuple[str, tuple]]:
        """Return the calls of a first half with the operands in the form in which each layer multiplies them."""
        if not self.are_pairs:
            return calls
        paired: list[tuple[Any, tuple]] = []
        for name, arguments in calls:
            if name in PAIRINGS:
                x, W, *others = arguments
                arguments = x, _kept(self.weights, PAIRINGS[name], W), *others
            elif name == "affine_gradients":
                x, dy, *others = arguments
                words = [np.zeros(_shape_of_words(pair_rows, array), WORD) for array in (x, dy)]
                paired += [(pair_rows, pair) for pair in zip((x, dy), words)]
                name, arguments = _gradients_of_pairs, (*words, dy, *others)
            paired.append((name, arguments))
        return paired

    def of_gradient(self, result: Array) -> Array:
        """Return x or dy of dW = x.T @ dy in the form in which they are multiplied."""
        return _kept(self.results, pair_rows, result) if self.are_pairs else result

    def between_halves(self) -> list[list[tuple[Any, tuple]]]:
        """Return the tasks that copy the results of the first half: each takes some rows."""
        tasks = []
        for pairing, array, words in self.results.values():
            n = 2 * max(1, BYTES // (2 * array.nbytes // len(array)))
            tasks += [[(pairing, _rows(array, words, i, i + n))] for i in range(0, len(array), n)]
        return tasks

    def after_update(self, W: Array, start: int, stop: int) -> list[tuple[Any, tuple]]:
        """Return the calls that copy the rows of W from start to stop, for those who multiply by them in the next step."""
        copies = (self.weights.get(_key(pairing, W)) for pairing in (pair_rows, pair_columns))
        return [
            (pairing, _rows(W, words, start, stop) if pairing is pair_rows else (W[start:stop], words[start:stop]))
            for pairing, W, words in filter(None, copies)
        ]

    def of_weights(self) -> list[tuple[Any, tuple]]:
        """Return the calls that copy all weights."""
        return [(pairing, (W, words)) for pairing, W, words in self.weights.values()]

    def refresh(self) -> None:
        """Copy all weights, as somebody may have changed them."""
        for pairing, arguments in self.of_weights():
            call_compiled(pairing, arguments)


def _key(pairing, array):
    return pairing, address_of(array), array.shape


def _kept(copies, pairing, array):
    """The words of an array among the copies; they are made if there are none, and filled later."""
    words = np.zeros(_shape_of_words(pairing, array), WORD)
    return copies.setdefault(_key(pairing, array), (pairing, array, words))[2]


def _rows(array, words, start, stop):
    """The rows from start to stop, an even number, and their place among the words of `pair_rows`."""
    return array[start:stop], words[start // 2 : -(-min(stop, len(array)) // 2)]
