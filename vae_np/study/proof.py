"""The proof of every derivative that a pass wrote: its value is moved at that very point of the text, the loss differenced.

Where several lines read a value, its derivative is gathered path by path: each line is held to the paths that it and those
before it have followed, so that the line which is wrong is told from those that only go on with its result.
"""

import itertools
import re
from typing import NamedTuple

import numpy as np

from vae_np.testing.comparison import relative_errors
from vae_np.testing.derivatives import differences

TOLERANCE = 1e-6  # of a derivative's error; differences of the loss are good to some 1e-9
STEPS = (1e-3, 1e-4, 1e-5)  # of the differences: where one crosses a kink, the next is taken
N_DENSE = 4  # directions that move every element of an array


class Proof(NamedTuple):
    """Of one derivative that a line writes."""

    error: float  # relative, of the worst of the elements and directions that were tried
    through: frozenset  # the lines of forward through which it is followed to the loss, by their index
    lacks: frozenset  # those whose path it should have, too
    undoes: frozenset  # those that this line has added
    own: bool  # it is the derivative of what a layer's activation took, not of what it gave


class _Probes(NamedTuple):
    """Directions in which an array is moved: some elements one by one, and some directions that move them all."""

    elements: np.ndarray  # (n,)
    dense: np.ndarray  #    (N_DENSE, size)

    @classmethod
    def of(cls, derivative, elements):
        """The elements that the derivative says matter most, and as many others."""
        rng, size = np.random.default_rng(derivative.size), derivative.size
        if elements is None or size <= elements:
            chosen = np.arange(size)
        else:
            largest = np.argsort(-np.abs(derivative.reshape(-1)))[: elements // 2]
            chosen = np.union1d(largest, rng.choice(size, elements - len(largest), replace=False))
        return cls(chosen, rng.normal(size=(N_DENSE, size)) / size**0.5)

    def moved(self, array, steps):
        """The array, with a step along each direction."""
        more = steps[len(self.elements) :] @ self.dense
        more[self.elements] += steps[: len(self.elements)]
        return array + more.reshape(array.shape)

    def along(self, derivative):
        """What a derivative says of a step along each direction."""
        flat = derivative.reshape(-1)
        return np.concatenate([flat[self.elements], self.dense @ flat])

    def error(self, given, wanted, resolution):
        """The largest relative error along any direction."""
        n = len(self.elements)
        error = 0.0
        for group in zip(np.split(given, [n]), np.split(wanted, [n])):
            errors = relative_errors(*group)
            errors = np.where(errors <= TOLERANCE, errors, relative_errors(*group, resolution))
            error = max(error, float(errors.max()))
        return error


def prove(seen, n_forward, loss, total, values, weights, derivatives, layers, elements):
    """{index of a line: {name of a derivative that it writes: Proof}}"""
    resolution = 1e-11 * abs(total)

    def along(probes, loss_at):
        """The derivative of the loss along each direction."""
        steps = np.zeros(len(probes.elements) + N_DENSE)
        wanted, _, _ = differences(lambda: loss_at(steps), steps, STEPS)
        return wanted

    def of_path(probes, index, array):
        return along(probes, lambda steps: loss((index, array, lambda: probes.moved(array, steps))))

    def of_weight(probes, array):
        def loss_at(steps):
            here = array.copy()
            array[...] = probes.moved(array, steps)
            try:
                return loss()
            finally:
                array[...] = here

        return along(probes, loss_at)

    def of_own(probes, name):
        """Of what an activation takes: as much as of a bias that each example had of its own."""
        part, i = name.rstrip("]").split("[")
        part_layers, i = list(getattr(layers, part)), int(i) - 1
        layer = part_layers[i]

        def loss_at(steps):
            part_layers[i] = layer._replace(b=probes.moved(np.broadcast_to(layer.b, values[name].shape), steps))
            return loss(layers=layers._replace(**{part: tuple(part_layers)}))

        return along(probes, loss_at)

    proofs = {}
    for dname in dict.fromkeys(name for record in seen[n_forward:] for name in record.writes if name in derivatives):
        name, derivative = dname[1:], derivatives[dname]
        writing = [i for i in range(n_forward, len(seen)) if dname in seen[i].writes and not seen[i].composite]
        readers = [i for i in range(n_forward) if name in seen[i].reads and not seen[i].composite]
        probes = _Probes.of(derivative, elements)
        if name in weights:
            wanted = of_weight(probes, weights[name])
            for i in writing:
                error = probes.error(probes.along(seen[i].writes[dname]), wanted, resolution)
                proofs.setdefault(i, {})[dname] = Proof(error, frozenset(readers), frozenset(), frozenset(readers), False)
            continue
        paths = {i: of_path(probes, i, values[name]) for i in readers}
        own = of_own(probes, name) if re.fullmatch(r"(en|de)coder\[\d+\]", name) else None
        made_by = frozenset(i for i in range(n_forward) if name in seen[i].writes and not seen[i].composite)
        of_name = _follow(
            [probes.along(seen[i].writes[dname]) for i in writing],
            [namesakes_of(seen, n_forward, i) for i in writing],
            {i: path for i, path in paths.items() if np.abs(path).max() > resolution},
            own,
            name != "x",  # x is given: no line need follow it along all its paths
            lambda given, wanted: probes.error(given, wanted, resolution),
        )
        for i, proof in zip(writing, of_name):
            proofs.setdefault(i, {})[dname] = proof._replace(undoes=made_by) if proof.own else proof
    return proofs


def _follow(written, namesakes, paths, own, whole, error_of):
    """A Proof of each state that a derivative takes: which paths it holds, the one before's and some more, and how exactly.

    If it is to be whole, it must hold all in the end. A path that is lacking should have come with the line that is named
    after it, or with the last.
    """
    zero = np.zeros_like(written[0])

    def error_with(given, followed):
        return error_of(given, sum((paths[i] for i in followed), zero))

    proofs, followed = [], frozenset()
    for given in written:
        rest = [i for i in paths if i not in followed]
        more = [frozenset(some) for n in range(len(rest) + 1) for some in itertools.combinations(rest, n)]
        found = [Proof(error_with(given, followed | new), followed | new, frozenset(), new, False) for new in more]
        if own is not None:
            found.append(Proof(error_of(given, own), followed, frozenset(), frozenset(), True))
        proofs.append(next((proof for proof in found if proof.error <= TOLERANCE), min(found, key=lambda proof: proof.error)))
        followed = proofs[-1].through
    gathering = [k for k, proof in enumerate(proofs) if not proof.own]
    for path in paths.keys() - followed if whole and gathering else ():
        should = [k for k in gathering if path in namesakes[k] and not (proofs[k].undoes and proofs[k].error <= TOLERANCE)]
        first = (should or gathering[-1:])[0]
        for k in gathering:
            if k >= first:
                lacks = proofs[k].lacks | {path}
                error = max(proofs[k].error, error_with(written[k], proofs[k].through | lacks))
                proofs[k] = proofs[k]._replace(error=error, lacks=lacks)
    return proofs


def namesakes_of(seen, n_forward, i):
    """The lines of forward whose operation's derivative line i calls, by its name."""
    called = re.sub(r"(_backward|_backward_add|_gradients)$", "", seen[i].call[0] if seen[i].call else "")
    return [j for j in range(n_forward) if seen[j].call and seen[j].call[0] == called]


def nudging(index, array, moved):
    """before, after for `watched`: while the line of that index runs, and no longer, the array is as moved() gives it."""
    count, here = 0, None

    def before(statement, frame):
        nonlocal count, here
        if count == index:
            here = array.copy()
            array[...] = moved()
        count += 1

    def after(statement, frame):
        nonlocal here
        if here is not None:
            array[...], here = here, None

    return before, after
