"""One pass of the text, line by line: what each line reads and writes, and the proof of every derivative on it.

The proof perturbs a value at that very point of the running text and differences the loss. Where several lines read a value,
its derivative is gathered path by path: each line is held to the paths that it and those before it have followed, so that the
line which is wrong is told from those that only go on with its result.
"""

import inspect
import itertools
import re
import types
from typing import NamedTuple

import numpy as np

from kernels import reference
from vae_np import elbo
from vae_np.parameters import Layer, Parameters
from vae_np.study.watch import place_of, recorder, source_of, statements_of, watched
from vae_np.testing.comparison import relative_errors
from vae_np.testing.gradients import is_smooth, numerical_gradient

TOLERANCE = 1e-6  # of a derivative's error; differences of the loss are good to some 1e-9
STEPS = (1e-3, 1e-4, 1e-5)  # of the differences: where one crosses a kink, the next is taken
N_DENSE = 4  # directions that move every element of an array


class Array(NamedTuple):
    """What a line wrote, and for a derivative how far off it is."""

    name: str  # mu, encoder[1], mu.W; dmu is the derivative of mu, dencoder[1].y of what the layer's activation took
    value: np.ndarray  # a copy
    error: float | None = None  # relative, of the worst of the elements and directions that were tried
    through: tuple = ()  # the lines of `forward` through which it has been followed to the loss, by their index
    lacks: tuple = ()  # those whose path it should have, too, now that it is used


class Line(NamedTuple):
    """A statement of the text that ran; one in a loop has a Line for each time."""

    function: str
    number: int  # in the function's file
    source: str
    symbols: tuple  # (start, end, name) of the source where it names an array
    called: str  # the operation, by the name that the text gives it; "" where it calls none
    operation: str  # what that name stands for here
    definition: str  # its docstring
    arguments: dict  # {parameter of the operation: name of the array, or the words that stand there}
    reads: tuple  # names of arrays
    writes: tuple  # of Array
    shapes: tuple  # of its results, as its comment has them
    misshapen: str  # a sentence where an array has another shape
    composite: bool  # it only calls another function of the text, whose lines follow
    undoes: tuple  # of a line of backward or weight_gradients: the lines of forward that it differentiates, by their index
    wrong: bool  # a derivative that it writes is off, and all that it reads are right

    @property
    def error(self):
        """The largest error on it; None where it writes no derivative."""
        return max((array.error for array in self.writes if array.error is not None), default=None)


class Trace(list):
    """The Lines in the order in which they began. Printed it is a table, in a notebook a page."""

    def __init__(self, lines, sources, value, p, a, terms, arguments):
        super().__init__(lines)
        self.sources = sources  # of the functions: {name: (number of the first line, [lines])}
        self.value = value  # the loss, as `vae_np.loss` gives it
        self.p, self.a = p, a  # the parameters, and the elbo.Nodes with all values of the pass
        self.terms = terms  # {term of the loss: {name of a derivative: what this term gives to it}}
        self.arguments = arguments  # {"beta", "l2", "objective"}

    @property
    def wrong(self):
        """The lines at which a derivative goes wrong; not those that read what is wrong already."""
        return [line for line in self if line.wrong]

    @property
    def worst(self):
        """The largest error of all."""
        return max(line.error for line in self if line.error is not None)

    def __str__(self):
        return "\n".join(
            f"{line.function}:{line.number:<4} {' '.join(line.source.split('#')[0].split()):<100} {_verdict(line)}".rstrip()
            for line in self
            if not line.composite
        )

    def _repr_html_(self):
        from vae_np.study import page

        return page.fragment(self)


def _verdict(line):
    if line.error is None:
        return ""
    off = "" if line.error <= TOLERANCE else "WRONG" if line.wrong else "reads what is wrong"
    return f"{line.error:.0e} {off}"


