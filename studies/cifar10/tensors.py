"""Files of weights, read as a stranger's: safetensors by its own plain format, torch's zip files in a child process.

Every length, offset and name is checked before anything is allocated for it, and nothing in a file is executed.
Whatever is wrong raises ValueError in one sentence.
"""

import hashlib
import json
import math
import stat
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from studies.cifar10.conventions import short

LARGEST = 2**29
"""Bytes a file of weights may have; the larger U-Nets for 32 x 32 images have about half of that."""
LARGEST_HEADER = 2**21
MOST = 10_000
"""Tensors in a file; a U-Net has hundreds."""
LARGEST_JSON = 2**20
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Entry(NamedTuple):
    """One tensor of a safetensors file: where its bytes begin and end in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@contextmanager
def opened(path: Path, largest: int = LARGEST) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size, if it is a regular file of an acceptable size."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} must be a regular file; got a {_what(status.st_mode)}.")
        if not 0 < status.st_size <= largest:
            raise ValueError(f"{path} must have between 1 and {largest:,} bytes; got {status.st_size:,}.")
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} must be a file that can be read; got: {error.strerror}.") from error
    with file:
        yield file, status.st_size


def _what(mode: int) -> str:
    kinds = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "pipe", stat.S_ISCHR: "device", stat.S_ISSOCK: "socket"}
    return next((name for test, name in kinds.items() if test(mode)), "special file")


def read_json(path: Path) -> Any:
    """A JSON file without duplicate keys and without NaN, of at most 1 MiB."""
    with opened(path, LARGEST_JSON) as (file, _):
        raw = file.read(LARGEST_JSON)
    return strict_json(raw, str(path))


def strict_json(raw: bytes, what: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except RecursionError as error:
        raise ValueError(f"{what} must be plain JSON; got brackets nested too deep.") from error
    except ValueError as error:
        raise ValueError(f"{what} must be plain JSON; got: {short(str(error)).rstrip('.')}.") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {short(counts.most_common(1)[0][0])!r} twice")
    return found


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} where a finite number is due")


def header(path: Path, file: BinaryIO, size: int) -> dict[str, Entry]:
    """What a safetensors file holds: its tensors must lie one after another and fill the file to its last byte.

    Format: 8 bytes, the length of the header, little-endian; the header, JSON; the tensors' bytes, C order.
    """
    first = file.read(8)
    if first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        raise ValueError(f"{path} must be safetensors, as its name says; got a file of torch.save or pickle.")
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise ValueError(
            f"{path} must be safetensors, with a header of 2 to {min(LARGEST_HEADER, max(size - 8, 2)):,} bytes; "
            f"got {length:,} in a file of {size:,} bytes."
        )
    file.seek(8)
    found = strict_json(file.read(length), f"the header of {path}")
    if not isinstance(found, dict):
        raise ValueError(f"the header of {path} must be an object; got {type(found).__name__}.")
    found.pop("__metadata__", None)
    if len(found) > MOST:
        raise ValueError(f"{path} must hold at most {MOST:,} tensors; got {len(found):,}.")
    entries = {name: _entry(path, name, about, 8 + length, size) for name, about in found.items()}
    due = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != due:
            raise ValueError(
                f"{path} must have its tensors one after another; {short(name)} begins at byte "
                f"{entry.begin:,}, where {due:,} is due."
            )
        due = entry.end
    if due != size:
        raise ValueError(f"{path} must end with its last tensor, at byte {due:,}; it has {size:,}.")
    return entries


def _entry(path: Path, name: str, about: Any, start: int, size: int) -> Entry:
    where = f"{short(name)} in {path}"
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} must have dtype, shape and data_offsets; got {short(about)}.")
    dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{where} must be one of {', '.join(DTYPES)}; got {short(dtype)}.")
    for what, numbers in (("a shape", shape), ("offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n <= LARGEST for n in numbers):
            raise ValueError(f"{where} must have {what} of numbers from 0 to {LARGEST:,}; got {short(numbers)}.")
    if len(offsets) != 2 or len(shape) > 8:
        raise ValueError(f"{where} must have 2 offsets and up to 8 dimensions; got {len(offsets)} and {len(shape)}.")
    wanted = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != wanted or start + offsets[1] > size:
        raise ValueError(
            f"{where} must lie within the file's {size - start:,} bytes of tensors and have {wanted:,}; "
            f"got offsets {offsets[0]:,} to {offsets[1]:,}: cut short, or damaged."
        )
    return Entry(DTYPES[dtype], tuple(shape), start + offsets[0], start + offsets[1])


def read_into(
    path: Path,
    build: Callable[[dict[str, Entry]], dict[str, Tensor]],
    *,
    sha256: str | None,
    rename: Callable[[str], str] = lambda name: name,
) -> None:
    """Copies the tensors of a file into those that ``build`` gives for its header, by name, in their dtype.

    A file of torch.save is first rewritten as safetensors by a child process. Names and shapes must agree, values must
    be finite, and the file must have the sha256, if one is declared. One tensor is in memory at a time.
    """
    with opened(path) as (file, size):
        if file.read(23) == b"version https://git-lfs":
            raise ValueError(f"{path} must hold weights; got a git-LFS pointer to them: run 'git lfs pull'.")
        file.seek(0)
        if sha256 is not None and (digest := _sha256(file)) != sha256:
            raise ValueError(f"{path} must have the declared sha256 {sha256[:16]}...; got {digest[:16]}...")
        file.seek(0)
        if path.suffix == ".safetensors":
            _copy(path, file, header(path, file, size), build, rename)
            return
        from studies.cifar10.pickles import as_safetensors

        with as_safetensors(path, file, size) as (plain, length):
            _copy(path, plain, header(path, plain, length), build, rename)


def _sha256(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while block := file.read(2**20):
        found.update(block)
    return found.hexdigest()


def _copy(
    path: Path,
    file: BinaryIO,
    entries: dict[str, Entry],
    build: Callable[[dict[str, Entry]], dict[str, Tensor]],
    rename: Callable[[str], str],
) -> None:
    renamed = {rename(name): entry for name, entry in entries.items()}
    if len(renamed) != len(entries):
        raise ValueError(f"{path} must name each weight once; got old and new names for one.")
    into = build(renamed)
    for what, names in (("lacks", set(into) - set(renamed)), ("has besides", set(renamed) - set(into))):
        if names:
            shown = ", ".join(sorted(map(short, names))[:3])
            raise ValueError(
                f"{path} must hold the {len(into)} weights of its declared architecture; it {what} {len(names)}: "
                f"{shown}{', ...' if len(names) > 3 else ''}."
            )
    for name, entry in renamed.items():
        if tuple(into[name].shape) != entry.shape:
            raise ValueError(f"{short(name)} in {path} must be {tuple(into[name].shape)}; got {entry.shape}.")
    for name, entry in sorted(renamed.items(), key=lambda item: item[1].begin):
        if entry.begin == entry.end:
            continue
        raw = bytearray(entry.end - entry.begin)
        file.seek(entry.begin)
        if file.readinto(raw) != len(raw):  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(f"{path} must keep its {entry.end:,} bytes while it is read; it became shorter.")
        values = torch.frombuffer(raw, dtype=entry.dtype).reshape(entry.shape)
        with torch.no_grad():
            into[name].copy_(values)
        if not bool(into[name].isfinite().all()):
            raise ValueError(f"{path} must hold finite weights; got NaN or infinity in {short(name)}.")
