"""Studies: axes x measure, cached cell by cell. Figures and reports read the tables only."""

import difflib
import inspect
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from studies.store import Address, Store, StoreError, Value, Values, code_digest, remember
from studies.worker import reduced, spread, torch_threads
from toy_distributions.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


class CellError(RuntimeError):
    """A cell of a study could not be measured; the message names the cell and says why."""


@dataclass(frozen=True)
class FigureMaker:
    """A figure of a study: a function of its table, and what its caption adds to the generated one."""

    draw: "Callable[[DataFrame], Figure]"
    caption: str = ""


@dataclass(frozen=True)
class Study:
    """A question, its axes, and the cell that measures one point of them.

    ``cell(**axis_values, seed=...)`` returns plain numbers or strings by column name; it may also take ``device``.
    A study is called as its cell is.
    """

    name: str
    question: str
    axes: Mapping[str, Sequence[Value]]
    version: int
    cell: Callable[..., Values]
    where: Callable[[Mapping[str, Value]], bool] | None = None
    available: Callable[[], str | None] = lambda: None
    max_jobs: int | None = None
    threads: int = 1
    rests_on: Callable[..., str] | None = None
    figures: dict[str, FigureMaker] = field(default_factory=dict)
    paragraphs: "list[Callable[[DataFrame], str]]" = field(default_factory=list)

    def __post_init__(self):
        object.__setattr__(self, "__doc__", self.question)  # what a registry describes an entry by

    def __call__(self, **arguments) -> Values:
        return self.cell(**arguments)

    def __reduce__(self):
        return reduced(self, self.cell)

    @property
    def code(self) -> str:
        return code_digest(self.cell.__module__, self.rests_on() if self.rests_on else "")

    def paragraph(self, write: "Callable[[DataFrame], str]"):
        """Decorator: enter a function table -> words, which the report prints above the figures."""
        self.paragraphs.append(write)
        return write

    def figure(self, name: str, *, caption: str = ""):
        """Decorator: enter a function table -> Figure as a figure of this study."""

        def enter(draw):
            if name in self.figures:
                raise ValueError(f"each figure of a study needs a name of its own; {self.name} has {name!r} already.")
            self.figures[name] = FigureMaker(draw, caption)
            return draw

        return enter

    def cells(self, only: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Value]]:
        """All cells in the order of the axes, or those whose axis values are among ``only``, matched as strings.

        Raises ValueError for an unknown axis or value, and if no cell is left.
        """
        chosen = {axis: list(values) for axis, values in self.axes.items()}
        for axis, wanted in (only or {}).items():
            if axis not in chosen:
                raise ValueError(f"study {self.name} has no axis {axis!r}{_near(axis, chosen)} It has: {_all(chosen)}.")
            known = {str(value): value for value in chosen[axis]}
            for value in wanted:
                if value not in known:
                    raise ValueError(f"axis {axis} has no value {value!r}{_near(value, known)} It has: {_all(known)}.")
            chosen[axis] = [known[value] for value in known if value in set(wanted)]
        cells = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]
        cells = [cell for cell in cells if self.where is None or self.where(cell)]
        if not cells:
            raise ValueError(f"study {self.name} has no cell with {dict(only or {})}; it leaves out that combination.")
        return cells

    @cached_property
    def takes_device(self) -> bool:
        return "device" in inspect.signature(self.cell).parameters

    def address(self, cell: Mapping[str, Value], device: str = "cpu") -> Address:
        """Where a cell is stored. A cell that takes no device runs on the CPU whatever was asked for."""
        return Address("cell", self.name, self.version, cell, device.split(":")[0] if self.takes_device else "cpu")

    def measure(self, cell: Mapping[str, Value], device: str = "cpu") -> tuple[Values, float]:
        """Compute one cell, from the seed its address gives. Returns its values and the seconds it took.

        Raises CellError for whatever goes wrong within.
        """
        extra = {"device": device} if self.takes_device else {}
        begun = time.perf_counter()
        try:
            with torch_threads(self.threads):
                values = self.cell(**cell, seed=self.address(cell, device).seed, **extra)
            if not isinstance(values, dict) or {"key", *cell} & set(values):
                raise TypeError("a cell returns a dict whose columns repeat neither an axis nor 'key'")
        except Exception as error:
            raise CellError(f"study {self.name} broke at {dict(cell)}: {type(error).__name__}: {error}") from error
        return values, time.perf_counter() - begun

    def run(
        self,
        store: Store,
        *,
        only: Mapping[str, Sequence[str]] | None = None,
        jobs: int = 1,
        device: str = "cpu",
        fresh: bool = False,
        progress: bool = True,
    ) -> "DataFrame":
        """Measure what the store does not have yet and return the whole table, in the order of the axes.

        Every finished cell is in the store at once, so a run killed anywhere goes on where it stopped, and the table
        is the same to the byte whatever the order, the workers or the interruptions.

        only: axis -> values to keep. jobs: worker processes. device: for cells that take one. fresh: measure stored
        cells too. progress: a bar and a last line on stderr. Raises ValueError for an unknown axis or value, a study
        that is not available and a CUDA device that is not there, CellError for a cell that breaks.
        """
        import pandas as pd

        begun, code = time.perf_counter(), self.code
        cells = self.cells(only)
        missing = [c for c in cells if fresh or store.get(self.address(c, device), code) is None]
        if missing:
            self._check_it_can_run(device)
        jobs = min(jobs, self.max_jobs or jobs)
        task = partial(_measure_and_store, self, store.path if jobs > 1 else store, code, device)
        for _ in _tracked(spread(task, missing, jobs), len(missing), len(cells), self.name, progress):
            pass
        rows = [store.get(self.address(cell, device), code) for cell in cells]
        found = [{**c, **row.values, "key": row.address.key} for c, row in zip(cells, rows, strict=True) if row]
        if len(found) < len(cells):
            raise StoreError(f"the store {store.path} lost {len(cells) - len(found)} cells meanwhile; run it again.")
        if progress:
            took = f"{len(missing)} measured now in {time.perf_counter() - begun:.1f} s" if missing else "all stored"
            print(f"exactscore: {self.name}: {len(cells)} cells, {took}.", file=sys.stderr)
        return pd.DataFrame(found)

    def _check_it_can_run(self, device: str) -> None:
        if reason := self.available():
            raise ValueError(f"study {self.name} cannot run here: {reason}")
        if device != "cpu" and self.takes_device:
            import torch

            if not torch.cuda.is_available():
                raise ValueError(f"device {device!r} needs a CUDA device, and torch sees none; use 'cpu'.")


