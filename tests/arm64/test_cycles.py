"""What makes the tiles of arm64 fast: no number of a sum leaves the registers. LLVM compiles for arm64 on any machine."""

import pathlib
import re
import subprocess
import sys

CODE = """
import cycles
for processor in cycles.PER_CYCLE:
    for real in cycles.REALS:
        print(cycles.longest_loop(cycles.assembly(processor, real)))
"""


def test_the_sums_of_a_tile_stay_in_registers():
    folder = pathlib.Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", CODE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fmla") == 3 * (80 + 40)
    assert not re.findall(r".*\b[sdqv]\d+\b.*\[sp.*", done.stdout)  # a vector register, and the stack
