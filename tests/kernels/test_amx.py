"""Products by AMX: its instructions are emulated, and the code for a processor that has them is read."""

import os
import re
import subprocess
import sys

import llvmlite.binding as llvm
import numba.core.config
import pytest
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

from vae_np.kernels.cpu import amx, emit, panel

EMULATED = """
import numpy as np
from tests.kernels import emulated_amx

emulated_amx.install()

from numba import njit
from vae_np import Adam, Architecture, Parameters, kernels, loss_and_gradients
from vae_np.kernels import reference
from vae_np.kernels.cpu import pairs, product
from vae_np.kernels.cpu.operands import paired
from vae_np.steps import stepper


@njit
def multiply(a, b, c):
    product.product(a, b, c, (c[:0], c[:0], c[:0]))


@njit
def multiply_transposed(a, b, c):
    product.product_transposed(a, b, c)


def check(found, *operands):
    left, right = (reference.rounded(x, 8).astype(np.float64) for x in operands)
    bound = 2e-7 * np.sqrt(left.shape[1]) * (abs(left) @ abs(right))
    assert (abs(found - left @ right) <= bound).all(), (found.shape, left.shape)


rng = np.random.default_rng(0)
for M, K, N in ((1, 1, 1), (7, 33, 19), (33, 64, 16), (50, 2100, 49), (32, 32, 32)):
    x, W, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((M, K), (K, N), (M, N)))
    y, dx, dW = (np.full(shape, np.nan, np.float32) for shape in ((M, N), (M, K), (K, N)))
    multiply(x, paired(pairs.pair_rows, W), y)
    multiply_transposed(dy, paired(pairs.pair_columns, W), dx)
    multiply(paired(pairs.pair_rows, x).T, paired(pairs.pair_rows, dy), dW)
    check(y, x, W)
    check(dx, dy, W.T)
    check(dW, x.T, dy)
    row = np.empty((1, N), np.float32)
    multiply(x[M // 2 :][:1], paired(pairs.pair_rows, W), row)
    assert row.tobytes() == y[M // 2].tobytes(), "the bits of a row depend on the rows around it"
    if emulated_amx.counts[0] == 0:
        raise SystemExit("AMX was not used")

p = Parameters.initialize(Architecture(33, (19,), 5), 0, "float32")
x = rng.random((13, 33), np.float32)
eps = rng.standard_normal((13, 5), np.float32)
_, wanted = loss_and_gradients(p, x, eps, backend="numpy", precision="bfloat16")
_, found = loss_and_gradients(p, x, eps, backend="numba", precision="bfloat16")
assert np.linalg.norm(found.flat - wanted.flat) < 2e-3 * np.linalg.norm(wanted.flat)


def steps(backend):
    trained, optimizer = p.copy(), Adam(1e-2)
    run = stepper(
        trained, optimizer.initial_state(trained), optimizer, x, 13, backend=backend, precision="bfloat16", threads=1
    )
    return run(np.tile(np.arange(13), (3, 1)), 1, 1.0, 1e-2), trained.flat


terms, trained = steps("numba")
wanted_terms, wanted_trained = steps("numpy")
assert np.allclose(terms, wanted_terms, rtol=1e-4), (terms, wanted_terms)
assert np.linalg.norm(trained - wanted_trained) < 1e-2 * np.linalg.norm(wanted_trained - p.flat)
assert "AMX" in kernels.load("numba", "bfloat16").about()
assert emulated_amx.counts[2] == 0, "tiles are still configured"
"""


@pytest.mark.slow
@pytest.mark.skipif(emit.VECTOR != 64, reason="AMX comes with vectors of 64 bytes")
def test_products_are_right_where_the_instructions_are_emulated(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", EMULATED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(emit.VECTOR != 64, reason="AMX comes with vectors of 64 bytes")
def test_the_loop_holds_four_products_and_no_other_access_to_memory(monkeypatch):
    monkeypatch.setattr(amx, "PERMITTED", True)
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    panel.panel_function(cpu_target.target_context, module, types.uint32, types.float32, False).linkage = ""
    machine = llvm.Target.from_default_triple().create_target_machine(cpu="sapphirerapids", opt=3)
    code = machine.emit_assembly(llvm.parse_assembly(str(module)))
    blocks = [
        re.findall(r"\b(tdpbf16ps|tileloadd|tilestored|v?mov\S*)\b", block) for block in re.split(r"^\.L\w+:", code, flags=re.M)
    ]
    assert ["tileloadd"] * 4 + ["tdpbf16ps"] * 4 in blocks


def test_it_is_not_used_where_numba_compiles_for_another_processor(monkeypatch):
    monkeypatch.setattr(numba.core.config, "CPU_NAME", "generic")
    assert not amx.is_permitted()
