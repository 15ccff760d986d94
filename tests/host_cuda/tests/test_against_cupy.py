"""What the stand-in has of CuPy, CuPy has too: names, arguments, defaults, numbers and the texts of errors."""

import functools
import importlib.util
import inspect
import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda import errors

if importlib.util.find_spec("cupy") is None:
    pytest.skip("CuPy is not installed: run `pip install cupy-cuda13x`, which needs no GPU", allow_module_level=True)

PROGRAM = pathlib.Path(__file__).with_name("describe_cupy.py")


def public(thing):
    """The names of a module or a class of the stand-in that CuPy has to have too."""
    return [
        name for name in vars(thing) if not name.startswith("_") or name in ("__init__", "__call__", "__enter__", "__exit__")
    ]


def names():
    """{path in CuPy: what the stand-in has there}"""
    found = {}

    def visit(path, thing):
        found[path] = thing
        ours = isinstance(thing, type) and thing.__module__.startswith("tests.host_cuda")
        if isinstance(thing, (types.ModuleType, types.SimpleNamespace)) or ours:
            for name in public(thing):
                if name not in OWN.get(path, ()):
                    visit(f"{path}.{name}", inspect.getattr_static(thing, name))

    with cp.installed() as cupy:
        visit("cupy", cupy)
    return found


OWN = {  # what the stand-in's classes have for themselves
    "cupy.ndarray": {"__init__"},  # CuPy's takes anything; its documentation says what
    "cupy.RawModule": {"line_of", "shared"},
    "cupy.RawKernel": {"name", "__init__"},  # the kernels of a module; others cannot be made
    "cupy.cuda.Stream": {"queue", "check_not_capturing", "check_implicit", "null", "ptds"},
    "cupy.cuda.Event": {"graph"},
    "cupy.cuda.Graph": {"fail", "add"},
}
NAMES = names()
ASKED = {"paths": list(NAMES), "runtime": list(errors.RUNTIME), "driver": list(errors.DRIVER)}


@functools.cache
def answers():
    command = [sys.executable, PROGRAM]
    return json.loads(subprocess.run(command, input=json.dumps(ASKED), capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("path", NAMES)
def test_cupy_has_what_the_stand_in_has(path):
    described, ours, name = answers()["names"][path], NAMES[path], path.rpartition(".")[2]
    assert described is not None, f"CuPy has no {path}"
    if isinstance(ours, int):
        assert described["number"] in (ours, None)  # where it is an attribute of an object, nobody knows
    if getattr(np, name, None) is ours:
        assert described["is_numpys"]
    if not inspect.isfunction(ours) or name in ("__enter__", "__exit__"):
        return
    theirs = {name: (i, default, positional) for i, (name, default, positional) in enumerate(described["parameters"])}
    given = [p for p in inspect.signature(ours).parameters.values() if p.name not in ("self", "cls")]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given):
        return
    for i, parameter in enumerate(given):
        assert parameter.name in theirs, f"CuPy's {path} takes {', '.join(theirs)}"
        place, default, positional = theirs[parameter.name]
        assert default == (None if parameter.default is parameter.empty else repr(parameter.default)), parameter.name
        assert positional == (parameter.kind is not parameter.KEYWORD_ONLY) and (place == i or not positional), parameter.name
    needed = {name for name, (_, default, _) in theirs.items() if default is None}
    assert needed <= {parameter.name for parameter in given}, f"CuPy's {path} takes {', '.join(theirs)}"


def test_errors_have_the_texts_of_cuda():
    for known, kind, texts in zip(
        (errors.RUNTIME, errors.DRIVER), (cp.CUDARuntimeError, cp.CUDADriverError), answers()["texts"]
    ):
        for status, text in zip(known, texts, strict=True):
            assert text in (None, str(kind(status)))
    assert None not in answers()["texts"][0]
