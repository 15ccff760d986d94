"""The proof of every derivative that a pass computed: each one is compared with finite differences of the loss.

To find the derivative of the loss with respect to a value, the forward pass is run again. The value is perturbed just before a
line that reads it, and restored after that line: the loss then changes along this one path only. Where several lines read a
value, its derivative is the sum over these paths, and the lines of the backward pass add the paths one after the other. Each
line is compared with the paths that it and the lines before it have added. So the line that makes an error can be told from
the lines that only use its result.

Where an estimator takes the place of the derivative of the loss, the same is done with its surrogate.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np.kernels.contract import ENDINGS
from vae_np.parameters import Layer, Weights
from vae_np.study.watch import Hook, Record
from vae_np.testing.comparison import relative_errors
from vae_np.testing.derivatives import differences
from vae_np.testing.diagnosis import diagnose

TOLERANCE = 1e-6  # of a derivative's relative error; finite differences of the loss are good to about 1e-9
STEPS = (1e-3, 1e-4, 1e-5)  # of the finite differences: where one crosses a kink, the next is taken
N_DENSE = 4  # directions that perturb every element of an array
OF_ALL_ELEMENTS = "zero", "sign", "factor"  # kinds of mistakes that some of the elements show, too


class Proof(NamedTuple):
    """How far one derivative that a line writes is from finite differences, and which paths it contains."""

    error: float  # relative: the largest over all elements and directions that were tried
    through: frozenset[int]  # the lines of the forward pass, by index, whose paths to the loss it contains
    missing_paths: frozenset[int]  # the lines whose paths it should contain, too
    differentiates: frozenset[int]  # the lines whose paths this line has added
    of_preactivation: bool  # it is the derivative of a layer's sum y, not of its value h = f(y)
    cause: str = ""  # what is wrong with it, in a sentence, if it is wrong and the mistake is known
    of_surrogate: bool = False  # it was compared with the surrogate of an estimator, and not with the loss


def agreement(error: float, of_surrogate: bool = False) -> str:
    """How well a derivative agrees with finite differences of the loss or of a surrogate, in words that follow its name.

    Examples
    --------
    >>> agreement(6e-9)
    'agrees with a finite difference to 6e-09'
    >>> agreement(0.5)
    'has a relative error of 5e-01'
    """
    if error > TOLERANCE:
        return f"has a relative error of {error:.0e}"
    return f"agrees with a finite difference {'of its surrogate ' * of_surrogate}{f'to {error:.0e}' if error else 'exactly'}"


class _Probes(NamedTuple):
    """Directions in which an array is perturbed: some of its elements one by one, and some directions that change them all."""

    elements: NDArray  # (n,)
    dense: NDArray  #    (N_DENSE, size)

    @classmethod
    def of(cls, derivative: NDArray, elements: int | None):
        """The elements that are largest in the derivative, and as many others."""
        rng, size = np.random.default_rng(derivative.size), derivative.size
        if elements is None or size <= elements:
            chosen = np.arange(size)
        else:
            largest = np.argsort(-np.abs(derivative.reshape(-1)))[: elements // 2]
            chosen = np.union1d(largest, rng.choice(size, elements - len(largest), replace=False))
        return cls(chosen, rng.normal(size=(N_DENSE, size)) / size**0.5)

    def perturbed(self, array: NDArray, steps: NDArray) -> NDArray:
        """The array plus a step along each direction."""
        change = steps[len(self.elements) :] @ self.dense
        change[self.elements] += steps[: len(self.elements)]
        return array + change.reshape(array.shape)

    def along(self, derivative: NDArray) -> NDArray:
        """The directional derivatives that a derivative predicts."""
        flat = derivative.reshape(-1)
        return np.concatenate([flat[self.elements], self.dense @ flat])

    def error(self, given: NDArray, wanted: NDArray, resolution: float) -> float:
        """The largest relative error over all directions."""
        n = len(self.elements)
        error = 0.0
        for group in zip(np.split(given, [n]), np.split(wanted, [n])):
            errors = relative_errors(*group)
            errors = np.where(errors <= TOLERANCE, errors, relative_errors(*group, resolution))
            error = max(error, float(errors.max()))
        return error

    def cause(self, given: NDArray, wanted: NDArray, shape: tuple[int, ...], resolution: float) -> str:
        """What is wrong with a derivative of this shape, as `diagnose` says it; "" if it finds nothing."""
        n, size = len(self.elements), self.dense.shape[1]
        given, wanted = (array.reshape(shape) if n == size else array for array in (given[:n], wanted[:n]))
        found = diagnose(given, wanted, resolution=resolution, rtol=TOLERANCE)
        return found.sentence if found and (n == size or found.kind in OF_ALL_ELEMENTS) else ""


def prove(
    records: Sequence[Record],
    n_forward: int,
    loss: Callable[..., float],
    total: float,
    values: Mapping[str, NDArray],
    weights: Mapping[str, NDArray],
    derivatives: Mapping[str, NDArray],
    layers: Weights,
    elements: int | None,
    weighed: Mapping[str, tuple[int, NDArray]] | None = None,
) -> dict[int, dict[str, Proof]]:
    """Prove every derivative of a pass.

    Parameters
    ----------
    records : sequence of Record
        The statements that ran. The first n_forward of them belong to the forward pass.
    n_forward : int
        The number of statements of the forward pass.
    loss : callable
        loss(perturbation=None, layers=layers) runs the forward pass again; perturbation holds the arguments of `perturbing`.
    total : float
        The loss of the pass, or a larger number where the loss is a sum of terms that cancel.
    values, weights, derivatives : mapping
        {name: array}; the derivative of mu is called dmu.
    layers : Weights
        The parameters by layer.
    elements : int or None
        How many elements of each derivative are compared one by one; None compares all of them.
    weighed : mapping, optional
        {name of a value: (index of a line, factor)}. From this line on, its derivative has the factor.

    Returns
    -------
    dict
        {index of a line: {name of a derivative that it writes: Proof}}
    """
    resolution = 1e-11 * abs(total)

    def along(probes, loss_at):
        """The derivative of the loss along each direction, by finite differences."""
        steps = np.zeros(len(probes.elements) + N_DENSE)
        wanted, _, _ = differences(lambda: loss_at(steps), steps, STEPS)
        return wanted

    def of_path(probes, index, array, factor=None):
        def perturbed(steps):
            there = probes.perturbed(array, steps)
            return there if factor is None else array + factor * (there - array)

        return along(probes, lambda steps: loss((index, array, lambda: perturbed(steps))))

    def of_weight(probes, array):
        def loss_at(steps):
            original = array.copy()
            array[...] = probes.perturbed(array, steps)
            try:
                return loss()
            finally:
                array[...] = original

        return along(probes, loss_at)

    def of_preactivation(probes, name):
        """The derivative with respect to a layer's sum y: the same as that of a bias which each example had of its own."""
        part, i = name.rstrip("]").split("[")
        part_layers, i = list(getattr(layers, part)), int(i) - 1
        layer: Layer = part_layers[i]

        def loss_at(steps):
            part_layers[i] = layer._replace(b=probes.perturbed(np.broadcast_to(layer.b, values[name].shape), steps))
            return loss(layers=layers._replace(**{part: tuple(part_layers)}))

        return along(probes, loss_at)

    proofs: dict[int, dict[str, Proof]] = {}
    for dname in dict.fromkeys(name for record in records[n_forward:] for name in record.writes if name in derivatives):
        name, derivative = dname[1:], derivatives[dname]
        writing = [i for i in range(n_forward, len(records)) if dname in records[i].writes and not records[i].composite]
        readers = [i for i in range(n_forward) if name in records[i].reads and not records[i].composite]
        probes = _Probes.of(derivative, elements)
        if name in weights:
            wanted = of_weight(probes, weights[name])
            for i in writing:
                given, of = probes.along(records[i].writes[dname]), frozenset(readers)
                error = probes.error(given, wanted, resolution)
                cause = probes.cause(given, wanted, derivative.shape, resolution) if error > TOLERANCE else ""
                proofs.setdefault(i, {})[dname] = Proof(error, of, frozenset(), of, False, cause)
            continue
        from_line, factor = (weighed or {}).get(name, (len(records), None))
        unweighed = {i: of_path(probes, i, values[name]) for i in readers}
        with_factor = {} if factor is None else {i: of_path(probes, i, values[name], factor) for i in readers}
        by_bias = of_preactivation(probes, name) if re.fullmatch(r"(en|de)coder\[\d+\]", name) else None
        computed_by = frozenset(i for i in range(n_forward) if name in records[i].writes and not records[i].composite)
        of_name = _follow(
            [probes.along(records[i].writes[dname]) for i in writing],
            [forward_lines_of(records, n_forward, i) for i in writing],
            [name in records[i].reads for i in writing],
            [
                {
                    j: path
                    for j, path in (with_factor if i >= from_line else unweighed).items()
                    if np.abs(path).max() > resolution
                }
                for i in writing
            ],
            by_bias,
            name != "x",  # x is an input: the backward pass need not follow it along all its paths
            lambda given, wanted: probes.error(given, wanted, resolution),
            lambda given, wanted: probes.cause(given, wanted, derivative.shape, resolution),
        )
        for i, proof in zip(writing, of_name):
            proofs.setdefault(i, {})[dname] = proof._replace(differentiates=computed_by) if proof.of_preactivation else proof
    return proofs


