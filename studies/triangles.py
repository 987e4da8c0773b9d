"""Slope triangles: the order of a line on log-log axes, made visible."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from studies.theme import GRID, SOFT


def slope_triangle(
    ax: Axes,
    order: float,
    *,
    under: tuple[Any, Any] | None = None,
    at: tuple[float, float] | None = None,
    width: float = 0.17,
    inside: float = 0.0,
) -> Polygon:
    """A right triangle of slope ``order`` on log-log axes, with the order at its upright side. Draw it last.

    under: the (x, y) of a curve to stand just below, in its middle. at: else the place of its foot corner, in
    fractions of the axes; left out, the corner that errors leave free: lower right against h_max, lower left against
    evaluations, where a negative order falls. width: as a fraction of the axes. inside: the order of a triangle that
    shares the foot of this one; the number then stands above the number of that one.
    """
    (left, right), (bottom, top) = np.log10(ax.get_xlim()), np.log10(ax.get_ylim())
    wide, rise = width * (right - left), abs(order) * width * (right - left)
    if under is None:
        column, line = at or ((0.74, 0.1) if order > 0 else (0.26, 0.1))
        tip, foot = left + column * (right - left), bottom + line * (top - bottom)
    else:
        log_x, log_y = np.log10(np.asarray(under[0], float)), np.log10(np.asarray(under[1], float))
        tip = (log_x.min() + log_x.max()) / 2 - math.copysign(wide / 2, order)
        span = tip + math.copysign(1, order) * np.linspace(0, wide, 9)
        foot = float((np.interp(span, log_x, log_y) - order * (span - tip)).min()) - 0.03 * (top - bottom)
    upright = tip + math.copysign(wide, order)
    corners = 10.0 ** np.array([(tip, foot), (upright, foot + rise), (upright, foot)])
    patch = Polygon(corners, closed=True, facecolor=GRID, edgecolor=SOFT, linewidth=0.6, alpha=0.8, zorder=1.5)
    ax.add_artist(patch)  # not add_patch, which would move the limits
    note: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, "color": SOFT}
    middle = 10.0 ** (foot + (rise + abs(inside) * wide) / 2)
    side, align = (2.5, "left") if order > 0 else (-2.5, "right")
    ax.annotate(f"{abs(order):g}", (10.0**upright, middle), (side, 0), va="center", ha=align, **note)
    if not inside:
        ax.annotate("1", (10.0 ** ((tip + upright) / 2), 10.0**foot), (0, -2), va="top", ha="center", **note)
    return patch


def slope_triangles(ax: Axes, orders: Sequence[float], *, at: tuple[float, float] | None = None) -> list[Polygon]:
    """Triangles of several orders on one foot, in the free corner of the axes (see ``slope_triangle``)."""
    rising = sorted(orders, key=abs)
    inside = [0.0, *rising][: len(rising)]
    return [slope_triangle(ax, p, at=at, inside=q) for p, q in reversed(list(zip(rising, inside, strict=True)))]
