"""The reverse variance of ancestral sampling on a trained network: what Analytic-DPM estimates, and what it buys."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from studies.cifar10 import generated
from studies.cifar10.generated import apart, digest, shown, unavailable
from studies.cifar10.served import network, reach
from studies.cifar10.validation import normals, pixels, reverse_variance
from studies.store import Values
from studies.study import study
from theory import Exact, uniform_time
from theory.covariance import beta, beta_tilde
from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.models import Model
from theory.process import Level, VPLinear
from theory.solvers.ddpm import DDPM
from toy_distributions import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = VPLinear()
K_START, K_END = 80.0, 0.02
STEPS = [5, 10]
IMAGES = 100
"""Training images by which the estimate is made at each level."""

VARIANCES = ["beta", "beta_tilde", "analytic", "analytic_clipped"]
GREYS = 2.0
"""Clipped: the last step's noise has a mean size of at most so many grey levels, since no step comes to remove it."""


def _grid(model: str, steps: int) -> TimeGrid:
    start, end = (float(PROCESS.level_at(-math.log(k)).t) for k in reach(model, K_START, K_END))
    return uniform_time(PROCESS, steps, start=start, end=end)


class Measured(NamedTuple):
    power: Estimate
    """E |eps|^2 / d of the predicted noise."""
    miss: Estimate
    """E |x_0 - D|^2 / d of the denoiser."""


def measured(model: Model, at: Level, x0: torch.Tensor, *, seed: int) -> Measured:
    """Power of the predicted noise and error of the denoiser at one level, over images x0 (n, 3072), n >= 2."""
    x = at.alpha * x0 + at.sigma * normals(len(x0), seed=seed).to(x0)
    with torch.no_grad():
        said = model(x, at)
    return Measured(*(generated.mean_of(y.double().square().mean(-1).tolist()) for y in (said.eps, said.x0 - x0)))


@cache
def _at_levels(model: str, steps: int) -> tuple[Measured, ...]:
    images, labels = pixels("train", IMAGES, seed=7)
    served = network(model, process=PROCESS)
    served = served.serving(PROCESS, labels=labels) if served.conventions.labels else served
    return tuple(measured(served, at, images, seed=8) for at in _grid(model, steps).levels[:-1])


def analytic(s: Level, t: Level, power: Estimate) -> Estimate:
    """beta_tilde + c^2 (1 - E |eps|^2 / d), c = sigma_t (e^h - e^-h): the optimal variance if the network is exact.

    Within beta_tilde and what data in [-1, 1] allow, so that noise in the estimate makes no variance that cannot be.
    Source: bao2022analytic, theorems 1 and 2.
    """
    h = float(t.lam - s.lam)
    c, gain = float(t.sigma) * 2 * math.sinh(h), float(t.alpha) * -math.expm1(-2 * h)
    more = min(max(c**2 * (1 - power.value), 0.0), c**2, gain**2)
    return Estimate(beta_tilde(s, t) + more, c**2 * power.error, power.method)


def gaussian_optimum(law: GaussianMixture, s: Level, t: Level) -> float:
    """The optimal variance of one Gaussian of diagonal covariance: that for the error v sigma^2 / (alpha^2 v + sigma^2)
    of its denoiser, v the variances. `theory.covariance.optimal_variance` diagonalises a covariance first.
    """
    v, alpha, sigma = law.covs[0], float(s.alpha), float(s.sigma)
    return reverse_variance("optimal", s, t, (v * sigma**2 / (alpha**2 * v + sigma**2)).mean().item())


def clipped(variance: float) -> float:
    """At most the variance of a normal whose mean absolute value is GREYS grey levels of [-1, 1]."""
    return min(variance, (GREYS * 2 / 255) ** 2 * math.pi / 2)


def kernel(which: str, grid: TimeGrid, optimal: Callable[[Level, Level], float]) -> Callable[[Level, Level], float]:
    """The variance of a step s -> t of this grid by name; optimal: what "analytic" stands for."""
    if which not in VARIANCES:
        raise ValueError(f"variance must be one of {', '.join(VARIANCES)}; got {which!r}.")
    plain = {"beta": beta, "beta_tilde": beta_tilde}.get(which, optimal)
    if which != "analytic_clipped":
        return plain
    return lambda s, t: clipped(plain(s, t)) if t is grid.levels[-1] else plain(s, t)


