"""A program that describes parts of CuPy, for test_against_cupy.py. CuPy can be imported where there is no driver.

Its input is {"paths": [..], "runtime": [statuses], "driver": [statuses]} as JSON, and its output is {"names": .., "texts": ..}.
"""

import inspect
import json
import re
import sys

import cupy  # pyright: ignore[reportMissingImports]
import numpy as np


def parameters_of(function, name, doc):
    """Return [(name, text of its default or None, whether it may be given by its place)], without `self`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = []
    if parameters and not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        found = [(p.name, None if p.default is p.empty else repr(p.default), p.kind is not p.KEYWORD_ONLY) for p in parameters]
        return [parameter for parameter in found if parameter[0] != "self"]
    # Cython hides the signature, but writes it into the documentation, with types before some of the names.
    found, positional = [], True
    for line in re.findall(rf"^\s*(?:\w+\.)*{name}\((.*)\)", doc, re.MULTILINE)[-1:]:
        for part in filter(None, map(str.strip, line.split(","))):
            parameter, _, default = part.replace("\\", "").partition("=")
            positional = positional and parameter != "*"
            if parameter not in ("self", "*"):
                found.append((parameter.split()[-1].lstrip("*"), default or None, positional))
    return found


def describe(path):
    """Return what CuPy has at a path, such as cupy.cuda.Stream.record, or None."""
    thing, parent, name = cupy, cupy, "cupy"
    for name in path.split(".")[1:]:
        if not hasattr(thing, name):
            return None
        parent, thing = thing, getattr(thing, name)
    documented = (parent.__name__, parent) if name == "__init__" else (name, thing)
    return {
        "parameters": parameters_of(thing, documented[0], documented[1].__doc__ or "") if callable(thing) else [],
        "number": thing if isinstance(thing, int) else None,
        "is_numpys": thing is getattr(np, name, None),
    }


def text(kind, status):
    """Return the text of an error, or None if it is not known without a driver."""
    try:
        return str(kind(status))
    except Exception:
        return None


asked = json.load(sys.stdin)
runtime, driver = cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError
texts = [[text(kind, status) for status in asked[of]] for of, kind in (("runtime", runtime), ("driver", driver))]
json.dump({"names": {path: describe(path) for path in asked["paths"]}, "texts": texts}, sys.stdout)
