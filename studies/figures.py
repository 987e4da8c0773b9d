"""One theme for all figures: colour = solver family, marker = declared order, dashes = stochastic.

A figure is a function of a table. It is drawn inside ``theme()`` (``draw`` does so), in one of two widths, and
``save`` writes it as SVG, PDF and PNG, byte for byte the same whenever it is drawn again from the same table.
Errors are plotted against h_max or evaluations, never against the number of steps alone.
"""

import io
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from studies.theme import FAMILIES, NARROW, PAPER, SPARE, WIDE, theme
from studies.triangles import slope_triangles

MARKERS = {0.5: "v", 1: "o", 2: "s", 3: "^", 4: "D", 5: "p", 6: "h"}
NO_ORDER = "X"
DASHED = (4.0, 1.6)

UNITS = {"nats": "nats", "bits": "bits", "seconds": "s", "s": "s", "ms": "ms", "us": "µs", "mib": "MiB"}
LABELS = {
    "h_max": r"largest step $h_{\max}$ in $\lambda$",
    "evaluations": "model evaluations",
    "error": "error",
    "w2": r"$W_2$",
    "w1": r"$W_1$",
    "kl": "KL",
    "kl_nats": "KL [nats]",
    "tv": "total variation",
    "lam": r"$\lambda$",
    "sigma": r"$\sigma$",
}
COUNTS = frozenset({"n", "steps", "n_steps", "num_steps", "step_count"})


def draw(function: Callable[[pd.DataFrame], Figure], table: pd.DataFrame) -> Figure:
    """The figure that ``function`` makes of the table, in the house style."""
    with theme():
        return function(table)


@dataclass(frozen=True)
class Style:
    """How one solver looks: colour of its family, marker of its order, dashes if it is stochastic.

    variant: 0, 1, 2 for solvers that agree in all three, such as heun.k and heun.t: full, hollow, half-full markers.
    """

    colour: str
    marker: str
    dashed: bool = False
    variant: int = 0

    def line(self) -> dict[str, Any]:
        """Keyword arguments of ``ax.plot``."""
        face = {"markerfacecolor": self.colour, "markerfacecoloralt": PAPER, "markeredgecolor": self.colour}
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": (0, DASHED) if self.dashed else "-",
            "fillstyle": ("full", "none", "left", "top")[self.variant % 4],
            **face,
        }


def family_of(solver: str) -> str:
    """The family of a registry name: what stands before the dot."""
    return solver.split(".", 1)[0]


def style_of(solver: str, order: float | None = None, stochastic: bool = False, *, variant: int = 0) -> Style:
    """The look of a solver, by its registry name and its declared facts; order None (or NaN) means it declares none.

    A family that is not in FAMILIES gets one of the SPARE colours, always the same one.
    """
    family = family_of(solver)
    colour = FAMILIES.get(family) or SPARE[zlib.crc32(family.encode()) % len(SPARE)]
    declared = None if order is None or math.isnan(order) else order
    marker = NO_ORDER if declared is None else MARKERS.get(declared, "*")
    return Style(colour, marker, bool(stochastic), variant)


def styles_of(solvers: Iterable[str], facts: Mapping[str, tuple[float | None, bool]]) -> dict[str, Style]:
    """The looks of the solvers of one figure, in the order of a legend: look-alikes of one family become variants.

    facts: name -> (declared order, stochastic). A name that it lacks has no declared order and is deterministic.
    """
    styles: dict[str, Style] = {}
    seen: dict[Style, int] = {}
    rank = {family: i for i, family in enumerate(FAMILIES)}
    for name in sorted(set(solvers), key=lambda name: (rank.get(family_of(name), len(rank)), name)):
        plain = style_of(name, *facts.get(name, (None, False)))
        styles[name] = Style(plain.colour, plain.marker, plain.dashed, seen.get(plain, 0))
        seen[plain] = seen.get(plain, 0) + 1
    return styles


def facts_in(
    table: pd.DataFrame, *, hue: str = "solver", order: str = "order", stochastic: str = "stochastic"
) -> dict[str, tuple[float | None, bool]]:
    """Declared order and stochasticity of each solver, read from columns of the table where it has them."""
    first = table.groupby(hue, sort=True, observed=True).first()

    def declared(name: str) -> float | None:
        value = first.loc[name, order] if order in first else None
        return None if value is None or pd.isna(cast(Any, value)) else float(cast(Any, value))

    def drawn(name: str) -> bool:
        return bool(first.loc[name, stochastic]) if stochastic in first else False

    return {str(name): (declared(name), drawn(name)) for name in first.index}


def label_of(column: str) -> str:
    """An axis label for a column: known names become mathematics, a unit at the end goes into brackets."""
    if column in LABELS:
        return LABELS[column]
    stem, _, last = column.rpartition("_")
    if stem and last in UNITS:
        return f"{label_of(stem)} [{UNITS[last]}]"
    return column.replace("_", " ")


