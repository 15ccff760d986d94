"""The process in which kernels run: its signals, its faults and its threads."""

import faulthandler
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests import host_cuda as cp
from tests.host_cuda.tests.sources import kernel, launch


def test_a_fault_leaves_signals_and_fibers_as_they_were():
    faulthandler.enable()
    for _ in range(3):
        with pytest.raises(cp.KernelFault):
            launch(kernel("__syncthreads(); x[t + 1] = 1;"), cp.zeros(64, np.float32))
        launch(kernel("__syncthreads(); x[t] = t;"), x := cp.zeros(64, np.float32))
        assert x.get().tolist() == list(range(64))
    assert faulthandler.is_enabled()


def test_a_fault_of_python_is_its_own_after_a_launch():
    code = (
        "import ctypes, faulthandler, numpy; faulthandler.enable(); from tests import host_cuda as cp\n"
        "code = 'extern \"C\" __global__ void kernel(float* x, int n) { x[threadIdx.x + n] = 1; }'\n"
        "kernel, x = cp.RawModule(code=code).get_function('kernel'), cp.zeros(64, numpy.float32)\n"
        "kernel((1,), (64,), (x, numpy.int32(0)))\n"
        "try: kernel((1,), (64,), (x, numpy.int32(1)))\n"
        "except cp.KernelFault: print('reported', flush=True)\n"
        "ctypes.string_at(0)"
    )
    root = pathlib.Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=600)
    assert run.returncode == -signal.SIGSEGV and run.stdout == "reported\n"
    assert "Fatal Python error: Segmentation fault" in run.stderr


def test_threads_of_the_host_take_turns():
    faults = []

    def work(k):
        for _ in range(20):
            launch(kernel("__syncthreads(); x[t] = t;"), x := cp.zeros(64, np.float32))
            faults.extend(x.get() != np.arange(64))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(faults) and len(faults) == 3 * 20 * 64
