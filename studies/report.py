"""The report: every claim checked, every study run; a page, a README, figures and tables written from the results."""

import csv
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from studies.bibliography import Reference, cited, read_bib
from studies.claim import CLAIMS, ClaimResult, verify
from studies.discover import discover
from studies.figures import draw, save
from studies.page import ClaimEntry, FigureEntry, Report, StudyEntry, html, markdown
from studies.store import Store, StoreError, Value
from studies.study import STUDIES, FigureMaker, Study
from studies.worker import spread

VERSIONS = ("exactscore", "torch", "numpy", "scipy", "pandas", "matplotlib")


def write_report(
    out: str | Path = "reports",
    *,
    store: Store,
    jobs: int = 1,
    fresh: bool = False,
    skip: Sequence[str] = (),
    device: str = "cpu",
    progress: bool = True,
    say: Callable[[str], object] = print,
    studies: Mapping[str, Study] | None = None,
    network: str = "",
) -> int:
    """Check all claims and run all studies, then write ``out``/index.html, README.md, figures/ and data/.

    store: what is in it and current is not measured again, unless ``fresh``. jobs: worker processes. skip: studies to
    leave out. device: for the studies that can use one. progress: bars on stderr. say: where the closing lines go.
    studies: only these, by name, and no claims. network: what the page says they were asked of.

    One claim, study or figure that breaks does not spoil the others: the page says what happened to it. Returns 1
    if anything broke or any verdict differs from the recorded one, else 0. What differs from run to run
    stands in data/run.json and in the last line of the page and the README alone. Files that an earlier report wrote
    here, and this one did not, are removed. Raises ValueError for an unknown study in ``skip``.
    """
    begun, out = time.perf_counter(), Path(out)
    matplotlib.use("agg")  # figures made with pyplot need no screen
    discover()
    chosen = {name: STUDIES[name] for name in STUDIES.names()} if studies is None else studies
    for name in skip:
        STUDIES[name]  # raises for an unknown one before anything is run
    old = _written_before(out)
    results = _checked(store, jobs, fresh, progress) if studies is None else []
    references = read_bib()
    claims = [_claim_entry(result, references) for result in results]
    seconds = {result.id: round(result.seconds, 3) for result in results}
    files = {"data/claims.csv": _claims_csv(claims)}
    entries: list[StudyEntry] = []
    for name, study in chosen.items():
        started = time.perf_counter()
        if name in skip:
            entries.append(_plain_entry(study, unavailable="left out on request."))
            continue
        entries.append(_study_entry(study, store, out, jobs=jobs, fresh=fresh, device=device, progress=progress))
        seconds[name] = round(time.perf_counter() - started, 3)
    for study in entries:
        if study.table is not None:
            files[study.data] = study.table.to_csv(index=False, lineterminator="\n")
    wall = time.perf_counter() - begun
    report = Report(claims, entries, _run_facts(wall, jobs), network)
    files |= {"index.html": html(report), "README.md": markdown(report)}
    drawn = [path for study in entries for figure in study.figures for path in figure.files.values()]
    names = sorted([*files, *drawn, "data/run.json"])
    run = {**report.run, "seconds": dict(sorted(seconds.items())), "files": names}
    files["data/run.json"] = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
    for name, text in files.items():
        _replace(out / name, text)
    for name in old - set(names):
        (out / name).unlink(missing_ok=True)
    for line in (report.summary, *report.problems, f"Written: {out / 'index.html'} and {out / 'README.md'}."):
        say(line)
    return report.exit_status