@study(
    "network_reverse_variance",
    question="Does the reverse variance that Analytic-DPM estimates bring a network's samples nearer to real images?",
    axes={"model": ["shipped"], "variance": VARIANCES, "steps": STEPS},
    available=unavailable,
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_reverse_variance(model: str, variance: str, steps: int, *, seed: int) -> Values:
    """FD, KD, precision, recall of 200 samples of DDPM in the VP process, uniform steps in t, denoised at k = 0.02.

    gaussian_...: of the Gaussian fit's samples with its own exact optimum in place of the estimate. floor_...: of test
    images. Every ..._error is the half-width of a 95 % interval.
    """
    grid = _grid(model, steps)
    known = dict(zip(grid.levels, (one.power for one in _at_levels(model, steps)), strict=False))
    made = DDPM(kernel(variance, grid, lambda s, t: analytic(s, t, known[s]).value))
    drawn = generated.draw(generated.told(model, PROCESS), made, grid, generated.starts(), seed=seed)
    law, axes = generated.along_axes()
    exact = DDPM(kernel(variance, grid, partial(gaussian_optimum, law)))
    ideal = generated.draw(Exact(law, PROCESS), exact, grid, generated.starts().double() @ axes, seed=seed)
    return {
        "evaluations": drawn.evaluations,
        "images": len(drawn.points),
        **generated.measured(generated.features(drawn.points)),
        **generated.measured(generated.features(ideal.points @ axes.T), "gaussian_"),
        **generated.floor(),
    }


@study(
    "network_reverse_variance_by_step",
    question="What reverse variance does a network's predicted noise ask for at each step, and what the Gaussian fit?",
    axes={"model": ["shipped"], "steps": STEPS, "step": list(range(STEPS[-1]))},
    where=lambda cell: cell["step"] < cell["steps"],  # pyright: ignore[reportOperatorIssue]
    available=unavailable,
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_reverse_variance_by_step(model: str, steps: int, step: int, *, seed: int) -> Values:
    """Of one step, in units of beta_tilde: analytic, from the noise's power on 100 training images; achieved, the best
    for the network as it is, from its denoising error there; gaussian, the exact optimum of the Gaussian fit, which no
    law of the same second moments exceeds; beta. Every ..._error is the half-width of a 95 % interval.
    """
    levels = _grid(model, steps).levels
    s, t, least = levels[step], levels[step + 1], beta_tilde(levels[step], levels[step + 1])
    power, miss = _at_levels(model, steps)[step]
    gain = float(t.alpha) * -math.expm1(-2 * float(t.lam - s.lam))
    estimate = analytic(s, t, power)
    return {
        "lam": float(s.lam),
        "h": float(t.lam - s.lam),
        "images": IMAGES,
        "beta": beta(s, t) / least,
        "analytic": estimate.value / least,
        "analytic_error": estimate.error / least,
        "achieved": reverse_variance("optimal", s, t, miss.value) / least,
        "achieved_error": gain**2 * miss.error / least,
        "gaussian": gaussian_optimum(generated.along_axes()[0], s, t) / least,
    }


@network_reverse_variance.paragraph
def words(table: "DataFrame") -> str:
    """The order of the variances on the network and on the fit, at each number of steps."""
    rows, said = table.to_dict(orient="records"), []
    for steps in sorted({row["steps"] for row in rows}):
        here = [row for row in rows if row["steps"] == steps]
        best, ideal = (min(here, key=lambda row: row[name]) for name in ("fd", "gaussian_fd"))
        pairs = [(a, b) for i, a in enumerate(here) for b in here[:i]]
        clear = [p for p in pairs if apart(*p, "fd") and apart(*p, "gaussian_fd")]
        agree = [(a, b) for a, b in clear if (a["fd"] - b["fd"]) * (a["gaussian_fd"] - b["gaussian_fd"]) > 0]
        ties = ", ".join(_plain(row["variance"]) for row in here if row is not best and not apart(row, best, "fd"))
        listed = ", ".join(f"{_plain(row['variance'])} {shown(row, 'fd')}" for row in here)
        said.append(
            f"At {steps} steps FD is {listed}. Least is {_plain(best['variance'])}"
            f"{f', not told apart from {ties}' if ties else ''}; on the Gaussian fit "
            f"{_plain(ideal['variance'])}. Of {len(pairs)} pairs {len(clear)} are told apart on both, {len(agree)} of "
            "them in the same order."
        )
    return (
        f"{' '.join(said)} {rows[0]['images']} samples a cell; as many test images lie at {shown(rows[0], 'floor_fd')}."
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")


@network_reverse_variance_by_step.paragraph
def words_by_step(table: "DataFrame") -> str:
    """Where the estimate tells anything, whether it is what the network achieves, and below the fit's optimum."""
    rows = table.to_dict(orient="records")
    sharp = [row for row in rows if row["analytic_error"] < row["gaussian"] - 1]
    met = [row for row in sharp if not _apart_from(row, "analytic", "achieved")]
    above = [row for row in sharp if row["analytic"] - row["analytic_error"] > row["gaussian"]]
    worse = [row for row in rows if row["achieved"] - row["achieved_error"] > row["gaussian"]]
    most = max(rows, key=lambda row: row["analytic"])
    return (
        f"With {most['images']} training images the estimate from the noise's power tells something at {len(sharp)} of "
        f"{len(rows)} steps: at the others its interval is wider than all that the Gaussian fit's optimum adds to beta "
        f"tilde. At {len(met)} of the {len(sharp)} it agrees with what the network's denoising error asks for, as it "
        f"must where the network is exact. It exceeds the Gaussian fit's optimum at {len(above)} of them, the achieved "
        f"one at {len(worse)} of {len(rows)}, which no exact denoiser does. The largest, {shown(most, 'analytic')} "
        f"times beta tilde (Gaussian fit {most['gaussian']:.3g}, beta {most['beta']:.3g}), is at lambda = "
        f"{most['lam']:.2f} of {most['steps']} steps."
    )


def _apart_from(row: dict, a: str, b: str) -> bool:
    """Whether the intervals of two columns of a row do not meet."""
    return abs(row[a] - row[b]) > row[f"{a}_error"] + row[f"{b}_error"]


@network_reverse_variance.figure(
    "distances",
    caption="Left: the network; right: the Gaussian fit with its own exact optimum. Bars: 95 % intervals; grey: test "
    "images.",
)
def distances(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank, legend

    figure, axes = blank(width=WIDE, height=2.8, rows=1, columns=2, sharey=True)
    steps, lines = sorted(set(table["steps"])), {}
    for ax, name, title in ((axes[0, 0], "fd", "network"), (axes[0, 1], "gaussian_fd", "Gaussian fit")):
        for i, variance in enumerate(dict.fromkeys(table["variance"])):
            part = table[table["variance"] == variance]
            places = [steps.index(step) + 0.12 * (i - 1.5) for step in part["steps"]]
            bars = ax.errorbar(
                places, part[name], part[f"{name}_error"],
                marker="osD^"[i % 4], markersize=4, linestyle="none", linewidth=1, capsize=2,
            )  # fmt: skip
            lines[_plain(variance)] = bars.lines[0]
        ax.axhline(table["floor_fd"].iloc[0], color="0.5", linewidth=0.8)
        ax.set(title=title, xlabel="steps", xlim=(-0.5, len(steps) - 0.5))
        ax.set_xticks(range(len(steps)), [str(step) for step in steps])
    axes[0, 0].set_ylabel("FD-cifar_classifier")
    legend(figure, lines)
    return figure


@network_reverse_variance_by_step.figure(
    "variances",
    caption="What a variance adds to beta tilde, over what the Gaussian fit's optimum adds to it, at the level that "
    "each step starts from. Bars are 95 % intervals and leave the panel where the noise's power tells nothing.",
)
def variances(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank, legend

    counts, lines = sorted(set(table["steps"])), {}
    figure, axes = blank(width=WIDE, height=2.8, rows=1, columns=len(counts), sharey=True)
    for ax, steps in zip(axes[0], counts, strict=True):
        part = table[table["steps"] == steps]
        unit = part["gaussian"] - 1
        for name, marker in (("analytic", "o"), ("achieved", "s")):
            bars = ax.errorbar(
                part["lam"], (part[name] - 1) / unit, part[f"{name}_error"] / unit,
                marker=marker, markersize=4, linewidth=1, capsize=2,
            )  # fmt: skip
            lines[name] = bars.lines[0]
        lines["gaussian"] = ax.axhline(1.0, color="0.5", linewidth=0.8)
        ax.set(title=f"{steps} steps", xlabel=r"$\lambda$", ylim=(-0.2, 2.2))
    axes[0, 0].set_ylabel("added variance, Gaussian fit = 1")
    legend(figure, lines)
    return figure