def blank(
    *, width: float = NARROW, height: float | None = None, rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its (rows, columns) array of axes, without any global state.

    height: inches; left out, each axes is a little wider than high. shared: sharex, sharey and what else
    ``Figure.subplots`` takes.
    """
    with theme():
        figure = Figure(figsize=(width, height or 0.78 * width / columns * rows + 0.25), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panels(
    table: pd.DataFrame,
    *,
    column: str,
    row: str | None = None,
    width: float = WIDE,
    height: float | None = None,
    sharex: bool | str = True,
    sharey: bool | str = "row",
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with one axes for each value of ``column`` (and of ``row``), paired with its part of the table.

    Values keep the order in which the table has them. Column values become titles; row values stand at the right.
    """
    across = list(dict.fromkeys(table[column]))
    down = list(dict.fromkeys(table[row])) if row else [None]
    figure, grid = blank(width=width, height=height, rows=len(down), columns=len(across), sharex=sharex, sharey=sharey)
    pairs: list[tuple[Axes, pd.DataFrame]] = []
    for i, below in enumerate(down):
        for j, beside in enumerate(across):
            ax = cast(Axes, grid[i, j])
            part = table[table[column] == beside]
            if row:
                part = part[part[row] == below]
            if i == 0:
                ax.set_title(str(beside))
            if row and j == len(across) - 1:
                beside_it = {"xycoords": "axes fraction", "rotation": -90, "va": "center", "fontweight": "bold"}
                ax.annotate(str(below), (1.02, 0.5), **cast(Any, beside_it))
            pairs.append((ax, cast(pd.DataFrame, part)))
    return figure, pairs


def convergence(
    ax: Axes,
    table: pd.DataFrame,
    *,
    x: str = "h_max",
    y: str = "error",
    hue: str = "solver",
    error: str | None = None,
    facts: Mapping[str, tuple[float | None, bool]] | None = None,
    styles: Mapping[str, Style] | None = None,
    triangles: Sequence[float] | None = None,
) -> dict[str, Line2D]:
    """Error against h_max or evaluations on log-log axes, one line a solver, with slope triangles.

    error: a column of half-widths, shaded around the line (``<y>_error`` is found by itself); several rows at one x
    without such a column become their median, shaded from the least to the greatest. facts: name -> (declared order,
    stochastic), read from the columns ``order`` and ``stochastic`` if left out. styles: looks to use instead, for a
    figure whose axes share one legend. triangles: orders to draw a slope triangle for, () for none; left out, each
    order declared here. Rows that a log axis cannot show (zero, infinite, missing) are left out.

    Returns the lines by name, for a legend. Raises ValueError for x = the number of steps.
    """
    if x.lower() in COUNTS:
        raise ValueError(f"x must say what a step is or costs: 'h_max' or 'evaluations'; got x={x!r}.")
    if error is None and f"{y}_error" in table:
        error = f"{y}_error"
    facts = facts_in(table, hue=hue) if facts is None else facts
    styles = styles_of(map(str, table[hue].unique()), facts) if styles is None else styles
    lines: dict[str, Line2D] = {}
    for name, style in styles.items():
        curve = _curve(cast(pd.DataFrame, table[table[hue].astype(str) == name]), x, y, error)
        if not len(curve["x"]):
            continue
        (lines[name],) = ax.plot(curve["x"], curve["y"], label=name, **style.line())
        if (curve["high"] > curve["low"]).any():
            low = np.maximum(curve["low"], curve["y"] * 1e-3)  # a bar that reaches below zero has no end on a log axis
            ax.fill_between(curve["x"], low, curve["high"], color=style.colour, alpha=0.18, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if x == "evaluations":  # few decades of whole numbers
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(label_of(x))
    ax.set_ylabel(label_of(y))
    if triangles is None:
        triangles = sorted({p for name in lines if (p := facts.get(name, (None, False))[0])})
    slope_triangles(ax, [-p for p in triangles] if x == "evaluations" else triangles)
    return lines


def convergence_panels(
    table: pd.DataFrame,
    *,
    column: str,
    row: str | None = None,
    x: str = "h_max",
    y: str = "error",
    hue: str = "solver",
    error: str | None = None,
    facts: Mapping[str, tuple[float | None, bool]] | None = None,
    triangles: Sequence[float] | None = None,
    width: float = WIDE,
    height: float | None = None,
    sharey: bool | str = "row",
) -> Figure:
    """A whole figure of ``convergence`` plots, one for each value of ``column`` (and ``row``), with one legend."""
    figure, pairs = panels(table, column=column, row=row, width=width, height=height, sharey=sharey)
    facts = facts_in(table, hue=hue) if facts is None else facts
    styles = styles_of(map(str, table[hue].unique()), facts)
    lines: dict[str, Line2D] = {}
    for ax, part in pairs:
        lines |= convergence(ax, part, x=x, y=y, hue=hue, error=error, facts=facts, styles=styles, triangles=())
        ax.label_outer()
    if triangles is None:
        triangles = sorted({p for name in lines if (p := facts.get(name, (None, False))[0])})
    for ax, _ in pairs:  # when all lines are in: shared axes have found their limits
        slope_triangles(ax, [-p for p in triangles] if x == "evaluations" else triangles)
    legend(figure, {name: lines[name] for name in styles if name in lines})
    return figure


def _curve(rows: pd.DataFrame, x: str, y: str, error: str | None) -> dict[str, np.ndarray]:
    """Sorted x, y, low, high of one line: the rows themselves, or their median and range where several share an x."""
    at, value = rows[x].to_numpy(float), rows[y].to_numpy(float)
    half = np.nan_to_num(rows[error].to_numpy(float)) if error else np.zeros_like(value)
    shown = np.isfinite(at) & np.isfinite(value) & (at > 0) & (value > 0)
    at, value, half = at[shown], value[shown], half[shown]
    places = np.unique(at)
    return {
        "x": places,
        "y": np.array([np.median(value[at == place]) for place in places]),
        "low": np.array([(value - half)[at == place].min() for place in places]),
        "high": np.array([(value + half)[at == place].max() for place in places]),
    }


def legend(
    figure: Figure, lines: Mapping[str, Line2D], *, columns: int | None = None, title: str | None = None
) -> None:
    """One legend for the whole figure, below its axes."""
    width = figure.get_size_inches()[0]
    longest = max((len(name) for name in lines), default=1)
    fit = max(1, int(width / (0.45 + 0.062 * longest)))
    rows = math.ceil(len(lines) / (columns or fit)) or 1
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside lower center",
        ncols=columns or math.ceil(len(lines) / rows) or 1,
        title=title,
    )


def shaded(ax: Axes, x: Any, y: Any, half: Any, *, colour: str, label: str | None = None, **line: Any) -> Line2D:
    """A line with its error bar as a shade, on any axes."""
    x, y, half = (np.asarray(values, float) for values in (x, y, half))
    ax.fill_between(x, y - half, y + half, color=colour, alpha=0.18, linewidth=0)
    return ax.plot(x, y, color=colour, label=label, **line)[0]


def heatmap(
    ax: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    fmt: str = ".3g",
    label: str | None = None,
    log: bool = False,
) -> None:
    """Numbers as coloured and written cells; rows and columns keep the order of the table, gaps stay empty."""
    import seaborn

    grid = table.pivot(index=y, columns=x, values=value)
    grid = grid.loc[list(dict.fromkeys(table[y])), list(dict.fromkeys(table[x]))].astype(float)
    cell = 0.7 * ax.figure.get_figure(root=True).get_size_inches()[0] / max(len(grid.columns), 1)
    longest = max(len(format(number, fmt)) for number in grid.to_numpy().ravel())
    seaborn.heatmap(
        grid,
        ax=ax,
        annot=True,
        fmt=fmt,
        annot_kws={"fontsize": min(7.0, 72 * cell / (0.68 * longest))},
        linewidths=0.8,
        linecolor=PAPER,
        cmap="cividis",
        norm=LogNorm() if log else None,
        cbar_kws={"label": label or label_of(value)},
    )
    mesh = cast(QuadMesh, ax.collections[0])
    mesh.update_scalarmappable()
    colours = np.asarray(mesh.get_facecolor(), float).reshape(*grid.shape, 4)
    for text in ax.texts:
        across, down = text.get_position()
        luminance = colours[int(down), int(across), :3] ** 2.2 @ (0.21, 0.72, 0.07)
        text.set_color("#000000" if luminance > 0.18 else "#ffffff")  # either has more contrast on its side of 0.18
    ax.grid(False)
    ax.set_xlabel(label_of(x))
    ax.set_ylabel(label_of(y))
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    if max(len(str(name)) for name in grid.columns) * 0.065 > cell:
        for text in ax.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")


FORMATS = ("svg", "pdf", "png")
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def render(figure: Figure, format: str) -> bytes:
    """The file of a figure in one of FORMATS; the same figure gives the same bytes."""
    out = io.BytesIO()
    with theme():
        figure.savefig(out, format=format, metadata=cast(Any, _METADATA[format]))
    return out.getvalue()


def save(figure: Figure, folder: Path | str, name: str) -> dict[str, Path]:
    """Write ``name``.svg, .pdf and .png into the folder; returns the paths by format."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {format: folder / f"{name}.{format}" for format in FORMATS}
    with theme():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is found once, not once a format
    for format, path in paths.items():
        path.write_bytes(render(figure, format))
    return paths
