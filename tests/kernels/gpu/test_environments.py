"""The extras in fresh virtual environments, with CuPy, NVRTC and cuBLAS as pip installs them. This needs no GPU.

Each environment takes a minute and some gigabytes of the folder for temporary files, so that these tests are `slow`.
"""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the packages are those of Linux")]

ENVIRONMENTS = {  # what is installed: the extras, and packages of another CUDA beside them
    "cuda12": ("[test,cuda12]", []),
    "cuda13": ("[test,cuda13]", []),
    "both": ("[test,cuda12]", ["nvidia-cuda-nvrtc>=13", "nvidia-cublas>=13"]),  # as PyTorch and JAX for CUDA 13 bring them
}
# The compiled kernels begin with the numbers of their format. A driver of CUDA 12 refuses those of CUDA 13.
FORMATS = {"cuda12": [51, 7], "cuda13": [65, 8]}

WITH_A_DRIVER = """
from cupy.cuda import runtime
runtime.driverGetVersion, runtime.getDeviceCount = lambda: 13000, lambda: 1
from vae_np import cli, kernels
print(kernels.available()["cupy"])
cli.main(["backends"])
"""
LIBRARIES = """
import json
from cupy.cuda import compiler, device as cupys, runtime
from vae_np.kernels.gpu import device

def loaded_by_cupy():
    from cupy_backends.cuda.libs import cublas

cupys.get_cublas_handle = loaded_by_cupy  # without a driver there is no handle, but the library can be loaded
formats = set()
for name in device.SOURCES:
    for real in device.REALS:
        text, options = device.source(name, real)
        program = compiler._NVRTCProgram(text, "kernels.cu", method="cubin")
        code, _ = program.compile((*options, "-ftz=true", "-arch=sm_90"))
        formats.add((code[7], code[8]))
print(json.dumps({"formats": list(formats), "cublas": device.load_cublas()._name, "major": runtime.runtimeGetVersion() // 1000}))
"""


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def environment(request, tmp_path_factory):
    """(name, a function that runs a program of Python in the environment and returns what it prints)"""
    extras, others = ENVIRONMENTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", f"{ROOT}{extras}", *others], check=True)

    def run(*words):
        command = [folder / "bin/python", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "400"}).stdout

    yield request.param, run
    subprocess.run(["rm", "-r", folder], check=True)


def test_each_extra_brings_libraries_of_its_own_cuda_and_a_mixture_is_said(environment):
    name, run = environment
    said = run("-c", WITH_A_DRIVER)
    mixture = "cupy is built for CUDA 12.9, but has loaded the NVRTC of CUDA 13: packages for both are installed"
    assert (mixture in said) == ("packages for both are" in said.partition("backend")[2]) == (name == "both"), said
    if name == "both":  # the remedy is the first environment of these tests
        assert "make a new virtual environment and run `pip install '.[cuda12]'` in the clone" in said
        return
    found = json.loads(run("-c", LIBRARIES))
    major = int(name.removeprefix("cuda"))
    assert found == {"formats": [FORMATS[name]], "cublas": f"libcublas.so.{major}", "major": major}


def test_the_stand_in_has_what_this_cupy_has(environment):
    _, run = environment
    assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/host_cuda/tests/test_against_cupy.py")
