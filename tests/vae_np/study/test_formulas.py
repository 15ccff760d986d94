"""What is typeset is what is computed: the formulas of the docstrings give the same values as the operations themselves."""

import copy
import functools
import itertools
import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import norm

from tests.vae_np.study.damages import damages
from vae_np import Architecture, elbo
from vae_np.choices import ACTIVATIONS, ESTIMATORS, LIKELIHOODS, NOISES
from vae_np.kernels import reference
from vae_np.kernels.contract import BATCHES, OPERATIONS, UPDATES
from vae_np.study.derivations import DERIVATIONS
from vae_np.study.evaluation import evaluate
from vae_np.study.formulas import of, parse, substitute
from vae_np.study.typesetting import mathml, plain
from vae_np.testing.operations import random_arguments


def operations_of_the_text():
    """The names of the operations that the model calls for some architecture, objective and estimator."""
    called = set()
    losses = [(objective, estimator) for estimator, record in ESTIMATORS.items() for objective in record.operations]
    for activation, likelihood, noise, loss in itertools.product(ACTIVATIONS, LIKELIHOODS, NOISES, losses):
        if LIKELIHOODS[likelihood].has_noise or noise == "fixed":
            arch = Architecture(2, activation=activation, likelihood=likelihood, noise=noise)
            model = elbo.bind(arch, loss[0], estimator=loss[1])
            lines = (getattr(model, function.__name__) for function in elbo.TEXT)
            called |= {model.mean, *(line.__globals__.get(name) for line in lines for name in line.__code__.co_names)}
    return [name for name in OPERATIONS if getattr(reference, name) in called]


BOUND = operations_of_the_text()
EQUATIONS = {name: of(getattr(reference, name).__doc__) for name in BOUND}


def test_the_text_binds_all_operations_but_these():
    assert OPERATIONS.keys() - BOUND == UPDATES | BATCHES


# ---------------------------------------------------------------------------------------------- the formula is the code


def along(function, axis):
    return lambda body, _: function(body(), axis=axis, keepdims=True)


SUMS = {"softmax_l": lambda body, _: softmax(body(), axis=0)}
for index, axis in {"l": 0, "k": 0, "rows": 0, "z": -1, "d": -1}.items():
    SUMS |= {f"sum_{index}": along(np.sum, axis), f"mean_{index}": along(np.mean, axis)}


SIZES = 7, 33, 19, 5, 3  # with L = 3, a factor L - 1 has an effect


@functools.cache
def run(name):
    """The arguments of an operation before and after it ran, in two dicts. nll, kl and loss get an axis in place of D or Z."""
    before = dict(
        zip(OPERATIONS[name], random_arguments(name.replace("elbo", "iwae"), "float64", SIZES))
    )  # so that K is L, not 1
    if "z" in before:
        before["z"][...] = before["mu"] + np.exp(before["logvar"] / 2) * before["eps"]
    after = copy.deepcopy(before)
    getattr(reference, name)(*after.values())
    for values in before, after:
        for key in values.keys() & {"nll", "kl", "loss", "dnll", "dkl"}:
            values[key] = values[key][..., None]
    return before, after


@functools.cache
def values_of(name):
    """The values of the names in an operation's equations: of what an equation defines, the value after; of all else, the one before."""
    before, after = run(name)
    defined = {equation[1][-1] for equation in EQUATIONS[name]}
    values = {**SUMS, **before, **{key: after[key] for key in defined & after.keys()}}
    if "dy" in defined:
        values["dy"] = after["dh"]  # dy takes the place of dh
    if "nll" in before and "kl" in before:
        w = np.exp(-(before["nll"] + before["beta"] * before["kl"]))
        values |= {"w": w, "w~": w / w.sum(axis=0), "L": len(before["nll"]), "K": len(before["kl"])}
    if "z" in before:

        def q(z, x):
            return norm.pdf(z, before["mu"], np.exp(before["logvar"] / 2)).prod(axis=-1, keepdims=True)

        values |= {"q": q, "p": lambda z: norm.pdf(z).prod(axis=-1, keepdims=True), "x": None}
    return values


def holds(name, equation):
    """Whether an equation is true of what an operation did."""
    first, *others = evaluate(equation, values_of(name))
    if equation[2] == "+=":
        first = first - run(name)[0][equation[1][1]]
    if equation[2] == "*=":
        first = first / run(name)[0][equation[1][1]]
    return all(np.allclose(first, other, rtol=1e-11, atol=1e-13) for other in others)