def trace(p, x, eps, beta=1.0, l2=0.0, objective="elbo", elements=16, **changed):
    """Run forward, backward and weight_gradients once, in NumPy's double precision, and prove them line by line: a Trace.

    p, x, eps, beta, l2, objective: as for `vae_np.loss_and_gradients`. changed: functions of your own in place of those of that
    name, be they of the text (backward=...) or of `kernels.reference` (relu_backward=...). `Trace.wrong` then are the lines
    of it at which a derivative goes wrong; "wrong" is relative to `forward`: that the loss is the right one, no derivative shows.

    Of each derivative so many `elements` are compared one by one (the largest and some others; None: all of them), and all at
    once along four random directions.

    ValueError, TypeError: as for `loss_and_gradients`; there is nothing of that name to change; its source cannot be read.
    """
    elbo._check_parameters(p)
    functions, operations = _with(changed)
    prepared = p.astype("float64"), x, eps, beta, l2, objective, operations, tuple(functions.values())
    text, p, a, beta, l2 = elbo._prepare(*prepared)
    d = elbo.nodes(p.architecture, objective, *a.eps.shape[:2], np.float64)
    g = Parameters.zeros(p.architecture)
    layers, g_layers = p.layers, g.layers
    values, weights = dict(_arrays(a)), dict(_arrays(layers))
    derivatives = {f"d{name}": array for name, array in (*_arrays(d), *_arrays(g_layers))}
    for name, array in (*_arrays(a), *_arrays(g_layers)):
        if name not in ("x", "eps"):
            array[...] = np.nan  # so that it is seen when one is filled
    names = {place_of(array): name for name, array in (values | weights | derivatives).items()}
    statements = {function.__code__: statements_of(function) for function in functions.values()}

    seen = []
    with watched(statements, *recorder(seen, names, values | derivatives)):
        text.forward(layers, a, beta)
        n_forward = len(seen)
        text.backward(layers, a, d, beta, len(a.x))
        text.weight_gradients(layers, a, d, g_layers, l2)
    value = elbo.value_of(text, p, a, l2)

    def loss(nudge=None, layers=layers):
        """The loss once more; nudge: the arguments of `_nudging`."""
        if nudge:
            with watched(statements, *_nudging(*nudge)):
                text.forward(layers, a, beta)
        else:
            text.forward(layers, a, beta)
        return elbo.value_of(text, p, a, l2).total

    proofs = _prove(seen, n_forward, loss, value.total, values, weights, derivatives, layers, elements)
    lines = _lines(seen, n_forward, proofs, values | weights | derivatives, _dimensions(p.architecture, a))
    text.forward(layers, a, beta)  # the values as they were: a nudged pass has left its own
    terms = _terms(p, layers, a, beta, objective, operations, tuple(functions.values()), derivatives, text)
    sources = {name: source_of(function) for name, function in functions.items()}
    return Trace(lines, sources, value, p, a, terms, {"beta": float(beta), "l2": float(l2), "objective": objective})


def _with(changed):
    """The functions of the text and the kernel set, with the changed ones in their places."""
    functions = {function.__name__: function for function in elbo.TEXT}
    operations = {name: f for name, f in vars(reference).items() if not name.startswith("__")}
    known = [*functions, *(name for name, f in operations.items() if inspect.isfunction(f))]
    for name, function in changed.items():
        if name not in known:
            raise ValueError(f"there is no {name!r} to change; known are {', '.join(known)}")
        if not inspect.isfunction(function):
            raise TypeError(f"{name} is a {type(function).__name__}; it must be a function")
        (functions if name in functions else operations)[name] = function
    if not changed.keys() - functions.keys():
        return functions, reference
    kernel_set = types.ModuleType("kernels.changed")
    vars(kernel_set).update(operations)
    return functions, kernel_set


def _arrays(tree):
    """(name, array) of everything in elbo.Nodes or in Weights; encoder[0] is x and decoder[0] is z, where those are nodes."""
    for field, value in zip(tree._fields, tree):
        several = type(value) is tuple
        for i, part in enumerate(value if several else (value,)):
            name = f"{field}[{i}]" if several else field
            if isinstance(part, Layer):
                yield from ((f"{name}.{letter}", array) for letter, array in zip("Wb", part) if array.size)
            elif i > 0 or not several:
                yield name, part


# ----------------------------------------------------------------------------------------------------------- the proof


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


class _Proof(NamedTuple):
    """Of one derivative that a line writes."""

    error: float
    through: frozenset  # indices of lines of forward
    lacks: frozenset
    undoes: frozenset
    own: bool  # it is the derivative of what a layer's activation took, not of what it gave


