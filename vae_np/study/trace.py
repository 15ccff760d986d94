"""One pass of the model, line by line: what each line reads and writes, and the proof of every derivative on it."""

import inspect
import re
import types
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from vae_np import elbo
from vae_np.buffers import buffers
from vae_np.choices import ESTIMATORS, OBJECTIVES
from vae_np.kernels import reference
from vae_np.parameters import Layer, Parameters
from vae_np.study.estimates import expectations
from vae_np.study.lines import Array, Line, Lines
from vae_np.study.proof import TOLERANCE, lines_of_same_arguments, perturbing, prove
from vae_np.study.surrogates import surrogate
from vae_np.study.watch import address_of, recorder, source_of, statements_of, watched


class Trace(Lines):
    """The Lines of a pass, which a notebook shows as a page."""

    def _repr_html_(self):
        from vae_np.study import page

        return page.fragment(self)


def trace(
    p: Parameters,
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "elbo",
    elements: int | None = 16,
    estimator: str = "total",
    **changed: Callable,
) -> Trace:
    """Run forward, backward and weight_gradients once, in NumPy's double precision, and prove each of their derivatives.

    Parameters
    ----------
    p, x, eps, beta, l2, objective
        As for `vae_np.loss_and_gradients`.
    elements : int or None
        How many elements of each derivative are compared with finite differences one by one: the largest ones and some others.
        None compares all of them. In addition, four random directions compare all elements at once.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        The estimator of the gradient by the encoder's parameters, of those that the objective has. What another one than "total"
        computes is not always the derivative of the loss of these samples. It is then compared with the derivative of its
        surrogate, and `Array.of_surrogate` is True.
    **changed : callable
        Functions of your own that replace the functions of the same name: those of the model (backward=...) or those of
        `kernels.reference` (relu_backward=...).

    Returns
    -------
    Trace
        `Trace.wrong` holds the lines at which a derivative goes wrong. A derivative is wrong when it is not that of `forward`;
        no derivative can show whether `forward` itself computes the right loss.

    Raises
    ------
    ValueError, TypeError
        An argument is refused by `loss_and_gradients`; there is no function of that name to replace, or its replacement is no
        function; the source of a function cannot be read, or a line of it holds two statements.

    Examples
    --------
    The derivative of tanh is 1 - h^2. If the square is forgotten, `wrong` finds the lines that call the operation:

    >>> import numpy as np
    >>> from vae_np import Architecture, Parameters
    >>> def tanh_backward(dh, y, h):
    ...     dh *= 1 - h
    ...     return dh
    >>> p = Parameters.initialize(Architecture(6, (5,), 2, activation="tanh"), seed=0)
    >>> x, eps = np.full((3, 6), 0.5), np.full((3, 2), 0.1)
    >>> trace(p, x, eps).wrong
    []
    >>> {line.operation for line in trace(p, x, eps, tanh_backward=tanh_backward).wrong}
    {'tanh_backward'}
    """
    elbo.check_parameters(p)
    functions, operations = _replaced(changed)
    text = tuple(functions.values())
    model, p, a, beta, l2 = elbo.prepare(
        p.astype("float64"), x, eps, beta, l2, objective, operations, text, estimator=estimator
    )
    L, B, _ = a.eps.shape
    d = buffers(p.architecture, objective, L, B, np.float64)
    g = Parameters.zeros(p.architecture)
    layers, g_layers = p.layers, g.layers
    values, weights = dict(_arrays(a)), dict(_arrays(layers))
    derivatives = _derivatives(d, g_layers)
    for name, array in (*_arrays(a), *_arrays(g_layers)):
        if name not in ("x", "eps"):
            array[...] = np.nan  # so that any value which is written there is a change
    names = {address_of(array): name for name, array in (values | weights | derivatives).items()}
    statements = {function.__code__: statements_of(function) for function in functions.values()}

    records = []
    with watched(statements, *recorder(records, names, values | derivatives)):
        model.forward(layers, a, beta)
        n_forward = len(records)
        model.backward(layers, a, d, beta, B)
        model.weight_gradients(layers, a, d, g_layers, l2)
    value = elbo.value_of(model, p, a, l2)

    def proofs_of(of_model, size, weighed=None):
        def loss(perturbation=None, layers=layers):
            """The loss, computed again; perturbation: the arguments of `perturbing`."""
            if perturbation:
                with watched(statements, *perturbing(*perturbation)):
                    of_model.forward(layers, a, beta)
            else:
                of_model.forward(layers, a, beta)
            return elbo.value_of(of_model, p, a, l2).total

        proofs = prove(records, n_forward, loss, size, values, weights, derivatives, layers, elements, weighed)
        model.forward(layers, a, beta)  # restores the values, which the perturbed passes have overwritten
        return proofs

    proofs, expected, operations_of = proofs_of(model, value.total), {}, ESTIMATORS[estimator].operations[objective]
    if operations_of:
        other = surrogate(operations, a, beta, objective, estimator)
        of_surrogate = proofs_of(
            elbo.bind(p.architecture, objective, other.operations, text, estimator=estimator),
            max(abs(value.total), other.size),
            {"z": (_weighing(records, operations_of), other.path_factor)},
        )
        proofs = {i: {name: _nearer(proof, of_surrogate[i][name]) for name, proof in of.items()} for i, of in proofs.items()}
        expected = expectations(p, a.x, len(a.eps), beta, l2, objective, estimator)
    pass_ = p, layers, a, beta, objective, estimator, operations, functions, values | weights
    parts = {term: _part(silencing, *pass_) for term, silencing in _silenced(operations, objective, estimator, d.nll).items()}
    arrays, apart = values | weights | derivatives, "bound_backward" not in operations_of
    lines = _lines(records, n_forward, proofs, arrays, _dimensions(p.architecture, a), parts, apart, expected)
    sources = {name: source_of(function) for name, function in functions.items()}
    arguments = {"beta": float(beta), "l2": float(l2), "objective": objective, "estimator": estimator}
    return Trace(lines, sources, value, p, a, arguments)


