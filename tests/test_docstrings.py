"""What a user's editor shows of the public names: types of all arguments, and docstrings whose examples run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import vae_np
import vae_np.study
import vae_np.testing

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(vae_np.__path__, "vae_np.")
    if not info.name.startswith(("vae_np.kernels.gpu", "vae_np.__main__"))  # CuPy may be absent, and __main__ runs
)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (vae_np, vae_np.testing, vae_np.study)
    for name in module.__all__
}
CALLABLES = {name: value for name, value in PUBLIC.items() if callable(value)}
FUNCTIONS = {name: value for name, value in CALLABLES.items() if not isinstance(value, type)}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_what_people_call_first_has_an_example():
    for name in ("Architecture", "Parameters", "loss_and_gradients", "VAE", "train"):
        assert ">>> " in getattr(vae_np, name).__doc__, name
    for name in ("check_gradients", "random_problem", "numerical_gradient", "assert_close"):
        assert ">>> " in getattr(vae_np.testing, name).__doc__, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_has_types(name):
    signature = inspect.signature(FUNCTIONS[name])
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert not untyped and signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_says_what_it_is(name):
    assert (CALLABLES[name].__doc__ or "").strip().split("\n")[0][-1:] not in ("", ","), "the docstring has no first sentence"
