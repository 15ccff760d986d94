"""`vae-np check FILE.py:FUNCTION`: the gradients of a function of one's own are compared with numerical derivatives."""

import contextlib
import functools
import importlib.util
import os
import pathlib
import sys
import types
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from vae_np.console import make_console
from vae_np.parameters import reading

EXPECTED = (
    "A function of your own. FUNCTION(params) returns (value, gradients), or the value alone if the file has FUNCTION_gradients, "
    "a function of params. The params are in the file as FUNCTION_params or params: a container of arrays, such as a dict, or a "
    "function of a numpy.random.Generator that returns one. Without FILE.py:FUNCTION, the gradients of vae_np are checked."
)


def check_function(words: str, params: str | None, method: str, seed: int, status: Console) -> int:
    """Check the function that the words FILE.py:FUNCTION name, and print what is wrong and the worst element of each array.

    Parameters
    ----------
    words : str
        The file and the function.
    params : str, optional
        A .npz file; the params are a dict of its arrays. By default they are those of the file of the function.
    method : str
        The method of `check_gradients`.
    seed : int
        The seed of the generator that a function of the params is called with.
    status : Console
        It shows that the check is running.

    Returns
    -------
    int
        The exit code: 0 if all gradients are right, else 1.

    Raises
    ------
    ValueError, TypeError, OSError
        Something is lacking, or the function cannot be checked.
    """
    from vae_np.testing import check_gradients

    with _staying(words):
        module, name = _function(words)
        fn, gradients = vars(module)[name], vars(module).get(f"{name}_gradients")
        point = _params(module, name, words, params, seed)
        console = make_console()
        with status.status(words):
            try:
                worst, code = check_gradients(fn, point, gradients, method=method), 0
                if not worst:
                    raise ValueError("the params hold no number, so that there is nothing to check")
                console.print("Every gradient is right.")
            except AssertionError as error:
                console.print(Text(str(error)))
                worst, code = [], 1
                with contextlib.suppress(ValueError):  # other elements are at a kink
                    worst = check_gradients(fn, point, gradients, method=method, rtol=np.inf)
    if worst:
        console.print("", _table(worst))
    return code


@contextlib.contextmanager
def _staying(name: str) -> Iterator[None]:
    """`with _staying(name)`: what would end the process becomes an error; else nothing would be checked, and the exit code be 0."""
    try:
        yield
    except SystemExit as end:
        raise ValueError(f"{name} ends the process, by sys.exit({'' if end.code is None else repr(end.code)})") from end


def _function(words):
    """The module of the file, and the name of the function in it."""
    path, colon, name = words.rpartition(":")
    if not colon or not name or not path.endswith(".py"):
        raise ValueError(f"{words} is not of the form FILE.py:FUNCTION, such as model.py:loss")
    module = _imported(os.path.expanduser(path))
    if not callable(vars(module).get(name)):
        own = [key for key, value in vars(module).items() if isinstance(value, types.FunctionType) and not key.startswith("_")]
        raise ValueError(f"{path} has no function {name}; it has {', '.join(own) or 'none'}")
    return module, name


def _imported(path: str) -> types.ModuleType:
    """The file as a module; it finds the modules beside it, as a script does."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    spec: Any = importlib.util.spec_from_file_location(f"checked_{pathlib.Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may raise any error
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _params(module, name, words, file, seed):
    if file is not None:
        with reading(file, "a .npz file of arrays"):
            with open(file, "rb") as stream:
                if not zipfile.is_zipfile(stream):
                    raise ValueError("it is no archive")
            with np.load(file) as arrays:
                return dict(arrays)
    for key in (f"{name}_params", "params"):
        found = vars(module).get(key)
        if isinstance(found, types.FunctionType | types.MethodType | functools.partial):
            try:
                return found(np.random.default_rng(seed))
            except Exception as error:  # the user's own code may raise any error
                raise ValueError(f"{key} raises an error, {type(error).__name__}: {error}") from error
        if found is not None:
            return found
    raise ValueError(
        f"{words} has no params, which say where it is checked: define {name}_params or params in the file, or give --params FILE.npz"
    )


WIDTHS = {"gradient": 13, "derivative": 13, "error": 7, "by": 7}  # of the numbers, which are not cut


def _table(worst: Sequence[Any]) -> Table:
    table = Table(
        Column("worst element", overflow="fold"),
        *(Column(name, justify="right", no_wrap=True, min_width=n) for name, n in WIDTHS.items()),
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    for element in sorted(worst, key=lambda element: -element.error):
        index = ", ".join(map(str, element.index))
        table.add_row(
            Text(f"{element.name}[{index}]" if index else element.name),
            *(f"{number:.10g}" for number in (element.given, element.wanted)),
            f"{element.error:.1e}",
            element.method,
        )
    return table