def _replaced(changed):
    """The functions of the model by name, and the kernel set, with the changed functions in place of the original ones."""
    functions = {function.__name__: function for function in elbo.TEXT}
    operations = {name: f for name, f in vars(reference).items() if not name.startswith("__")}
    known = [*functions, *(name for name, f in operations.items() if inspect.isfunction(f))]
    for name, function in changed.items():
        if name not in known:
            raise ValueError(f"there is no function {name!r} to replace; known are {', '.join(known)}")
        if not inspect.isfunction(function):
            raise TypeError(f"{name} is a {type(function).__name__}; it must be a function")
        (functions if name in functions else operations)[name] = function
    if not changed.keys() - functions.keys():
        return functions, reference
    kernel_set = types.ModuleType("vae_np.kernels.changed")
    vars(kernel_set).update(operations)
    return functions, kernel_set


def _weighing(records, operations_of):
    """The index of the line from which on dz is the estimate's: the one that weighs the samples, or that leaves out z."""
    weighing = "path_weight" if "path_weight" in operations_of else "divergence_backward"
    return next((i for i, record in enumerate(records) if record.call and record.call[0] == weighing), len(records))


def _nearer(of_loss, of_surrogate):
    """Of two Proofs of a derivative that of the loss, if it is one, or else that of the surrogate."""
    if of_loss.error <= max(TOLERANCE, of_surrogate.error):
        return of_loss
    return of_surrogate._replace(of_surrogate=True)


LAYER_SUMS = {"encoder_y": "encoder", "decoder_y": "decoder"}  # fields of Buffers that hold what the activations take


def _arrays(tree):
    """(name, array) of everything in Buffers or Weights that has elements, but for encoder[0] and decoder[0], which are x and z."""
    for field, value in tree._asdict().items():
        if field in LAYER_SUMS:
            yield from ((f"{LAYER_SUMS[field]}[{i}].y", y) for i, y in enumerate(value, 1) if y.size)
            continue
        several = type(value) is tuple
        for i, part in enumerate(value if several else (value,)):
            name = f"{field}[{i}]" if several else field
            if isinstance(part, Layer):
                yield from ((f"{name}.{letter}", array) for letter, array in zip("Wb", part) if array.size)
            elif i > 0 or not several:
                yield name, part


def _derivatives(d, g_layers):
    """{name: array} of all derivatives. The derivative of a layer's sum y has no array of its own: it takes the place of dh."""
    return {f"d{name}": array for name, array in (*_arrays(d), *_arrays(g_layers)) if not name.endswith(".y")}


# ----------------------------------------------------------------------------------------------------------- the lines

SINGLE_PATH = ".W", ".b", ".y"  # endings of the names of arrays that one line of the forward pass reads


def _lines(records, n_forward, proofs, arrays, dimensions, parts, apart, expected):
    """The Lines of what was recorded and proven."""
    lines, preactivations, wrong_names, through = [], {}, set(), {}
    last = {(name, proof.of_preactivation): i for i, of in sorted(proofs.items()) for name, proof in of.items()}

    def renamed(name):
        return preactivations.get(name, name)

    for i, record in enumerate(records):
        reads, arguments = tuple(map(renamed, record.reads)), {}
        if record.call:
            arguments = {parameter: renamed(name) for parameter, name in record.call[2].items()}
        symbols = [(start, end, renamed(name)) for start, end, name, stored in record.symbols if not stored]
        preactivations |= {name: f"{name}.y" for name, proof in proofs.get(i, {}).items() if proof.of_preactivation}
        symbols += [(start, end, renamed(name)) for start, end, name, stored in record.symbols if stored]
        of_line = {renamed(name): proof for name, proof in proofs.get(i, {}).items()}
        wrong_now = {name for name, proof in of_line.items() if proof.error > TOLERANCE}
        inherited = bool(wrong_now) and not wrong_names.isdisjoint(reads)
        unclear = {name for name in wrong_now if inherited and not name.endswith(SINGLE_PATH)}
        differentiates = frozenset().union(*(of_line[name].differentiates for name in of_line.keys() - unclear))
        if i >= n_forward and not differentiates:  # the paths do not tell where a derivative is 0, or reads a wrong one
            differentiates = frozenset(lines_of_same_arguments(records, n_forward, i))
        for name in unclear:  # the paths that it contains unless the wrong derivative hides them
            added = {j for j in differentiates if name[1:] in records[j].reads}
            of_line[name] = of_line[name]._replace(through=added | through.get(name, set()), missing_paths=frozenset())
        through |= {name: proof.through for name, proof in of_line.items()}
        writes = tuple(
            Array(renamed(name), value)
            if renamed(name) not in of_line
            else _proven(
                renamed(name),
                value,
                of_line[renamed(name)],
                {path: of[i - n_forward].get(name) for path, of in parts.items()},
                apart,
                "" if inherited else of_line[renamed(name)].cause,
                expected.get(renamed(name)) if last[name, of_line[renamed(name)].of_preactivation] == i else None,
            )
            for name, value in record.writes.items()
        )
        called = record.call[0] if record.call else ""
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
                differentiates=tuple(sorted(differentiates)),
                wrong=bool(wrong_now) and not inherited,
            )
        )
        wrong_names = wrong_names - {array.name for array in writes} | wrong_now
    return lines


