"""Gradients against differences of the loss, element by element."""

from typing import NamedTuple

import numpy as np

from vae_np.elbo import loss, loss_and_gradients
from vae_np.parameters import Parameters
from vae_np.testing.comparison import relative_errors


class Worst(NamedTuple):
    """The element of a parameter whose gradient is furthest from the differences of the loss."""

    name: str
    index: tuple
    given: float
    numerical: float
    error: float


def numerical_gradient(fn, array, step=1e-4):
    """d fn() / d array by central differences, and how far they can be trusted: two arrays of its shape.

    fn is a function of no arguments that reads the array, which is changed in place and put back. From steps h and h/2,
    Richardson: (4 D(h/2) - D(h)) / 3, exact to h^4. Where fn is smooth, D(h) - D(h/2) is of order h^2, and the bend
    B(h) = (fn(+h) - 2 fn(0) + fn(-h)) / h shrinks with h, so that B(h) - 2 B(h/2) is of order h^3. Both are far larger
    where a step crosses a kink or starts on one; the larger is the doubt.
    """
    gradient, doubt = np.zeros(array.shape), np.zeros(array.shape)
    here = fn()

    def difference_and_bend(index, value, h):
        array[index] = value + h
        above = fn()
        array[index] = value - h
        below = fn()
        array[index] = value
        return (above - below) / (2 * h), (above - 2 * here + below) / h

    for index in np.ndindex(array.shape):
        (wide, bend), (narrow, half_bend) = (difference_and_bend(index, array[index], h) for h in (step, step / 2))
        gradient[index] = (4 * narrow - wide) / 3
        doubt[index] = max(abs(wide - narrow), abs(bend - 2 * half_bend))
    return gradient, doubt


def check_gradients(fn, params, gradients):
    """The worst element of each parameter, as a list of Worst: every element of every gradient is compared.

    fn() is the loss, a float; params and gradients map names to float64 arrays; fn reads the arrays of params.
    TypeError, ValueError: a gradient is missing or of another shape, or an array is not float64. ValueError: fn has a kink
    within a step of params, where differences say nothing.
    """
    found = []
    for name, array in params.items():
        if array.dtype != np.float64:
            raise TypeError(f"params[{name!r}] has dtype {array.dtype}; differences need float64")
        if name not in gradients or np.shape(gradients[name]) != array.shape:
            given = np.shape(gradients[name]) if name in gradients else "nothing"
            raise ValueError(f"gradients[{name!r}] has shape {given}; wanted that of params[{name!r}], {array.shape}")
        numerical, doubt = numerical_gradient(fn, array)
        if doubt.max() > 1e-5 * max(1.0, np.abs(numerical).max()):
            raise ValueError(f"the loss is not smooth near {name}: take another point")
        errors = relative_errors(gradients[name], numerical)
        index = np.unravel_index(errors.argmax(), errors.shape)
        found.append(Worst(name, index, float(gradients[name][index]), float(numerical[index]), float(errors[index])))
    return found


def check_model(architecture, objective="elbo", backend="numpy", n_examples=3, n_samples=2, beta=0.7, l2=0.1, seed=0):
    """The worst element of each parameter of a random model, in float64, at a point near which its loss is smooth."""
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        p = Parameters.initialize(architecture, seed=seed)
        p.flat += 0.2 * rng.normal(size=p.flat.shape)
        x = rng.uniform(size=(n_examples, architecture.n_inputs))
        eps = rng.normal(size=(n_samples, n_examples, architecture.n_latent))
        arguments = x, eps, beta, l2, objective, backend
        gradients = loss_and_gradients(p, *arguments)[1]
        try:
            return check_gradients(lambda: loss(p, *arguments).total, p, gradients)
        except ValueError:
            continue
    raise RuntimeError(f"no smooth point found for {architecture}")
