"""The reverse variance of ancestral sampling: what beta, beta-tilde and the optimal one cost, over paths and in law."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch

from studies.store import Values
from studies.study import study
from theory.covariance import (
    OptimalVariance,
    beta,
    beta_tilde,
    conditional_variance,
    optimal_variance,
    path_kl,
    reverse_kl,
)
from theory.divergences import kl
from theory.grid import uniform_lambda
from theory.laws import law_of
from theory.process import Level, VPLinear
from theory.solvers.ddpm import DDPM
from toy_distributions.mixture import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = VPLinear()
LAM_START, LAM_END = -3.0, 2.0

LAWS = {
    "v=0.25": GaussianMixture.gaussian(0.7, 0.25),
    "v=1": GaussianMixture.gaussian(0.7, 1.0),
    "v=4": GaussianMixture.gaussian(0.7, 4.0),
    "two modes": GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1]),
    "line in R^10": GaussianMixture.gaussian(torch.zeros(10, dtype=torch.float64), [1.0] + [0.0] * 9),
}
"""N(0.7, v), a 1-D mixture, and N(0, 1) along the first axis of R^10."""

LABELS = {"beta": r"$\beta$", "beta_tilde": r"$\tilde\beta$", "optimal": "optimal", "by_point": "optimal by point"}
LOOKS = {
    "beta": ("#bf6000", "o"),
    "beta_tilde": ("#2962ad", "s"),
    "optimal": ("#01906f", "D"),
    "by_point": ("#8e70f8", "^"),
}
ZERO = 1e-14
"""KLs below this or below their error are zero to rounding, and have no place on a log axis."""


def _variance(name: str, law: GaussianMixture) -> Callable[[Level, Level], float]:
    return {"beta": beta, "beta_tilde": beta_tilde, "optimal": OptimalVariance(law)}[name]


@study(
    "reverse_covariance",
    question="What does the variance of the reverse step cost, and does the optimal isotropic one, which has the "
    "lowest KL over paths, also give the best samples?",
    axes={"law": list(LAWS), "variance": ["beta", "beta_tilde", "optimal"], "steps": [3, 6, 12, 24, 48]},
    version=1,
)
def reverse_covariance(law: str, variance: str, steps: int, *, seed: int) -> Values:
    """KL of the whole path and of the marginal law at the end, from the true start. Exact: the seed is not used."""
    data = LAWS[law]
    kernel, grid = _variance(variance, data), uniform_lambda(PROCESS, steps, start=LAM_START, end=LAM_END)
    last = grid.levels[-1]
    path = path_kl(data, grid, kernel)
    marginal = kl(data.noised(float(last.alpha), float(last.sigma)), law_of(DDPM(kernel), data, PROCESS, grid))
    return {
        "h_max": grid.h_max,
        "evaluations": float(steps),
        "path_kl_nats": path.value,
        "path_kl_error_nats": path.error,
        "marginal_kl_nats": marginal.value,
        "marginal_kl_error_nats": marginal.error,
        "path_method": path.method,
        "marginal_method": marginal.method,
    }


@reverse_covariance.figure("kl_vs_h_max")
def kl_vs_h_max(table: "DataFrame") -> "Figure":
    """Path KL above, marginal KL below, one column a law, with a word on the variances whose KL is zero."""
    import pandas as pd

    from studies.figures import Style, convergence, legend, panels
    from studies.triangles import slope_triangles

    parts = []
    for measure in ("path", "marginal"):
        part = table[["law", "variance", "h_max"]].assign(measure=f"{measure} KL", kl_nats=table[f"{measure}_kl_nats"])
        parts.append(part.assign(kl_nats_error=table[f"{measure}_kl_error_nats"]))
    long = pd.concat(parts)
    styles = {name: Style(*LOOKS[name]) for name in ("beta", "beta_tilde", "optimal")}
    figure, pairs = panels(long, column="law", row="measure", sharey="row", height=3.6)
    lines = {}
    for ax, part in pairs:
        seen = cast("DataFrame", part[part["kl_nats"] > part["kl_nats_error"].clip(lower=ZERO)])
        lines |= convergence(ax, seen, y="kl_nats", hue="variance", facts={}, styles=styles, triangles=())
        _name_zeros(ax, [name for name in styles if name not in set(seen["variance"])])
        ax.set_xlabel(r"$h_{\max}$")
        ax.label_outer()
    for ax, part in pairs:  # when all lines are in: shared axes have found their limits
        slope_triangles(ax, [1 if part["measure"].iloc[0] == "path KL" else 2])
    legend(figure, {LABELS[name]: line for name, line in lines.items()})
    return figure


@study(
    "reverse_covariance_by_step",
    question="Where on the way from noise to data is the path KL lost, for each variance of the reverse step?",
    axes={
        "law": ["v=0.25", "two modes"],
        "variance": ["beta", "beta_tilde", "optimal", "by_point"],
        "lam": [-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0],
        "h": [0.25],
    },
    version=1,
)
def reverse_covariance_by_step(law: str, variance: str, lam: float, h: float, *, seed: int) -> Values:
    """KL of one step from lambda = lam to lam + h, and its variance over the optimal one. The seed is not used."""
    data, s, t = LAWS[law], PROCESS.level_at(lam), PROCESS.level_at(lam + h)
    if variance == "by_point":
        step, ratio = reverse_kl(data, s, t, conditional_variance(data, s, t)), 1.0
    else:
        chosen = _variance(variance, data)(s, t)
        step, ratio = reverse_kl(data, s, t, chosen), chosen / optimal_variance(data, s, t).value
    return {
        "step_kl_nats": step.value,
        "step_kl_error_nats": step.error,
        "variance_over_optimal": ratio,
        "method": step.method,
    }


@reverse_covariance_by_step.figure("kl_by_step")
def kl_by_step(table: "DataFrame") -> "Figure":
    """KL of one step against where in lambda it starts, with a word on the variances whose KL is zero."""
    from studies.figures import legend, panels

    figure, pairs = panels(table, column="law")
    lines = {}
    for ax, part in pairs:
        zeros = []
        for name, (colour, marker) in LOOKS.items():
            seen = part["step_kl_nats"] > part["step_kl_error_nats"].clip(lower=ZERO)
            rows = cast("DataFrame", part[(part["variance"] == name) & seen])
            if not len(rows):
                zeros.append(name)
                continue
            rows = rows.sort_values(by="lam")
            (lines[name],) = ax.plot(rows["lam"], rows["step_kl_nats"], color=colour, marker=marker)
        _name_zeros(ax, zeros)
        ax.set_yscale("log")
        ax.set_xlabel(r"$\lambda$ at the start of the step")
        ax.set_ylabel("KL of the step [nats]")
        ax.label_outer()
    legend(figure, {LABELS[name]: line for name, line in lines.items()})
    return figure


def _name_zeros(ax: "Axes", names: list[str]) -> None:
    if names:
        ax.text(
            0.04,
            0.95,
            "zero: " + ", ".join(LABELS[name] for name in names),
            transform=ax.transAxes,
            fontsize=6.5,
            va="top",
        )
