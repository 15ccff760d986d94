"""The examples in the docstrings of the study page's modules are true."""

import doctest
import importlib
import pkgutil

import pytest

from vae_np import study

MODULES = [module.name for module in pkgutil.walk_packages(study.__path__, "vae_np.study.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_there_are_examples():
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) > 10