def _proven(name, value, proof, parts, apart, cause, expectation):
    """The Array of a derivative; None stands for a part that is 0; apart: whether the terms of the loss part in an estimate."""
    parts = {path: np.zeros_like(value) if part is None else part for path, part in parts.items()}
    if name.endswith(".W"):
        parts["l2"] = value - parts["reconstruction"] - parts["kl"]
    if proof.of_surrogate and not apart:
        parts = {path: part for path, part in parts.items() if path not in ("reconstruction", "kl")}
    through, missing = tuple(sorted(proof.through)), tuple(sorted(proof.missing_paths))
    expectation = expectation if proof.of_surrogate else None
    return Array(name, value, proof.error, through, missing, parts, cause, proof.of_surrogate, expectation)


def _dimensions(architecture, a):
    """The sizes for which each letter of a shape may stand."""
    L, B, Z = a.eps.shape
    widths = set(architecture.hidden) or {architecture.n_inputs, Z}  # a linear model has x and z in place of hidden layers
    return {"B": {B}, "L": {L}, "K": {len(a.kl)}, "D": {architecture.n_inputs}, "Z": {Z}, "H": widths}


def _misshapen(comments, shapes, dimensions):
    """A sentence where an array does not have the shape that the line's comment says, else "".

    The last shape of the comment is for all arrays that follow. Where an array does not exist, as the weights of a constant, the
    last shapes of the comment count.
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
            return f"{name} has shape {shape}, but the comment on the line says ({comment})"
    return ""


# ------------------------------------------------------------------------------------------------ the terms of the loss


def _silenced(operations, objective, estimator, dnll):
    """{path from the loss: {operation: the same, without its results along all other paths}}

    The terms of the loss part at the bound, where dnll or dkl is set to 0. The paths into mu and logvar part at these two, where
    the derivatives that come directly from the KL, or those that come through z, are left out.
    """
    bound, divergence = f"{OBJECTIVES[objective].bound}_backward", f"{OBJECTIVES[objective].divergence}_backward"
    operations_of = ESTIMATORS[estimator].operations[objective]
    bound, divergence = operations_of.get("bound_backward", bound), operations_of.get("divergence_backward", divergence)
    path_weight = operations_of.get("path_weight", "unit_path_weight")

    def zeroing(name, *places):
        def operation(*arguments):
            results = vars(operations)[name](*arguments)
            for place in places:
                arguments[place][...] = 0
            return results

        return {name: operation}

    return {
        "reconstruction": zeroing(bound, -1),
        "kl": {
            **zeroing(bound, -2),
            path_weight: lambda _, *rest: vars(operations)[path_weight](dnll, *rest),  # the weights stay as they are
        },
        "z": zeroing(divergence, -2, -1),
        "divergence": {"reparameterize_backward_add": lambda *arguments: arguments[-2:]},
    }


def _part(silenced, p, layers, a, beta, objective, estimator, operations, functions, values):
    """What each line of the backward pass writes, {name: array}, where some operations are silenced."""
    one_path = types.ModuleType("vae_np.kernels.one_path")
    vars(one_path).update({**vars(operations), **silenced})
    L, B, _ = a.eps.shape
    d, g_layers = buffers(p.architecture, objective, L, B, np.float64), Parameters.zeros(p.architecture).layers
    model = elbo.bind(p.architecture, objective, one_path, tuple(functions.values()), estimator=estimator)
    derivatives = _derivatives(d, g_layers)
    names = {address_of(array): name for name, array in (values | derivatives).items()}
    statements = {function.__code__: statements_of(function) for function in functions.values()}
    records = []
    with watched(statements, *recorder(records, names, derivatives)):
        model.backward(layers, a, d, beta, B)
        model.weight_gradients(layers, a, d, g_layers, 0.0)
    return [record.writes for record in records]
