"""The tasks of a recorded step: each of their compiled functions is the same in every process."""

import numpy as np
import pytest
from numba.core import config

from vae_np.kernels import contract, reference
from vae_np.kernels.cpu import argument_buffer, recording
from vae_np.testing.operations import random_arguments

STATES = {"sgd": 1, "adagrad": 1, "adam": 2, "adamw": 3}  # arrays of an optimizer
NUMBERS = {"sgd": (0.1, 0.9), "adagrad": (0.1, 1e-8), "adam": (np.zeros((), np.int64), 0.1, 0.9, 0.99, 1e-8)}
NUMBERS["adamw"] = (*NUMBERS["adam"], 0.1)


@pytest.mark.parametrize("name", contract.OPERATIONS)
def test_an_operation_that_is_recorded_returns_the_arguments_that_it_would_return(name):
    arguments, results = random_arguments(name, "float32"), []
    recording.record(lambda kernel_set: results.append(getattr(kernel_set, name)(*arguments)))
    results.append(vars(reference)[name](*arguments))
    given, wanted = (list(map(id, result)) if isinstance(result, tuple) else id(result) for result in results)
    assert given == wanted


@pytest.mark.parametrize("update", contract.UPDATES)
def test_a_compiled_function_holds_no_copy_of_another(update, monkeypatch, tmp_path):
    """A process runs the first copy that it loads, and which that is depends on whether it compiles or reads the cache."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    W = np.zeros((3, 2), np.float32)
    flat = W.reshape(-1)
    state = (flat, *[flat] * STATES[update], *NUMBERS[update])
    arguments = W.T, 0, W, W, W, np.float32(0), (W, W, W), flat, state
    entry = argument_buffer._entry.__wrapped__(recording.UPDATE_ROWS[update], argument_buffer.types_of(arguments))
    entry.compile()
    copies = [f.name for f in entry._library._final_module.functions if not f.is_declaration and "linkonce" in f.linkage.name]
    assert not [name for name in copies if not name.startswith("NRT_")]
