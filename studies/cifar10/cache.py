"""The local cache of CIFAR-10: four .npy files that are whole and exact, or counted as absent.

A file is written beside its place and moved there in one step, so a process killed at any moment leaves no half file.
Every file is checked against the pinned sha256 when a process first uses it, about 0.2 s for all four.
"""

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from studies.cifar10.batches import Arrays, Unusable, one_line

# name: (how many, sha256 of the uint8 bytes in C order); images in the order n, channel, row, column
KNOWN = {
    "train_images": (50_000, "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111"),
    "train_labels": (50_000, "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"),
    "test_images": (10_000, "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56"),
    "test_labels": (10_000, "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"),
}
STALE = 3600.0  # seconds after which what a killed process left behind is removed

Mark = tuple[tuple[str, int, int], ...]
_passed: set[Mark] = set()  # what this process has checked already


class DataUnavailable(OSError):
    """The data cannot be had, or cannot be kept; the message is one sentence with what was tried and the way out."""


def folder() -> Path:
    """$EXACTSCORE_CACHE/cifar10, else exactscore/cifar10 in the user's cache folder."""
    named, xdg = os.environ.get("EXACTSCORE_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if named:
        return Path(os.path.expanduser(named)).absolute() / "cifar10"
    if os.path.isabs(xdg):  # the XDG rule: a relative path counts as unset
        return Path(xdg, "exactscore", "cifar10")
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local, "exactscore", "cifar10")
    user = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.path.expanduser(user), "exactscore", "cifar10")


def file(name: str) -> Path:
    """Where the array ``name`` of `KNOWN` is kept."""
    return folder() / f"{name}.npy"


def empty() -> bool:
    """Whether nothing was ever kept here, which is no damage."""
    return not any(os.path.exists(file(name)) for name in KNOWN)


def trouble() -> str | None:
    """What keeps the cache from being used, as a clause; None if all four arrays are there and exact."""
    if empty():
        return f"the cache {folder()} is empty"
    try:
        mark = fingerprint(*(file(name) for name in KNOWN))
        if mark not in _passed:
            check({name: np.lib.format.open_memmap(file(name), mode="r") for name in KNOWN})
            _passed.add(mark)
    except FileNotFoundError as error:
        return f"the cache {folder()} lacks {Path(error.filename).name}"
    except Exception as error:  # a damaged header may break numpy in many ways, and each means the same
        return f"the cache {folder()} is damaged ({one_line(error)})"
    return None


def check(arrays: Arrays) -> None:
    """Raises `Unusable` unless these are the four arrays of CIFAR-10, bit for bit."""
    for name, (count, expected) in KNOWN.items():
        array = arrays[name]
        shape = (count, 3, 32, 32) if name.endswith("images") else (count,)
        if array.shape != shape or array.dtype != np.uint8:
            raise Unusable(f"{name} must be uint8 {shape}, not {array.dtype} {array.shape}")
        got = hashlib.sha256(array.data).hexdigest()
        if got != expected:
            raise Unusable(f"{name} must have sha256 {expected}, not {got}")


def keep(arrays: Arrays) -> None:
    """Stores arrays that passed `check`. Raises DataUnavailable where they cannot be written."""
    home = workshop()
    for name in KNOWN:
        partial = home / f"partial-{os.getpid()}-{name}.npy"
        try:
            with open(partial, "wb") as stream:
                header = np.lib.format.header_data_from_array_1_0(arrays[name])
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(arrays[name].data)
                stream.flush()
                os.fsync(stream.fileno())  # else a power cut could leave the new name on an unwritten file
            os.replace(partial, file(name))
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _unwritable(error) from error


def workshop() -> Path:
    """The cache folder, made if need be and rid of what killed processes left; unfinished work is called partial-*."""
    home = folder()
    try:
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob("partial-*"):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    except FileNotFoundError:
        return home  # another process was quicker
    except OSError as error:
        raise _unwritable(error) from error
    return home


def fingerprint(*paths: Path) -> Mark:
    """Names, sizes and times of files: a file that was rewritten has another fingerprint."""
    stats = [(path, path.stat()) for path in paths]
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _unwritable(error: OSError) -> DataUnavailable:
    size = sum(count * (3072 if name.endswith("images") else 1) for name, (count, _) in KNOWN.items())
    return DataUnavailable(
        f"the cache of CIFAR-10 needs {size / 1e6:.0f} MB that can be written in {folder()}; got "
        f"'{error.strerror or error}'; make room there or set EXACTSCORE_CACHE to a folder elsewhere."
    )