STUDIES: Registry[Study] = Registry("study", "studies")


def study(
    name: str,
    *,
    question: str,
    axes: Mapping[str, Sequence[Value]],
    version: int = 1,
    where: Callable[[Mapping[str, Value]], bool] | None = None,
    available: Callable[[], str | None] | None = None,
    max_jobs: int | None = None,
    threads: int = 1,
    rests_on: Callable[[], str] | None = None,
) -> Callable[[Callable[..., Values]], Study]:
    """Enter the decorated cell function into STUDIES.

    axes: the values of each keyword of the cell. version: raise it when the meaning of a cell changes. where: keeps
    a cell. available: a one-line reason why the study cannot run here, or None. max_jobs: at most so many workers, for
    cells that share a large law in memory. threads: torch threads of a cell, whose number the last bits depend on.
    rests_on: a digest of whatever else the cells depend on, such as a file; stored results are of one digest.

    Raises ValueError for axes that are not the cell's keywords, a cell without ``seed``, and axis values that are no
    plain numbers or strings or that read the same.
    """

    def enter(cell: Callable[..., Values]) -> Study:
        knobs = list(inspect.signature(cell).parameters)
        if "seed" not in knobs:
            raise ValueError(f"a study's cell takes a seed, used or not; that of {name} takes {knobs}.")
        if set(knobs) - {"seed", "device"} != set(axes):
            raise ValueError(f"a study's axes are its cell's keywords; {name} has axes {list(axes)}, cell {knobs}.")
        for axis, values in axes.items():
            plain = all(isinstance(v, str) or (isinstance(v, (int, float)) and math.isfinite(v)) for v in values)
            if not plain or not values or len({str(v) for v in values}) < len(values):
                raise ValueError(f"an axis has distinct finite numbers or strings; {name}, {axis} has {list(values)}.")
        made = Study(
            name, question, axes, version, cell, where, available or (lambda: None), max_jobs, threads, rests_on
        )
        return STUDIES.add(name)(made)

    return enter


def _measure_and_store(study: Study, place: Store | Path, code: str, device: str, cell: dict[str, Value]) -> None:
    values, seconds = study.measure(cell, device)
    remember(place, study.address(cell, device), values, code, seconds)


def _tracked(done: Iterator[None], new: int, total: int, name: str, progress: bool) -> Iterator[None]:
    """Pass the iterator through a progress bar on stderr: cells done, time left."""
    if not progress or not new:
        yield from done
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total, completed=total - new)
        for item in done:
            bar.advance(task)
            yield item


def _near(word: str, known) -> str:
    near = difflib.get_close_matches(word, [str(k) for k in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _all(names) -> str:
    return ", ".join(str(name) for name in names)
