"""How far the laws are from fifty digits, case by case, and the table of it:

python -m tests.laws.accuracy --cases 200 --out reports/accuracy.md
"""

import argparse
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mpmath as mp
import torch

from tests.laws.cases import DERIVED, KINDS, QUADRATURES, case
from tests.laws.checks import UNITS, Broken
from tests.oracle import Answer, answer, condition
from toy_distributions import Distribution, Product

PARTS = {"log_prob": "log density", "score": "score", "mean": "posterior mean", "cov": "posterior covariance"}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
SMALLEST = {torch.float64: 1e-290, torch.float32: 1e-30}  # below it floats lose digits one by one


class Deviation(NamedTuple):
    """The largest error of one part of an answer, relative to the part's largest number.

    condition: sum |input| |d part / d input|, relative too; None where the tolerance was met without it.
    allowed: the tolerance plus UNITS roundings of the inputs times the condition number.
    """

    part: str
    error: float
    condition: float | None
    allowed: float
    law: str


def answered(law: Distribution, x: torch.Tensor, alpha: float, sigma: float) -> Answer:
    noised = law.noised(alpha, sigma)
    parts = (
        noised.log_prob(x),
        noised.score(x),
        law.posterior_mean(x, alpha, sigma),
        law.posterior_cov(x, alpha, sigma),
    )
    return Answer(*(part.reshape(-1).tolist() for part in parts))


def blocks(law: Distribution, x: torch.Tensor) -> list[tuple[Distribution, torch.Tensor]]:
    """The oracle is asked about each block of a product; the product itself must be made of their answers."""
    if not isinstance(law, Product):
        return [(law, x)]
    return list(zip(law.laws, x.split([part.dim for part in law.laws], -1), strict=True))


def deviations(
    kind: str, seed: int, *, dtype: torch.dtype = torch.float64, broken: dict | None = None
) -> Iterator[Deviation]:
    """The parts of the answers to random case number ``seed`` of a kind of law."""
    law, point, alpha, sigma, questions = case(kind, seed)
    law, x = law.to(dtype), torch.tensor(point, dtype=dtype)
    tolerance, eps = TOLERANCE[dtype], torch.finfo(dtype).eps
    for (part, y), question in zip(blocks(law, x), questions, strict=True):
        part = Broken(part, **broken) if broken else part
        exact, sensitivity = answer(*question), None
        for k, (got, want) in enumerate(zip(answered(part, y, alpha, sigma), exact, strict=True)):
            with mp.workdps(60):
                # a log density is good to 1e-12 if the density is
                size = max(max(abs(b) for b in want), 1 if k == 0 else SMALLEST[dtype])
                error = max(abs(mp.mpf(a) - b) for a, b in zip(got, want, strict=True)) / size
                number = None
                if not error <= tolerance:
                    sensitivity = sensitivity or condition(*question)  # asked only where it matters: it takes long
                    number = float(max(sensitivity[k]) / size)
                allowed = tolerance + UNITS * eps * (number or 0.0)
                yield Deviation(Answer._fields[k], float(error), number, allowed, repr(part))


def _row(task: tuple[str, torch.dtype, int]) -> list[str]:
    kind, dtype, cases = task
    found = [d for seed in range(cases) for d in deviations(kind, seed, dtype=dtype)]
    cells = []
    for part in PARTS:
        mine = [d for d in found if d.part == part]
        plain = [d.error for d in mine if d.condition is None]
        hard = [d for d in mine if d.condition is not None]
        cell = f"{max(plain, default=math.nan):.0e}"
        if hard:
            share = max(d.error / d.allowed for d in hard)
            largest = max(d.condition for d in hard if d.condition is not None)
            cell += f"; {len(hard)} beyond, {share:.2f} of allowed, condition to {largest:.0e}"
        cells.append(cell)
    worst = max(d.error / d.allowed for d in found)
    return [kind, str(dtype).removeprefix("torch."), str(cases), *cells, "yes" if worst <= 1 else "NO"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of the laws' accuracy against fifty digits.")
    parser.add_argument("--cases", type=int, default=200, help="random cases a kind of law")
    parser.add_argument("--out", type=Path, help="a Markdown file; left out, the table is printed")
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    tasks = [
        # in float32 most questions need their condition number, which takes the oracle long
        (kind, dtype, chosen.cases // 10 if kind in QUADRATURES and dtype == torch.float32 else chosen.cases)
        for kind in KINDS
        for dtype in ([torch.float64] if kind in DERIVED else TOLERANCE)
    ]
    with ProcessPoolExecutor(chosen.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = []
        for row in pool.map(_row, tasks):
            print("\t".join(row), file=sys.stderr)
            rows.append(row)
    head = ["law", "dtype", "cases", *PARTS.values(), "within bounds"]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    text = "\n".join([*INTRODUCTION.splitlines(), "", *lines, ""])
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8", newline="\n")
    else:
        print(text)
    return int(any(row[-1] == "NO" for row in rows))


INTRODUCTION = f"""\
# Accuracy of the laws

Random laws, points and noise levels (sigma from 1e-6 to 1e4; one point in three up to thirty times as far out as a
typical one) against mpmath at 50 digits from the definition: largest relative error where it is below 1e-12 (float64)
or 1e-5 (float32) outright. "Beyond": cases whose question is worse conditioned than that; their error stays below the
tolerance plus {UNITS} roundings of the inputs times the condition number, which the oracle measures. The share is the
largest error over what is allowed. Made by `python -m tests.laws.accuracy --cases N --out reports/accuracy.md`."""


if __name__ == "__main__":
    sys.exit(main())
