"""`check_elbo` on models that have one activation, one objective or one dtype only."""

import numpy as np
import pytest
from scipy import special

from vae_np.elbo import Value, loss_and_gradients
from vae_np.testing import PROPERTIES, check_elbo, oracles
from vae_np.testing.problems import DECODERS, EDGES, edges_of, every_kind
from vae_np.testing.suite import trials

BERNOULLI = [{"likelihood": "bernoulli"}]


def tanh_vae(p, x, eps, beta, l2, objective):
    """A VAE as somebody else writes it: one hidden layer of tanh, Bernoulli pixels, the closed KL, float64, no l2."""
    architecture = p.architecture
    if architecture.activation != "tanh" or architecture.likelihood != "bernoulli" or len(architecture.hidden) != 1:
        raise NotImplementedError("it has one hidden layer of tanh, and Bernoulli pixels")
    if objective != "elbo" or l2 or p.flat.dtype != np.float64:
        raise NotImplementedError("it has the objective elbo, no l2, and float64")
    L, B = eps.shape[:2]
    h = np.tanh(x @ p["encoder.0.W"] + p["encoder.0.b"])
    mu, logvar = h @ p["mu.W"] + p["mu.b"], h @ p["logvar.W"] + p["logvar.b"]
    z = mu + np.exp(logvar / 2) * eps
    g = np.tanh(z @ p["decoder.0.W"] + p["decoder.0.b"])
    logits = g @ p["output.W"] + p["output.b"]
    nll = np.sum(np.logaddexp(0, logits) - x * logits, axis=-1).mean(axis=0)
    kl = 0.5 * np.sum(np.exp(logvar) + mu**2 - 1 - logvar, axis=-1)
    per_example = nll + beta * kl
    value = Value(per_example.mean(), nll.mean(), kl.mean(), 0.0, per_example)

    d = {}
    dlogits = (special.expit(logits) - x) / (L * B)
    rows = lambda a: a.reshape(-1, a.shape[-1])  # noqa: E731
    d["output.W"], d["output.b"] = rows(g).T @ rows(dlogits), rows(dlogits).sum(axis=0)
    dg = dlogits @ p["output.W"].T * (1 - g**2)
    d["decoder.0.W"], d["decoder.0.b"] = rows(z).T @ rows(dg), rows(dg).sum(axis=0)
    dz = dg @ p["decoder.0.W"].T
    dmu = dz.sum(axis=0) + beta * mu / B
    dlogvar = (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2 + beta * (np.exp(logvar) - 1) / 2 / B
    d["mu.W"], d["mu.b"], d["logvar.W"], d["logvar.b"] = h.T @ dmu, dmu.sum(axis=0), h.T @ dlogvar, dlogvar.sum(axis=0)
    dh = (dmu @ p["mu.W"].T + dlogvar @ p["logvar.W"].T) * (1 - h**2)
    d["encoder.0.W"], d["encoder.0.b"] = x.T @ dh, dh.sum(axis=0)
    return value, {name: d[name] for name in p}


def its_problems():
    return every_kind(activations=["tanh"], decoders=BERNOULLI, objectives=["elbo"], hidden=[(4,)], l2s=[0.0])


def test_a_right_model_of_one_kind_passes_on_its_problems_and_what_it_lacks_is_said():
    with pytest.warns(UserWarning) as caught:
        tried = check_elbo(tanh_vae, problems=its_problems())
    assert tried["value_is_that_of_the_definitions"] == 1 and tried["gradient_is_the_complex_step"] == 1 + 4
    (warning,) = (str(one.message) for one in caught if "refuses" in str(one.message))
    assert "single_precision_is_double_precision_rounded (1 of 1)" in warning and "float64" in warning
    assert tried.keys() == {check.__name__ for check in PROPERTIES} - {"single_precision_is_double_precision_rounded"} | {
        "value_is_finite_wherever_it_can_be"
    }


def test_a_wrong_model_of_one_kind_is_found_wrong():
    def without_half(*problem):
        value, g = tanh_vae(*problem)
        return value, g | {"logvar.b": 2 * g["logvar.b"]}

    with (
        pytest.warns(UserWarning, match="refuses"),
        pytest.raises(AssertionError, match="gradient_is_the_complex_step: logvar.b"),
    ):
        check_elbo(without_half, problems=its_problems())


def test_a_model_that_refuses_everything_has_not_passed():
    def nothing(*problem):
        raise NotImplementedError("it has nothing")

    with pytest.raises(
        AssertionError, match=r"^the model refuses every problem \(it has nothing\); give those that it has, such"
    ):
        check_elbo(nothing, problems=its_problems())


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda g: {name: g[name] for name in list(g)[1:]}, "gradients are of encoder.0.b, .*; they must be of encoder.0.W, "),
        (lambda g: {**g, "mu.b": np.zeros(7)}, r"the gradient of mu.b is float64 \(7,\); wanted float64 \(1,\)"),
        (lambda g: {**g, "mu.b": g["mu.b"].astype("f4")}, r"the gradient of mu.b is float32 \(1,\); wanted float64"),
    ],
)
def test_gradients_in_a_dict_must_fit(change, sentence):
    def changed(*problem):
        value, g = loss_and_gradients(*problem)
        return value, change(dict(g))

    with pytest.raises(AssertionError, match=sentence):
        check_elbo(changed, problems=its_problems())


def test_a_kernel_set_may_refuse_nothing(monkeypatch):
    from vae_np import kernels
    from vae_np.testing import check_kernels, operations

    def lacking(problem_p, *rest):
        raise NotImplementedError("tanh is missing")

    monkeypatch.setattr(operations, "with_backend", lambda *_: lacking)
    monkeypatch.setattr(operations, "changed_operations", lambda *_: [])
    with pytest.raises(AssertionError, match="an operation is missing: tanh is missing"):
        check_kernels(kernels.load("numpy"))


def test_the_edges_are_those_of_the_problems():
    problems = [*its_problems()] * 2
    edges = [*edges_of(problems)]
    assert len(edges) == len(EDGES) and {edge.p.architecture for edge in edges} == {problems[0].p.architecture}
    assert np.abs(edges[0].p["output.b"]).min() > 9000
    assert len(trials(problems=problems[:1])) == len(PROPERTIES) + len(EDGES) + 4


def test_every_kind_combines_what_it_is_given():
    all_kinds = [*every_kind()]
    assert {p.p.architecture.likelihood for p in all_kinds} == {d["likelihood"] for d in DECODERS}
    only = [*every_kind("float32", ["relu"], BERNOULLI, ["iwae"], [(2, 3)], [1.0], [0.0])]
    assert [(p.p.architecture.hidden, p.objective, p.beta, p.l2, p.x.dtype) for p in only] == [((2, 3), "iwae", 1.0, 0.0, "f4")]
    assert oracles.SCALAR_ACTIVATIONS.keys() == {p.p.architecture.activation for p in all_kinds}
