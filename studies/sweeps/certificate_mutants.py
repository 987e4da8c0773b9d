"""Certificate mutants: hand-written wrong solvers, and the rows of the certificate that reject each of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from studies.certificate import LAWS, SECTIONS, WIDE, Row, judged_order, order_on, unequal
from studies.mutants import MUTANTS
from studies.store import Values
from studies.study import study
from studies.target import SolverTarget
from theory import VPLinear
from theory.convergence import law_order
from theory.solvers.base import Solver

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = VPLinear()
CHEAP = ("reproducible", "batches", "evaluations", "ratios", "exactness", "exact law", "float32")
COARSER = 4
"""The certificate's ladders of steps, each divided by this: the dearest rows, and as sharp on these solvers."""

ROWS = {
    "reproducible": "pure",
    "input left": "pure",
    "batch": "pure",
    "float32": "float32",
    "evaluations": "evaluations",
    "one step's order": "one step on unequal steps",
    "exact for": "exactness",
    "order, mixture, equal": "order, mixture",
    "order, mixture, unequal": "order, unequal steps",
    "weak order": "weak order",
    "stationary law": "exact law",
    "mean carried": "exact law",
    "law kept": "exact law",
}
"""The beginning of a fact -> the column of the matrix."""


def rows(solver: Solver, *, orders: bool = True) -> Iterator[Row]:
    """The certificate with its cheap rows whole and, unless left out, its orders on one law and coarser ladders."""
    target = SolverTarget(repr(solver), solver)
    for section in CHEAP:
        yield from SECTIONS[section](target, PROCESS)
    facts = solver.facts
    if not orders:
        return
    if facts.stochastic:
        if facts.weak_order is not None:
            ladder = lambda steps: [n // COARSER for n in steps[:5]]
            yield judged_order(
                "weak order", facts.weak_order, lambda steps: law_order(solver, WIDE, PROCESS, ladder(steps))
            )
        return
    for law, name, grid in (
        ("mixture", "equal steps", target.grid),
        ("mixture", "unequal steps", unequal),
    ):
        yield judged_order(
            f"order, {law}, {name}",
            facts.order,
            lambda steps, law=law, grid=grid: order_on(target, LAWS[law], grid, PROCESS, [n // COARSER for n in steps]),
        )


def column_of(fact: str) -> str:
    """The column of the matrix that a row belongs to."""
    return next(column for start, column in ROWS.items() if fact.startswith(start))


def failing(solver: Solver, *, orders: bool = True) -> list[str]:
    """The columns with a row that FAILS, in the order of the matrix."""
    found = {column_of(row.fact) for row in rows(solver, orders=orders) if row.verdict == "FAILS"}
    return [column for column in dict.fromkeys(ROWS.values()) if column in found]


ORIGINALS = {mutant.original: mutant for mutant in MUTANTS.values()}


@study(
    "certificate_mutants",
    question="Which row of the certificate rejects which wrong solver, and do all right ones pass?",
    axes={"sampler": [*MUTANTS, *ORIGINALS]},
    version=2,
)
def certificate_mutants(sampler: str, *, seed: int) -> Values:
    """The rows that FAIL, of each mutant and, as the control, of each solver it was made from."""
    mutant = sampler in MUTANTS
    made = MUTANTS[sampler] if mutant else ORIGINALS[sampler]
    found = failing(made.wrong() if mutant else made.right())
    return {
        "mutant": int(mutant),
        "old": made.old if mutant else "",
        "new": made.new if mutant else "",
        "killed_by": "; ".join(found),
        "rows": len(found),
    }


@certificate_mutants.figure(
    "matrix",
    caption="1: a row of the certificate that FAILS for the mutant; each has one. Below, with none: the solvers they "
    "were made from, in the same run.",
)
def matrix(table: "DataFrame") -> "Figure":
    import pandas as pd

    from studies.figures import WIDE, blank, heatmap

    columns = dict.fromkeys(ROWS.values())
    cells = [
        {"row": column, "sampler": sampler, "killed": int(column in str(killed).split("; "))}
        for sampler, killed in zip(table["sampler"], table["killed_by"], strict=True)
        for column in columns
    ]
    figure, axes = blank(width=WIDE, height=1.0 + 0.15 * len(set(table["sampler"])))
    heatmap(axes[0, 0], pd.DataFrame(cells), x="row", y="sampler", value="killed", fmt=".0f", label="FAILS")
    return figure
