"""Runs tests as on a processor of arm64: an emulator runs arm64's Python, and Numba compiles for vectors of 16 bytes.

    python tests/arm64/emulate.py [--processor NAME] [--cache FOLDER] [ARGUMENT OF PYTEST ...]

It works on Debian and its relatives, and needs no root. The first run fetches the emulator, Python and all packages, some
400 MB, from Debian and from the index of pip. The emulator is slow: without arguments for pytest the tests take hours.
"""

import argparse
import configparser
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vae_np-arm64"
SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"
OF_KERNELS = ("product", "pairs", "mathematics", "operations", "precisions", "recording")
TESTS = [f"tests/kernels/test_{name}.py" for name in OF_KERNELS]
TESTS += ["tests/vae_np/test_properties.py", "tests/vae_np/test_steps.py", "-k", "not numpy"]


def fetch_programs(folder: pathlib.Path) -> None:
    """Unpack the emulator and arm64's Python into a folder, by an apt-get with files of its own."""
    apt = folder.with_name("apt")
    for name in ("etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "etc/apt/sources.list").write_text(SOURCE)
    (apt / "nothing-is-installed").touch()
    here = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    options = {
        "Dir": apt,
        "Dir::State::status": apt / "nothing-is-installed",
        "APT::Architecture": "arm64",
        "APT::Architectures": f"arm64,{here}",
        "APT::Install-Recommends": "false",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    wanted = ["python3.11:arm64", "libstdc++6:arm64", f"qemu-user-static:{here}"]
    subprocess.run([*command, "update"], check=True)
    subprocess.run([*command, "--yes", "--download-only", "install", *wanted], check=True)
    for package in (apt / "var/cache/apt/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)


def fetch_packages(folder: pathlib.Path, requirements: list[str]) -> None:
    """Install the wheels of arm64 into a folder."""
    platforms = [f"--platform=manylinux_2_{n}_aarch64" for n in range(17, 36)]
    options = ["--quiet", "--only-binary=:all:", "--python-version=3.11", *platforms, f"--target={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *requirements], check=True)


def make_python(cache: pathlib.Path) -> pathlib.Path:
    """Return the path of a Python for arm64, after fetching what is missing for it."""
    programs, packages, python = (cache / name for name in ("programs", "packages", "python"))
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    required = settings["options"]["install_requires"] + settings["options.extras_require"]["test"]
    stamp = cache / "installed"
    if not stamp.exists() or stamp.read_text() != required:
        shutil.rmtree(cache, ignore_errors=True)
        fetch_programs(programs)
        fetch_packages(packages, required.split("\n")[1:])
        stamp.write_text(required)
    binaries = programs / "usr/bin"
    emulator = [binaries / "qemu-aarch64-static", "-cpu", "max", "-L", programs, "-0", python, binaries / "python3.11"]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, emulator))} "$@"\n')
    python.chmod(0o755)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--processor", default="", help="the processor for which Numba compiles, such as apple-m1 or neoverse-v2"
    )
    parser.add_argument("--cache", type=pathlib.Path, default=CACHE, help="the folder for all that is fetched and compiled")
    options, arguments = parser.parse_known_args()
    cache = options.cache.resolve()
    python = make_python(cache)
    environment = {
        "HOME": str(cache),
        "PATH": str(cache),  # no compiler of this machine
        "PYTHONHOME": str(cache / "programs/usr"),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, cache / "packages"))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache / "compiled"),
        **({"NUMBA_CPU_NAME": options.processor, "NUMBA_CPU_FEATURES": ""} if options.processor else {}),
    }
    pytest = ["-m", "pytest", "-p", "no:cacheprovider", "-n", "0", *(arguments or TESTS)]
    return subprocess.run([python, *pytest], env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
