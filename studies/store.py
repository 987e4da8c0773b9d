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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Value = float | int | str | bool | None
Values = dict[str, Value]


class StoreError(OSError):
    """The store cannot be read or written: the disk is full, the folder read-only, the file no database."""


@dataclass(frozen=True)
class Address:
    """What a stored result is the result of. Its hash is the key; the key is the seed.

    kind: "cell" or "claim"; name: the study's name or the claim's id; cell: axis values, or a claim's knobs.
    """

    kind: str
    name: str
    version: int
    cell: Mapping[str, Value]
    device: str = "cpu"

    @property
    def text(self) -> str:
        """Canonical JSON: sorted keys, shortest exact floats, nothing else."""
        parts = {**self.__dict__, "cell": dict(self.cell), "dtype": "float64"}
        return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def key(self) -> str:
        """16 hex digits; any unique beginning of 8 or more serves ``exactscore replay``."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def seed(self) -> int:
        """The seed of this result: a function of the address alone, not of code, order or workers."""
        return int(self.key[:12], 16)

    @classmethod
    def parse(cls, text: str) -> "Address":
        parts = json.loads(text)
        parts.pop("dtype")
        return cls(**parts)


@dataclass(frozen=True)
class Row:
    """One remembered result."""

    address: Address
    values: Values
    code: str
    seconds: float


def default_path() -> Path:
    """$EXACTSCORE_HOME/store.sqlite, or .exactscore/store.sqlite in the current folder."""
    return Path(os.environ.get("EXACTSCORE_HOME", ".exactscore")) / "store.sqlite"


@cache
def code_digest(module: str) -> str:
    """sha256 over the sources a result depends on: the two lower rooms, the data loader, and the result's own file."""
    import importlib.util

    root = Path(__file__).resolve().parent.parent
    files = [f for room in ("toy_distributions", "theory", "studies/cifar10") for f in (root / room).rglob("*.py")]
    spec = importlib.util.find_spec(module) if module != "__main__" else None
    own = spec.origin if spec else getattr(sys.modules.get(module), "__file__", None)
    if own:
        files.append(Path(own))
    digest = hashlib.sha256()
    for file in sorted(set(files)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class Store:
    """Remembered results in one SQLite file (WAL, one transaction a result, sha256 a row, no pickle).

    path: the file, made if missing. say: where one-line notices go (default: stderr). A file that is no database is
    moved aside, said so, and begun anew. Raises StoreError where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: str | Path | None = None, *, say=None):
        self.path = Path(path) if path is not None else default_path()
        self._say = say or (lambda line: print(line, file=sys.stderr))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store's folder {self.path.parent} must be writable; {error.strerror}.") from error
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise self._failure(error) from error
            aside = self.path.with_suffix(f".broken-{int(time.time())}")
            self.path.rename(aside)
            self._say(f"the store {self.path} was no readable database; it is now {aside}, and a new one is begun.")
            self._open()

    def _open(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")  # survives kill -9; a power cut may cost the last rows
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, address TEXT NOT NULL, result TEXT NOT NULL, "
            "code TEXT NOT NULL, seconds REAL NOT NULL, sha256 TEXT NOT NULL)"
        )

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: sqlite3.Error) -> StoreError:
        if "full" in str(error):
            return StoreError(
                f"the disk that holds the store {self.path} is full; everything measured so far is kept. "
                "Free some space and run again to go on."
            )
        return StoreError(f"the store {self.path} must be readable and writable; sqlite says: {error}.")

    def get(self, address: Address, code: str | None = None) -> Row | None:
        """The row at an address, or None if there is none, it is corrupt (said so), or another code made it."""
        with self._guarded() as connection:
            found = connection.execute("SELECT * FROM results WHERE key = ?", (address.key,)).fetchone()
        row = self._read(found) if found else None
        return row if row and (code is None or row.code == code) else None

    def find(self, beginning: str) -> Row:
        """The one row whose key begins so. Raises ValueError if none does, or several do."""
        if len(beginning) < 8 or not all(c in "0123456789abcdef" for c in beginning):
            raise ValueError(f"a key is at least 8 hex digits, as the report and 'verify' show; got {beginning!r}.")
        with self._guarded() as connection:
            rows = connection.execute("SELECT * FROM results WHERE key LIKE ?", (beginning + "%",)).fetchall()
        if len(rows) != 1:
            raise ValueError(f"a key must name one stored result; {beginning!r} names {len(rows)} in {self.path}.")
        row = self._read(rows[0])
        if row is None:
            raise ValueError(f"the stored result {beginning!r} is corrupt; run its study or claim again.")
        return row

    def put(self, address: Address, values: Values, code: str, seconds: float) -> Row:
        """Remember a result, in one transaction. Raises ValueError for NaN and for values that are no plain numbers."""
        for column, value in values.items():
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"a result must hold no NaN; {address.name} has one in {column!r} at {address.cell}.")
            if not (value is None or isinstance(value, (int, float, str))):
                raise ValueError(f"a result holds numbers and strings; {address.name}, {column!r} is {type(value)}.")
        result = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        entry = (address.key, address.text, result, code)
        with self._guarded() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)", (*entry, seconds, _checksum(*entry))
            )
        return Row(address, values, code, seconds)

    def _read(self, found: tuple) -> Row | None:
        key, address, result, code, seconds, sha256 = found
        try:
            if _checksum(key, address, result, code) != sha256:
                raise ValueError
            return Row(Address.parse(address), json.loads(result), code, seconds)
        except (ValueError, TypeError, AttributeError):
            self._say(f"the stored result {key} is corrupt; it is measured again.")
            return None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _checksum(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
