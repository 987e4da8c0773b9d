"""A CIFAR-10 of twelve images, in every form the real one comes in."""

import hashlib
import io
import json
import os
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

Arrays = dict[str, np.ndarray]
BATCH = 2  # images a batch, where the real one has 10,000
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def tiny(seed: int = 0) -> Arrays:
    """Random images and labels under the names of the real arrays."""
    rng = np.random.default_rng(seed)
    counts = {"train": 5 * BATCH, "test": BATCH}
    images = {f"{split}_images": rng.integers(0, 256, (n, 3, 32, 32), np.uint8) for split, n in counts.items()}
    labels = {f"{split}_labels": rng.permutation(10)[:n].astype(np.uint8) for split, n in counts.items()}
    return images | labels


def known(arrays: Arrays) -> dict[str, tuple[int, str]]:
    """What stands in for the pinned checksums."""
    order = ("train_images", "train_labels", "test_images", "test_labels")
    return {name: (len(arrays[name]), hashlib.sha256(arrays[name].tobytes()).hexdigest()) for name in order}


def batches(arrays: Arrays) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The six batches of an official copy by name."""
    images = np.concatenate([arrays["train_images"], arrays["test_images"]]).reshape(6, BATCH, 3, 32, 32)
    labels = np.concatenate([arrays["train_labels"], arrays["test_labels"]]).reshape(6, BATCH)
    return {name: (images[i], labels[i]) for i, name in enumerate(NAMES)}


def python2_pickle(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The opcodes that Python 2 and its numpy wrote into the official batches: no bytes objects, only str."""

    def text(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw

    raw = images.tobytes()
    shape = b"K" + bytes([len(images)]) + b"M" + struct.pack("<H", 3072) + b"\x86"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    array = empty + b"(K\x01" + shape + dtype + b"K\x00tb\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"labels") + numbers + text(b"data") + array + b"u."


def png_sheet(images: np.ndarray) -> bytes:
    """One image a row, its pixels in reading order."""
    stream = io.BytesIO()
    Image.fromarray(images.transpose(0, 2, 3, 1).reshape(len(images), 1024, 3)).save(stream, "PNG")
    return stream.getvalue()


def png_image(image: np.ndarray) -> bytes:
    """One image as an ordinary PNG of 32 x 32."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "PNG")
    return stream.getvalue()


def files(arrays: Arrays, kind: str) -> dict[str, bytes]:
    """Names and contents of a whole copy. kind: "python", "binary" or "png"."""
    if kind == "python":
        return {name: python2_pickle(*batch) for name, batch in batches(arrays).items()}
    if kind == "binary":
        return {
            f"{name}.bin": np.concatenate([labels[:, None], images.reshape(-1, 3072)], axis=1).tobytes()
            for name, (images, labels) in batches(arrays).items()
        }
    lists = {f"{s}_lables.json": json.dumps(arrays[f"{s}_labels"].tolist()).encode() for s in ("train", "test")}
    return {f"{name}.png": png_sheet(images) for name, (images, _) in batches(arrays).items()} | lists


def folder(path: Path, contents: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, raw in contents.items():
        (path / name).write_bytes(raw)
    return path


def tarball(path: Path, contents: dict[str, bytes], inside: str = "package") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in contents.items():
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def npm_on_path(path: Path, script: str) -> str:
    """A folder for PATH whose npm runs ``script``, in which `room` is where the archive has to go."""
    path.mkdir()
    program = path / "npm"
    find_room = "room = next(a for a in sys.argv if a.startswith('--pack-destination=')).split('=', 1)[1]"
    program.write_text(f"#!{sys.executable}\nimport shutil, sys\n{find_room}\n{script}\n")
    os.chmod(program, 0o755)
    return str(path)
