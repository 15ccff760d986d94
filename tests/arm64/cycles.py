"""Estimates which share of the multiply-add peak of arm64's processors the tiles of the matrix products reach.

    python tests/arm64/cycles.py [--llvm-mca PROGRAM]

LLVM compiles a tile for each processor. llvm-mca, which LLVM's package of Debian has (llvm-19 or newer knows all of these),
then counts the cycles of the loop over k by its table of the processor; nothing runs. For apple-m1 that is the table of an
older processor, which has fewer multiply-adds per cycle: so the cycles of the multiply-adds alone stand beside those of the loop.
"""

import argparse
import re
import subprocess
import sys

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

TRIPLE = "aarch64-unknown-linux-gnu"
PER_CYCLE = {"apple-m1": 4, "neoverse-v2": 4, "neoverse-n1": 2}  # multiply-adds of vectors of 16 bytes
REALS = types.float32, types.float64
ITERATIONS = 1000
context, triple = cpu_target.target_context, llvmlite.binding.get_process_triple
llvmlite.binding.get_process_triple = lambda: TRIPLE
from vae_np.kernels.cpu.panel import HEIGHTS, VECTORS, panel_function  # noqa: E402  # it looks which processor this is

llvmlite.binding.get_process_triple = triple
llvmlite.binding.initialize_all_targets()
llvmlite.binding.initialize_all_asmprinters()


def assembly(processor: str, real: types.Float) -> str:
    """Return the panel function as LLVM compiles it for a processor."""
    module = ir.Module()
    module.triple = TRIPLE
    panel_function(context, module, real, real, is_transposed=False).linkage = "external"
    target = llvmlite.binding.Target.from_triple(TRIPLE).create_target_machine(cpu=processor, opt=3)
    compiled = llvmlite.binding.parse_assembly(str(module))
    tuning = llvmlite.binding.create_pipeline_tuning_options(speed_level=3)
    passes = llvmlite.binding.create_pass_builder(target, tuning)
    passes.getModulePassManager().run(compiled, passes)
    return target.emit_assembly(compiled)


def longest_loop(text: str) -> str:
    """Return the loop that has the most multiply-adds: that of the highest and widest tile."""
    loops = re.findall(r"^(\.LBB\w+):.*\n((?:\t.*\n)*?\tb\.\w+\t\1)$", text, re.MULTILINE)
    return max((body for _, body in loops), key=lambda body: body.count("fmla"))


def cycles(program: str, processor: str, text: str) -> float:
    """Return how many cycles one round of a loop takes, according to llvm-mca."""
    command = [program, f"-mtriple={TRIPLE}", f"-mcpu={processor}", f"-iterations={ITERATIONS}"]
    found = subprocess.run(command, input=text, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    return int(re.search(r"Total Cycles: +(\d+)", found.stdout)[1]) / ITERATIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llvm-mca", default="llvm-mca", metavar="PROGRAM", help="for example llvm-mca-19")
    program = parser.parse_args().llvm_mca
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    print(f"estimates of llvm-mca ({re.search(r'LLVM version [0-9.]+', version)[0]}), not measurements")
    for processor, per_cycle in PER_CYCLE.items():
        for real in REALS:
            loop = longest_loop(assembly(processor, real))
            n, lanes = loop.count("fmla"), 128 // real.bitwidth
            assert n == HEIGHTS[0] * VECTORS * lanes, "this is not the loop of the largest tile"
            alone = "".join(line for line in loop.splitlines(keepends=True) if "fmla" in line)
            taken, least = cycles(program, processor, loop), cycles(program, processor, alone)
            print(
                f"{processor:12} {real}: {n} multiply-adds in {taken:.1f} cycles, {n / per_cycle / taken:.0%} of the peak of"
                f" {per_cycle} per cycle; without all other instructions they take {least:.1f} cycles"
            )


if __name__ == "__main__":
    main()
