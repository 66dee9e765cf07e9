"""Compiles the native operator, keeps the library in the user's cache folder, and loads it only from a safe place."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import mindspore as ms

from awac.runs.files import cache_folder

FOLDER = Path(__file__).parent
VERSION = 4
"""Of the operator's inputs; `kVersion` in settings.h is the same number."""
FLAGS = (
    "-std=c++17",
    "-O3",
    f"-march={os.environ.get('AWAC_MARCH') or 'native'}",  # part of the file's name, as all flags
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fopenmp-simd",
    "-fPIC",
    "-shared",
    "-pthread",
)


class BuildError(Exception):
    """Why there is no library, in one line."""


def library() -> tuple[str | None, str]:
    """Path of the compiled library and a remark on it, or None and the reason."""
    if os.environ.get("AWAC_NATIVE", "1") == "0":
        return None, "AWAC_NATIVE=0"
    if ms.get_context("device_target") != "CPU":
        return None, f"device {ms.get_context('device_target')}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None, f"{sys.platform} on {platform.machine()}"
    wanted = os.environ.get("CXX") or "g++", _folder()
    path, remark = _build(*wanted)
    if path and not os.path.isfile(path):  # the cache was emptied since
        _build.cache_clear()
        path, remark = _build(*wanted)
    return path, remark


def _folder() -> Path | None:
    """The libraries' folder in the cache; None where there is no home folder."""
    try:
        return cache_folder().absolute() / "native"
    except (RuntimeError, OSError):
        return None


@functools.cache  # a failure too: it took its time
def _build(compiler: str, folder: Path | None) -> tuple[str | None, str]:
    try:
        return _find_or_build(compiler, folder)
    except BuildError as error:
        return None, str(error)
    except OSError as error:
        return None, f"no temporary folder can be used ({error.strerror})"


def _find_or_build(compiler: str, folder: Path | None) -> tuple[str, str]:
    try:
        command = shlex.split(compiler)
    except ValueError as error:
        raise BuildError(f"CXX={compiler!r} is not a command: {error}") from None
    onednn = Path(ms.__file__).parent / "lib"
    names = sorted(path.name for path in onednn.glob("libdnnl.so.[23]"))  # 2 in MindSpore 2.7, 3 in 2.10
    if not names:
        raise BuildError(f"MindSpore {ms.__version__} has no libdnnl.so.2 or libdnnl.so.3 in {onednn}")
    name = f"learner-{_fingerprint(command, onednn, names[0])}.so"
    if folder and ":" not in str(folder) and _is_safe(folder) and _is_safe(folder / name) and _loads(folder / name):
        return str(folder / name), ""
    link = [f"-L{onednn}", f"-l:{names[0]}", f"-Wl,-rpath,{onednn}"]
    made = _temporary()
    _compile([*command, *FLAGS, str(FOLDER / "learner.cc"), "-o", str(made / name), *link])
    fault = _store(made / name, folder)
    if folder and not fault:
        if _loads(folder / name):
            return str(folder / name), ""
        fault = f"nothing can be loaded from {folder}"
    if ":" not in str(made) and _loads(made / name):
        return str(made / name), f"built for this run: {fault}"
    raise BuildError(f"the compiled library can't be loaded from {made}, and {fault}")


def _store(library: Path, folder: Path | None) -> str:
    """Copies a library to the cache; returns why it could not."""
    if folder is None:
        return "there is no home folder"
    if ":" in str(folder):  # MindSpore takes what comes after it for the function's name
        return f"{folder} has a colon in it"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_safe(folder):
            return f"{folder} is not the user's own, or others may write to it"
        with tempfile.TemporaryDirectory(dir=folder) as made:  # renamed when whole: runs may build together
            shutil.copy(library, made)
            os.chmod(f"{made}/{library.name}", 0o700)
            os.replace(f"{made}/{library.name}", folder / library.name)
    except OSError as error:
        return f"{folder} can't be written to ({error.strerror})"
    return ""


def _fingerprint(command, onednn: Path, name: str) -> str:
    sources = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.[ch]*"))]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    processor = next((line for line in lines if line.startswith("flags")), "")
    parts = (*sources, *FLAGS, *command, ms.__version__, str(onednn), name, processor)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BuildError(f"no compiler found: {command[0]}") from None
    except PermissionError:
        raise BuildError(f"the compiler can't be run: {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} took more than 120 s") from None
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stderr.decode(errors="replace").splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("collect2:")] or lines  # the linker's line comes before
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
        raise BuildError(f"{command[0]} failed: {first or f'exit status {error.returncode}'}") from None


def _is_safe(path: Path) -> bool:
    """Whether it exists, the user owns it and nobody else may write to it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)
    return plain and status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _loads(path: Path) -> bool:
    """Whether the library can be loaded and takes the inputs that this version gives."""
    try:
        return ctypes.CDLL(str(path)).AwacVersion() == VERSION
    except (OSError, AttributeError):
        return False


def _temporary() -> Path:
    folder, made_by = Path(tempfile.mkdtemp(prefix="awac-")), os.getpid()

    def remove() -> None:
        if os.getpid() == made_by:  # a forked process inherits this call
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
