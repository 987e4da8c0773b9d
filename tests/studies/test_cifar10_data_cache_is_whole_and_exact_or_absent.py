"""A process killed while writing, a full disk, a damaged file: none of them is ever taken for the data."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from studies.cifar10 import cache, data, downloads
from tests.studies import cifar10_data_fakes as fakes

HOME = "EXACTSCORE_CACHE"


@pytest.fixture(autouse=True)
def arrays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fakes.Arrays:
    """The true arrays, and a folder with an official copy of them; the cache is an empty folder, the network away."""
    true = fakes.tiny()
    fakes.folder(tmp_path / "copy", fakes.files(true, "binary"))
    monkeypatch.setattr(cache, "KNOWN", fakes.known(true))
    monkeypatch.setattr(data, "_fetchers", lambda download: {})
    monkeypatch.setenv(HOME, str(tmp_path / "cache"))
    return true


def changed(path: Path, raw: bytes) -> None:
    """Rewrites a file, surely at another time: the clock of a file system may tick slower than a test runs."""
    path.write_bytes(raw)
    os.utime(path, ns=(1, time.time_ns()))


def test_what_was_kept_is_what_is_loaded(arrays: fakes.Arrays, tmp_path: Path):
    assert data.find(tmp_path / "copy") == ("folder", tmp_path / "copy")
    assert data.find() == ("cache", tmp_path / "cache" / "cifar10")
    for split in ("train", "test"):
        images, labels = data.load(split)
        np.testing.assert_array_equal(images.numpy(), arrays[f"{split}_images"])
        np.testing.assert_array_equal(labels.numpy(), arrays[f"{split}_labels"])
        assert (str(images.dtype), str(labels.dtype)) == ("torch.uint8", "torch.int64")
    assert sorted(os.listdir(cache.folder())) == sorted(f"{name}.npy" for name in cache.KNOWN)


def test_writing_to_loaded_images_changes_no_file(tmp_path: Path):
    images, labels = data.load("train", tmp_path / "copy")
    images.zero_()
    labels.zero_()
    assert data.load("train").images.any() and data.load("train").labels.any() and cache.trouble() is None


def test_unknown_split():
    with pytest.raises(ValueError, match=r"^split must be 'train' or 'test'; got 'validation'.$"):
        data.load("validation")


DAMAGE = {
    "empty": lambda raw: b"",
    "truncated": lambda raw: raw[:-1],
    "one bit": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "another order": lambda raw: raw.replace(b"'fortran_order': False", b"'fortran_order': True "),
    "another type": lambda raw: raw.replace(b"|u1", b"|i1"),
    "a pickle": lambda raw: raw.replace(b"|u1", b"|O "),
    "no header": lambda raw: b"x" * len(raw),
}


# in one dimension both orders are the same
@pytest.mark.parametrize(
    ("name", "damage"),
    [(n, d) for n in ("train_images", "test_labels") for d in DAMAGE if (n, d) != ("test_labels", "another order")],
)
def test_a_damaged_file_is_found_and_rebuilt_and_that_is_said(
    name: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    data.find(tmp_path / "copy")
    assert data.find().kind == "cache"  # checked, and found exact, by this very process
    whole = cache.file(name).read_bytes()
    changed(cache.file(name), DAMAGE[damage](whole))
    with pytest.raises(data.DataUnavailable, match="is damaged"):
        data.find()
    assert capsys.readouterr().err == ""
    assert data.find(tmp_path / "copy").kind == "folder"
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is damaged" in said and "it was built anew from folder." in said
    assert data.find().kind == "cache" and cache.file(name).read_bytes() == whole


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path):
    data.find(tmp_path / "copy")
    cache.file("train_labels").unlink()
    assert "lacks train_labels.npy" in str(data.unavailable())


KILLED = """
import os, signal, sys
from studies.cifar10 import cache, data
from tests.studies import cifar10_data_fakes as fakes
cache.KNOWN = fakes.known(fakes.tiny())
left = int(sys.argv[2])
def fsync(descriptor):
    global left
    if left == 0:
        os.ftruncate(descriptor, 1000)  # some of the bytes have reached the disk
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
os.fsync = fsync
data.find(sys.argv[1])
"""


@pytest.mark.parametrize("writes", [0, 2])
def test_a_process_killed_while_writing_leaves_no_half_file(writes: int, tmp_path: Path):
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", KILLED, str(tmp_path / "copy"), str(writes)]
    assert subprocess.run(run, cwd=root, env=os.environ, check=False).returncode == -signal.SIGKILL
    whole = [f"{name}.npy" for name in list(cache.KNOWN)[:writes]]
    left = sorted(os.listdir(cache.folder()))
    assert [name for name in left if not name.startswith("partial-")] == sorted(whole) and len(left) == writes + 1
    assert ("is empty" if writes == 0 else "lacks") in str(cache.trouble())
    data.find(tmp_path / "copy")
    assert cache.trouble() is None


def test_what_killed_processes_left_is_removed_after_an_hour(tmp_path: Path):
    home = cache.workshop()
    fakes.folder(home / "partial-npm", {"half.tgz": b"x"})
    for name in ("partial-1-train_images.npy", "partial-2-train_images.npy"):
        (home / name).write_bytes(b"x")
    for name in ("partial-npm", "partial-1-train_images.npy"):
        os.utime(home / name, (0, 0))
    cache.workshop()
    assert os.listdir(home) == ["partial-2-train_images.npy"]


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(at: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, at, full)
        with pytest.raises(data.DataUnavailable) as error:
            data.load("train", tmp_path / "copy")
    assert str(error.value) == (
        f"the cache of CIFAR-10 needs 0 MB that can be written in {cache.folder()}; got 'No space left on device'; "
        "make room there or set EXACTSCORE_CACHE to a folder elsewhere."
    )
    assert os.listdir(cache.folder()) == []


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(HOME, str(tmp_path / "file"))
    sentence = str(data.unavailable(tmp_path / "copy"))
    assert sentence.startswith("the cache of CIFAR-10 needs") and "'Not a directory'" in sentence


def test_the_pinned_size_is_what_the_sentence_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert "needs 184 MB" in str(cache._unwritable(OSError(errno.ENOSPC, "full")))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for variable in (HOME, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "exactscore" / "cifar10"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == tmp_path / "home" / "Library" / "Caches" / "exactscore" / "cifar10"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/does/not/count")
    assert cache.folder() == tmp_path / "home" / "Library" / "Caches" / "exactscore" / "cifar10"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "exactscore" / "cifar10"
    monkeypatch.setenv(HOME, "~/named")
    assert cache.folder() == tmp_path / "home" / "named" / "cifar10"


def test_checksums_are_taken_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data.find(tmp_path / "copy")
    assert data.find().kind == "cache"
    monkeypatch.setattr(cache, "check", lambda arrays: pytest.fail("checked again"))
    monkeypatch.setattr(downloads, "bar", lambda *_: pytest.fail("decoded again"))
    assert data.find().kind == "cache" and data.find(tmp_path / "copy").kind == "folder"
