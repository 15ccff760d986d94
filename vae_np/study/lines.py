"""What is known of one pass of the model: its lines, and the arrays that each of them wrote."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import elbo
from vae_np.buffers import Buffers
from vae_np.deprecation import now_called
from vae_np.parameters import Parameters
from vae_np.study.proof import TOLERANCE


class Expectation(NamedTuple):
    """The mean of an estimate over eps: an integral by Gauss-Hermite quadrature, or the mean over draws."""

    mean: NDArray
    error: NDArray  # of each number: what the quadrature changes with fewer nodes, or the standard error of the mean
    n_draws: int  # 0 where it is an integral

    def __str__(self):
        if self.n_draws:
            error = np.linalg.norm(self.error)
            return f"by the mean over {self.n_draws} draws of eps (the norm of its standard error is {error:.2g})"
        return (
            f"an exact integral over eps by quadrature (with fewer nodes it changes by {np.abs(self.error).max():.0e} or less)"
        )


class Array(NamedTuple):
    """An array that a line wrote, and for a derivative its proof.

    The names are such as mu, encoder[1] and mu.W. dmu is the derivative of mu; dencoder[1].y is the derivative of the first
    hidden layer's sum y, from which its activation computes encoder[1].
    """

    name: str
    value: NDArray  # a copy
    error: float | None = None  # of a derivative: the largest relative error over the elements and directions that were tried
    through: tuple[int, ...] = ()  # the lines of the forward pass, by index, whose paths to the loss it contains
    missing_paths: tuple[int, ...] = ()  # the lines whose paths it should contain, too, because it is complete now
    parts: Mapping[str, NDArray] = {}  # of a derivative: {path: the part that comes along it}, for the paths of `paths.PATHS`
    cause: str = ""  # what is wrong with a derivative, in a sentence, where the line is wrong and the mistake is known
    of_surrogate: bool = (
        False  # an estimate, or a part of one: it is compared with the surrogate of the estimator, not the loss
    )
    expectation: Expectation | None = None  # the mean over eps of an estimate

    @property
    def lacks(self) -> tuple[int, ...]:
        """The old name of `missing_paths`."""
        warnings.warn(now_called("Array.lacks", "Array.missing_paths"), DeprecationWarning, stacklevel=2)
        return self.missing_paths


class Line(NamedTuple):
    """A statement of the model that ran. A statement in a loop has one Line for each time that it ran."""

    function: str
    number: int  # in the function's file
    source: str
    symbols: tuple  # of (start, end, name of an array): where the source names an array
    called: str  # the name by which the line calls an operation; "" where it calls none
    operation: str  # the operation for which that name stands here
    definition: str  # the operation's docstring
    arguments: dict[str, str]  # {parameter of the operation: name of the array, or the source of the argument}
    reads: tuple[str, ...]  # names of arrays
    writes: tuple[Array, ...]
    shapes: tuple[str, ...]  # of its results, as its comment has them
    misshapen: str  # a sentence where an array has another shape than the comment says, else ""
    composite: bool  # it only calls another function of the model, whose lines follow
    differentiates: tuple[int, ...]  # the lines of the forward pass that it differentiates, by index
    wrong: bool  # a derivative that it writes is wrong, although all that it reads is right

    @property
    def error(self) -> float | None:
        """The largest relative error of the derivatives that it writes; None where it writes none."""
        return max((array.error for array in self.writes if array.error is not None), default=None)

    @property
    def undoes(self) -> tuple[int, ...]:
        """The old name of `differentiates`."""
        warnings.warn(now_called("Line.undoes", "Line.differentiates"), DeprecationWarning, stacklevel=2)
        return self.differentiates


class Lines(list[Line]):
    """The Lines of a pass, in the order in which they began. It prints as a table.

    Attributes
    ----------
    sources : dict
        {name of a function: (number of its first line, its lines)}
    value : elbo.Value
        The loss, as `vae_np.loss` returns it.
    p, a
        The parameters, and all values of the pass.
    arguments : dict
        The values of "beta", "l2", "objective" and "estimator".
    """

    def __init__(self, lines, sources, value, p, a, arguments):
        super().__init__(lines)
        self.sources: dict[str, tuple[int, list[str]]] = sources
        self.value: elbo.Value = value
        self.p: Parameters = p
        self.a: Buffers = a
        self.arguments: dict = arguments

    @property
    def terms(self) -> dict[str, dict[str, NDArray]]:
        """{term of the loss: {name of a derivative: the part of its last value that comes from this term}}"""
        return {
            term: {array.name: array.parts[term] for line in self for array in line.writes if term in array.parts}
            for term in ("reconstruction", "kl", "l2")
        }

    @property
    def wrong(self) -> list[Line]:
        """The lines at which a derivative goes wrong, without the lines that only read a wrong one."""
        return [line for line in self if line.wrong]

    @property
    def worst(self) -> float:
        """The largest relative error of all derivatives."""
        return max(line.error for line in self if line.error is not None)

    def __str__(self):
        return "\n".join(
            f"{line.function}:{line.number:<4} {' '.join(line.source.split('#')[0].split()):<100} {_verdict(line)}".rstrip()
            for line in self
            if not line.composite
        )


def _verdict(line):
    """The relative error of a line in a table, and whether it is too large."""
    if line.error is None:
        return ""
    judgement = "" if line.error <= TOLERANCE else "WRONG" if line.wrong else "the line reads a wrong derivative"
    return f"relative error {line.error:.0e} {judgement}"
