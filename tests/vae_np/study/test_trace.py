"""The trace: it has every line of the model and proves it, and it finds a planted fault at its line."""

import ast
import inspect
import io
import itertools
import linecache
import re

import numpy as np
import pytest
from rich.console import Console

from vae_np import Architecture, elbo, loss, loss_and_gradients
from vae_np.choices import ACTIVATIONS, OBJECTIVES
from vae_np.kernels import reference
from vae_np.study import page, terminal, trace
from vae_np.study.formulas import equations, parse
from vae_np.study.proof import N_DENSE, TOLERANCE, _Probes
from vae_np.study.watch import statements_of
from vae_np.testing import assert_close, random_problem
from vae_np.testing.problems import every_kind

ARCH = Architecture(6, (5, 4), 3, "tanh", "bernoulli")
PROBLEM = random_problem(ARCH)
PROBLEMS = list(every_kind())


@pytest.mark.parametrize(
    "problem",
    PROBLEMS[::7],  # each likelihood, activation and objective: none of their numbers has a factor in common with 7
    ids=lambda q: f"{q.p.architecture.likelihood}-{q.p.architecture.noise}-{q.p.architecture.activation}-{q.objective}",
)
def test_every_line_is_covered_and_right_and_every_derivative_is_the_one_that_trains(problem):
    lines = trace(*problem, elements=None)
    assert lines.worst < TOLERANCE and not lines.wrong
    assert not [line for line in lines if line.misshapen]
    ran = {(line.function, line.number) for line in lines}
    for function in elbo.TEXT:
        for statement in statements_of(function).values():
            if statement.source.startswith('"""') or (len(problem.p.architecture.hidden) < 2 and "[i" in statement.source):
                continue  # some lines in a loop run only where there are two hidden layers
            assert (function.__name__, statement.number) in ran, statement.source
    proven = {array.name: array for line in lines for array in line.writes if array.error is not None}
    value, g = loss_and_gradients(*problem)
    assert value.total == lines.value.total
    names = {"noise.logvar": "doutput_logvar.b"}
    for name in g:
        part, *i, letter = name.split(".")
        traced = names.get(name, f"d{part}[{i[0]}].{letter}" if i else f"d{name}")
        assert_close(proven[traced].value, g[name], name, rtol=0.0)
    for node in ("mu", "logvar", "z", "output", "nll", "kl"):
        assert f"d{node}" in proven


def test_the_largest_elements_are_probed_and_every_probe_counts():
    derivative = np.random.default_rng(0).normal(size=(40, 30))
    probes = _Probes.of(derivative, 16)
    largest = set(np.argsort(-np.abs(derivative.reshape(-1)))[:8])
    assert len(probes.elements) == 16 and largest <= set(probes.elements)
    along = probes.along(derivative)
    assert len(along) == 16 + N_DENSE and probes.error(along, along, 0.0) == 0
    for i in range(len(along)):
        wrong = along.copy()
        wrong[i] *= 1.01
        assert probes.error(wrong, along, 0.0) > 1e-4


@pytest.mark.parametrize("index", range(6))
def test_a_single_element_that_is_off_is_seen_along_the_dense_directions(index):
    derivative = np.random.default_rng(0).normal(size=(40, 30))
    probes, wrong = _Probes.of(derivative, 16), derivative.copy()
    others = [i for i in np.argsort(np.abs(derivative.reshape(-1))) if i not in probes.elements]
    wrong.reshape(-1)[others[index]] += 0.01 * np.abs(derivative).max()
    assert probes.error(probes.along(wrong), probes.along(derivative), 0.0) > TOLERANCE


@pytest.mark.parametrize("problem", PROBLEMS[-3:], ids=lambda problem: problem.objective)
def test_the_values_it_shows_are_those_of_the_pass_and_not_of_a_moved_one(problem):
    lines = trace(*problem)
    assert (lines.p.flat == problem.p.flat).all()
    shown = {
        array.name: array.value for line in lines if line.function in ("encoder", "decoder", "forward") for array in line.writes
    }
    kept = {
        "mu": lines.a.mu,
        "logvar": lines.a.logvar,
        "z": lines.a.z,
        "output": lines.a.output,
        "nll": lines.a.nll,
        "kl": lines.a.kl,
    }
    kept |= {f"{part}[{i}]": array for part in ("encoder", "decoder") for i, array in enumerate(getattr(lines.a, part)) if i}
    kept["loss"] = lines.a.loss
    assert kept.keys() <= shown.keys()
    for name, array in kept.items():
        assert (array == shown[name]).all(), name
    assert (lines.a.loss == loss(*problem).per_example).all()


