"""Files of torch.save: looked through without unpickling, then unpickled with weights_only in a limited child."""

import io
import os
import pickletools
import resource
import select
import signal
import struct
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save as pack
from torch import Tensor

from studies.cifar10.conventions import short

RATIO = 1.1
"""Unpacked bytes by packed ones: torch.save stores without compression."""
LARGEST_DIRECTORY = 2**21
LARGEST_PICKLE = 2**18
CPU_SECONDS, WALL_SECONDS, SPARE_BYTES = 20, 60, 2**27

STORAGES = ("DoubleStorage", "FloatStorage", "HalfStorage", "BFloat16Storage")
ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}" for name in STORAGES),
}
"""All that a plain dict of tensors or parameters names."""
_PLAIN = (
    "PROTO STOP MARK EMPTY_DICT EMPTY_TUPLE EMPTY_LIST TUPLE TUPLE1 TUPLE2 TUPLE3 DICT LIST NONE "
    "NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE GLOBAL "
    "BINPUT LONG_BINPUT BINGET LONG_BINGET REDUCE BUILD BINPERSID SETITEM SETITEMS "
    "APPEND APPENDS"
)
OPCODES = frozenset(_PLAIN.split())


@contextmanager
def as_safetensors(path: Path, file: BinaryIO, size: int) -> Iterator[tuple[BinaryIO, int]]:
    """The tensors of a torch.save file as a safetensors file that is gone afterwards, and its size.

    Raises ValueError for whatever is not a zip file of one plain dict of names and floating tensors.
    """
    if not hasattr(os, "fork"):
        raise ValueError(f"{path} must be safetensors where a process cannot be limited; got a file of torch.save.")
    _look_through(path, file, size)
    with tempfile.TemporaryFile() as plain:
        reason = _in_child(file, plain, size)
        if reason:
            raise ValueError(f"{path} must hold one dict of names and floating tensors; got: {reason}.")
        length = plain.seek(0, os.SEEK_END)
        plain.seek(0)
        yield plain, length


def _look_through(path: Path, file: BinaryIO, size: int) -> None:
    """Refuses, in milliseconds, what is visible without unpickling: not a zip, a bomb, code, names of functions."""
    start = file.read(64)
    if not start.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} must be safetensors or a zip file of torch.save; it begins with {start[:8]!r}.")
    _bound_directory(path, file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            total = sum(part.file_size for part in parts)
            if total > RATIO * size or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise ValueError(
                    f"{path} must be stored without compression, as torch.save does; "
                    f"it would unpack {size:,} bytes to {total:,} (a zip bomb?)."
                )
            names = [part.filename for part in parts]
            if len(set(names)) != len(names):
                raise ValueError(f"{path} must name each of its parts once; got one twice.")
            pickles = [part for part in parts if part.filename.endswith(".pkl")]
            if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
                shown = short(", ".join(part.filename for part in pickles) or "none")
                raise ValueError(f"{path} must have one pickle, data.pkl (TorchScript has more); got {shown}.")
            if any("/code/" in f"/{name}" for name in names):
                raise ValueError(f"{path} must hold weights only; got a TorchScript archive with code.")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise ValueError(
                    f"data.pkl of {path} must have at most {LARGEST_PICKLE:,} bytes; got {pickles[0].file_size:,}."
                )
            raw = archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, struct.error) as error:
        raise ValueError(f"{path} must be a whole zip file of torch.save; got: {short(str(error))}.") from error
    _scan(path, raw)


def _bound_directory(path: Path, file: BinaryIO, size: int) -> None:
    """zipfile reads the whole directory at once, so its declared length comes first."""
    file.seek(max(0, size - 65_557))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise ValueError(f"{path} must be a whole zip file of torch.save; it has no directory at its end: cut short.")
    (length,) = struct.unpack("<L", tail[end + 12 : end + 16])
    wide = tail.rfind(b"PK\x06\x06")
    if wide >= 0 and len(tail) - wide >= 56:
        length = max(struct.unpack("<Q", tail[wide + 40 : wide + 48])[0], 0 if length == 2**32 - 1 else length)
    if length > LARGEST_DIRECTORY:
        raise ValueError(f"{path} must list its parts in at most {LARGEST_DIRECTORY:,} bytes; got {length:,}.")
    file.seek(0)


def _scan(path: Path, raw: bytes) -> None:
    """The pickle's operations, one by one, none carried out: only those of a dict of tensors may occur."""
    try:
        for code, argument, _ in pickletools.genops(raw):
            if code.name == "GLOBAL" and argument not in ALLOWED:
                raise ValueError(_refusal(path, str(argument).replace(" ", ".")))
            if code.name not in OPCODES:
                raise ValueError(_refusal(path, f"the operation {code.name}"))
            if code.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(raw):
                raise ValueError(f"data.pkl of {path} must number what it remembers in order; got {argument:,}.")
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"data.pkl of {path} must be a whole pickle; got: {short(str(error))}.") from error
    except Exception as error:  # pickletools may break in any way on foreign bytes: that is an answer, not a crash
        raise ValueError(f"data.pkl of {path} must be a whole pickle; got: {short(str(error))}.") from error


def _refusal(path: Path, what: str) -> str:
    return (
        f"{path} must hold nothing but tensors in a dict, since unpickling more can run a stranger's code; "
        f"it asks for {short(what)}: save it as safetensors."
    )


def _in_child(file: BinaryIO, plain: BinaryIO, size: int) -> str:
    """Unpickles in a forked process with bounds on memory, time and output; why it failed, or nothing."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no threads and takes no lock of ours
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(ours)
            _limit(size)
            _rewrite(file, plain, size)
            status = 0
        except MemoryError:
            os.write(theirs, b"more than its memory allowance")
        except BaseException as error:
            os.write(theirs, short(str(error) or type(error).__name__).encode(errors="replace")[:300])
        finally:
            os._exit(status)
    os.close(theirs)
    try:
        return _outcome(child, ours)
    finally:
        os.close(ours)


def _outcome(child: int, pipe: int) -> str:
    until = time.monotonic() + WALL_SECONDS
    ready, _, _ = select.select([pipe], [], [], WALL_SECONDS)
    said = os.read(pipe, 400).decode(errors="replace").rstrip(".") if ready else ""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no end of reading it within {WALL_SECONDS} s"
        time.sleep(0.002)
    if os.waitstatus_to_exitcode(status) == 0:
        return ""
    return said or f"the reading process ended with status {os.waitstatus_to_exitcode(status)}, beyond its limits"


def _limit(size: int) -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + 3 * size + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except OSError:
        pass  # no /proc: time and output stay bounded
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * size + 2**20, 4 * size + 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _rewrite(file: BinaryIO, plain: BinaryIO, size: int) -> None:
    file.seek(0)
    found = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"a {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{short(name)} is {kind}")
    if (total := sum(value.nbytes for value in found.values())) > size:
        raise ValueError(f"tensors of {total:,} bytes in a file of {size:,}, by sharing or strides of 0")
    plain.write(pack({name: value.detach().contiguous().clone() for name, value in found.items()}))
    plain.flush()
