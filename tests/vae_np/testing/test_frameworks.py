"""PyTorch's and JAX's arrays, values and gradients are read; neither framework is imported by vae_np."""

import subprocess
import sys

import numpy as np
import pytest

from vae_np.testing import check_gradients
from vae_np.testing.frameworks import array_of, automatic_gradient, double_precision, like, value_of
from vae_np.testing.trees import leaves, rebuilt

W = np.array([[0.5, -1.0], [2.0, 0.25]])


def tensors():
    return pytest.importorskip("torch", reason="needs PyTorch, which is not installed")


def jax_arrays():
    return pytest.importorskip("jax", reason="needs JAX, which is not installed").numpy


@pytest.fixture(params=[tensors, jax_arrays])
def framework(request):
    """torch or jax.numpy: the names used here are those of both."""
    return request.param()


def as_theirs(framework, array):
    return getattr(framework, "tensor", framework.asarray)(np.asarray(array, np.float32))


@pytest.mark.parametrize("leaf", [3, 2.5, True, 1 + 2j, np.float32(1), W, [1, 2], [[1.0], [2.0]], (3, 4)])
def test_numbers_and_lists_are_arrays(leaf):
    assert (array_of(leaf) == np.asarray(leaf)).all()


@pytest.mark.parametrize("leaf", ["W", len, object(), [1, [2]], None, np.array(["a"]), np.array([None])])
def test_other_objects_are_no_arrays(leaf):
    assert array_of(leaf) is None
    assert value_of(leaf) is leaf


def test_an_array_of_numpy_is_itself():
    assert array_of(W) is W


@pytest.mark.parametrize("leaf, wanted", [(2, np.float64), (W, np.ndarray), ([1.0], np.ndarray), (1j, np.float64)])
def test_numbers_stay_numbers_and_arrays_arrays(leaf, wanted):
    new = like(leaf, np.float64(3.0))
    assert type(new) is wanted and new == 3


def test_a_copy_shares_no_memory():
    assert not np.shares_memory(like(W, W), W)


@pytest.mark.parametrize("value", [2.0, np.float32(2), np.array(2.0), np.array([[2.0]])])
def test_the_value_is_a_number(value):
    assert value_of(value) == 2 and np.ndim(value_of(value)) == 0 and type(value_of(value)) is not np.ndarray


@pytest.mark.parametrize("value", [np.zeros(2), np.zeros((0,)), [2.0]])
def test_what_is_no_single_number_stays(value):
    assert value_of(value) is value


def test_the_value_keeps_its_precision():
    assert value_of(np.ones((1, 1), np.float32)).dtype == np.float32


def test_arrays_of_numpy_have_no_automatic_gradient():
    assert automatic_gradient(lambda p: np.sum(p["W"]), {"W": W}) is None


