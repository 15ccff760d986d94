"""One pass of the text, line by line: what each line reads and writes, and the proof of every derivative on it."""

import inspect
import re
import types
from typing import NamedTuple

import numpy as np

from vae_np import elbo
from vae_np.kernels import reference
from vae_np.parameters import Layer, Parameters
from vae_np.study.proof import TOLERANCE, namesakes_of, nudging, prove
from vae_np.study.watch import place_of, recorder, source_of, statements_of, watched


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
        """The loss once more; nudge: the arguments of `nudging`."""
        if nudge:
            with watched(statements, *nudging(*nudge)):
                text.forward(layers, a, beta)
        else:
            text.forward(layers, a, beta)
        return elbo.value_of(text, p, a, l2).total

    proofs = prove(seen, n_forward, loss, value.total, values, weights, derivatives, layers, elements)
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
    kernel_set = types.ModuleType("vae_np.kernels.changed")
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
            undoes = namesakes_of(seen, n_forward, i)
        wrong_now = {array.name for array in writes if array.error is not None and array.error > TOLERANCE}
        shapes = re.findall(r"\(([^()]*)\)", record.statement.source.partition("#")[2])
        results = [name for *_, name, stored in record.symbols if stored] or list(record.writes)
        lines.append(
            Line(
                function=record.statement.function,
                number=record.statement.number,
                source=record.statement.source,
                symbols=tuple(sorted(symbols)),
                called=called,
                operation=record.call[1].__name__ if called else "",
                definition=(record.call[1].__doc__ or "") if called else "",
                arguments=arguments,
                reads=reads,
                writes=writes,
                shapes=tuple(shapes),
                misshapen=_misshapen(shapes, {name: arrays[name].shape for name in results if name in arrays}, dimensions),
                composite=record.composite,
                undoes=tuple(sorted(undoes)),
                wrong=bool(wrong_now) and not off.intersection(reads),
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

        one_term = types.ModuleType(f"vae_np.kernels.{term}")
        vars(one_term).update({**vars(operations), name: bound_backward})
        d, g = elbo.nodes(p.architecture, objective, *a.eps.shape[:2], np.float64), Parameters.zeros(p.architecture)
        part_text = elbo.bind(p.architecture, objective, one_term, functions)
        g_layers = g.layers
        part_text.backward(layers, a, d, beta, len(a.x))
        part_text.weight_gradients(layers, a, d, g_layers, 0.0)
        parts[term] = {f"d{name}": array for name, array in (*_arrays(d), *_arrays(g_layers))}
    parts["l2"] = {name: array - parts["reconstruction"][name] - parts["kl"][name] for name, array in derivatives.items()}
    return parts