def _follow(written, forward_lines, reads_value, paths, by_bias, complete, error_of, cause_of):
    """A Proof of each state of a derivative: the paths that it contains, which are those of the state before and perhaps more.

    `paths` has for each state the derivatives along all paths on which they are not 0. If the derivative must be complete, its last
    state must contain all paths. A missing path should have been added by the line whose operation is named after that path's, or
    else by the last line.
    """
    zero = np.zeros_like(written[0])

    def along(k, followed):
        return sum((paths[k][i] for i in followed), zero)

    proofs, followed = [], frozenset()
    for k, (given, of_activation) in enumerate(zip(written, reads_value)):
        rest = [i for i in paths[k] if i not in followed]
        more = [frozenset(some) for n in range(len(rest) + 1) for some in itertools.combinations(rest, n)]
        found = []
        for new in more:
            through = (followed | new) & paths[k].keys()
            found.append(Proof(error_of(given, along(k, through)), through, frozenset(), new, False))
        if by_bias is not None:
            found.append(Proof(error_of(given, by_bias), followed, frozenset(), frozenset(), True))
        # Of a wrong derivative only the operation tells what it should be: those of activations read the value, others do not.
        likely = [proof for proof in found if proof.of_preactivation == of_activation] or found
        proofs.append(next((proof for proof in found if proof.error <= TOLERANCE), min(likely, key=lambda proof: proof.error)))
        followed = proofs[-1].through
    gathering = [k for k, proof in enumerate(proofs) if not proof.of_preactivation]
    for path in paths[-1].keys() - followed if complete and gathering else ():
        named_after = [
            k for k in gathering if path in forward_lines[k] and not (proofs[k].differentiates and proofs[k].error <= TOLERANCE)
        ]
        first = (named_after or gathering[-1:])[0]
        for k in gathering:
            if k >= first:
                missing = proofs[k].missing_paths | {path}
                error = max(proofs[k].error, error_of(written[k], along(k, proofs[k].through | missing)))
                proofs[k] = proofs[k]._replace(error=error, missing_paths=missing)
    for k, proof in enumerate(proofs):
        if proof.error > TOLERANCE and not proof.missing_paths:
            wanted = by_bias if proof.of_preactivation else along(k, proof.through)
            cause = cause_of(written[k], wanted)
            if not cause and k and proofs[k - 1].error <= TOLERANCE and proof.differentiates:
                of_added = cause_of(written[k] - written[k - 1], along(k, proof.differentiates))
                cause = of_added and f"This is about what the line adds: {of_added[0].lower()}{of_added[1:]}"
            proofs[k] = proof._replace(cause=cause)
    return proofs