def _checked(store: Store, jobs: int, fresh: bool, progress: bool) -> list[ClaimResult]:
    from rich.console import Console
    from rich.progress import track

    results = verify(store=store, fresh=fresh, jobs=jobs)
    tracked = track(
        results,
        "claims",
        total=len(CLAIMS),
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    return sorted(tracked, key=lambda result: result.id)


def _claim_entry(result: ClaimResult, references: Mapping[str, Reference]) -> ClaimEntry:
    claim = CLAIMS[result.id]
    return ClaimEntry(
        id=claim.id,
        key=result.key,
        statement=claim.statement,
        sources=cited(claim.source, references),
        source=claim.source,
        predicted=claim.accepted,
        expected=claim.expected.value,
        verdict=result.verdict.value if result.verdict else "BROKEN",
        measured=result.measured,
        control_knobs=", ".join(f"{knob} = {value}" for knob, value in claim.control.items()),
        control=result.control,
        control_verdict=result.control_verdict.value if result.control_verdict else "",
        as_expected=result.as_expected,
        finding=claim.finding,
        problem=result.error,
    )


def _plain_entry(study: Study, **said: Any) -> StudyEntry:
    axes = {axis: [str(value) for value in values] for axis, values in study.axes.items()}
    return StudyEntry(study.name, study.question, axes, **said)


def _study_entry(
    study: Study, store: Store, out: Path, *, jobs: int, fresh: bool, device: str, progress: bool
) -> StudyEntry:
    try:
        reason = study.available()
        if reason:
            return _plain_entry(study, unavailable=reason)
        table = study.run(store, jobs=jobs, fresh=fresh, device=device, progress=progress)
    except StoreError:
        raise  # a full disk spoils everything
    except Exception as error:
        return _plain_entry(study, problem=f"The study broke off. {_said(error)}")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    tasks = [
        (study.name, name, maker, caption(study, maker, device), table, out) for name, maker in study.figures.items()
    ]
    ready = {entry.name: entry for entry in spread(_figure_entry, tasks, jobs)}
    figures = [ready[name] for name in study.figures]
    words = [_words(write, table) for write in study.paragraphs]
    return _plain_entry(study, figures=figures, paragraphs=words, table=table, data=f"data/{study.name}.csv")


def _words(write: Callable[[pd.DataFrame], str], table: pd.DataFrame) -> str:
    try:
        return write(table.copy())
    except Exception as error:
        return f"This paragraph could not be written. {_said(error)}"


def _figure_entry(task: tuple[str, str, FigureMaker, str, pd.DataFrame, Path]) -> FigureEntry:
    """Draw one figure and write its files; an error in it becomes a sentence."""
    study, name, maker, caption, table, out = task
    matplotlib.use("agg")
    try:
        paths = save(draw(maker.draw, table.copy()), out / "figures", f"{study}.{name}")
    except Exception as error:
        return FigureEntry(name, caption, problem=_said(error))
    files = {format: f"figures/{path.name}" for format, path in paths.items()}
    return FigureEntry(name, caption, files, paths["svg"].read_text(encoding="utf-8"))


def caption(study: Study, maker: FigureMaker, device: str) -> str:
    """A figure's caption: what it shows, the question it answers, on what, in which arithmetic, from which seeds.

    What it shows is the maker's caption or, without one, the first paragraph of its function's docstring.
    """
    shows = maker.caption or (maker.draw.__doc__ or "").strip().split("\n\n")[0]
    address = json.loads(study.address({}, device).text)
    axes = "; ".join(f"{axis}: {_values(values)}" for axis, values in study.axes.items())
    seeds = "seeds are the hashes of the cells"
    network = "float32 for networks and images, else " if "model" in study.axes else ""
    parts = [
        " ".join(shows.split()),
        study.question,
        f"{axes[:1].upper()}{axes[1:]}.",
        f"{network}{address['dtype']} on {address['device']}; {seeds}.",
    ]
    return " ".join(part for part in parts if part)


def _values(values: Sequence[Value]) -> str:
    """Axis values in a caption: all of a few, else the ends of numbers and the first of words."""
    if len(values) <= 6:
        return ", ".join(map(str, values))
    if all(isinstance(value, (int, float)) for value in values):
        return f"{values[0]} to {values[-1]} ({len(values)} values)"
    return f"{', '.join(map(str, values[:4]))} and {len(values) - 4} more"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _run_facts(wall: float, jobs: int) -> dict[str, str]:
    """What differs from run to run and from machine to machine, for one line at the end."""
    facts = {"written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "wall time": f"{wall:.0f} s"}
    facts["machine"] = f"{os.cpu_count()} cores, {jobs} at work, {platform.system()} {platform.machine()}"
    facts["Python"] = platform.python_version()
    return facts | {package: version(package) for package in VERSIONS}


def _claims_csv(claims: Iterable[ClaimEntry]) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    columns = ["id", "verdict", "expected", "status", "accepted_low", "accepted_high"]
    columns += ["measured", "measured_error", "method", "control_knobs", "control_verdict", "control", "control_error"]
    write.writerow([*columns, "statement", "finding", "source", "problem", "key"])
    for claim in claims:
        row: list[object] = [claim.id, claim.verdict, claim.expected, claim.status]
        row += [claim.predicted.low, claim.predicted.high]
        row += [claim.measured.value, claim.measured.error, claim.measured.method] if claim.measured else [""] * 3
        row += [claim.control_knobs, claim.control_verdict]
        row += [claim.control.value, claim.control.error] if claim.control else [""] * 2
        write.writerow([*row, claim.statement, claim.finding, claim.source, claim.problem, claim.key])
    return out.getvalue()


def _written_before(out: Path) -> set[str]:
    """The files that the last report in this folder says it wrote; names that lead out of the folder do not count."""
    try:
        names = json.loads((out / "data/run.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    inside = out.resolve()
    return {n for n in names if isinstance(n, str) and (inside / n).resolve().is_relative_to(inside)}


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8", newline="\n")
    os.replace(beside, path)