def _prove(seen, n_forward, loss, total, values, weights, derivatives, layers, elements):
    """{index of a line: {name of a derivative that it writes: _Proof}}"""
    resolution = 1e-11 * abs(total)

    def differences(probes, loss_at):
        steps = np.zeros(len(probes.elements) + N_DENSE)
        for step in STEPS:
            wanted, doubt = numerical_gradient(lambda: loss_at(steps), steps, step)
            if is_smooth(wanted, doubt, resolution):
                break
        return wanted

    def of_path(probes, index, array):
        return differences(probes, lambda steps: loss((index, array, lambda: probes.moved(array, steps))))

    def of_weight(probes, array):
        def loss_at(steps):
            here = array.copy()
            array[...] = probes.moved(array, steps)
            try:
                return loss()
            finally:
                array[...] = here

        return differences(probes, loss_at)

    def of_own(probes, name):
        """Of what an activation takes: as much as of a bias that each example had of its own."""
        part, i = name.rstrip("]").split("[")
        part_layers, i = list(getattr(layers, part)), int(i) - 1
        layer = part_layers[i]

        def loss_at(steps):
            part_layers[i] = layer._replace(b=probes.moved(np.broadcast_to(layer.b, values[name].shape), steps))
            return loss(layers=layers._replace(**{part: tuple(part_layers)}))

        return differences(probes, loss_at)

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
                proofs.setdefault(i, {})[dname] = _Proof(error, frozenset(readers), frozenset(), frozenset(readers), False)
            continue
        paths = {i: of_path(probes, i, values[name]) for i in readers}
        own = of_own(probes, name) if re.fullmatch(r"(en|de)coder\[\d+\]", name) else None
        made_by = frozenset(i for i in range(n_forward) if name in seen[i].writes and not seen[i].composite)
        of_name = _follow(
            [probes.along(seen[i].writes[dname]) for i in writing],
            [_namesakes(seen, n_forward, i) for i in writing],
            {i: path for i, path in paths.items() if np.abs(path).max() > resolution},
            own,
            name != "x",  # x is given: no line need follow it along all its paths
            lambda given, wanted: probes.error(given, wanted, resolution),
        )
        for i, proof in zip(writing, of_name):
            proofs.setdefault(i, {})[dname] = proof._replace(undoes=made_by) if proof.own else proof
    return proofs


def _follow(written, namesakes, paths, own, whole, error_of):
    """A _Proof of each state that a derivative takes: which paths it holds, the one before's and some more, and how exactly.

    If it is to be whole, it must hold all in the end. A path that is lacking should have come with the line named after it, or with the last.
    """
    zero = np.zeros_like(written[0])

    def error_with(given, followed):
        return error_of(given, sum((paths[i] for i in followed), zero))

    proofs, followed = [], frozenset()
    for given in written:
        rest = [i for i in paths if i not in followed]
        more = [frozenset(some) for n in range(len(rest) + 1) for some in itertools.combinations(rest, n)]
        found = [_Proof(error_with(given, followed | new), followed | new, frozenset(), new, False) for new in more]
        if own is not None:
            found.append(_Proof(error_of(given, own), followed, frozenset(), frozenset(), True))
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


def _namesakes(seen, n_forward, i):
    """The lines of forward whose operation's derivative line i calls, by its name."""
    called = re.sub(r"(_backward|_backward_add|_gradients)$", "", seen[i].call[0] if seen[i].call else "")
    return [j for j in range(n_forward) if seen[j].call and seen[j].call[0] == called]


def _nudging(index, array, moved):
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


# ----------------------------------------------------------------------------------------------------------- the lines


