"""The formulas of the docstrings: read, typeset without losing anything, and true of the operation below them."""

import inspect
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from kernels import reference
from tests.vae_np.study.evaluate import evaluate
from vae_np.study import formulas

FUNCTIONS = [(name, f) for name, f in vars(reference).items() if inspect.isfunction(f)]
NAMES = [name for name, _ in FUNCTIONS]
OPERATIONS = dict(FUNCTIONS[NAMES.index("affine") : NAMES.index("sgd")])  # what the text can call; `sigmoid` is no operation
OPERATIONS.pop("sigmoid")


def equations(name):
    return formulas.of(OPERATIONS[name].__doc__)


def mentioned(tree):
    """The letters of a tree's names, numbers and operators, in order."""
    if isinstance(tree, str):
        return [tree]
    return [word for part in tree[1:] for word in mentioned(part)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_formula_that_is_typeset_whole(name):
    found = equations(name)
    assert found
    for tree in found:
        assert tree[0] == "relation"
        root = xml.etree.ElementTree.fromstring(formulas.mathml(tree))
        shown = "".join(root.itertext()).replace("\N{NO-BREAK SPACE}", "")
        line = formulas.plain(tree)
        for word in mentioned(tree):
            inner = formulas.symbol(word)
            if isinstance(inner, str) and re.fullmatch(r"\w+", word) and word not in ("sum", "diff", "int"):
                assert inner in shown, (word, shown)
                assert inner in line or inner.translate(formulas.RAISED) in line, (word, line)
        assert root.get("aria-label") == line


@pytest.mark.parametrize("name", OPERATIONS)
def test_names_of_the_line_take_the_place_of_the_operations(name):
    names = {"x": "encoder[1]", "W": "mu.W", "b": "mu.b", "y": "mu", "dy": "dmu", "dx": "dencoder[1]", "h": "decoder[2]"}
    for tree in equations(name):
        before, after = mentioned(tree), mentioned(formulas.substitute(tree, names))
        assert after == [names.get(word, word) if (formulas.symbol(word) == word or word in names) else word for word in before]


def test_a_line_reads_as_mathematics():
    tree = formulas.substitute(equations("affine")[0], {"x": "encoder[1]", "W": "mu.W", "b": "mu.b", "y": "mu"})
    assert formulas.plain(tree) == "μ = h₁ᵉ W_μ + b_μ"
    assert [at.get("data-name") for at in xml.etree.ElementTree.fromstring(formulas.mathml(tree)).iter() if at.get("data-name")] == [
        "mu", "encoder[1]", "mu.W", "mu.b"
    ]  # fmt: skip
    shown = {
        "reparameterize": "z = μ + exp(log σ²/2) ε",
        "reparameterize_backward_add": "dlog σ² += Σ_l dz ε exp(log σ²/2)/2",
        "affine_gradients": "dW = xᵀ dy + ℓ_2 W",
        "relu_backward": "dy = dh where h > 0, else 0",
        "gaussian_kl": "kl = 1/2 Σ_z (μ² + exp(log σ²) − 1 − log σ²)",
    }
    for name, line in shown.items():
        assert line in [formulas.plain(tree) for tree in equations(name)]


@pytest.mark.parametrize(
    "name", ("decoder[2].W", "encoder[1].y", "logvar.b", "dnoise.b", "ddecoder[1].y", "dlogvar", "l2", "n_examples", "dx")
)
def test_a_name_of_the_text_can_be_clicked(name):
    root = xml.etree.ElementTree.fromstring(formulas.mathml(formulas.substitute(("name", "v"), {"v": name})))
    assert root[0].get("data-name") == name


# ------------------------------------------------------------------------- what is typeset is what the code computes

RNG = np.random.default_rng(0)
L, B, I, O = 3, 2, 4, 5
SIZES = {
    "x": (B, I), "W": (I, O), "b": (O,), "y": (B, O), "dy": (B, O), "dx": (B, I), "h": (B, O), "dh": (B, O), "dW": (I, O), "db": (O,),
    "mu": (B, O), "logvar": (B, O), "eps": (L, B, O), "z": (L, B, O), "dz": (L, B, O), "dmu": (B, O), "dlogvar": (B, O),
    "nll": (L, B), "dnll": (L, B), "kl": (L, B), "dkl": (L, B), "loss": (B,), "logits": (L, B, I), "dlogits": (L, B, I),
    "mean": (L, B, I), "dmean": (L, B, I), "noise": (L, B, I), "dnoise": (L, B, I), "output": (L, B, I),
}  # fmt: skip
IN_CLOSED_FORM = "gaussian_kl", "gaussian_kl_backward"
OVER = {
    "sum_l": lambda body: body().sum(axis=0), "sum_z": lambda body: body().sum(axis=-1), "sum_d": lambda body: body().sum(axis=-1),
    "sum_rows": lambda body: body().sum(axis=0), "mean_l": lambda body: body().mean(axis=0), "mean_k": lambda body: body().mean(axis=0),
    "softmax_l": lambda body: np.exp(body()) / np.exp(body()).sum(axis=0),
}  # fmt: skip


def arguments_of(name):
    arguments = {}
    for parameter in inspect.signature(OPERATIONS[name]).parameters:
        if parameter in ("beta", "l2", "n_examples"):
            arguments[parameter] = {"beta": 0.7, "l2": 0.1, "n_examples": 6}[parameter]
        else:
            shape = SIZES[parameter]
            if parameter in ("kl", "dkl") and name in IN_CLOSED_FORM:
                shape = (1, B)
            arguments[parameter] = RNG.uniform(size=shape) if parameter == "x" else RNG.normal(size=shape)
    if name == "sampled_kl":  # eps is no argument of its own: z is made of it
        reference.reparameterize(arguments["mu"], arguments["logvar"], arguments["eps"], arguments["z"])
    return arguments


def wide(name, value):
    """nll and its like, with an axis for the pixels or latents that they are sums over."""
    return (value[0] if len(value) == 1 else value)[..., None] if name in ("dnll", "dkl") else value


def disagreement(name, change=lambda formula: formula):
    """The largest difference between what an operation fills and what the right sides of its formulas say."""
    arguments = arguments_of(name)
    before = {key: np.copy(value) for key, value in arguments.items()}
    OPERATIONS[name](*arguments.values())
    first = re.split("[;,]  ", inspect.getdoc(OPERATIONS[name]).split("\n")[0].partition("   ")[0])
    values = {key: wide(key, value) for key, value in before.items()} | {"L": L, "K": L, **OVER, "p": 0.0, "q": 0.0}
    values |= {"l": values.get("logits"), "w": np.exp(-(before.get("nll", 0) + 0.7 * before.get("kl", 0)))}
    values["w~"] = values["w"] / values["w"].sum(axis=0)
    values["dnll"] = values["w~"] / 6 if name == "iwae_backward" else values.get("dnll")
    worst, checked = 0.0, 0
    for text in map(change, first):
        relation, left, *rest = formulas.parse(text)
        target = left[1] if left[0] == "name" else None
        target = (
            {"dy": "dh"}.get(target, target) if name.endswith(("relu_backward", "tanh_backward", "softplus_backward")) else target
        )
        if target not in arguments or rest[0] not in ("=", "+="):
            continue
        given = arguments[target] - (before[target] if rest[0] == "+=" else 0)
        wanted = evaluate(rest[-1], values)
        wanted = np.broadcast_to(wanted, given.shape)
        worst, checked = max(worst, np.abs(given - wanted).max()), checked + 1
    assert checked
    return worst


@pytest.mark.parametrize("name", [name for name in OPERATIONS])
def test_a_formula_says_what_its_operation_computes(name):
    assert disagreement(name) < 1e-12


@pytest.mark.parametrize(
    ("name", "was", "now"),
    [
        ("affine", "+ b", "- b"),
        ("affine_backward", "W.T", "W.T 2"),
        ("affine_gradients", "+ l2 W", ""),
        ("reparameterize", "/ 2", ""),
        ("reparameterize_backward_add", "/ 2", ""),
        ("gaussian_kl", "1/2", ""),
        ("gaussian_kl_backward", "- 1", ""),
        ("sampled_kl_backward", "-1/2", "1/2"),
        ("bernoulli_nll", "(1 - x)", "x"),
        ("bernoulli_nll_backward", "- x", "+ x"),
        ("gaussian_nll", "^2", ""),
        ("gaussian_nll_backward", "exp(-noise)", "exp(noise)"),
        ("iwae", "-log", "log"),
        ("softplus_backward", "exp(-h)", "exp(h)"),
        ("elbo_backward", "L n_examples", "n_examples"),
    ],
)
def test_a_damaged_formula_is_seen(name, was, now):
    assert was in OPERATIONS[name].__doc__
    assert disagreement(name, lambda formula: formula.replace(was, now)) > 1e-3


@pytest.mark.parametrize("text", ("y = ", "= y", "y = (x", "y = x)", "y = x $ b", "where", "y = sum of", "log", "max(0, y"))
def test_what_is_no_formula_is_one_sentence(text):
    with pytest.raises(ValueError, match="formula"):
        formulas.parse(text if text != "y = sum of" else "y = [sum of")
