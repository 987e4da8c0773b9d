"""The tables of a contest in Markdown: times, ratios, verdicts, memory."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ot
import torch

from studies.benchmarks.contest import Job, Way, cpu_ratio, disagreement, ratios

HEAD = (
    *("way", "time, ms (least to most)", "ours / theirs (best to worst)", "asked", "verdict"),
    *("in processor time", "extra memory, MiB", "disagreement"),
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def verdict(found: Sequence[float], most: float) -> str:
    """Whether all, most or none of the numbers found are at most what was asked."""
    if max(found) <= most:
        return "met"
    if min(found) > most:
        return "missed"
    return "met by the median" if statistics.median(found) <= most else "missed by the median"


def contest_table(job: Job, ways: dict[str, Way]) -> str:
    """A row for each way: time with spread, ratio with spread, what was asked, memory, agreement."""
    asked = {target.contender: target.ratio for target in job.targets}
    rows = [_ours(job, ways["ours"])]
    rows += [_theirs(name, way, ways["ours"], asked.get(name)) for name, way in ways.items() if name != "ours"]
    return table(HEAD, rows)


def _milliseconds(way: Way) -> str:
    seconds = sorted(call.seconds for call in way.calls)
    return f"{1e3 * way.seconds:,.1f} ({1e3 * seconds[0]:,.1f} to {1e3 * seconds[-1]:,.1f})"


def _ours(job: Job, way: Way) -> list[str]:
    memory = f"{way.extra_mib:,.0f}"
    if job.memory is not None:
        memory += f"; asked {job.memory:g}: {verdict([way.extra_mib], job.memory)}"
    return ["**ours**", _milliseconds(way), "", "", "", "", memory, ""]


def _theirs(name: str, way: Way, ours: Way, asked: float | None) -> list[str]:
    goal = "" if asked is None else _part(asked)
    if way.missing is not None:
        return [name, "not installed", "", goal, "none", "", "", ""]
    found = ratios(ours, way)
    spread = f"{_part(statistics.median(found))} ({_part(min(found))} to {_part(max(found))})"
    judged = "" if asked is None else verdict(found, asked)
    same = "" if name.startswith("product") else f"{disagreement(ours, way):.0e}"
    return [name, _milliseconds(way), spread, goal, judged, _part(cpu_ratio(ours, way)), f"{way.extra_mib:,.0f}", same]


def _part(ratio: float) -> str:
    return f"1/{1 / ratio:.3g}"


def rate_line(job: Job, ways: dict[str, Way]) -> str | None:
    """Ours as a share of the fastest product of matrices measured in the same rounds."""
    if job.flops is None or job.rate is None:
        return None
    best = min((way for name, way in ways.items() if name.startswith("product")), key=lambda way: way.seconds)
    shares = [b.seconds / a.seconds for a, b in zip(ways["ours"].calls, best.calls, strict=True)]
    return (
        f"Ours runs at {job.flops / ways['ours'].seconds / 1e9:,.0f} GFLOP/s, {100 * statistics.median(shares):.0f} % "
        f"({100 * min(shares):.0f} to {100 * max(shares):.0f}) of the rate of the products alone, "
        f"{job.flops / best.seconds / 1e9:,.0f}; asked: {100 * job.rate:.0f} %, "
        f"{verdict([-share for share in shares], -job.rate)}."
    )


def machine(threads: int) -> str:
    """The machine, its load and the versions, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} "
        f"cores, {threads} used by each way, load {os.getloadavg()[0]:.1f} at the start; Python "
        f"{platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, POT {ot.__version__}; eager, "
        "without a compiler."
    )