def _lines(seen, n_forward, proofs, arrays, dimensions):
    """The Lines of what was seen and proven."""
    lines, own, off = [], {}, set()
    for i, record in enumerate(seen):
        of_line = proofs.get(i, {})
        renamed = lambda name: own.get(name, name)  # noqa: E731
        reads, arguments = tuple(map(renamed, record.reads)), {}
        if record.call:
            arguments = {parameter: renamed(name) for parameter, name in record.call[2].items()}
        symbols = [(start, end, renamed(name)) for start, end, name, stored in record.symbols if not stored]
        own |= {name: f"{name}.y" for name, proof in of_line.items() if proof.own}
        symbols += [(start, end, renamed(name)) for start, end, name, stored in record.symbols if stored]
        writes = tuple(
            Array(renamed(name), value, *(_of_proof(of_line[name]) if name in of_line else ()))
            for name, value in record.writes.items()
        )
        undoes = frozenset().union(*(proof.undoes for proof in of_line.values()))
        called = record.call[0] if record.call else ""
        if not undoes and i >= n_forward:  # a path along which nothing comes back
            undoes = _namesakes(seen, n_forward, i)
        wrong_now = {array.name for array in writes if array.error is not None and array.error > TOLERANCE}
        shapes = re.findall(r"\(([^()]*)\)", record.statement.source.partition("#")[2])
        results = [name for *_, name, stored in record.symbols if stored] or list(record.writes)
        lines.append(
            Line(
                record.statement.function,
                record.statement.number,
                record.statement.source,
                tuple(sorted(symbols)),
                called,
                record.call[1].__name__ if called else "",
                (record.call[1].__doc__ or "") if called else "",
                arguments,
                reads,
                writes,
                tuple(shapes),
                _misshapen(shapes, {name: arrays[name].shape for name in results if name in arrays}, dimensions),
                record.composite,
                tuple(sorted(undoes)),
                bool(wrong_now) and not off.intersection(reads),
            )
        )
        off = off - {array.name for array in writes} | wrong_now
    return lines


def _of_proof(proof):
    return proof.error, tuple(sorted(proof.through)), tuple(sorted(proof.lacks))


def _dimensions(architecture, a):
    """What the letters of a shape may stand for."""
    L, B, Z = a.eps.shape
    widths = set(architecture.hidden) or {architecture.n_inputs, Z}  # of a linear model, what stands in their place
    return {"B": {B}, "L": {L}, "K": {len(a.kl)}, "D": {architecture.n_inputs}, "Z": {Z}, "H": widths}


def _misshapen(comments, shapes, dimensions):
    """A sentence where the arrays have not the shapes that a comment tells.

    The last is for all that follow. Where there is no first array, as a constant has no weights, the last comments count.
    """
    comments = comments[-len(shapes) :]
    comments += comments[-1:] * (len(shapes) - len(comments))
    for (name, shape), comment in zip(shapes.items(), comments):
        axes = [axis.strip() for axis in comment.split(",") if axis.strip()]
        fit = len(axes) == len(shape) and all(
            any(size in dimensions.get(word, ()) or str(size) == word for word in axis.split(" or "))
            for size, axis in zip(shape, axes)
        )
        if not fit:
            return f"{name} has shape {shape}, which is not ({comment})"
    return ""


# ------------------------------------------------------------------------------------------------ the terms of the loss


def _terms(p, layers, a, beta, objective, operations, functions, derivatives, text):
    """{term: {name: the part of that derivative which comes from it}}; what is left over of all is l2's."""
    name = f"{elbo.OBJECTIVES[objective]['bound']}_backward"
    parts = {}
    for term, silenced in {"reconstruction": -1, "kl": -2}.items():

        def bound_backward(*arguments, silenced=silenced):
            results = getattr(operations, name)(*arguments)
            arguments[silenced][...] = 0
            return results

        one_term = types.ModuleType(f"kernels.{term}")
        vars(one_term).update({**vars(operations), name: bound_backward})
        d, g = elbo.nodes(p.architecture, objective, *a.eps.shape[:2], np.float64), Parameters.zeros(p.architecture)
        part_text = elbo.bind(p.architecture, objective, one_term, functions)
        g_layers = g.layers
        part_text.backward(layers, a, d, beta, len(a.x))
        part_text.weight_gradients(layers, a, d, g_layers, 0.0)
        parts[term] = {f"d{name}": array for name, array in (*_arrays(d), *_arrays(g_layers))}
    parts["l2"] = {name: array - parts["reconstruction"][name] - parts["kl"][name] for name, array in derivatives.items()}
    return parts