def test_lines_say_what_they_read_write_and_differentiate():
    lines = trace(*PROBLEM)
    of = {line.source.split("#")[0].strip(): line for line in lines}
    sample = of["z = reparameterize(mu, logvar, a.eps, a.z)"]
    assert (sample.called, sample.operation, sample.reads) == ("reparameterize", "reparameterize", ("mu", "logvar", "eps"))
    assert sample.definition == reference.reparameterize.__doc__ and sample.shapes == ("L, B, Z",)
    assert [array.name for array in sample.writes] == ["z"]
    assert sample.arguments == {"mu": "mu", "logvar": "logvar", "eps": "eps", "z": "z"}
    assert [sample.source[start:end] for start, end, name in sample.symbols if name == "z"] == ["z", "a.z"]
    back = of["dmu, dlogvar = reparameterize_backward_add(dz, a.mu, a.logvar, a.eps, dmu, dlogvar)"]
    assert [lines[i] for i in back.differentiates] == [sample]
    through_kl = of["dz, dmu, dlogvar = divergence_backward(dkl, a.mu, a.logvar, a.eps, a.z, dh, d.mu, d.logvar)"]
    kl, both = through_kl.writes[1], back.writes[0]
    assert kl.name == both.name == "dmu" and set(kl.through) < set(both.through)
    assert [lines[i].called for i in both.through] == ["reparameterize", "divergence"]
    assert_close(kl.value, 0.7 / 3 * lines.a.mu, "dmu through the KL")


def test_symbols_stand_where_the_source_names_an_array():
    lines = trace(*PROBLEM)
    assert any("\n" in line.source for line in lines), "a statement of several lines is among them"
    for line in lines:
        named = [(line.source[start:end], name) for start, end, name in line.symbols]
        for words, name in named:
            assert isinstance(ast.parse(words, mode="eval").body, (ast.Name, ast.Attribute, ast.Subscript)), words
            if "[" not in words and words not in ("h", "top", "dh", "dy"):
                letters = words.removeprefix("p.").removeprefix("a.").removeprefix("g.").replace("d.", "d")
                assert name in (letters, f"d{letters}"), (line.source, words, name)


def test_each_hidden_layers_activation_turns_dh_into_dy():
    lines = trace(*PROBLEM)
    turned = [array.name for line in lines if line.called == "activation_backward" for array in line.writes]
    assert turned == ["ddecoder[2].y", "ddecoder[1].y", "dencoder[2].y", "dencoder[1].y"]
    gradients = [line for line in lines if line.called == "affine_gradients" and line.arguments["W"] == "encoder[1].W"]
    assert gradients[0].arguments["dy"] == "dencoder[2].y"


def affine_tanh(x, W, b, y, h):
    """y = x @ W + b;  h = tanh(y)"""
    return np.tanh(reference.affine(x, W, b, y), out=h)


def tanh_backward(dh, y, h):
    """dy = dh (1 - tanh(y)^2)"""
    dh *= 1 - np.tanh(y) ** 2
    return dh


def tanh_backward_of_h(dh, y, h):
    """dy = dh (1 - tanh(h)^2)"""
    dh *= 1 - np.tanh(h) ** 2
    return dh


