"""Tables for people: what the command line prints."""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.claim import ClaimResult
from studies.discover import registry

WIDE = 150
"""Columns from which on a table of verdicts has room for the statements."""


def console(*, stderr: bool = False) -> Console:
    """A pipe has no width, and wrapping at 80 columns would break every row; brackets in statements are no markup."""
    width = None if stderr or sys.stdout.isatty() else 200
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_room(room: str) -> None:
    """All entries of a registry, each with its one-line description."""
    entries = registry(room)
    rows: list[tuple[str, ...]] = []
    headings: tuple[str, ...] = (entries.kind, "description")
    for name in entries:
        entry = entries[name]
        if room == "solvers":
            headings = ("solver", "order", "evaluations", "noise", "description")
            facts = entry().facts
            order = "none" if facts.order is None else str(facts.order)
            noise = "stochastic" if facts.stochastic else "deterministic"
            rows.append((name, order, str(facts.evaluations), noise, entries.describe(name)))
        elif room == "claims":
            headings = ("claim", "statement", "accepted", "expected", "source")
            rows.append((name, entry.statement, str(entry.accepted), entry.expected.value, entry.source))
        elif room == "studies":
            headings = ("study", "cells", "question")
            rows.append((name, str(len(entry.cells())), entry.question))
        else:
            rows.append((name, entries.describe(name)))
    print_table(headings, rows)


def print_results(results: Sequence[ClaimResult]) -> None:
    """One row a claim, and a last line that names those not as recorded."""
    claims = registry("claims")
    wide = console().width >= WIDE
    rows = []
    for r in results:
        mark = Text("ok", "green") if r.as_expected else Text("DIFFERS", "bold red")
        claim = Text.assemble(r.id, ("\n" + claims[r.id].statement, "dim")) if wide else r.id
        verdict, control_verdict = (v.value if v else "ERROR" for v in (r.verdict, r.control_verdict))
        measured, control = (f"{e.value:.6g} ± {e.error:.1g}" if e else "" for e in (r.measured, r.control))
        rows.append((mark, claim, r.predicted, r.error or measured, verdict, control, control_verdict))
    print_table(("", "claim", "predicted", "measured", "verdict", "control", "its verdict"), rows)
    differing = [r.id for r in results if not r.as_expected]
    named = f"; {', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'}." if differing else "."
    click.echo(f"{len(results)} claims checked, {len(results) - len(differing)} as recorded{named}")
