"""NVIDIA's own compiler compiles every source file, for the architectures that CUDA 13 knows. This needs no GPU.

One architecture of each generation is always tested. The others of the generation are `slow`: their code is nearly the same.
"""

import io
import re

import pytest

from tests.kernels.gpu import on_host

cuda = pytest.importorskip("cuda.core", reason="cuda-core is not installed: run `pip install '.[nvrtc]'` in the clone")
nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
if not on_host.KERNELS:
    pytest.skip("g++ is not installed: the GPU's kernel set cannot be loaded", allow_module_level=True)

NOT_SLOW = ("float32", "sm_75"), ("float64", "sm_90")  # Turing, Hopper


def compiled(name, real, architecture, index="int"):
    """Compile a source file with the options that CuPy gets. Returns {kernel: (registers, bytes spilled)}."""
    text, options = on_host.DEVICE.source(name, real, index)
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
        kernel, registers = re.search("'(\\w+)'", part)[1], int(re.search(r"Used (\d+) registers", part)[1])
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part).groups()
        used[kernel] = registers, sum(map(int, spilled))
    return used


@pytest.mark.parametrize(
    "real, architecture",
    [
        pytest.param(real, architecture, marks=[pytest.mark.slow] * ((real, architecture) not in NOT_SLOW))
        for architecture in ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
        for real in ("float32", "float64")
    ],
)
@pytest.mark.parametrize("name", on_host.DEVICE.SOURCES)
def test_every_kernel_compiles_and_keeps_its_numbers_in_registers(name, real, architecture):
    used = compiled(name, real, architecture)
    assert used.keys() == set(re.findall(r"__global__ void (\w+)", on_host.DEVICE.source(name, real)[0]))
    for kernel, (registers, spilled) in used.items():
        most = 64 if real == "float32" else 128  # then four blocks of 256 threads can run at the same time, or two
        assert spilled == 0 and registers <= most, (kernel, registers, spilled)


@pytest.mark.parametrize("name", on_host.DEVICE.SOURCES)
def test_every_kernel_compiles_with_indices_of_64_bits(name):
    assert all(not spilled for _, spilled in compiled(name, "float32", "sm_90", "long long").values())


def ptx(name, real):
    """The instructions of a source file for NVIDIA's virtual machine, with the options that CuPy adds."""
    text, options = on_host.DEVICE.source(name, real)
    options = [option.encode() for option in (*options, "--ftz=true", "-arch=compute_90")]
    program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], [])[1]
    assert nvrtc.nvrtcCompileProgram(program, len(options), options)[0] == 0
    code = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
    nvrtc.nvrtcGetPTX(program, code)
    return code.decode()


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("name", on_host.DEVICE.SOURCES)
def test_only_the_random_numbers_are_rounded_after_each_product_and_each_sum(name, real):
    """Their bits must be those of the reference. Each instruction says how it rounds, so that none is fused later."""
    fused = name != "batches"
    code = ptx(name, real)
    assert bool(re.search(r"\bfma\.", code)) == fused == bool(re.search(r"\b(mul|add|sub)(\.ftz)?\.f(32|64)\b", code))


def test_only_data_below_the_normal_numbers_are_flushed_in_a_batch():
    """The quotients of bytes are no such numbers, and neither is noise, which is rounded from double."""
    kernels = re.split(r"\.entry (\w+)", ptx("batches", "float32"))[1:]
    flushing = {name: set(re.findall(r"\b[\w.]+\.ftz\.[\w.]+", code)) for name, code in zip(kernels[::2], kernels[1::2])}
    assert flushing == {
        "gather_uint8": {"div.rn.ftz.f32"},
        "gather_float32": set(),
        "gather_float64": {"cvt.rn.ftz.f32.f64"},
        "normals": {"cvt.rn.ftz.f32.f64"},
        "begin_uint8": {"div.rn.ftz.f32", "cvt.rn.ftz.f32.f64"},
        "begin_float32": {"cvt.rn.ftz.f32.f64"},
        "begin_float64": {"cvt.rn.ftz.f32.f64"},
        "binarize": {"cvt.ftz.f64.f32"},
    }