def test_an_activation_that_keeps_y_is_traced_with_its_y(monkeypatch):
    assert not any(re.fullmatch(r"(en|de)coder.*\.y", name) for line in trace(*PROBLEM) for name in line.reads)
    monkeypatch.setitem(ACTIVATIONS, "tanh", ACTIVATIONS["tanh"]._replace(keeps_y=True))
    lines = trace(*PROBLEM, affine_tanh=affine_tanh, tanh_backward=tanh_backward)
    assert not lines.wrong and not [line for line in lines if line.misshapen]
    forward = [line for line in lines if line.called == "affine_activation"]
    backward = [line for line in lines if line.called == "activation_backward"]
    names = ["encoder[1]", "encoder[2]", "decoder[1]", "decoder[2]"]
    assert [{array.name for array in line.writes} for line in forward] == [{name, f"{name}.y"} for name in names]
    assert [line.arguments for line in backward] == [{"dh": f"d{n}", "y": f"{n}.y", "h": n} for n in names[::-1]]
    for name, first, second in zip(names, forward, backward[::-1], strict=True):
        assert [array.name for array in second.writes] == [f"d{name}.y"] and f"{name}.y" in second.reads
        assert [lines[i] for i in second.differentiates] == [first]
        x, W, b, *_ = first.arguments.values()
        assert equations(first) == (parse(f"{name}.y = {x} @ {W} + {b}"), parse(f"{name} = tanh({name}.y)"))
        assert equations(second) == (parse(f"d{name}.y = d{name} (1 - tanh({name}.y)^2)"),)
    wrong = trace(*PROBLEM, affine_tanh=affine_tanh, tanh_backward=tanh_backward_of_h).wrong
    assert {line.called for line in wrong} == {"activation_backward"}


def test_old_names_work_for_one_version():
    lines = trace(*PROBLEM)
    for line in lines:
        with pytest.warns(DeprecationWarning, match="Line.undoes is now called Line.differentiates"):
            assert line.undoes == line.differentiates
    with pytest.warns(DeprecationWarning, match="Array.lacks is now called Array.missing_paths"):
        assert lines[0].writes[0].lacks == lines[0].writes[0].missing_paths


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_terms_add_up_and_are_what_they_say(objective):
    p, x, eps, beta, l2, _ = PROBLEM
    lines = trace(p, x, eps, beta, l2, objective)
    _, g = loss_and_gradients(p, x, eps, beta, l2, objective)
    parts = lines.terms
    assert_close(sum(part["dmu.W"] for part in parts.values()), g["mu.W"], "dmu.W")
    assert_close(parts["l2"]["dmu.W"], l2 * p["mu.W"], "dmu.W", rtol=1e-10)
    assert not parts["kl"]["doutput.W"].any()
    if not OBJECTIVES[objective].weighted:
        _, alone = loss_and_gradients(p, x, eps, 0.0, 0.0, objective)
        assert_close(parts["reconstruction"]["dmu.W"], alone["mu.W"], "dmu.W")


@pytest.mark.parametrize(
    "problem", PROBLEMS[::7], ids=lambda problem: f"{problem.p.architecture.likelihood}-{problem.objective}"
)
def test_the_parts_along_the_paths_add_up_at_every_line(problem):
    lines = trace(*problem)
    for line in lines:
        for array in line.writes:
            if array.error is None:
                continue
            size, l2 = np.abs(array.value).max() or 1.0, array.parts.get("l2", 0)
            of_terms = array.parts["reconstruction"] + array.parts["kl"] + l2
            np.testing.assert_allclose(of_terms, array.value, rtol=0, atol=1e-12 * size, err_msg=line.source)
            if array.name.startswith(("dmu", "dlogvar", "dencoder")):
                along_both = array.parts["z"] + array.parts["divergence"] + l2
                np.testing.assert_allclose(along_both, array.value, rtol=0, atol=1e-12 * size, err_msg=line.source)
    assert ("l2" in lines.terms) and lines.terms["l2"].keys() == {f"d{name}" for name, _ in _weights(lines)}


def _weights(lines):
    return [(array.name[1:], array) for line in lines for array in line.writes if array.name.endswith(".W")]


