"""`check_gradients` on functions and parameters of every shape; tests/vae_np/test_testing.py tests what it compares and says."""

import collections
import dataclasses
import functools
import types
import weakref

import numpy as np
import pytest

from vae_np import Architecture, loss, loss_and_gradients
from vae_np.testing import check_gradients, gradients, numerical_gradient, random_problem
from vae_np.testing.frameworks import in_double
from vae_np.testing.trees import leaves, rebuilt

RNG = np.random.default_rng(0)
W, V, b = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2)), RNG.normal(size=4)
X = RNG.normal(size=(5, 3))


def network(x, W, V, b):
    return np.tanh(x @ W + b) @ V


def gradient(x, W, V, b, dy):
    """{"W", "V", "b"}: the gradient of sum(dy * network(x, W, V, b))."""
    h = np.tanh(x @ W + b)
    dpre = dy @ V.T * (1 - h**2)
    return {"W": x.T @ dpre, "V": h.T @ dy, "b": dpre.sum(axis=0)}


OURS = gradient(X, W, V, b, np.ones((5, 2)))
Layer = collections.namedtuple("Layer", "W b")


@dataclasses.dataclass(frozen=True)
class Net:
    first: Layer
    V: np.ndarray
    units: int = 4
    title: str = "a net"


class Model:
    """A class that keeps what backward needs, as most people write it."""

    def __init__(self):
        self.W, self.V, self.b, self.name, self.scale = W.copy(), V.copy(), b.copy(), "mine", 1.0
        self.parent = self  # objects may refer to each other in a circle

    def loss(self, x):
        self.h = np.tanh(x @ self.W + self.b)
        return np.sum(self.h @ self.V)


CONTAINERS = {  # (params, gradients in the same container, the function of params, paths)
    "dict": ({"W": W, "V": V, "b": b}, OURS, lambda p: (p["W"], p["V"], p["b"]), ["W", "V", "b"]),
    "list": ([W, V, b], [OURS["W"], OURS["V"], OURS["b"]], lambda p: p, ["params[0]", "params[1]", "params[2]"]),
    "tuple": ((W, V, b), (OURS["W"], OURS["V"], OURS["b"]), lambda p: p, ["params[0]", "params[1]", "params[2]"]),
    "nested": (
        {"layers": [{"W": W, "b": b}, {"W": V}]},
        {"layers": [{"W": OURS["W"], "b": OURS["b"]}, {"W": OURS["V"]}]},
        lambda p: (p["layers"][0]["W"], p["layers"][1]["W"], p["layers"][0]["b"]),
        ["layers[0].W", "layers[0].b", "layers[1].W"],
    ),
    "by paths": (
        {"layers": [{"W": W, "b": b}, {"W": V}]},
        {"layers[0].W": OURS["W"], "layers[0].b": OURS["b"], "layers[1].W": OURS["V"]},
        lambda p: (p["layers"][0]["W"], p["layers"][1]["W"], p["layers"][0]["b"]),
        ["layers[0].W", "layers[0].b", "layers[1].W"],
    ),
    "dataclass": (
        Net(Layer(W, b), V),
        {"first.W": OURS["W"], "first.b": OURS["b"], "V": OURS["V"]},
        lambda p: (p.first.W, p.V, p.first.b),
        ["first.W", "first.b", "V"],
    ),
    "object": (Model(), OURS, lambda p: (p.W, p.V, p.b), ["W", "V", "b"]),
    "ordered": (
        collections.OrderedDict(W=W, V=V, b=b),
        collections.OrderedDict(OURS),
        lambda p: (p["W"], p["V"], p["b"]),
        ["W", "V", "b"],
    ),
}


