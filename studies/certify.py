"""Certify in a child process that has a limit of time and of memory: a target may do anything."""

import json
import multiprocessing
import resource
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from studies.certificate import Row

SECONDS, GIB = 120.0, 4.0


def _child(pipe: Connection, text: str, config: dict[str, Any], process: str, gib: float) -> None:
    import torch

    from studies.certificate import rows, work_precision
    from studies.target import load
    from theory import PROCESSES

    torch.set_num_threads(1)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except OSError:  # no /proc: the limit of time remains
        pass
    try:
        made, at = PROCESSES[process](), load(text, config)
    except (Exception, SystemExit) as error:
        pipe.send(("trouble", " ".join(str(error).split()) or type(error).__name__))
        return
    for row in rows(at, made):
        pipe.send(("row", row))
    try:
        points = [] if at.facts is not None and at.facts.stochastic else work_precision(at, made)
    except Exception:  # the rows say what is wrong
        points = []
    pipe.send(("end", points))


def certify(
    text: str,
    config: Mapping[str, Any] | None = None,
    *,
    process: str = "vp_linear",
    seconds: float = SECONDS,
    gib: float = GIB,
    points: list[tuple[str, int, float]] | None = None,
) -> Iterator[Row]:
    """The rows of a target's certificate as they are measured, in a child process; see ``studies.target.load``.

    seconds, gib: limits of the child; memory beyond what it starts with. points: filled with (name, evaluations,
    error) of the work-precision diagram. A child that ends early gives a last OPEN row that says so.
    Raises ValueError if there is no such target.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(there, text, dict(config or {}), process, gib), daemon=True)
    child.start()
    there.close()
    deadline, seen = time.monotonic() + seconds, 0
    try:
        while True:
            if not here.poll(max(0.0, deadline - time.monotonic())):
                why = f"it took more than {seconds:g} s"
                break
            try:
                kind, value = here.recv()
            except EOFError:
                child.join(5)
                why = f"its process ended with status {child.exitcode}"
                break
            if kind == "trouble":
                raise ValueError(value)
            if kind == "end":
                if points is not None:
                    points.extend(value)
                return
            seen += 1
            yield value
        yield Row("rows after these", "-", "-", "OPEN", f"missing; {why} after {seen} rows")
    finally:
        if child.is_alive():
            child.kill()
        child.join()


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """{"key": value} of "key=value": numbers, true, false and null as in JSON, all else text."""
    made: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes key=value; got {pair!r}.")
        try:
            made[key] = json.loads(value)
        except json.JSONDecodeError:
            made[key] = value
    return made


def page(name: str, found: list[Row], points: list[tuple[str, int, float]]) -> str:
    """The certificate as one self-contained web page."""
    from studies.page import _environment, _words, inline_svg

    figure = inline_svg(_figure(points), "work", "Error against evaluations") if points else ""
    template = _environment(autoescape=True).get_template("certificate.html")
    return template.render(name=name, rows=found, figure=figure, headings=tuple(Row.__dataclass_fields__), **_words())


def _figure(points: list[tuple[str, int, float]]) -> str:
    from studies.figures import blank, render

    figure, axes = blank()
    for name in dict.fromkeys(name for name, _, _ in points):
        line = [(n, e) for other, n, e in points if other == name]
        axes[0, 0].loglog(*zip(*line, strict=True), marker="o", label=name)
    axes[0, 0].set(xlabel="evaluations", ylabel="error on a 1-D mixture")
    axes[0, 0].legend()
    return render(figure, "svg").decode()
