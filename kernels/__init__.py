"""The operations of a VAE, once for each array library, under the same names.

`reference` (NumPy) is the definition; `cpu` (Numba) repeats it in compiled loops. `load` chooses a set by name.
"""

import importlib
import importlib.util
import types
from typing import NamedTuple

PROJECT = "vae_np"  # tells this package from others of its name

MODULES = {"numpy": "kernels.reference", "numba": "kernels.cpu"}


class Status(NamedTuple):
    """Whether a set can run here; if not, why, and what to do about it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


def available():
    """{name: Status} of every set, the slowest first"""
    return {
        "numpy": Status(True),
        "numba": _numba(),
        "cupy": Status(False, "it has no kernels in this version", "use numba"),
    }


def _numba():
    for package in ("numba", "scipy"):  # Numba takes its matrix product from SciPy
        if importlib.util.find_spec(package) is None:
            return Status(False, f"{package} is not installed", f"pip install {package}")
    return Status(True)


def load(name="auto"):
    """The set of that name, a module; "auto" is the fastest that runs here. A module is a set of one's own, and taken as it is.

    ValueError for an unknown name, RuntimeError for a set that cannot run here.
    """
    if isinstance(name, types.ModuleType):
        return name
    status = available()
    if name == "auto":
        name = [known for known, state in status.items() if state.ok][-1]
    if name not in status:
        raise ValueError(f"backend is {name!r}; known are {', '.join(map(repr, ['auto', *status]))}")
    if not status[name].ok:
        raise RuntimeError(f"backend {name!r} cannot run: {status[name].reason}; {status[name].remedy}")
    return importlib.import_module(MODULES[name])