def test_the_part_of_a_layer_before_its_activation_is_not_that_after_it():
    lines = trace(*PROBLEM)
    (before,) = (array for line in lines if line.called == "affine_backward_add" for array in line.writes)
    after = next(array for line in lines for array in line.writes if array.name == f"{before.name}.y")
    h = lines.a.encoder[2]
    np.testing.assert_allclose(after.parts["kl"], before.parts["kl"] * (1 - h * h), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------- planted faults


def changed(function, was, now):
    """The function with one piece of its source replaced, and the number of the first line that differs."""
    before = inspect.getsource(function)
    assert before.count(was) == 1, f"{before.count(was)} times {was!r}"
    source = before.replace(was, now)
    name = f"<{function.__name__}: {now}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope = dict(vars(reference))
    exec(compile(source, name, "exec"), scope)
    number = next(
        i for i, lines in enumerate(itertools.zip_longest(before.split("\n"), source.split("\n")), 1) if len(set(lines)) > 1
    )
    return scope[function.__name__], number


TEXT_FAULTS = {  # {what is wrong: (the function, a piece of its source, what replaces it)}; it must be found at that line
    "a weight of another layer": (
        elbo.backward,
        "affine_backward_add(dlogvar, p.logvar.W, dh)",
        "affine_backward_add(dlogvar, p.mu.W, dh)",
    ),
    "a derivative of another head": (
        elbo.backward,
        "affine_backward_add(dlogvar, p.logvar.W, dh)",
        "affine_backward_add(dmu, p.logvar.W, dh)",
    ),
    "overwritten instead of added": (
        elbo.backward,
        "affine_backward_add(dlogvar, p.logvar.W, dh)",
        "affine_backward(dlogvar, p.logvar.W, dh)",
    ),
    "another saved value: z for eps": (
        elbo.backward,
        "reparameterize_backward_add(dz, a.mu, a.logvar, a.eps,",
        "reparameterize_backward_add(dz, a.mu, a.logvar, a.z,",
    ),
    "another saved value: a lower layer": (
        elbo.backward,
        "activation_backward(dh, a.decoder_y[i], a.decoder[i + 1])",
        "activation_backward(dh, a.decoder_y[i], 0.5 * a.decoder[i + 1])",
    ),
    "another saved value: mu for logvar": (
        elbo.backward,
        "divergence_backward(dkl, a.mu, a.logvar,",
        "divergence_backward(dkl, a.mu, a.mu,",
    ),
    "the KL's path left out": (elbo.backward, "divergence_backward(dkl, a.mu,", "divergence_backward(0 * dkl, a.mu,"),
    "a sign": (elbo.backward, "divergence_backward(dkl, a.mu,", "divergence_backward(-dkl, a.mu,"),
    "a factor": (elbo.backward, "affine_backward(dmu, p.mu.W,", "affine_backward(2 * dmu, p.mu.W,"),
    "the batch counted twice": (
        elbo.backward,
        "bound_backward(a.nll, a.kl, beta, n_examples,",
        "bound_backward(a.nll, a.kl, beta, 2 * n_examples,",
    ),
    "beta forgotten": (
        elbo.backward,
        "bound_backward(a.nll, a.kl, beta, n_examples,",
        "bound_backward(a.nll, a.kl, 1.0, n_examples,",
    ),
    "the input of another layer": (
        elbo.weight_gradients,
        "affine_gradients(top, d.mu,",
        "affine_gradients(d.encoder[n_hidden], d.mu,",
    ),
    "l2 forgotten": (elbo.weight_gradients, "d.logvar, p.logvar.W, l2,", "d.logvar, p.logvar.W, 0.0,"),
    "l2 of another layer's weights": (elbo.weight_gradients, "d.logvar, p.logvar.W, l2,", "d.logvar, p.mu.W, l2,"),
    "a NumPy line of one's own": (
        elbo.backward,
        "dy = activation_backward(dh, a.encoder_y[i], a.encoder[i + 1])",
        "dh *= 1 - a.encoder[i + 1]\n        dy = dh",
    ),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (i % 2)) for i, name in enumerate(TEXT_FAULTS)])
def test_a_fault_of_the_text_is_found_at_its_line(name):
    function, was, now = TEXT_FAULTS[name]
    planted, number = changed(function, was, now)
    wrong = trace(*PROBLEM, **{function.__name__: planted}).wrong
    assert {(line.function, line.number) for line in wrong} == {(function.__name__, number)}


@pytest.mark.parametrize("operation", ("reparameterize_backward_add", "gaussian_kl_backward", "bernoulli_nll_backward"))
def test_a_line_that_reads_a_wrong_derivative_differentiates_what_it_always_does_and_misses_nothing(operation):
    def scaled(*arguments):
        results = vars(reference)[operation](*arguments)
        arguments[-1][...] *= 3
        return results

    linecache.cache["<scaled>"] = (0, None, [], "<scaled>")
    right, planted = trace(*PROBLEM), trace(*PROBLEM, **{operation: scaled})
    inherited = [line for line in planted if line.error is not None and line.error > TOLERANCE and not line.wrong]
    for was, now in zip(right, planted, strict=True):
        assert now.differentiates == was.differentiates, now.source
        assert [array.through for array in now.writes] == [array.through for array in was.writes], now.source
        assert not any(array.missing_paths for array in now.writes)
    assert len(inherited) > 3 or operation == "bernoulli_nll_backward"


