"""The compiler: g++ takes the source of a module and the options of NVRTC, and makes a library for the host."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tests.host_cuda.errors import CompileException

# The compiler, or None where kernels cannot be compiled for the host. `nm` tells where their shared memory is.
COMPILER = shutil.which("g++") if sys.platform == "linux" and shutil.which("nm") else None
FOLDER = pathlib.Path(__file__).parent
FLAGS = (
    "-x c++ -std=c++17 -O1 -g1 -gdwarf-4 -fPIC -shared -fvisibility=hidden "
    "-fno-gnu-unique -w -ffp-contract=off -fno-strict-aliasing -fno-threadsafe-statics "
    "-U_FORTIFY_SOURCE -fstack-clash-protection "
    "-fsanitize=bounds,shift-exponent,integer-divide-by-zero,signed-integer-overflow,alignment "
    "-nodefaultlibs"  # runtime.cpp has the functions that -fsanitize calls
).split()
LIBRARIES = "-lm -lpthread -lrt -lc -lgcc".split()
PREPROCESS = "-E -nostdinc -x c++ -D__CUDACC__ -D__CUDACC_RTC__ -D__CUDA_ARCH__=900".split()
OPTIONS = set(  # those of NVRTC that make no difference here
    "std fmad ftz prec-div prec-sqrt maxrregcount use_fast_math extra-device-vectorization device-debug G dopt "
    "lineinfo generate-line-info restrict w disable-warnings default-device device-as-default-execution-space "
    "device-int128 builtin-move-forward builtin-initializer-list diag-error diag-suppress diag-warn ptxas-options "
    "Xptxas no-source-include split-compile minimal modify-stack-limit".split()
)


def run(words: Sequence[str | os.PathLike[str]], text: str = "") -> str:
    """Run a program on a text, and return what it prints."""
    finished = subprocess.run(words, input=text, capture_output=True, text=True)
    if finished.returncode:
        raise CompileException(finished.stderr, text, "kernels.cu", ())
    return finished.stdout


def flags_of(options: tuple[str, ...]) -> list[str]:
    """Return the options of g++ for those of NVRTC: macros, and folders of files to include. Unknown options are errors."""
    if not isinstance(options, tuple):
        raise TypeError(f"options is a {type(options).__name__}; it must be a tuple")
    flags = []
    for option in options:
        name, _, value = option.lstrip("-").partition("=")
        if re.match("-[DI].", option):
            flags.append(option)
        elif name in ("define-macro", "include-path"):
            flags.append(("-D" if name == "define-macro" else "-I") + value)
        elif not option.startswith("-") or name not in OPTIONS:
            raise CompileException(
                f"nvrtc: error: invalid value for or unrecognized option {option}", "", "kernels.cu", options
            )
    return flags


def preprocess(code: str, flags: Sequence[str]) -> str:
    """Return the source without macros and `#include`. As for NVRTC, there are no headers of C++."""
    return run([_compiler(), *PREPROCESS, *flags, "-"], '#line 1 "kernels.cu"\n' + code)


def build_module(text: str) -> pathlib.Path:
    """Return the library of a preprocessed source."""
    return _build(text, "-include", FOLDER / "device.h")


def build_runtime() -> pathlib.Path:
    """Return the library that runs kernels."""
    return _build((FOLDER / "runtime.cpp").read_text(), "-fvisibility=default", f"-I{FOLDER}")


def _build(text, *flags):
    """The library of a text in C++, compiled once and then kept in the folder for temporary files."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"host_cuda_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    headers = [(FOLDER / name).read_text() for name in ("interface.h", "device.h")]
    key = repr((text, headers, FLAGS, flags, os.stat(_compiler()).st_mtime))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.so"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        run([_compiler(), *FLAGS, *flags, "-", "-o", unfinished, *LIBRARIES], text)
        unfinished.replace(path)
    return path


def _compiler() -> str:
    """The compiler, which must be there."""
    if COMPILER is None:
        text = "kernels can only be compiled for the host on Linux, where g++ and nm are installed"
        raise CompileException(text, "", "kernels.cu", ())
    return COMPILER
