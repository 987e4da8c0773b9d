"""A contest: several ways to do one job, each in a process of its own, called in turn so that one load hits them all.

Times are medians over rounds, ratios are taken within a round, and extra memory is the peak resident size during a
call above what the process held before it.
"""

import ctypes
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Target(NamedTuple):
    """The median ratio of ours to a contender's time must be at most this."""

    contender: str
    ratio: float


@dataclass(frozen=True)
class Job:
    """What is to be done, by whom, and what is asked of us.

    ways: by name, functions that set a job up and return what does it; "ours" must be among them. A way that raises
    ImportError is reported as not there. memory: MiB that ours may take beside its inputs. flops: of one call of ours,
    for jobs held against the fastest product of matrices among the ways named "product: ...".
    """

    title: str
    ways: Mapping[str, Callable[[], Callable[[], Any]]]
    targets: Sequence[Target] = ()
    memory: float | None = None
    flops: float | None = None
    rate: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)


class Call(NamedTuple):
    seconds: float
    cpu_seconds: float
    extra_mib: float


class Way:
    """One contender in a process of its own."""

    def __init__(self, module: str, job: str, way: str, *, quick: bool, threads: int):
        command = [sys.executable, "-m", "studies.benchmarks.contest", module, job, way, "quick" if quick else "full"]
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | limits
        )
        self.calls: list[Call] = []
        ready = self._read()
        self.missing: str | None = ready.get("missing")
        self.digest: list[float] = ready.get("digest", [])

    def call(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("call\n")
        self._process.stdin.flush()
        self.calls.append(Call(**self._read()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender's process must answer each call; it ended with {self._process.wait()}.")
        return json.loads(line)

    @property
    def seconds(self) -> float:
        return statistics.median(call.seconds for call in self.calls)

    @property
    def extra_mib(self) -> float:
        return max(call.extra_mib for call in self.calls)


def contest(module: str, name: str, job: Job, *, rounds: int, quick: bool, threads: int) -> dict[str, Way]:
    """Every way of the job, called ``rounds`` times in turn."""
    ways = {way: Way(module, name, way, quick=quick, threads=threads) for way in job.ways}
    try:
        for _ in range(rounds):
            for way in ways.values():
                if way.missing is None:
                    way.call()
    finally:
        for way in ways.values():
            way.close()
    return ways


def ratios(ours: Way, other: Way) -> list[float]:
    """Ours over theirs, round by round."""
    return [a.seconds / b.seconds for a, b in zip(ours.calls, other.calls, strict=True)]


def cpu_ratio(ours: Way, other: Way) -> float:
    """Median of ours over theirs in processor time, which a load beside them moves less."""
    return statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in zip(ours.calls, other.calls, strict=True))


def disagreement(ours: Way, other: Way) -> float:
    """Largest relative difference of the two results' digests."""
    return max((abs(a - b) / max(abs(b), 1e-300) for a, b in zip(ours.digest, other.digest, strict=True)), default=0.0)


def digest(result: Any) -> list[float]:
    """A few numbers by which two results can be seen to be the same: mean sizes of eight shares of the entries."""
    if not isinstance(result, Tensor):
        return [float(result)]
    return [share.double().abs().mean().item() for share in result.reshape(-1).chunk(8)]


def _resident(field_name: str) -> float:
    """VmRSS, held now, or VmHWM, the most held since the mark was reset, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field_name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{field_name} must stand in /proc/self/status; got none. Memory is measured on Linux only.")


def _measured(run: Callable[[], Any]) -> Call:
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the allocator keeps from the last call is not the job's input
    Path("/proc/self/clear_refs").write_text("5")  # peak := now
    before = _resident("VmRSS")
    cpu, begun = time.process_time(), time.perf_counter()
    result = run()
    ended, cpu_ended = time.perf_counter(), time.process_time()
    peak = _resident("VmHWM")
    del result
    return Call(ended - begun, cpu_ended - cpu, peak - before)


def _serve(module: str, name: str, way: str, quick: bool) -> None:
    say = partial(print, flush=True)
    try:
        run = importlib.import_module(module).jobs(quick)[name].ways[way]()
        found = digest(run())  # the first call also loads what is loaded lazily
    except ImportError as error:
        say(json.dumps({"missing": str(error)}))
        return
    say(json.dumps({"digest": found}))
    for _ in sys.stdin:
        say(json.dumps(_measured(run)._asdict()))


if __name__ == "__main__":
    torch.set_grad_enabled(True)
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "quick")
