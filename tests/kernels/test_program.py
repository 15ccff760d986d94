"""Programs: what is compiled for them, and where."""

import numpy as np
import pytest

from vae_np import kernels
from vae_np.kernels.cpu import program, recording
from vae_np.kernels.cpu.argument_buffer import types_of
from vae_np.testing.operations import check_operation, random_arguments, with_changes


@pytest.mark.parametrize("are_pairs", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_process_compiles_what_it_is_asked_for(dtype, are_pairs, monkeypatch):
    asked, done = [], []
    monkeypatch.setattr(program, "begin_elsewhere", lambda wanted, code: asked.append((list(wanted), code)))
    monkeypatch.setattr(program, "compile_all", lambda wanted: done.append(list(wanted)))
    program.begin(np.dtype(dtype), **({"are_pairs": True} if are_pairs else {}))
    ((wanted, code),) = asked
    exec(code)
    assert done == [wanted] and len(set(wanted)) == len(wanted) and ("uint32" in str(wanted)) == are_pairs
    assert (program.OPERATIONS["normals"], types_of(random_arguments("normals", dtype))) in wanted
    assert "run" in [operation.py_func.__name__ for operation, _ in wanted]


@pytest.mark.parametrize("name", ["affine", "affine_backward_add", "gaussian_kl_backward"])
def test_what_is_done_at_once_is_what_the_operations_do(name, monkeypatch):
    wanted, compile_all = [], program.compile_all
    monkeypatch.setattr(program, "compile_all", lambda given: wanted.append(list(given)) or compile_all(wanted[-1]))
    recording._places.pop(name, None)

    def operation(*arguments):
        results = []
        kernels.load("numba").at_once(lambda kernel_set: results.append(getattr(kernel_set, name)(*arguments)))
        return results[0]

    check_operation(with_changes(**{name: operation}), name, "float64")
    ((one,),) = wanted
    assert one[0] is program.OPERATIONS[name]