@pytest.mark.parametrize("name", BOUND)
def test_the_formula_is_what_the_operation_computes(name):
    for equation in EQUATIONS[name]:
        assert holds(name, equation), plain(equation)


@pytest.mark.parametrize("name", BOUND)
def test_and_a_damaged_formula_is_not(name):
    for equation in EQUATIONS[name]:
        for wrong in damages(equation):
            try:
                with np.errstate(all="ignore"):
                    assert not holds(name, wrong), plain(wrong)
            except ValueError:  # the shapes do not fit
                pass


@pytest.mark.parametrize("name", BOUND)
def test_all_that_an_operation_changes_has_a_formula(name):
    before, after = run(name)
    changed = {key for key in after if not np.array_equal(before[key], after[key])}
    assert changed - {"dh"} <= {equation[1][1] for equation in EQUATIONS[name]}


# ------------------------------------------------------------------------------------------------ reading and typesetting

STEPS = [step.formula for derivation in DERIVATIONS.values() for step in derivation.steps if step.formula]
TREES = [*itertools.chain(*EQUATIONS.values()), *map(parse, STEPS)]


def test_precedence():
    a, b, c = (("name", name) for name in "abc")
    assert parse("a / b c") == ("product", ("/", a, b), c)
    assert parse("a b / c") == ("/", ("product", a, b), c)
    assert parse("a - b - c") == ("-", ("-", a, b), c)
    assert parse("-a b^2") == ("negative", ("product", a, ("^", b, ("number", "2"))))
    assert parse("sum_l a b / c + b") == ("+", ("over", "sum", "l", ("/", ("product", a, b), c)), b)
    assert parse("log a b / c") == ("/", ("log", ("product", a, b)), c)
    assert parse("log(a) b") == ("product", ("call", ("name", "log"), "(", a, ")"), b)
    assert parse("a @ b.T") == ("@", a, ("T", b))
    assert parse("a (b)") == ("product", a, ("(", b, ")"))
    assert parse("W_io") == ("index", ("name", "W"), "io")
    assert parse("n_examples") == ("name", "n_examples")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "+ a",
        "(a",
        "a)",
        "|a",
        "a = = b",
        "exp(a",
        "E_q(a)",
        "softmax_l a",
        "a where b, else c",
        "a where b > c",
        "a ! b",
    ],
)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))}"):
        parse(text)


@given(
    st.lists(st.sampled_from("a W_io exp log sum_l E_q 1 ( ) [ ] | || , ; + - / @ ^ .T = += > where else".split()), max_size=12)
)
def test_any_other_text_is_read_or_refused(tokens):
    try:
        tree = parse(" ".join(tokens))
    except ValueError:
        return
    ElementTree.fromstring(mathml(tree))
    assert plain(tree)


@pytest.mark.parametrize(
    "text, wanted",
    {
        "y = x @ W + b": "y = x W + b",
        "mu = encoder[1] @ mu.W + mu.b": "μ = h₁ᵉⁿᶜ W_μ + b_μ",
        "dencoder[1] += dlogvar @ logvar.W.T": "dh₁ᵉⁿᶜ += d log σ² W_logσ²ᵀ",
        "dencoder[1] = dencoder[1] (1 - encoder[1]^2)": "dh₁ᵉⁿᶜ = dh₁ᵉⁿᶜ (1 − (h₁ᵉⁿᶜ)²)",
        "decoder[2] = max(0, decoder[1] @ decoder[1].W + decoder[1].b)": "h₂ᵈᵉᶜ = max(0, h₁ᵈᵉᶜ W₂ᵈᵉᶜ + b₂ᵈᵉᶜ)",
        "dlogvar += sum_l dz eps exp(logvar / 2) / 2": "d log σ² += Σ_l dz ε exp((log σ²)/2)/2",
        "doutput = dnll (sigmoid(output) - x)": "do = dnll (sigmoid(o) − x)",
        "doutput_logvar = dnll/2 (1 - exp(-output_logvar))": "d log σ_x² = dnll/2 (1 − exp(−log σ_x²))",
        "output_logvar = decoder[1] @ output_logvar.W + output_logvar.b": "log σ_x² = h₁ᵈᵉᶜ W_logσ_x² + b_logσ_x²",
        "dencoder[1].y = dencoder[1] (1 - tanh(encoder[1].y)^2)": "dy₁ᵉⁿᶜ = dh₁ᵉⁿᶜ (1 − tanh(y₁ᵉⁿᶜ)²)",
        "x_i^2 = output_logvar^2": "x_i² = (log σ_x²)²",
        "dW = x.T @ dy + l2 W": "dW = xᵀ dy + ℓ₂ W",
        "dy = dh where h > 0, else 0": "dy = dh where h > 0, else 0",
        "w~ = softmax_l(log w)": "w\N{COMBINING TILDE} = softmax_l(log w)",
        "-log p(x) <= E_q[-log mean_l w_l]": "−log p(x) ≤ E_q[−log mean_l w_l]",
        "diff_mu int_z q(z|x) f(z) = |x|^n": "∂/∂μ ∫ q(z|x) f(z) dz = |x|^n",
        "N(z; mu, 1) = KL(q(z|x) || p(z))": "N(z; μ, 1) = KL(q(z|x) ∥ p(z))",
    }.items(),
)
def test_plain(text, wanted):
    assert plain(parse(text)) == wanted