def forward_lines_of(records: Sequence[Record], n_forward: int, i: int) -> list[int]:
    """The lines of the forward pass that call the operation whose derivative line i calls, by their index."""
    if not records[i].call:
        return []
    called = records[i].call[0]
    return [j for j in range(n_forward) if records[j].call and called in [records[j].call[0] + ending for ending in ENDINGS]]


def lines_of_same_arguments(records: Sequence[Record], n_forward: int, i: int) -> list[int]:
    """The lines of the forward pass that line i differentiates, as its call tells: the two give what both take the same arguments.

    They are those of `forward_lines_of`, or else any, such as a hidden layer, whose operation has the layer's and an activation's
    derivative.
    """
    if not records[i].call:
        return []
    arguments = records[i].call[2]

    def same(j):
        common = [parameter for parameter in records[j].call[2] if parameter in arguments] if records[j].call else []
        return bool(common) and all(records[j].call[2][parameter] == arguments[parameter] for parameter in common)

    named_after = list(filter(same, forward_lines_of(records, n_forward, i)))
    return named_after or [j for j in range(n_forward) if not records[j].composite and same(j)]


def perturbing(index: int, array: NDArray, perturbed: Callable[[], NDArray]) -> tuple[Hook, Hook]:
    """The two functions for `watched` that give an array the values perturbed() while the line of that index runs, and only then."""
    count, original = 0, None

    def before(statement, frame):
        nonlocal count, original
        if count == index:
            original = array.copy()
            array[...] = perturbed()
        count += 1

    def after(statement, frame):
        nonlocal original
        if original is not None:
            array[...], original = original, None

    return before, after
