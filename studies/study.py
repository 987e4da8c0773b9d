"""Studies: axes x measure, cached cell by cell. Figures and reports read the tables only."""

import difflib
import inspect
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.store import Address, Store, Value, Values, code_digest
from toy_distributions.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class FigureMaker:
    """A figure of a study: a function of its table, and what its caption adds to the generated one."""

    draw: "Callable[[DataFrame], Figure]"
    caption: str = ""


@dataclass(frozen=True)
class Study:
    """A question, its axes, and the cell that measures one point of them.

    ``cell(**axis_values, seed=...)`` returns plain numbers or strings by column name; it may also take ``device``.
    """

    name: str
    question: str
    axes: Mapping[str, Sequence[Value]]
    version: int
    cell: Callable[..., Values]
    where: Callable[[Mapping[str, Value]], bool] | None = None
    available: Callable[[], str | None] = lambda: None
    max_jobs: int | None = None
    figures: dict[str, FigureMaker] = field(default_factory=dict)

    @property
    def __doc__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.question

    @property
    def code(self) -> str:
        return code_digest(self.cell.__module__)

    def figure(self, name: str, *, caption: str = ""):
        """Decorator: enter a function table -> Figure as a figure of this study."""

        def enter(draw):
            if name in self.figures:
                raise ValueError(f"each figure of a study needs a name of its own; {self.name} has {name!r} already.")
            self.figures[name] = FigureMaker(draw, caption)
            return draw

        return enter

    def cells(self, only: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Value]]:
        """All cells in the order of the axes, or those whose axis values are among ``only``. Raises ValueError."""
        chosen = {axis: list(values) for axis, values in self.axes.items()}
        for axis, wanted in (only or {}).items():
            if axis not in chosen:
                raise ValueError(f"study {self.name} has no axis {axis!r}{_near(axis, chosen)} Its axes: {list(chosen)}.")
            known = {str(value): value for value in chosen[axis]}
            for value in wanted:
                if value not in known:
                    raise ValueError(f"axis {axis} has no value {value!r}{_near(value, known)} It has {list(known)}.")
            chosen[axis] = [known[value] for value in known if value in set(wanted)]
        cells = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]
        return [cell for cell in cells if self.where is None or self.where(cell)]

    def address(self, cell: Mapping[str, Value], device: str = "cpu") -> Address:
        return Address("cell", self.name, self.version, cell, device)

    def measure(self, cell: Mapping[str, Value], device: str = "cpu") -> tuple[Values, float]:
        """Compute one cell, from the seed its address gives. Returns its values and the seconds it took."""
        extra = {"device": device} if "device" in inspect.signature(self.cell).parameters else {}
        begun = time.perf_counter()
        values = self.cell(**cell, seed=self.address(cell, device).seed, **extra)
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
        """
        import pandas as pd

        cells = self.cells(only)
        missing = [c for c in cells if fresh or store.get(self.address(c, device), self.code) is None]
        for _ in _tracked(self._measured(missing, store, jobs, device), len(missing), len(cells), self.name, progress):
            pass
        rows = [store.get(self.address(cell, device)) for cell in cells]
        return pd.DataFrame([{**row.address.cell, **row.values, "key": row.address.key} for row in rows if row])

    def _measured(self, missing: list[dict[str, Value]], store: Store, jobs: int, device: str) -> Iterator[None]:
        jobs = min(jobs, self.max_jobs or jobs)
        if jobs <= 1 or len(missing) <= 1:
            for cell in missing:
                values, seconds = self.measure(cell, device)
                store.put(self.address(cell, device), values, self.code, seconds)
                yield
            return
        from joblib import Parallel, delayed

        tasks = (delayed(_measure_in_worker)(self, cell, store.path, device) for cell in missing)
        yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)


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
) -> Callable[[Callable[..., Values]], Study]:
    """Enter the decorated cell function into STUDIES.

    axes: the values of each keyword of the cell. version: raise it when the meaning of a cell changes. where: keeps
    a cell. available: a one-line reason why the study cannot run here, or None. max_jobs: at most so many workers, for
    cells that share a large law in memory.
    """

    def enter(cell: Callable[..., Values]) -> Study:
        knobs = set(inspect.signature(cell).parameters) - {"seed", "device"}
        if knobs != set(axes):
            raise ValueError(f"a study's axes are its cell's keywords; {name} has axes {list(axes)}, cell {list(knobs)}.")
        made = Study(name, question, axes, version, cell, where, available or (lambda: None), max_jobs)
        return STUDIES.add(name)(made)

    return enter


def _measure_in_worker(study: Study, cell: dict[str, Value], path: Path, device: str) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    values, seconds = study.measure(cell, device)
    store = Store(path)
    try:
        store.put(study.address(cell, device), values, study.code, seconds)
    finally:
        store.close()


def _tracked(done: Iterator[None], new: int, total: int, name: str, progress: bool) -> Iterator[None]:
    """Pass the iterator through a progress bar on stderr: cells done, time left."""
    if not progress or not new:
        yield from done
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total, completed=total - new)
        for item in done:
            bar.advance(task)
            yield item


def _near(word: str, known) -> str:
    near = difflib.get_close_matches(word, [str(k) for k in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
