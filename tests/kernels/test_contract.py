"""The contract of a kernel set: every set has what it says, and a set that has not is refused in one sentence."""

import inspect
import pathlib
import types

import pytest

from vae_np import kernels
from vae_np.kernels import contract, reference

DEFINITION: contract.KernelSet = reference  # a type checker compares every signature


def own_set(without=()):
    """A module with the operations of the reference, except those that are named."""
    module = types.ModuleType("mine")
    vars(module).update({name: vars(reference)[name] for name in contract.OPERATIONS if name not in without})
    return module


def test_every_set_has_the_operations_of_the_contract_with_its_parameters(kernel_set):
    assert contract.differences(kernel_set) == []


def test_every_set_has_its_abilities(backend):
    kernel_set = kernels.load(backend)
    assert (kernel_set.capture is None) == (kernel_set.edges is None) == (backend == "numpy")
    assert "matrix products" in kernel_set.about()


def test_every_function_of_the_reference_that_is_no_helper_is_in_the_contract():
    helpers = {
        "philox",
        "words",
        "polynomial",
        "log_uniform",
        "circle",
        "sigmoid",
        "normal_cdf",
        "lesser_mean",
        "of_others",
        "_bernoulli_numbers",
        "rounded",
        "layers_of_rounded",
    }
    functions = {name for name, _ in inspect.getmembers(reference, inspect.isfunction)}
    assert functions == {*contract.OPERATIONS, *contract.ARRAYS, "about", "precisions", *helpers}


def test_the_groups_of_the_contract_share_no_name_and_hold_all():
    groups = [set(group) for group in (contract.LAYERS, contract.UPDATES, contract.BATCHES)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert set.union(*groups) < contract.OPERATIONS.keys()


def test_the_names_follow_from_the_signatures():
    assert {"affine", "affine_relu", "relu_backward", "constant_gradients"} <= contract.LAYERS
    assert {"zeros", "put", "get"} == contract.ARRAYS and {"sgd", "adagrad", "adam"} <= contract.UPDATES
    assert contract.OPERATIONS["affine_relu"] == ("x", "W", "b", "y", "h")


def test_a_set_that_lacks_operations_is_told_which_in_one_sentence():
    message = r"^the kernel set 'mine' is not whole: it lacks relu_backward\(dh, y, h\), sampled_kl\(mu, logvar, eps, z, kl\)$"
    with pytest.raises(TypeError, match=message):
        kernels.load(own_set(without=("sampled_kl", "relu_backward")))
    with pytest.raises(TypeError, match=message):
        contract.exports(own_set(without=("sampled_kl", "relu_backward")))


def test_a_line_says_what_each_operation_of_a_set_has_too_little_or_too_much():
    module = own_set(without=("affine", "sgd"))
    vars(module)["affine"] = lambda x, W, y: y
    assert contract.differences(module) == [
        "affine takes (x, W, y); wanted (x, W, b, y)",
        "sgd(p, g, velocity, learning_rate, momentum) is missing",
    ]


def test_a_set_of_ones_own_gets_the_defaults_of_what_it_lacks():
    module = own_set()
    whole = kernels.load(module)
    assert whole.__name__ == "mine" and whole.affine is reference.affine
    assert (whole.capture, whole.edges) == (None, None) and "does not say" in whole.about()
    assert (whole.zeros, whole.put, whole.get) == (reference.zeros, reference.put, reference.get)
    assert not vars(module).keys() & contract.DEFAULTS.keys(), "the module itself is left as it is"
    assert kernels.load(module) is kernels.load(whole) is whole


def test_an_ability_of_ones_own_is_kept():
    module = own_set()
    vars(module).update(about=lambda: "by hand", put=lambda array: array)
    whole = kernels.load(module)
    assert whole.about() == "by hand" and whole.put is vars(module)["put"] and whole.capture is None


def test_nothing_of_the_kernel_sets_is_decided_by_what_an_object_happens_to_have():
    folder = pathlib.Path(kernels.__file__).parent
    sources = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    assert not [path for path, source in sources.items() if "hasattr(" in source or "getattr(" in source]


def test_a_set_of_ones_own_that_changes_is_seen_again():
    own = types.ModuleType("own")
    vars(own).update({name: vars(reference)[name] for name in contract.OPERATIONS})
    first = kernels.load(own)
    assert first is kernels.load(own) and first.capture is None

    def another_mean(output, mean):
        return reference.gaussian_mean(output, mean)

    own.gaussian_mean = another_mean
    assert kernels.load(own).gaussian_mean is another_mean
