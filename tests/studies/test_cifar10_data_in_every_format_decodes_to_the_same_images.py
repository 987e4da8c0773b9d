"""Python batches, binary batches, PNG sheets, their archives and the hub's tables hold the same pixels and labels."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from studies.cifar10 import batches
from tests.studies import cifar10_data_fakes as fakes

KINDS = ("python", "binary", "png")


def assert_same(got: batches.Arrays, expected: batches.Arrays) -> None:
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == np.uint8 and got[name].flags.c_contiguous
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder(kind: str, tmp_path: Path):
    arrays = fakes.tiny()
    contents = fakes.files(arrays, kind) | {"readme.html": b"", "batches.meta": b"\x80"}
    assert_same(batches.read(fakes.folder(tmp_path / "copy", contents)), arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive(kind: str, tmp_path: Path):
    arrays = fakes.tiny()
    contents = dict(reversed(fakes.files(arrays, kind).items()))  # archives keep no order
    assert_same(batches.read(fakes.tarball(tmp_path / "copy.tgz", contents)), arrays)


def test_of_several_kinds_in_one_folder_one_is_read(tmp_path: Path):
    arrays = fakes.tiny()
    contents = {name: raw for kind in KINDS for name, raw in fakes.files(arrays, kind).items()}
    assert_same(batches.read(fakes.folder(tmp_path, contents)), arrays)


@pytest.mark.parametrize("place", ["", *batches.PLACES])
def test_a_copy_is_found_under_its_official_names(place: str, tmp_path: Path):
    contents = fakes.files(fakes.tiny(), "binary")
    make = fakes.tarball if place.endswith("gz") else fakes.folder
    made = make(tmp_path / place, contents)
    assert batches.locate(tmp_path) == made and batches.locate(made) == made


def test_no_copy_is_found_where_there_is_none(tmp_path: Path):
    fakes.folder(tmp_path, {"train_images.png": b"", "data_batch_1.json": b"", "train_lables.bin": b""})
    assert batches.locate(tmp_path) is None and batches.locate(tmp_path / "absent") is None


def test_the_fake_pickle_is_what_pickle_and_numpy_take_it_for():
    """The oracle for the hand-written opcodes: the ordinary unpickler, as every other reader of CIFAR-10 uses it."""
    images, labels = fakes.batches(fakes.tiny())["data_batch_3"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy announces that numpy.core moved
        batch = pickle.loads(fakes.python2_pickle(images, labels), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"].reshape(-1, 3, 32, 32), images)
    assert batch[b"labels"] == labels.tolist()


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL))
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_pickled_again_by_python_3(protocol: int, order: str):
    images, labels = fakes.batches(fakes.tiny())["data_batch_3"]
    data = np.asarray(images.reshape(-1, 3072), order=order)
    raw = pickle.dumps({b"data": data, b"labels": labels.tolist()}, protocol)
    np.testing.assert_array_equal(batches.decode("data_batch_3", raw)["images"], images)


def test_batches_in_another_order_are_put_into_the_official_one(monkeypatch: pytest.MonkeyPatch):
    arrays = fakes.tiny()
    digests = [fakes.hashlib.sha256(labels.tobytes()).hexdigest()[:16] for _, labels in fakes.batches(arrays).values()]
    monkeypatch.setattr(batches, "BATCH_LABELS", tuple(digests[:5]))
    training = {"images": arrays["train_images"], "labels": arrays["train_labels"]}
    shuffled = {field: np.concatenate([np.split(a, 5)[i] for i in (3, 2, 1, 4, 0)]) for field, a in training.items()}
    for given in (training, shuffled):
        for field, array in batches.in_official_order(given).items():
            np.testing.assert_array_equal(array, training[field])
    unknown = {"images": arrays["train_images"], "labels": arrays["train_labels"][::-1].copy()}
    assert batches.in_official_order(unknown) is unknown