OPERATION_FAULTS = {  # {what is wrong: (the operation, a piece of its source, what replaces it, the problem's choices)}
    "sign": ("reparameterize_backward_add", "dlogvar += (dz", "dlogvar -= (dz", {}),
    "factor": ("reparameterize_backward_add", "np.exp(logvar / 2) / 2", "np.exp(logvar / 2)", {}),
    "variance for standard deviation": ("reparameterize_backward_add", "np.exp(logvar / 2) / 2", "np.exp(logvar) / 2", {}),
    "one sample for the sum": ("reparameterize_backward_add", "dz.sum(axis=0)", "dz[0]", {}),
    "a path lost": ("reparameterize_backward_add", "    dmu += dz.sum(axis=0)\n", "", {}),
    "the KL's 1 forgotten": ("gaussian_kl_backward", "np.expm1(logvar)", "np.exp(logvar)", {}),
    "transpose": ("affine_backward_add", "np.matmul(dy, W.T)", "np.matmul(dy, W[::-1].T)", {}),
    "missing sum": ("affine_gradients", "np.sum(dy, axis=0, out=db)", "db[...] = dy[-1]", {}),
    "sum for mean": ("elbo_backward", "1 / (len(nll) * n_examples)", "1 / n_examples", {}),
    "sigmoid without x": ("bernoulli_nll_backward", " - x * sigmoid(-logits)", "", {}),
    "tanh for its square": ("tanh_backward", "(1 - h) * (1 + h)", "1 - h", {}),
    "relu's mask from dh": ("relu_backward", "np.where(h > 0", "np.where(dh > 0", {"activation": "relu"}),
    "softplus' own value": ("softplus_backward", "-np.expm1(-h)", "1 / (1 + np.exp(-h))", {"activation": "softplus"}),
    "precision forgotten": (
        "gaussian_nll_backward",
        "(mean - x) * precision",
        "mean - x",
        {"likelihood": "gaussian", "noise": "shared"},
    ),
    "not summed where shared": (
        "gaussian_nll_backward",
        "per_input.sum(axis=-1, keepdims=True)",
        "per_input[..., :1]",
        {"likelihood": "gaussian", "noise": "shared"},
    ),
    "unnormalised weights": ("iwae_backward", "w.sum(axis=0) * n_examples", "n_examples", {"objective": "iwae"}),
    "the prior's path lost": ("sampled_kl_backward", "    dz += dkl[:, :, None] * z\n", "", {"objective": "elbo_mc"}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (i % 2)) for i, name in enumerate(OPERATION_FAULTS)]
)
def test_a_fault_of_an_operation_is_found_where_it_is_called(name):
    operation, was, now, choices = OPERATION_FAULTS[name]
    choices = dict(choices)
    objective = choices.pop("objective", "elbo")
    arch = Architecture(6, (5, 4), 3, choices.pop("activation", "tanh"), **choices)
    planted, _ = changed(getattr(reference, operation), was, now)
    wrong = trace(*random_problem(arch, objective), **{operation: planted}).wrong
    assert wrong and {line.operation for line in wrong} == {operation}


def test_a_path_that_is_never_added_is_named():
    planted, _ = changed(
        elbo.backward,
        "    dmu, dlogvar = reparameterize_backward_add(dz, a.mu, a.logvar, a.eps, dmu, dlogvar)",
        "    dmu = d.mu",
    )
    lines = trace(*PROBLEM, backward=planted)
    (wrong,) = lines.wrong
    assert wrong.called == "divergence_backward"
    assert {lines[i].called for array in wrong.writes for i in array.missing_paths} == {"reparameterize"}