def test_no_framework_is_imported():
    program = (
        "import sys, vae_np.testing as t; from vae_np.testing import frameworks as f\n"
        "f.array_of([1.0]), f.like(2, 3), f.value_of(1.0), f.automatic_gradient(sum, [1.0])\n"
        "with f.double_precision(): pass\n"
        "assert not {'torch', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --------------------------------------------------------------------------------------------------- both frameworks


def test_arrays_go_there_and_back(framework):
    leaf = as_theirs(framework, W)
    assert array_of(leaf).dtype == np.float32 and (array_of(leaf) == W).all()
    for array in (W, W + 1j * W, np.zeros((0, 3))):
        new = like(leaf, array)
        assert type(new) is type(leaf)
        assert array_of(new).dtype == array.dtype and (array_of(new) == array).all()


def test_bfloat16_becomes_float32(framework):
    leaf = framework.ones(2, dtype=framework.bfloat16)
    assert array_of(leaf).dtype == np.float32 and (array_of(leaf) == 1).all()


def test_the_copy_is_apart(framework):
    leaf = as_theirs(framework, W)
    array_of(leaf)[...] = 7
    assert (array_of(leaf) == W).all()


def test_the_value_is_a_number_of_theirs(framework):
    for value in (as_theirs(framework, 2.0), as_theirs(framework, [[2.0]])):
        assert value_of(value) == 2 and value_of(value).dtype == np.float32 and np.ndim(value_of(value)) == 0


def test_the_gradient_is_computed_in_double_precision_with_data_of_single_precision(framework):
    x = as_theirs(framework, [[1.0, 2.0], [3.0, -4.0]])
    params = {"layers": [{"W": as_theirs(framework, W)}], "unread": as_theirs(framework, [1.0]), "name": "tanh"}
    gradient = automatic_gradient(lambda p: framework.tanh(x @ p["layers"][0]["W"]).sum(), params)
    x = array_of(x).astype(np.float64)
    assert gradient.keys() == {"layers[0].W", "unread"} and gradient["unread"] == [0]
    assert gradient["layers[0].W"].dtype == np.float64
    assert np.allclose(gradient["layers[0].W"], x.T @ (1 - np.tanh(x @ W) ** 2), rtol=1e-13)


def test_a_function_of_arrays_is_differentiated_along_its_cotangents(framework):
    x = as_theirs(framework, [[1.0, 2.0], [3.0, -4.0]])
    [worst] = check_gradients(lambda p: {"h": framework.tanh(x @ p["W"])}, {"W": as_theirs(framework, W)})
    assert worst.name == "W" and worst.error < 1e-6


def test_afterwards_everything_is_in_single_precision_again(framework):
    with pytest.raises(ZeroDivisionError), double_precision():
        assert array_of(framework.ones(1) * as_theirs(framework, [1.0])).dtype == np.float64
        raise ZeroDivisionError
    assert array_of(framework.ones(1)).dtype == np.float32
    assert array_of(framework.ones(1) * as_theirs(framework, [1.0])).dtype == np.float32


# ------------------------------------------------------------------------------------------------------------ PyTorch


def test_what_becomes_single_precision_within_is_raised_too():
    torch = tensors()
    with double_precision():
        x = torch.ones(3, dtype=torch.float32)
        assert all(y.dtype == torch.float64 for y in (x, x.float(), x.to(torch.float32), torch.cat([x, x.float()])))


def test_tensors_of_single_precision_are_changed_in_place_within():
    torch = tensors()
    x = torch.ones(3)
    with double_precision():
        x.add_(1)
        x[0] = 7
        x += 1
    assert x.dtype == torch.float32 and x.tolist() == [8, 3, 3]


def test_a_module_is_a_container():
    torch = tensors()
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    found = leaves(module)
    assert list(found) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert leaves({"encoder": module}).keys() == {f"encoder.{name}" for name in found}
    raised = {path: leaf.detach().double().numpy() + 1 for path, leaf in found.items()}
    new = rebuilt(module, {path: like(found[path], array) for path, array in raised.items()})
    assert all(tensor.dtype in (torch.float64, torch.int64) for tensor in new.state_dict().values())
    for path, leaf in leaves(new).items():
        assert np.array_equal(array_of(leaf), raised[path]) and leaf.requires_grad
    assert module[0].weight.dtype == torch.float32 and module[0].weight is found["0.weight"]


def test_parameters_that_layers_share_stay_shared():
    torch = tensors()
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[1].weight = module[0].weight
    new = rebuilt(module, {"0.weight": like(module[0].weight, W)})
    assert new[1].weight is new[0].weight and (array_of(new[0].weight) == W).all()


def test_a_module_has_a_gradient():
    torch = tensors()
    module, x = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GRU(3, 2)), torch.tensor([[1.0, 2.0], [0.5, -1.0]])

    def loss(m):
        return m(x)[0].pow(2).sum()

    gradient = automatic_gradient(loss, module)
    loss(module).backward()
    for name, parameter in module.named_parameters():
        assert gradient[name].dtype == np.float64 and parameter.grad.dtype == torch.float32
        assert np.allclose(gradient[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_half_precision_and_the_graph_are_left_behind():
    torch = tensors()
    leaf = torch.ones(2, dtype=torch.float16, requires_grad=True)
    assert array_of(leaf).dtype == np.float16
    assert (array_of(torch.tensor([1 + 2j]).conj()) == [1 - 2j]).all()


# ---------------------------------------------------------------------------------------------------------------- JAX


def test_a_compiled_function_has_a_gradient():
    jnp = jax_arrays()
    jax = pytest.importorskip("jax")
    x = jnp.ones((3, 2))
    loss = jax.jit(lambda W: jnp.sum(jnp.tanh(x @ W)))
    assert np.allclose(
        automatic_gradient(loss, jnp.asarray(W))["params"], np.ones((2, 3)) @ (1 - np.tanh(np.ones((3, 2)) @ W) ** 2)
    )


def test_a_random_key_is_no_array_of_numbers():
    jax_arrays()
    assert array_of(pytest.importorskip("jax").random.key(0)) is None
