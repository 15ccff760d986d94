"""A training on digits with the lines that a student wrote, beside one with those of vae_np."""

import functools
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import data, elbo
from vae_np.architecture import Architecture
from vae_np.buffers import buffers
from vae_np.kernels import reference
from vae_np.parameters import Parameters
from vae_np.study.exercises import EXERCISES, Exercise, roles
from vae_np.study.trial import returned_arrays
from vae_np.testing.operations import check_kernels, with_changes

EPOCHS, BATCH_SIZE, LEARNING_RATE, L2 = 12, 64, 3e-3, 1e-4


class Setting(NamedTuple):
    """A model of the digits; together the settings use every exercise."""

    words: str
    architecture: Architecture
    objective: str
    n_samples: int


SETTINGS = (
    Setting("ReLU, the KL in closed form", Architecture(64, (64,), 8), "elbo", 1),
    Setting("tanh, importance weights of 3 samples", Architecture(64, (64,), 8, "tanh"), "iwae", 3),
    Setting(
        "softplus, squared error with a learned noise",
        Architecture(64, (64,), 8, "softplus", likelihood="gaussian", noise="shared"),
        "elbo_mc",
        1,
    ),
)


class Lines(NamedTuple):
    """The functions with which a training runs: a kernel set, and the text of the model."""

    kernels: types.ModuleType
    text: tuple[types.FunctionType, ...]


OURS = Lines(reference, elbo.TEXT)


def yours(scope: Mapping[str, Any], right: Sequence[str]) -> Lines:
    """The student's right answers, in place of the functions of vae_np.

    Parameters
    ----------
    scope : mapping
        The names that the student's file defines.
    right : sequence of str
        The exercises whose answers are right.
    """
    operations = {name: operation(scope[name], EXERCISES[name]) for name in right if EXERCISES[name].is_operation}
    text = tuple(scope[f.__name__] if f.__name__ in right else f for f in elbo.TEXT)
    return Lines(with_changes(**operations), text)


def operation(function: Callable[..., Any], exercise: Exercise) -> Callable[..., Any]:
    """The student's function as an operation of a kernel set: it fills its last arguments, and returns them.

    A layer or an activation is given rows, as in the exercise: every sample of every example is one.
    """
    of, row_wise = roles(exercise), {"dy", "dh"} & set(exercise.parameters)

    @functools.wraps(exercise.original)
    def filling(*arguments):
        values = dict(zip(exercise.parameters, arguments))
        given = {name: _rows(value) if row_wise and np.ndim(value) > 2 else value for name, value in values.items()}
        result = returned_arrays(function(*given.values()), given, exercise)
        for name in of.outputs:
            changed = result.get(name, given[name])
            if changed is not values[name]:
                values[name][...] = changed.reshape(values[name].shape)
        filled = [values[name] for name in of.returns]
        return tuple(filled) if len(filled) > 1 else filled[0]

    return filling


def _rows(array: NDArray) -> NDArray:
    return array.reshape(-1, array.shape[-1])


def losses(setting: Setting, lines: Lines, epochs: int = EPOCHS, seed: int = 0) -> Iterator[float]:
    """Yield the mean loss of each epoch of a training, in nats."""
    x, rng = data.load("digits").train, np.random.default_rng(seed)
    arch = setting.architecture
    p = Parameters.initialize(arch, seed=seed)
    m, v, step = np.zeros_like(p.flat), np.zeros_like(p.flat), 0
    for _ in range(epochs):
        rows, total = rng.permutation(len(x)), 0.0
        for batch in np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE)):
            eps = rng.normal(size=(setting.n_samples, len(batch), arch.n_latent))
            value, g = _gradients(p, x[batch], eps, setting.objective, lines)
            step += 1
            lines.kernels.adam(p.flat, g.flat, m, v, step, LEARNING_RATE, 0.9, 0.999, 1e-8)
            total += value * len(batch)
        yield total / len(x)


def _gradients(p: Parameters, x: NDArray, eps: NDArray, objective: str, lines: Lines) -> tuple[float, Parameters]:
    """The loss and its gradient, as by `loss_and_gradients`, with some functions of the text replaced."""
    model, p, a, beta, l2 = elbo.prepare(p, x, eps, 1.0, L2, objective, lines.kernels, lines.text)
    L, B, _ = a.eps.shape
    d, g = buffers(p.architecture, objective, L, B, p.flat.dtype), Parameters.zeros(p.architecture)
    model.forward(p.layers, a, beta)
    model.backward(p.layers, a, d, beta, B)
    model.weight_gradients(p.layers, a, d, g.layers, l2)
    return elbo.value_of(model, p, a, l2).total, g


def draw(curves: dict[str, tuple[list[float], list[float]]], path: str | os.PathLike) -> None:
    """Write a picture of the losses: for each setting those of the student's lines, and those of ours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3.2), layout="constrained")
    for axes, (words, (own, others)) in zip(np.atleast_1d(figure.subplots(1, len(curves))), curves.items()):
        epochs = range(1, len(own) + 1)
        axes.plot(epochs, others, color="0.7", linewidth=6, label="vae_np")
        axes.plot(epochs, own, color="#c62828", linewidth=1.5, label="your lines")
        axes.set(title=words, xlabel="epoch", ylabel="loss, nats per example")
        axes.title.set_fontsize(9)
        axes.legend()
    figure.savefig(path, dpi=120)


def faults(kernel_set: types.ModuleType) -> str:
    """What `check_kernels` says of a kernel set; "" if nothing is off."""
    try:
        with np.errstate(all="ignore"):
            check_kernels(kernel_set)
    except AssertionError as error:
        return str(error)
    return ""