def test_two_faults_are_both_found():
    heads, _ = changed(elbo.weight_gradients, "d.output, p.output.W, l2,", "d.output, p.output.W, -l2,")
    planted, _ = changed(reference.gaussian_kl_backward, "np.expm1(logvar) / 2", "np.expm1(logvar)")
    wrong = trace(*PROBLEM, weight_gradients=heads, gaussian_kl_backward=planted).wrong
    assert {line.called for line in wrong} == {"divergence_backward", "affine_gradients"}


def test_a_text_of_ones_own_with_its_own_functions():
    def halved(dmu):
        return dmu / 2

    source = inspect.getsource(elbo.backward).replace("affine_backward(dmu, p.mu.W,", "affine_backward(halved(dmu), p.mu.W,")
    linecache.cache["<own>"] = (len(source), None, source.splitlines(keepends=True), "<own>")
    scope = {"halved": halved}
    exec(compile(source, "<own>", "exec"), scope)
    (wrong,) = trace(*PROBLEM, backward=scope["backward"]).wrong
    assert "halved(dmu)" in wrong.source


def test_a_wrong_shape_in_a_comment_is_seen():
    planted, number = changed(elbo.encoder, "# (B, D)", "# (B, H)")
    (line,) = [line for line in trace(*PROBLEM, encoder=planted) if line.misshapen]
    assert line.number == number and line.misshapen == "x has shape (3, 6), but the comment on the line says (B, H)"


def test_bad_arguments_are_one_sentence():
    with pytest.raises(ValueError, match="there is no function 'backwards' to replace; known are encoder"):
        trace(*PROBLEM, backwards=elbo.backward)
    with pytest.raises(TypeError, match="backward is a int"):
        trace(*PROBLEM, backward=3)
    scope = {}
    exec("def backward(p, a, d, beta, n_examples):\n    pass", scope)
    with pytest.raises(ValueError, match="the source of backward cannot be read"):
        trace(*PROBLEM, backward=scope["backward"])
    planted, number = changed(elbo.encoder, "h = a.x ", "h = a.x; h = h #")
    with pytest.raises(ValueError, match=f"line {number} of encoder holds two statements"):
        trace(*PROBLEM, encoder=planted)
    with pytest.raises(ValueError, match="x has shape"):
        trace(PROBLEM.p, PROBLEM.x[:, :2], PROBLEM.eps)


def test_a_trace_leaves_everything_as_it_was():
    import sys

    before = PROBLEM.p.flat.copy(), PROBLEM.x.copy(), PROBLEM.eps.copy(), sys.gettrace()
    lines = trace(*PROBLEM)
    assert all(np.array_equal(*pair) for pair in zip(before[:3], (PROBLEM.p.flat, PROBLEM.x, PROBLEM.eps)))
    assert sys.gettrace() is before[3]
    again = trace(*PROBLEM)
    assert str(again) == str(lines)
    assert_close(lines.a.nll, again.a.nll, "nll", rtol=0.0)


# ------------------------------------------------------------------------------------------------ what kind of mistake


def without_half(dz, mu, logvar, eps, dmu, dlogvar):
    dmu += dz.sum(axis=0)
    dlogvar += (dz * eps).sum(axis=0) * np.exp(logvar / 2)
    return dmu, dlogvar


def of_wrong_sign(x, dy, W, l2, dW, db):
    dW[...] = -(x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])) - l2 * W
    db[...] = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    return dW, db


@pytest.mark.parametrize("elements", [None, 3])
@pytest.mark.parametrize(
    "changed, of, sentence",
    [
        ({"affine_gradients": of_wrong_sign}, ".W", "The sign is wrong: every element is -1 times what it should be."),
        (
            {"reparameterize_backward_add": without_half},
            "dlogvar",
            "This is about what the line adds: every element is twice what it should be.",
        ),
    ],
)
def test_a_wrong_line_says_what_kind_of_mistake_it_is(changed, of, sentence, elements):
    made = trace(*PROBLEM, elements=elements, **changed)
    wrong = [(i, array) for i, line in enumerate(made) for array in line.writes if line.wrong and array.name.endswith(of)]
    assert wrong and {array.cause for _, array in wrong} == {sentence}
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(terminal.card(made, wrong[0][0]))
    assert sentence in page.page(made, "noise") and sentence in console.export_text()
    assert not any(array.cause for line in trace(*PROBLEM, elements=elements) for array in line.writes)
