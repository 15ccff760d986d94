"""Every source compiled by NVIDIA's own compiler for the processors that CUDA 13 knows; no GPU is needed for that.

One processor of each generation is always tried. Its siblings are `slow`: the compiler gives them the same or nearly the same.
"""

import io
import re

import pytest

from tests.kernels.gpu import on_host

cuda = pytest.importorskip("cuda.core", reason="cuda-core is not installed: run `pip install '.[nvrtc]'` in the clone")
if not on_host.KERNELS:
    pytest.skip("g++ is not installed: the GPU's kernel set cannot be loaded", allow_module_level=True)

ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_120"]  # Turing, Ampere with Ada, Hopper, Blackwell
ARCHITECTURES += [pytest.param(sibling, marks=pytest.mark.slow) for sibling in ("sm_86", "sm_89", "sm_100")]


def compiled(name, real, architecture):
    """{kernel: (registers, bytes of stack, bytes spilled)} of a source, with the options that CuPy is given."""
    text, options = on_host.DEVICE.source(name, real)
    macros = [tuple(option[2:].split("=", 1)) for option in options if option.startswith("-D")]
    options, log = set(options), io.StringIO()
    program = cuda.Program(text, "c++", cuda.ProgramOptions(
        std="c++17", arch=architecture, define_macro=macros, fma="--fmad=false" not in options, ftz=True, ptxas_options="-v"
    ))  # fmt: skip
    assert program.compile("cubin", logs=log).code
    used = {}
    for part in log.getvalue().split("Compiling entry function")[1:]:
        kernel = re.search("'(\\w+)'", part)[1]
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack.* (\d+) bytes spill st.* (\d+) bytes spill l", part).groups()
        )
        used[kernel] = int(re.search(r"Used (\d+) registers", part)[1]), stack, stores + loads
    return used


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("name", ["operations", "noise", "steps"])
def test_every_kernel_compiles_and_keeps_its_numbers_in_registers(name, real, architecture):
    used = compiled(name, real, architecture)
    assert used.keys() == set(re.findall(r"__global__ void (\w+)", on_host.DEVICE.source(name, real)[0]))
    for kernel, (registers, _, spilled) in used.items():
        most = 64 if real == "float32" else 128  # so that four or two blocks of 256 threads are at work at a time
        assert spilled == 0 and registers <= most, (kernel, registers, spilled)
