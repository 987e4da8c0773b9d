"""kill -9 at any moment costs at most the cell in hand, and the table of the resumed run is the same to the byte."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CELLS = 40
PROGRAM = [sys.executable, "-m", "tests.studies.killed_study"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "MEASURED": str(tmp_path / "measured")}


@pytest.fixture
def runner(environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(PROGRAM, cwd=ROOT, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


def rows(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    count = connection.execute("SELECT count(*) FROM results").fetchone()[0] if tables else 0
    connection.close()
    return count


def run(runner: subprocess.Popen, store: Path, *, kill: Callable[[], None] | None = None) -> int:
    """Run the study in a child, killed when ``kill`` returns; returns its exit status, -9 if it was killed."""
    runner.stdin.write(f"{store} 1\n")
    child = int(runner.stdout.readline())
    if kill is not None:
        kill()
        with contextlib.suppress(ProcessLookupError):  # it may have ended, and been waited for, before its kill
            os.kill(child, signal.SIGKILL)
    return int(runner.stdout.readline())


def test_fifty_random_kills(runner: subprocess.Popen, tmp_path: Path):
    measured = tmp_path / "measured"
    assert run(runner, tmp_path / "whole") == 0
    whole = (tmp_path / "whole.csv").read_bytes()
    assert whole.count(b"\n") == CELLS + 1 and b"inf" in whole

    when = random.Random(20260101)
    kills, interrupted, stores = 0, 0, 0
    while kills < 50:
        stores += 1
        store, mine = tmp_path / f"store{stores}", 0
        measured.write_bytes(b"")

        def wait(store: Path = store) -> None:
            """For a random time or, as often, until some more cells are measured and a little longer."""
            if when.random() < 0.5:
                return time.sleep(when.uniform(0, 0.08))
            due = len(measured.read_bytes()) + when.randint(1, 5)
            while len(measured.read_bytes()) < due and not store.with_suffix(".csv").exists():
                time.sleep(0.001)
            return time.sleep(when.uniform(0, 0.003))

        while not store.with_suffix(".csv").exists():
            before = rows(store)
            status = run(runner, store, kill=wait if kills < 50 else None)
            assert status in (0, -signal.SIGKILL)
            mine += status != 0
            kills += status != 0
            interrupted += status != 0 and before < rows(store) < CELLS
        assert store.with_suffix(".csv").read_bytes() == whole
        assert len(measured.read_bytes()) <= CELLS + mine  # at most one cell measured twice for each kill
    assert interrupted > 5  # kills that came amid the measuring, not before or after it


@pytest.mark.slow
def test_kills_of_whole_interpreters_with_two_workers(environment: dict[str, str], tmp_path: Path):
    subprocess.run([*PROGRAM, str(tmp_path / "whole"), "1"], cwd=ROOT, env=environment, check=True)
    measured, store, when = tmp_path / "measured", tmp_path / "store", random.Random(1)
    measured.write_bytes(b"")
    kills = 0
    while kills < 4:
        process = subprocess.Popen([*PROGRAM, str(store), "2"], cwd=ROOT, env=environment)
        size = len(measured.read_bytes())
        while process.poll() is None and len(measured.read_bytes()) < size + 2:
            time.sleep(0.002)
        time.sleep(when.uniform(0, 0.02))
        process.kill()
        process.wait()
        kills += 1
    time.sleep(2)  # the workers of a killed run end with it
    size = len(measured.read_bytes())
    time.sleep(0.5)
    assert len(measured.read_bytes()) == size
    subprocess.run([*PROGRAM, str(store), "2"], cwd=ROOT, env=environment, check=True)
    assert store.with_suffix(".csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
