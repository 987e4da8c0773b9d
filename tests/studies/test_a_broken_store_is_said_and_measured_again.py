"""A corrupt row, a broken file, a full disk, a read-only folder: one line each, and never a wrong number."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from studies.store import Address, Store, StoreError
from studies.study import CellError, Study

calls: list[int] = []


def cell(a: int, *, seed: int) -> dict[str, float]:
    calls.append(a)
    return {"square": a * a + 0.1}


STUDY = Study("squares", "What are the squares?", {"a": list(range(6))}, 1, cell)
KEYS = [STUDY.address({"a": a}).key for a in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in which all six cells are."""
    with Store(tmp_path / "s" / "store.sqlite") as store:
        STUDY.run(store, progress=False)
    calls.clear()
    return tmp_path / "s" / "store.sqlite"


def alter(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(sql, values).rowcount == 1
    connection.close()


def table(path: Path) -> tuple[str, list[str]]:
    said: list[str] = []
    with Store(path, say=said.append) as store:
        return STUDY.run(store, progress=False).to_csv(), said


WHOLE = "".join(f"{a},{a},{a * a + 0.1!r},{key}\n" for a, key in enumerate(KEYS))

DAMAGE = [
    "result = replace(result, '9.1', '9.2')",
    "result = substr(result, 1, length(result) - 1)",
    "result = CAST(X'FF' || result AS TEXT)",  # no UTF-8
    "result = CAST(result AS BLOB)",
    "result = NULL",
    "address = replace(address, '3', '4')",
    "code = 'another'",
    "kind = 'claim'",
    "seconds = 1e9",
    "seconds = 'long'",
    "created = ''",
    "sha256 = ''",
    "sha256 = NULL",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_row_is_measured_again_and_said_so(damage: str, path: Path):
    alter(path, f"UPDATE results SET {damage} WHERE key = ?", KEYS[3])
    assert table(path) == (
        ",a,square,key\n" + WHOLE,
        [f"the stored result {KEYS[3]} is corrupt; it is measured again."],
    )
    assert calls == [3]
    assert table(path) == (",a,square,key\n" + WHOLE, []) and calls == [3]  # mended


def test_a_row_under_another_key_is_corrupt(path: Path):
    alter(path, "DELETE FROM results WHERE key = ?", KEYS[1])
    alter(path, "UPDATE results SET key = ? WHERE key = ?", KEYS[1], KEYS[2])
    assert table(path)[0].endswith(WHOLE) and calls == [1, 2]


@pytest.mark.parametrize("kind", ["text", "truncated", "zeros at the start", "zeros in the middle"])
def test_a_broken_file_is_moved_aside_and_said_so(kind: str, path: Path):
    raw = path.read_bytes()
    broken = {
        "text": b"this is no database. " * 100,
        "truncated": raw[: len(raw) // 2 + 7],
        "zeros at the start": bytes(100) + raw[100:],
        "zeros in the middle": raw[:4096] + bytes(len(raw) - 4096),
    }[kind]
    path.write_bytes(broken)
    got, said = table(path)
    assert got.endswith(WHOLE) and calls == list(range(6))
    assert said == [
        f"the store {path} is no readable database; it is now store.sqlite.broken-1, and a new one is begun."
    ]
    aside = Path(f"{path}.broken-1")
    assert aside.read_bytes() == broken
    assert table(path)[1] == []
    path.write_bytes(b"x" * 5000)
    assert "broken-2," in table(path)[1][0] and aside.read_bytes() == broken


def test_the_log_of_a_broken_file_is_not_replayed_into_the_new_one(path: Path, tmp_path: Path):
    with Store(path) as store:
        STUDY.run(store, fresh=True, progress=False)
        for suffix in ("-wal", "-shm"):  # as a killed process leaves them
            shutil.copy(f"{path}{suffix}", tmp_path / f"copy{suffix}")
    assert (tmp_path / "copy-wal").stat().st_size > 4096
    (tmp_path / "copy").write_bytes(b"broken " * 1000)
    calls.clear()
    got, said = table(tmp_path / "copy")
    assert got.endswith(WHOLE) and calls == list(range(6)) and len(said) == 1


def test_a_store_of_another_version_is_moved_aside(path: Path):
    alter_version = sqlite3.connect(path)
    alter_version.execute("PRAGMA user_version = 999")
    alter_version.close()
    got, said = table(path)
    assert got.endswith(WHOLE) and "was made by another version" in said[0] and len(said) == 1


def test_an_empty_file_is_a_new_store(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert table(tmp_path / "empty")[1] == []


def test_an_orphaned_lock_and_a_reader_beside_are_no_trouble(path: Path):
    reader = sqlite3.connect(path)
    reader.execute("BEGIN").connection.execute("SELECT * FROM results").fetchone()
    with Store(path) as store:
        STUDY.run(store, fresh=True, progress=False)
    reader.close()
    assert calls == list(range(6))


def test_a_full_disk_is_one_sentence_and_keeps_what_was_measured(path: Path):
    with Store(path) as store:
        (pages,) = store._ask("PRAGMA page_count")[0]
        store._ask(f"PRAGMA max_page_count={pages}")  # from here on sqlite answers as on a full disk
        address = Address("cell", "large", 1, {"a": 1})
        with pytest.raises(
            StoreError, match=r"^the disk that holds the store .* is full; what was measured .* go on\.$"
        ):
            store.put(address, {"text": "x" * 100_000}, "code", 1.0)
        assert store.get(address) is None
    assert table(path) == (",a,square,key\n" + WHOLE, []) and calls == []


LIMITED = """
import resource, sys
from studies.store import Address, Store, StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with Store(sys.argv[1]) as store:
        for a in range(10_000):
            store.put(Address("cell", "many", 1, {"a": a}), {"x": a + 0.1}, "code", 1.0)
except StoreError as error:
    print(a, error)
"""


def test_a_write_that_the_system_refuses_is_one_sentence(tmp_path: Path):
    """A limit on the size of files: the failure comes from the system call, as with a disk quota."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "store")], cwd=root, capture_output=True, text=True, check=True
    )
    count, sentence = run.stdout.strip().split(" ", 1)
    assert sentence.startswith("the store ") and "disk I/O error" in sentence and run.stderr == ""
    with Store(tmp_path / "store") as store:
        kept = store._ask("SELECT count(*) FROM results")[0][0]
        assert int(count) == kept > 5
        assert store.get(Address("cell", "many", 1, {"a": kept - 1}), "code") is not None


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"^the store needs a folder it can write; .*: Not a directory\.$"):
        Store(tmp_path / "file" / "inside" / "store.sqlite")
    with pytest.raises(StoreError, match=r"unable to open database file"):
        Store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError):
        Store(tmp_path / "store.sqlite")


def test_a_read_only_database_is_one_sentence(path: Path):
    with Store(path) as store:
        store._ask("PRAGMA query_only=1")
        with pytest.raises(
            StoreError, match=r"must be readable and writable; sqlite says: attempt to write a readonly"
        ):
            STUDY.run(store, fresh=True, progress=False)


@pytest.mark.parametrize("value", [float("nan"), [1.0], {"a": 1}, b"x", 1j])
def test_values_that_a_table_cannot_hold_are_refused(value: object, tmp_path: Path):
    with (
        Store(tmp_path / "store") as store,
        pytest.raises(ValueError, match=r"^(no NaN travels|a result holds)") as error,
    ):
        store.put(Address("cell", "study", 1, {"a": 1}), {"fine": 1.0, "wrong": value}, "code", 1.0)  # type: ignore
    assert "study gave" in str(error.value) and "'wrong'" in str(error.value)


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXACTSCORE_HOME", raising=False)
    with Store() as store:
        assert store.path == tmp_path / ".exactscore" / "store.sqlite"
    monkeypatch.setenv("EXACTSCORE_HOME", str(tmp_path / "home"))
    with Store() as store:
        assert store.path == tmp_path / "home" / "store.sqlite"


def test_notices_go_to_stderr(path: Path, capsys: pytest.CaptureFixture):
    path.write_bytes(b"x" * 5000)
    Store(path).close()
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("exactscore: the store") and err.count("\n") == 1


def test_a_cell_that_breaks_is_named_and_those_before_it_are_kept(tmp_path: Path):
    def breaks(a: int, *, seed: int) -> dict[str, float]:
        return {"inverse": 1 / (2 - a)}

    study = Study("inverses", "What are the inverses?", {"a": [0, 1, 2, 3]}, 1, breaks)
    with Store(tmp_path / "store") as store:
        with pytest.raises(CellError, match=r"^study inverses broke at {'a': 2}: ZeroDivisionError: division by zero$"):
            study.run(store, progress=False)
        assert [store.get(study.address({"a": a})) is not None for a in range(4)] == [True, True, False, False]