@pytest.mark.parametrize("method", ["auto", "richardson"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_any_container_is_taken_and_its_arrays_have_paths(name, method):
    params, given, parts, paths = CONTAINERS[name]
    only = ["first", "V"] if name == "dataclass" else None
    found = check_gradients(lambda p: np.sum(network(X, *parts(p))), params, given, method=method, only=only)
    assert sorted(one.name for one in found) == sorted(paths)
    wrong = leaves(given) | {paths[1]: 2 * leaves(given)[paths[1]]}
    with pytest.raises(AssertionError) as caught:
        check_gradients(lambda p: np.sum(network(X, *parts(p))), params, wrong, method=method, only=only)
    assert f"{paths[1]}[" in str(caught.value) and f"{paths[0]}[" not in str(caught.value)


def test_fn_is_given_the_same_type_and_what_is_no_array_stays():
    def fn(p):
        assert type(p) is Net and type(p.first) is Layer and p.units == 4 and p.title == "a net"
        return np.sum(p.first.W**2)

    check_gradients(fn, Net(Layer(W, b), V), {"first": {"W": 2 * W}}, only="first.W")
    problem = random_problem(Architecture(4, (3,), 2))
    _, g = loss_and_gradients(*problem)
    check_gradients(lambda p: loss(p, *problem[1:]).total, problem.p, g, method="richardson")  # our own Parameters


def test_a_class_that_keeps_its_state_is_differentiated_by_its_attributes():
    model = Model()
    check_gradients(lambda m: m.loss(X), model, OURS)
    assert not hasattr(model, "h") and (model.W == W).all()


def test_only_some_arrays_are_compared():
    params = {"layers": [{"W": W, "b": b}, {"W": V}], "layers_": b}
    fn = lambda p: np.sum(network(X, p["layers"][0]["W"], p["layers"][1]["W"], p["layers"][0]["b"]))  # noqa: E731
    found = check_gradients(fn, params, {"layers[1].W": OURS["V"]}, only="layers[1]")
    assert [one.name for one in found] == ["layers[1].W"]
    found = check_gradients(fn, params, {"layers[0].W": OURS["W"], "layers[0].b": OURS["b"]}, only=["layers[0]"])
    assert len(found) == 2
    with pytest.raises(ValueError, match=r"^params has no layer; it has layers\[0\].W, layers\[0\].b, layers\[1\].W, layers_$"):
        check_gradients(fn, params, {}, only="layer")
    with pytest.raises(ValueError, match=r"^there is no gradient of layers\[0\].b; if it is meant to have none"):
        check_gradients(fn, params, {"layers[0].W": OURS["W"]}, only="layers[0]")


@pytest.mark.parametrize("wrap", [np.asarray, lambda y: np.reshape(y, (1, 1)), lambda y: np.reshape(y, (1,))])
def test_a_number_may_be_an_array_of_one_element(wrap):
    check_gradients(lambda p: wrap(np.sum(p**2)), b, 2 * b)
    with pytest.raises(AssertionError, match=r"params\[0\] is"):
        check_gradients(lambda p: wrap(np.sum(p**2)), b, 3 * b + 1)


def test_parameters_of_single_precision_are_differenced_in_double():
    single = {"W": W.astype("f4"), "V": V.astype("f4"), "b": b.astype("f4")}
    g = gradient(X, **{name: array.astype("f8") for name, array in single.items()}, dy=np.ones((5, 2)))
    found = check_gradients(lambda p: np.sum(network(X, **p)), single, g, method="richardson")
    assert max(one.error for one in found) < 1e-6


# --------------------------------------------------------------------------------------------------- functions of arrays


def forward_and_backward(p):
    return network(X, **p), lambda dy: gradient(X, **p, dy=dy)


@pytest.mark.parametrize("method", ["auto", "richardson"])
def test_arrays_are_held_along_random_cotangents(method):
    params = {"W": W, "V": V, "b": b}
    found = check_gradients(forward_and_backward, params, method=method)
    assert {one.name for one in found} == set(params)
    found = check_gradients(
        lambda p: network(X, **p), params, lambda p, dy: gradient(X, **{k: v.real for k, v in p.items()}, dy=dy), method=method
    )
    assert {one.name for one in found} == set(params)
    for fault in ("W", "V", "b"):

        def wrong(p, dy, fault=fault):
            g = gradient(X, **p, dy=dy)
            return g | {fault: g[fault] + 1e-3 * np.abs(g[fault]).max()}

        with pytest.raises(AssertionError, match=rf"(?m)^{fault}\["):
            check_gradients(lambda p: network(X, **p), params, wrong, method=method)


def test_what_looks_right_for_a_cotangent_of_ones_is_seen():
    def relu_backward(p, dy):
        return p * 0 + np.maximum(dy, 0) * (p > 0)  # the sign of dy itself is looked at

    with pytest.raises(AssertionError):
        check_gradients(lambda p: np.where(p.real > 0, p, 0), b, relu_backward)


def test_several_arrays_may_be_returned():
    def encode(p):
        return {"mu": X @ p["W"], "logvar": np.tanh(X @ p["W"])}

    def backward(p, d):
        return {"W": X.T @ (d["mu"] + d["logvar"] * (1 - np.tanh(X @ p["W"]) ** 2))}

    check_gradients(encode, {"W": W}, backward)
    with pytest.raises(AssertionError):
        check_gradients(encode, {"W": W}, lambda p, d: {"W": X.T @ d["mu"]})


@pytest.mark.parametrize(
    "fn, given, error, sentence",
    [
        (
            lambda p: p,
            b,
            TypeError,
            r"fn returns an array of float64 \(4,\), so gradients must be a function: gradients\(params, dv",
        ),
        (lambda p: p.astype("f4"), lambda p, d: d, TypeError, r"fn returns an array of float32 \(4,\); .* in double precision"),
        (lambda p: "no number", b, TypeError, "fn returns a str; it must return a number, or arrays of real numbers"),
        (lambda p: np.append(p, np.nan), lambda p, d: d[:4], ValueError, "fn returns nan at params"),
        (lambda p: p * RNG.normal(size=4), lambda p, d: d, ValueError, r"fn returns value\[0\] = \S+ at params, and \S+ when"),
        (lambda p: 2 * p, lambda p, d: RNG.normal(size=4), ValueError, r"the gradient of params\[0\] is .* computed again"),
        (
            lambda p: (p, 1 + 0 * p),
            None,
            TypeError,
            r"array of float64 \(4,\), so its gradients must be a function of dvalue: ret",
        ),
        (lambda p: 2 * p, lambda p, d: d[:3], ValueError, r"the gradient of params has shape \(3,\); params has \(4,\)"),
    ],
)
def test_wrong_use_of_functions_of_arrays_is_one_sentence(fn, given, error, sentence):
    with pytest.raises(error, match=sentence):
        check_gradients(fn, b, given)


# --------------------------------------------------------------------------------------------------- some of many elements


def test_a_fault_in_one_element_among_many_is_seen_by_the_directions():
    x = np.random.default_rng(1).normal(size=3000)
    evaluations = []

    def fn(p):
        evaluations.append(1)
        return np.sum(np.sin(p))

    found = check_gradients(fn, x, np.cos(x), elements=20)
    assert [one.name for one in found] == ["params", "direction"] and len(evaluations) < 20 * 6 + 40
    for method, error in (("complex", 1e-9), ("richardson", 1e-3)):
        wrong = np.cos(x)
        wrong[1234] += error
        with pytest.raises(AssertionError, match=r"^direction\[\d\] is "):
            check_gradients(fn, x, wrong, elements=20, method=method)
    with pytest.raises(AssertionError, match=r"(?m)^params\[\d+\] is .*of 20 elements are off\)"):
        check_gradients(fn, x, np.cos(x) + 1e-3, elements=20)


@pytest.mark.parametrize("elements", [12, 100])
def test_as_many_elements_as_there_are_is_all_of_them(elements):
    found = check_gradients(lambda p: np.sum(p**2), W, 2 * W, elements=elements)
    assert [one.name for one in found] == ["params"]


def test_the_number_of_elements_must_be_positive():
    with pytest.raises(ValueError, match="elements is 0; it must be a whole number, 1 or more"):
        check_gradients(lambda p: np.sum(p**2), W, 2 * W, elements=0)


def test_a_check_that_takes_long_says_how_long(monkeypatch, capsys):
    check_gradients(lambda p: np.sum(p**2), W, 2 * W)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(gradients, "LONG", 0.0)
    check_gradients(lambda p: np.sum(p**2), W, 2 * W)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("check_gradients evaluates fn 60 times or more, which takes about 0 s.\n")


# ------------------------------------------------------------------------------------------------------------- messages


def test_what_is_far_off_is_named_before_a_stabiliser():
    p = {"tiny": W, "far": W + 1}
    wrong = {"tiny": 2 * W * (1 + 1e-7), "far": 2 * (W + 1) + np.eye(3, 4)}
    with pytest.raises(AssertionError) as caught:
        check_gradients(lambda p: np.sum(p["tiny"] ** 2 + p["far"] ** 2), p, wrong)
    lines = [line for line in str(caught.value).splitlines() if "elements are off" in line]
    assert [line.split("[")[0] for line in lines] == ["far", "tiny"]


# ------------------------------------------------------------------------------------------------------------ containers


def test_paths_that_are_equal_are_refused():
    with pytest.raises(ValueError, match=r"two arrays in the container are called a\.b"):
        leaves({"a.b": W, "a": {"b": V}})


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_rebuilt_from_its_leaves(name):
    params = CONTAINERS[name][0]
    before = {path: leaf.copy() for path, leaf in leaves(params).items() if isinstance(leaf, np.ndarray)}
    doubled = rebuilt(params, {path: 2 * leaf for path, leaf in before.items()})
    assert type(doubled) is type(params)
    after = leaves(doubled)
    assert after.keys() >= leaves(params).keys() and all((after[path] == 2 * leaf).all() for path, leaf in before.items())
    assert all((leaves(params)[path] == leaf).all() for path, leaf in before.items())


def test_numbers_and_lists_of_numbers_are_leaves():
    assert leaves({"a": [1.0, 2.0], "b": 3, "c": None}) == {"a": [1.0, 2.0], "b": 3}
    assert leaves(1.5) == {"params": 1.5}
    assert leaves([[1.0, 2.0], [3.0]]) == {"params": [[1.0, 2.0], [3.0]]}
    check_gradients(lambda p: p["a"] ** 2 + p["b"], {"a": 2.0, "b": 1}, {"a": 4.0, "b": 1.0})
    assert leaves(types.SimpleNamespace(W=1.0)) == {}


def test_a_function_that_computes_in_single_precision_is_refused():
    """Its small differences are all 0, which looks like a derivative of 0."""

    def single(p):
        return float(np.sum(np.sin(np.asarray(p, np.float32))))

    x = np.array([0.3, 0.7])
    with pytest.raises(TypeError, match="fn computes in single precision"):
        check_gradients(single, x, np.cos(x))
    halves = np.array([0.5, 2.0])  # its values at x itself are single numbers, those beside it are not
    check_gradients(lambda p: float(np.sum(p * p)), halves, 2 * halves)


def test_a_stationary_point_is_no_function_that_reads_nothing():
    """The cosine of the rounded pi / 2 is 6e-17, which differences cannot see."""
    x = np.full(3, np.pi / 2)
    check_gradients(lambda p: np.sum(np.sin(p)), x, np.cos(x))
    with pytest.raises(ValueError, match="does not change with params"):
        check_gradients(lambda p: 3.0, x, np.full(3, 1e-9))


def test_half_precision_is_no_excuse_for_a_gradient_that_is_off():
    x = np.array([0.3, 0.7])
    with pytest.raises(AssertionError, match="2 of 2 elements are off"):
        check_gradients(lambda p: np.sum(np.sin(p)), x, np.cos(x).astype(np.float16))
    check_gradients(lambda p: np.sum(np.sin(p)), x, np.cos(x).astype(np.float16), rtol=1e-3)


# ---------------------------------------------------------------------------------------------- what occurs twice is one


class Affine:
    def __init__(self, W):
        self.W = W

    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.W)
        return self.y

    def backward(self, dy):
        dy = dy * (1 - self.y**2)
        self.dW = self.x.T @ dy
        return dy @ self.W.T


class Sequence:
    """Two layers, of which each may be reached in several ways."""

    def __init__(self):
        self.layers = [Affine(W.copy()), Affine(V.copy())]
        self.first, self.second = self.layers
        self.run = self.forward
        for layer, following in zip(self.layers, self.layers[::-1]):
            layer.parent, layer.following, layer.siblings = self, following, {"all": self.layers}

    def forward(self, x):
        return self.second.forward(self.first.forward(x))

    def loss(self):
        y = self.first.parent.run(X)
        self.layers[0].backward(self.first.siblings["all"][0].following.backward(y))
        return np.sum(y**2) / 2


def test_an_object_that_occurs_twice_is_one_and_its_gradients_have_either_path():
    net = Sequence()
    net.loss()
    first, second = ({"W": layer.dW} for layer in net.layers)
    for given in (
        {"first": first, "second": second},
        {"layers": [first, second]},
        {"layers[0].W": first["W"], "second.W": second["W"], "first.W": first["W"]},
    ):
        assert [one.name for one in check_gradients(Sequence.loss, net, given)] == ["first.W", "second.W"]
    assert [one.name for one in check_gradients(Sequence.loss, net, {"layers": [first]}, only="layers[0].W")] == ["first.W"]
    with pytest.raises(AssertionError, match=r"^first\.W: Every element is off by the same number, 1\."):
        check_gradients(Sequence.loss, net, {"layers": [{"W": first["W"] + 1}]})
    with pytest.raises(ValueError, match=r"^first\.W and layers\[0\]\.W are one array, but they have different gradients"):
        check_gradients(Sequence.loss, net, {"first": first, "layers": [{"W": first["W"] + 1}]})


def test_the_copy_of_an_object_refers_to_no_part_of_the_old_one():
    net = Sequence()
    new = rebuilt(net, {"first.W": W + 1})
    assert list(leaves(net)) == ["first.W", "second.W"] and (new.layers[0].W == W + 1).all() and (net.first.W == W).all()
    assert new.layers[0] is new.first is new.second.following and new.first.parent is new is new.run.__self__
    assert new.second.siblings["all"] is new.layers is not net.layers and net.run.__self__ is net


REFERENCES = {
    "a bound method": lambda m: m.activate,
    "a closure": lambda m: lambda x: np.tanh(x + m.b),
    "a closure over an array": lambda m: (lambda b: lambda x: np.tanh(x + b))(m.b),
    "a closure over a method": lambda m: (lambda f: lambda x: f(x))(m.activate),
    "a default": lambda m: lambda x, m=m: np.tanh(x + m.b),
    "a partial": lambda m: functools.partial(type(m).activate, m),
    "a weak reference": lambda m: (lambda ref: lambda x: ref().activate(x))(weakref.ref(m)),
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_to_the_object_means_the_copy(reference):
    class Own:
        def __init__(self):
            self.act, self.W, self.b, self.V = None, W, b, V
            self.act, self.modules = REFERENCES[reference](self), [np]

        def activate(self, x):
            return np.tanh(x + self.b)

        def loss(self):
            return np.sum(self.act(X @ self.W) @ self.V)

    check_gradients(Own.loss, Own(), OURS)


@dataclasses.dataclass
class Pair:
    first: Affine
    second: Affine

    def __post_init__(self):
        self.layers, self.run = [self.first, self.second], self.forward

    def forward(self, x):
        return self.layers[1].forward(self.layers[0].forward(x))


@dataclasses.dataclass(slots=True)
class Slots:
    W: np.ndarray


class Attributes(dict):
    """A dict whose items are its attributes."""

    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


def test_other_containers_that_occur_twice_are_one():
    squares = {"W": 2 * W}
    shared = {"W": W}
    shared["self"] = [shared]
    check_gradients(lambda p: np.sum(p["self"][0]["self"][0]["W"] ** 2), shared, squares)
    cyclic = [W]
    cyclic.append((cyclic,))
    check_gradients(lambda p: np.sum(p[1][0][0] ** 2), cyclic, [2 * W])
    check_gradients(lambda p: np.sum(p[0].W * p[1].W), [Slots(W)] * 2, [squares, squares])
    items = Attributes(W=W)
    check_gradients(lambda p: np.sum(p.W * p["W"]), items, squares)
    mixed = {"one": {"W": W}}
    mixed["all"] = [mixed["one"], {"W": V}]
    given = {"all": [squares, {"W": 2 * V}]}
    assert len(check_gradients(lambda p: sum(np.sum(one["W"] ** 2) for one in p["all"]), mixed, given, only="all")) == 2
    twice = [{"W": W}] * 2
    for only in (None, "params[1]"):
        [worst] = check_gradients(lambda p: np.sum(p[0]["W"] * p[1]["W"]), twice, {"params[1].W": 2 * W}, only=only)
        assert worst.name == "params[0].W"
    pair = Pair(Affine(W.copy()), Affine(V.copy()))
    y = pair.forward(X)
    pair.first.backward(pair.second.backward(y))
    given = {"first.W": pair.first.dW, "second.W": pair.second.dW}
    check_gradients(lambda p: np.sum(p.run(X) ** 2) / 2, pair, given, only=["first.W", "second.W"])


def test_values_and_gradients_that_occur_twice_are_two():
    def fn(p):
        square = {"square": p**2}
        return [square, square]

    check_gradients(fn, b, lambda p, d: 2 * p * (d[0]["square"] + d[1]["square"]))
    same = {"W": 2 * W}
    check_gradients(lambda p: np.sum(p[0]["W"] ** 2 + p[1]["W"] ** 2), [{"W": W}, {"W": W.copy()}], [same, same])


def test_what_fn_adds_to_an_object_does_not_rename_its_arrays():
    def fn(net):
        net.newest = net.deep["layer"]
        return np.sum(net.newest.W**2)

    check_gradients(fn, types.SimpleNamespace(deep={"layer": Affine(W)}), {"deep.layer.W": 2 * W})


@pytest.mark.parametrize("view", [lambda W: W.T, lambda W: W[:], lambda W: W[0], lambda W: W.base])
def test_a_view_of_a_compared_array_is_refused(view):
    own = types.SimpleNamespace(W=np.zeros((4, 4))[:3])
    own.Wd = view(own.W)
    with pytest.raises(ValueError, match="^W and Wd share memory, but .* compute Wd inside of fn, or make it a property$"):
        check_gradients(lambda m: np.sum(m.W), own, {"W": np.ones((3, 4))})
    with pytest.raises(ValueError, match="^W and Wd share memory, but"):
        check_gradients(lambda m: np.sum(m["W"]), vars(own), {"W": np.ones((3, 4))}, only="W")
    views = np.arange(6.0)
    check_gradients(lambda p: np.sum(p["a"] * p["b"]), {"a": views[:3], "b": views[3:]}, {"a": views[3:], "b": views[:3]})


def test_an_array_that_an_object_has_under_two_names_is_one():
    own = types.SimpleNamespace(W=W)
    own.params = {"W": own.W}
    for name in ("W", "params.W"):
        check_gradients(lambda m: np.sum(m.W * m.params["W"]), own, {name: 2 * W})
    check_gradients(lambda m: np.sum(m.W * m.params["W"]), in_double(own), {"W": 2 * W})


def test_a_function_that_changes_its_data_is_not_called_random():
    data, calls = X.copy(), []

    def in_place(p):
        data[...] *= 0.5
        return np.sum(data @ p)

    def counted(p):
        calls.append(1)
        return len(calls) * np.sum(p)

    for fn in (in_place, counted):
        with pytest.raises(
            ValueError, match=r"^fn returns \S+ at params, and \S+ when it is called again .*leave its data as they"
        ):
            check_gradients(fn, b[:3], np.ones(3))
    with pytest.raises(ValueError, match="^fn returns arrays of other shapes when it is called again"):
        check_gradients(lambda p: np.ones(len(calls.append(1) or calls)) * p[0], b, lambda p, d: p)


def test_gradients_are_given_once():
    with pytest.raises(TypeError, match="gradients are given besides: give them once"):
        check_gradients(lambda p: (p**2, 2 * p), 3.0, 6.0)


def test_an_error_of_the_gradients_is_told():
    def gradients(p):
        raise KeyError("cache")

    with pytest.raises(ValueError, match="gradients raises an error at params, KeyError: 'cache'"):
        check_gradients(lambda p: p**2, 3.0, gradients)
    with pytest.raises(ValueError, match="gradients raises an error at params, TypeError: .* 2 were given"):
        check_gradients(lambda p: p**2, np.ones(2), lambda p: 2 * p)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"rtol": np.nan}, "rtol is nan"),
        ({"rtol": "1e-6"}, "rtol is '1e-6'"),
        ({"elements": "3"}, "elements"),
        ({"only": []}, "only is empty"),
    ],
)
def test_wrong_options_get_a_sentence(options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        check_gradients(lambda p: p**2, 3.0, 6.0, **options)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_steps_need_double_precision(dtype):
    x = np.array([1, 2], dtype)
    with pytest.raises(TypeError, match="it must be an array of float64"):
        numerical_gradient(lambda: float(np.sum(x**3)), x)
