"""The store: one SQLite file that remembers every measured cell and claim, each in a transaction of its own.

A run killed anywhere loses at most the cell in hand. A row is believed only if its checksum fits and it was made by
the code that stands now; anything else is measured again, and said so.
"""

import hashlib
import json
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

Value = float | int | str | bool | None
Values = dict[str, Value]

SCHEMA = 2
"""Raised when the columns change; a file with another number is moved aside."""

COLUMNS = "key TEXT PRIMARY KEY, kind TEXT, address TEXT, result TEXT, code TEXT, seconds REAL, created TEXT, sha256"


class StoreError(OSError):
    """The store cannot be read or written: the disk is full, the folder read-only, the path no place for a file."""


@dataclass(frozen=True)
class Address:
    """What a stored result is the result of. Its hash is the key, and the key is the seed.

    kind: "cell" or "claim"; name: the study's name or the claim's id; cell: axis values; device: its class, "cuda" for
    every CUDA device.
    """

    kind: str
    name: str
    version: int
    cell: Mapping[str, Value]
    device: str = "cpu"

    @property
    def text(self) -> str:
        """Canonical JSON: sorted keys, shortest exact floats, nothing else."""
        return _json({**self.__dict__, "cell": dict(self.cell), "dtype": "float64"}, sort=True)

    @property
    def key(self) -> str:
        """16 hex digits; any unique beginning of 8 or more serves ``exactscore replay``."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def seed(self) -> int:
        """The seed of this result, below 2^48: a function of the address alone, not of code, order or workers."""
        return int(self.key[:12], 16)

    @classmethod
    def parse(cls, text: str) -> "Address":
        parts = json.loads(text)
        parts.pop("dtype")
        return cls(**parts)


@dataclass(frozen=True)
class Row:
    """One remembered result: what of, what, by which code, in how many seconds, when (UTC)."""

    address: Address
    values: Values
    code: str
    seconds: float
    created: str


def default_path() -> Path:
    """$EXACTSCORE_HOME/store.sqlite, or .exactscore/store.sqlite in the current folder."""
    return Path(os.environ.get("EXACTSCORE_HOME", ".exactscore")).expanduser() / "store.sqlite"


def code_digest(module: str, more: str = "") -> str:
    """16 hex digits of sha256 over what a result depends on: ``common_code``, the file that defines it, and more."""
    own = getattr(sys.modules.get(module), "__file__", None)
    source = Path(own).read_bytes() if own else b""
    return hashlib.sha256(common_code().encode() + source + more.encode()).hexdigest()[:16]


DATA_LOADER = ("batches", "cache", "data", "downloads")
"""Files of studies/cifar10 that every result may rest on; studies of networks say themselves what else they do."""


@cache
def common_code() -> str:
    """sha256 over the sources of the two lower rooms and the data loader, and the versions of what they use."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    data = [file for file in (root / "studies/cifar10").glob("*.py") if file.stem in DATA_LOADER]
    for files in ((root / "toy_distributions").rglob("*.py"), (root / "theory").rglob("*.py"), data):
        for file in sorted(files):
            digest.update(f"\0{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    for package in ("torch", "numpy", "scipy", "POT"):
        digest.update(f"\0{package} {version(package)}".encode())
    return digest.hexdigest()


class Store:
    """Remembered results in one SQLite file (WAL, one transaction a result, sha256 a row, no pickle).

    path: the file, made if missing. say: where one-line notices go (default: stderr). Several processes may use one
    file at a time. A file that is no sound database is moved aside, said so, and begun anew. Raises StoreError where
    the disk is full or the folder cannot be written.
    """

    def __init__(self, path: str | Path | None = None, *, say: Callable[[str], None] | None = None):
        self.path = Path(path if path is not None else default_path()).absolute()
        self._say = say or (lambda line: print(f"exactscore: {line}", file=sys.stderr))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store needs a folder it can write; {self.path.parent}: {error.strerror}.") from error
        self._connection: sqlite3.Connection | None = None
        try:
            if self._ask("PRAGMA user_version") != [(SCHEMA,)]:
                self._begin()
        except StoreError:
            self.close()
            raise

    def _begin(self) -> None:
        """Make the table, unless another process is first: table and version appear in one transaction."""
        if self._ask("SELECT 1 FROM sqlite_master") and self._ask("PRAGMA user_version") != [(SCHEMA,)]:
            self._set_aside("was made by another version of exactscore")
            return
        for attempts_left in reversed(range(200)):  # sqlite's own timeout does not cover this switch
            try:
                self._ask("PRAGMA journal_mode=WAL")
                break
            except StoreError as error:
                if "locked" not in str(error) or not attempts_left:
                    raise
                time.sleep(0.05)
        self._ask("BEGIN IMMEDIATE")
        self._ask(f"CREATE TABLE IF NOT EXISTS results ({COLUMNS})")
        self._ask(f"PRAGMA user_version={SCHEMA}")
        self._ask("COMMIT")

    def _ask(self, sql: str, *values: Any) -> list[tuple]:
        """Run one statement, in a transaction of its own. A broken file is moved aside and the statement run anew."""
        try:
            try:
                return self._connected().execute(sql, values).fetchall()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                self._set_aside("is no readable database")
                return self._connected().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            # broken bytes must reach the checksum, not stop the query
            self._connection.text_factory = lambda raw: raw.decode(errors="replace")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # outlives kill -9; a power cut may cost some rows
        return self._connection

    def _set_aside(self, why: str) -> None:
        self.close()
        if self._is_sound():
            return  # another process that saw the same trouble has begun a new file already
        aside = next(p for n in range(1, 10**6) if not (p := Path(f"{self.path}.broken-{n}")).exists())
        try:
            for suffix in ("", "-wal", "-shm"):  # its log, if there is one, belongs to it
                if (part := Path(f"{self.path}{suffix}")).exists():
                    part.rename(f"{aside}{suffix}")
        except OSError as error:
            raise StoreError(f"the store {self.path} {why} and cannot be moved aside; {error.strerror}.") from error
        self._say(f"the store {self.path} {why}; it is now {aside.name}, and a new one is begun.")
        self._begin()

    def _is_sound(self) -> bool:
        try:
            connection = self._connected()
            return connection.execute("PRAGMA user_version").fetchall() == [(SCHEMA,)] and (
                connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            )
        except sqlite3.DatabaseError:
            return False
        finally:
            self.close()

    def _failure(self, error: sqlite3.Error) -> StoreError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return StoreError(
                f"the disk that holds the store {self.path} is full; what was measured before is kept. Free some space "
                "and run again to go on."
            )
        return StoreError(
            f"the store {self.path} must be readable and writable; sqlite says: {error}. Free space or name another "
            "place by --store or EXACTSCORE_HOME."
        )

    def get(self, address: Address, code: str | None = None) -> Row | None:
        """The row at an address, or None if there is none, it is corrupt (said so), or another code made it."""
        found = self._ask("SELECT * FROM results WHERE key = ?", address.key)
        row = self._read(found[0]) if found else None
        return row if row and (code is None or row.code == code) else None

    def find(self, beginning: str) -> Row:
        """The one row whose key begins so. Raises ValueError if none does, or several do."""
        if len(beginning) < 8 or not all(c in "0123456789abcdef" for c in beginning):
            raise ValueError(
                f"a key is at least 8 hex digits, as the report and the key column of a table show; got {beginning!r}."
            )
        rows = self._ask("SELECT * FROM results WHERE key LIKE ? LIMIT 3", beginning + "%")
        if not rows:
            raise ValueError(f"no stored result has a key that begins with {beginning}; looked in {self.path}.")
        if len(rows) > 1:
            keys = " and ".join(str(row[0]) for row in rows)
            raise ValueError(f"{beginning} begins several keys, {keys}; give more digits.")
        row = self._read(rows[0])
        if row is None:
            raise ValueError(f"the stored result {rows[0][0]} is corrupt; run its study or claim again.")
        return row

    def put(self, address: Address, values: Values, code: str, seconds: float) -> Row:
        """Remember a result, in one transaction. Raises ValueError for NaN and for values that are no plain numbers."""
        for column, value in values.items():
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(
                    f"no NaN travels silently, so a result must hold none; {address.name} gave NaN as {column!r} at "
                    f"{dict(address.cell)}."
                )
            if not (value is None or isinstance(value, (int, float, str))):
                raise ValueError(
                    f"a result holds plain numbers and strings; {address.name} gave {type(value).__name__} as "
                    f"{column!r}; wrap it in float() or int()."
                )
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = (address.key, address.kind, address.text, _json(values), code, float(seconds), created)
        self._ask("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *entry, _checksum(entry))
        return Row(address, values, code, seconds, created)

    def _read(self, found: tuple) -> Row | None:
        *entry, sha256 = found
        try:
            if _checksum(entry) != sha256:
                raise ValueError
            _key, _kind, address, result, code, seconds, created = entry
            return Row(Address.parse(address), json.loads(result), code, seconds, created)
        except (ValueError, TypeError, AttributeError, KeyError):
            self._say(f"the stored result {found[0]} is corrupt; it is measured again.")
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def remember(place: Store | Path, address: Address, values: Values, code: str, seconds: float) -> None:
    """Put a result into an open store or, from a worker, into the one at a path.

    code: the digest as whoever asked for the result sees it; in a worker, ``__main__`` is another file.
    """
    if isinstance(place, Store):
        place.put(address, values, code, seconds)
        return
    with Store(place) as store:
        store.put(address, values, code, seconds)


def _json(values: object, *, sort: bool = False) -> str:
    return json.dumps(values, sort_keys=sort, separators=(",", ":"), ensure_ascii=False)


def _checksum(entry: "tuple | list") -> str:
    return hashlib.sha256(_json(list(entry)).encode()).hexdigest()
