"""Every source compiled by NVIDIA's own compiler for the processors that CUDA 13 knows; no GPU is needed for that.

One processor of each generation is always tried. Its siblings are `slow`: the compiler makes nearly the same for them.
"""

import io
import re

import pytest

from tests.kernels.gpu import on_host

cuda = pytest.importorskip("cuda.core", reason="cuda-core is not installed: run `pip install '.[nvrtc]'` in the clone")
nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
if not on_host.KERNELS:
    pytest.skip("g++ is not installed: the GPU's kernel set cannot be loaded", allow_module_level=True)

ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_120"]  # Turing, Ampere with Ada, Hopper, Blackwell
ARCHITECTURES += [pytest.param(sibling, marks=pytest.mark.slow) for sibling in ("sm_86", "sm_89", "sm_100")]


def compiled(name, real, architecture):
    """{kernel: (registers, bytes of stack, bytes spilled)} of a source, with the options that CuPy is given."""
    text, options = on_host.DEVICE.source(name, real)
    macros = [tuple(option[2:].split("=", 1)) for option in options if option.startswith("-D")]
    options, log = set(options), io.StringIO()
    program = cuda.Program(
        text,
        "c++",
        cuda.ProgramOptions(
            std="c++17", arch=architecture, define_macro=macros, fma="--fmad=false" not in options, ftz=True, ptxas_options="-v"
        ),
    )
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
@pytest.mark.parametrize("name", ["layers", "losses", "updates", "batches", "steps"])
def test_every_kernel_compiles_and_keeps_its_numbers_in_registers(name, real, architecture):
    used = compiled(name, real, architecture)
    assert used.keys() == set(re.findall(r"__global__ void (\w+)", on_host.DEVICE.source(name, real)[0]))
    for kernel, (registers, _, spilled) in used.items():
        most = 64 if real == "float32" else 128  # so that four or two blocks of 256 threads are at work at a time
        assert spilled == 0 and registers <= most, (kernel, registers, spilled)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("name, fused", [("batches", False), ("layers", True), ("losses", True), ("updates", True)])
def test_only_the_noise_rounds_after_each_product_and_each_sum(name, fused, real):
    """Else its bits would not be the reference's. Each says how it is rounded, so that none is fused later."""
    text, options = on_host.DEVICE.source(name, real)
    options = [option.encode() for option in (*options, "--ftz=true", "-arch=compute_90")]
    program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], [])[1]
    assert nvrtc.nvrtcCompileProgram(program, len(options), options)[0] == 0
    ptx = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
    nvrtc.nvrtcGetPTX(program, ptx)
    assert bool(re.search(rb"\bfma\.", ptx)) == fused == bool(re.search(rb"\b(mul|add|sub)(\.ftz)?\.f(32|64)\b", ptx))