def test_mathml():
    written = mathml(parse("dz += 1/2 (mu - x_i) mu.W.T"))
    assert written == (
        '<math displaystyle="true" alttext="dz += 1/2 (μ − x_i) W_μᵀ"><mrow>'
        "<mrow data-name='dz'><mrow><mi mathvariant='normal'>d</mi><mi>z</mi></mrow></mrow><mo>+=</mo>"
        "<mrow><mrow><mfrac><mn>1</mn><mn>2</mn></mfrac><mo rspace='0.17em'>\u2062</mo>"
        "<mrow><mo>(</mo><mrow><mrow data-name='mu'><mi>μ</mi></mrow><mo>−</mo>"
        "<msub><mrow data-name='x'><mi>x</mi></mrow><mi>i</mi></msub></mrow><mo>)</mo></mrow></mrow><mo rspace='0.17em'>\u2062</mo>"
        "<msup><mrow data-name='mu.W'><msub><mi>W</mi><mi>μ</mi></msub></mrow><mi mathvariant='normal'>T</mi></msup></mrow>"
        "</mrow></math>"
    )


def test_what_the_text_names_can_be_found():
    tree = substitute(parse("dx += dy @ W.T"), {"dx": "dencoder[1]", "dy": "dlogvar", "W": "logvar.W"})
    names = [element.get("data-name") for element in ElementTree.fromstring(mathml(tree)).iter()]
    assert list(filter(None, names)) == ["dencoder[1]", "dlogvar", "logvar.W"]
    assert "data-name" not in mathml(parse("dh = sum_z y W_io log p(h)"))


def test_brackets_around_a_fraction_go_into_its_line():
    assert "<mo>(" not in mathml(parse("(a + b) / (c d)")) and plain(parse("(a + b) / (c d)")) == "(a + b)/(c d)"


def test_substitute():
    tree = parse("x = y + dx - x_i sum_x f(x)")
    assert substitute(tree, {"x": "y", "y": "x"}) == parse("y = x + dx - y_i sum_x f(y)")
    assert substitute(tree, {}) == tree


def test_the_equations_that_a_docstring_begins_with():
    found = of(reference.sampled_kl_backward.__doc__)
    assert [plain(equation) for equation in found] == ["dz += dkl z", "dμ = 0", "d log σ² = −1/2 Σ_l dkl"]
    with pytest.raises(ValueError, match="no formula"):
        of(reference.philox.__doc__)


@pytest.mark.parametrize("tree", TREES, ids=plain)
def test_no_symbol_is_lost(tree):
    """If every name and number is replaced by a different number, each of these appears once, in order; and so does each sign."""
    kinds, numbers = Counter(), []

    def marked(tree):
        if isinstance(tree, str):
            return tree
        kinds[tree[0]] += 1
        if tree[0] == "over":
            kinds[tree[1]] += 1
            return *tree[:2], "i", marked(tree[3])
        if tree[0] not in ("name", "number"):
            return tuple(map(marked, tree))
        numbers.append(str(100 + len(numbers)))
        return "number", numbers[-1]

    tree = marked(tree)
    root = ElementTree.fromstring(mathml(tree))
    assert len(list(root.iter("mfrac"))) == plain(tree).count("/") == kinds["/"] + kinds["diff"]
    for text in "".join(root.itertext()), plain(tree).translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹ᵀΣ", "0123456789T∑")):
        assert re.findall(r"\d{3}", text) == numbers
        assert text.count("−") == kinds["-"] + kinds["negative"]
        assert text.replace("+=", "").count("+") == kinds["+"]
        for sign, kind in {"∑": "sum", "mean": "mean", "∫": "int", "log": "log", "E": "E", "T": "T"}.items():
            assert text.count(sign) == kinds[kind]
