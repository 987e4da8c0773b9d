"""A certificate: what a sampler declares beside what it does, a verdict and a reason for each."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from studies.target import InputChanged, SolverTarget, Target
from theory import SOLVERS
from theory.convergence import LAM_END, LAM_START, PathReference, law_order, path_reference
from theory.estimate import Estimate
from theory.grid import TimeGrid, alternating, uniform_lambda
from theory.models import Exact, Model
from theory.noise import Independent, PerRow, no_noise
from theory.prediction import Kind, Prediction
from theory.process import VE, Level, NoiseProcess
from theory.reference import flow
from theory.slope import observed_order
from theory.strong import strong_order
from toy_distributions import GaussianMixture
from toy_distributions.base import Distribution

LAWS: dict[str, Distribution] = {
    "gaussian": GaussianMixture.gaussian(0.7, 0.25),
    "mixture": GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04]),
    "plane": GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.6, -0.4]], [[0.3, 0.08], [0.05, 0.2]]),
}
LADDERS = ((20, 40, 80, 160, 320), (40, 80, 160, 320, 640), (120, 200, 340, 580, 1000))
WIDE = GaussianMixture.gaussian(0.7, 4.0)
FIELD = ("ddim", "heun.k", "dpm_pp.2m", "dpm_pp.3m")
BAND = 0.1
EXACT = 1e-13
"""Of one step on a model of size one: some hundred roundings."""
ROUNDING = 1e-4
"""Of a run of 40 steps in float32: twenty units of 1.2e-7 a step."""


@dataclass(frozen=True)
class Row:
    """One fact: what is declared, what was measured, HOLDS, FAILS or OPEN, and why."""

    fact: str
    declared: str
    measured: str
    verdict: str
    reason: str = ""


def _grid(process: NoiseProcess, lams: list[float]) -> TimeGrid:
    return TimeGrid(process, [process.time_at(lam) for lam in lams])


def in_time(process: NoiseProcess, steps: int) -> TimeGrid:
    """Equal steps in t between the same two levels."""
    first, last = process.time_at(LAM_START), process.time_at(LAM_END)
    return TimeGrid(process, np.linspace(first, last, steps + 1).tolist())


def unequal(process: NoiseProcess, steps: int) -> TimeGrid:
    """Short and long steps in lambda by turns, 1 : 3."""
    return alternating(process, steps, start=LAM_START, end=LAM_END)


GRIDS: dict[str, Callable[[NoiseProcess, int], TimeGrid]] = {"unequal steps": unequal, "equal steps in t": in_time}


def _states(law: Distribution, process: NoiseProcess, n: int) -> Tensor:
    at = process.level_at(LAM_START)
    z = law.noised(float(at.alpha), float(at.sigma))
    return z.sample(n, generator=torch.Generator().manual_seed(3))


def _stochastic(target: Target) -> bool:
    return target.facts is not None and target.facts.stochastic


def reproducible(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Same seed same result, whatever was run between; the input is left as it was."""
    model, grid = Exact(LAWS["mixture"], process), target.grid(process, 8)
    x = _states(LAWS["mixture"], process, 4)
    kept, ends = x.clone(), []
    for start in (x, 1.3 * x, x):
        noise = Independent(0) if _stochastic(target) else no_noise
        try:
            ends.append(target.run(model, start, grid, noise=noise, keep=False).end.clone())
            changed = not torch.equal(x, kept)
        except InputChanged:
            changed = True
        if changed:
            yield Row("input left as it was", "yes", "no", "FAILS", "the run writes into its input")
            return
    yield Row("input left as it was", "yes", "yes", "HOLDS")
    same = torch.equal(ends[0], ends[2])
    yield Row(
        "reproducible", "yes", "yes" if same else "no", "HOLDS" if same else "FAILS",
        "" if same else "two runs with the same seed differ, with another run between them",
    )  # fmt: skip


def batches(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """A row's result does not depend on the rows beside it."""
    model, grid = Exact(LAWS["mixture"], process), target.grid(process, 10)
    x = _states(LAWS["mixture"], process, 4)
    x[3] *= 20

    def end(rows: list[int]) -> Tensor:
        noise = PerRow(rows) if _stochastic(target) else no_noise
        return target.run(model, x[rows], grid, noise=noise, keep=False).end

    gap = max((end([0, 1, 2, 3])[i] - end([i])[0]).abs().max().item() for i in range(4))
    fine = gap < 1e-11
    yield Row(
        "batch independence", "yes", f"{gap:.1e}", "HOLDS" if fine else "FAILS",
        "" if fine else "a sample's result depends on its batch mates",
    )  # fmt: skip


def evaluations(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Model calls of a run, counted by the model."""
    law, facts = LAWS["gaussian"], target.facts
    x, counts = _states(law, process, 2), {}
    for steps in (8, 16):
        noise = Independent(0) if _stochastic(target) else no_noise
        counts[steps] = target.run(Exact(law, process), x, target.grid(process, steps), noise=noise).evaluations
    measured = ", ".join(f"{count} in {steps} steps" for steps, count in counts.items())
    if facts is None:
        yield Row("evaluations", "-", measured, "OPEN", "nothing is declared")
        return
    same = all(facts.cost(steps) == count for steps, count in counts.items())
    declared = ", ".join(f"{facts.cost(steps)} in {steps} steps" for steps in counts)
    yield Row(
        "evaluations", declared, measured, "HOLDS" if same else "FAILS", "" if same else "the model counts others"
    )


@lru_cache(maxsize=8)
def _reference(law: Distribution) -> PathReference:
    """Four exact trajectories of a law, found once: most of the time of a certificate was spent on them."""
    return path_reference(law, VE(), n=4)


def order_on(target: Target, law: Distribution, grid: Callable, process: NoiseProcess, ladder) -> Estimate:
    """The observed order in h_max of the distance to the exact flow, on one ladder of steps."""
    reference = _reference(law)
    h, errors = [], []
    for steps in ladder:
        made = grid(process, steps)
        first, last = made.levels[0], made.levels[-1]
        end = target.run(Exact(law, process), first.alpha * reference.start, made, keep=False).end / last.alpha
        h.append(made.h_max)
        errors.append(((end - reference.end) ** 2).sum(-1).mean().sqrt().item())
    return observed_order(h, errors, floor=1e-13)


def judged_order(fact: str, declared: float | None, measure: Callable[[tuple[int, ...]], Estimate]) -> Row:
    """Finer ladders are asked only while coarser ones do not settle it; FAILS needs two that agree on less."""
    found = [measure(LADDERS[0])]
    if declared is None:
        text = f"{found[0].value:.2f} ± {found[0].error:.2f}"
        return Row(fact, "-", text, "OPEN", "nothing is declared")
    text = ""
    for ladder in (*LADDERS[1:], None):
        last = found[-1]
        text = f"{last.value:.2f} ± {last.error:.2f}"
        if last.error < BAND and last.value > declared - BAND:
            faster = last.value > declared + BAND
            return Row(fact, f"{declared:g}", text, "HOLDS", "faster than declared here" if faster else "")
        if len(found) > 1 and last.error < BAND and abs(last.value - found[-2].value) < BAND:
            return Row(fact, f"{declared:g}", text, "FAILS", "the error falls more slowly than declared")
        if ladder is not None:
            found.append(measure(ladder))
    return Row(fact, f"{declared:g}", text, "OPEN", "no window of steps with one slope")


def orders(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Deterministic order on three laws, then on unequal steps and on steps in t."""
    if _stochastic(target):
        return
    declared = None if target.facts is None else target.facts.order
    cases = [(law, "equal steps", target.grid) for law in LAWS] + [("mixture", name, GRIDS[name]) for name in GRIDS]
    for law, name, grid in cases:
        yield judged_order(
            f"order, {law}, {name}",
            declared,
            lambda ladder, law=law, grid=grid: order_on(target, LAWS[law], grid, process, ladder),
        )


@dataclass(frozen=True)
class Curve(Model):
    """A model whose prediction is a smooth function of lambda alone; its flow is one quadrature."""

    process: NoiseProcess
    kind: Kind
    value: Callable[[float], float]

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(self.kind, torch.full_like(x, self.value(float(at.lam))), x, at)

    def flow(self, x: Tensor, s: Level, t: Level) -> Tensor:
        """d(x / sigma) = e^lam x0 dlam for x0, d(x / alpha) = -e^-lam eps dlam for eps."""
        nodes, weights = np.polynomial.legendre.leggauss(30)
        low, high = float(s.lam), float(t.lam)
        lams = low + 0.5 * (1 + nodes) * (high - low)
        sign = 1 if self.kind is Kind.X0 else -1
        change = (
            0.5
            * (high - low)
            * sum(w * sign * math.exp(sign * v) * self.value(v) for v, w in zip(lams, weights, strict=True))
        )
        old, new = (s.sigma, t.sigma) if self.kind is Kind.X0 else (s.alpha, t.alpha)
        return float(new) * (x / float(old) + float(change))


def _smooth(lam: float) -> float:
    return math.sin(1.3 * lam + 0.4)


def last_step_error(target: Target, model: Curve, lams: list[float]) -> float:
    """The error of the last step alone: from exact states for a Solver, else the difference of two runs."""
    grid = _grid(model.process, lams)
    x = torch.tensor([[0.4, -1.3]], dtype=torch.float64)
    if isinstance(target, SolverTarget):
        memory, found = None, x
        for s, t in pairwise(grid.levels):
            found, memory, _ = target.solver.step(model, x, s, t, memory, no_noise)
            x = model.flow(x, s, t)
        return float((found - x).abs().max())
    before = target.run(model, x, _grid(model.process, lams[:-1])).end
    end = target.run(model, x, grid).end
    return float((end - model.flow(before, *grid.levels[-2:])).abs().max())


def local_order(target: Target, process: NoiseProcess, kind: Kind, pattern: tuple[int, ...]) -> Estimate:
    """The order of one step's error when the steps before it, in this ratio, shrink with it."""
    sizes = [0.04 / 1.4**i for i in range(6)]
    places = np.cumsum([0, *pattern]) / max(pattern)
    model = Curve(process, kind, _smooth)
    errors = [last_step_error(target, model, (0.3 + h * places).tolist()) for h in sizes]
    return observed_order(sizes, errors, floor=2e-17)


PATTERNS = {"3 : 1": (1, 3, 1, 3, 1), "1 : 3": (3, 1, 3, 1, 3)}


def ratios(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """One step's order must not depend on the ratio of the steps: formulas for equal ones show here.

    In a global error much of this can cancel: an inverted ratio in a two-step method leaves h_r^2 - h^2 in each step,
    which telescopes on every grid. One step after another size shows it.
    """
    if _stochastic(target):
        return
    for kind in (Kind.X0, Kind.EPS):
        equal = local_order(target, process, kind, (1, 1, 1, 1, 1))
        for name, pattern in PATTERNS.items():
            other = local_order(target, process, kind, pattern)
            texts = f"{equal.value:.2f} ± {equal.error:.2f}", f"{other.value:.2f} ± {other.error:.2f}"
            if equal.error > 0.2 or other.error > 0.2:
                verdict, why = "OPEN", "no window of steps with one slope"
            elif other.value < equal.value - 0.5:
                verdict, why = (
                    "FAILS",
                    "right on equal steps only: the ratio of the steps is used wrongly or not at all",
                )
            else:
                verdict, why = "HOLDS", ""
            yield Row(
                f"one step's order, {kind.value} model, steps {name}", f"{texts[0]} (equal)", texts[1], verdict, why
            )


def exactness(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """The highest degree in lambda, k or t of a prediction that one step after unequal ones integrates exactly."""
    if _stochastic(target):
        return
    declared = None if target.facts is None else target.facts.exact
    kinds = [(Kind.X0, "lam"), (Kind.EPS, "lam"), (Kind.EPS, "k")]
    if declared is not None and (declared.kind, declared.variable) not in kinds:
        kinds.append((declared.kind, declared.variable))
    places: dict[str, Callable[[float], float]] = {
        "lam": lambda lam: lam - 0.3,
        "k": lambda lam: math.exp(-lam),
        "t": lambda lam: float(process.time_at(lam)),
    }
    for kind, variable in kinds:
        degree = -1
        for n in range(5):
            model = Curve(process, kind, lambda lam, n=n, place=places[variable]: 0.7 * place(lam) ** n)
            if last_step_error(target, model, [-0.9, -0.5, 0.0, 0.2, 0.9]) > EXACT:
                break
            degree = n
        fact = f"exact for {kind.value} polynomial in {variable}"
        measured = f"to degree {degree}" if degree >= 0 else "not for a constant"
        if declared is None or (declared.kind, declared.variable) != (kind, variable):
            yield Row(fact, "-", measured, "OPEN", "nothing is declared")
        elif degree >= declared.degree:
            more = "beyond what is declared here" if degree > declared.degree else ""
            yield Row(fact, f"to degree {declared.degree}", measured, "HOLDS", more)
        else:
            yield Row(fact, f"to degree {declared.degree}", measured, "FAILS", "a step of a model it should know errs")


def stochastic_orders(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Weak order by the exact law of the output; strong order by exact propagation."""
    facts = target.facts
    if facts is None or not facts.stochastic:
        return
    if not isinstance(target, SolverTarget):
        yield Row("weak order", str(facts.weak_order), "-", "OPEN", "exact propagation needs a Solver")
        return
    yield judged_order("weak order", facts.weak_order, lambda steps: law_order(target.solver, WIDE, process, steps[:5]))
    if facts.strong_order is None:
        return
    texts = []
    for clock in ("snr", "t"):
        try:
            found = strong_order(target.solver, WIDE, process, clock=clock)
        except ValueError:
            continue
        if found.error < BAND and found.value > facts.strong_order - BAND:
            yield Row("strong order", f"{facts.strong_order:g}", f"{found.value:.2f} ± {found.error:.2f}", "HOLDS")
            return
        texts.append(f"{found.value:.2f} ± {found.error:.2f} (clock {clock})")
    why = "no clock of ours makes its noise the path's"
    yield Row("strong order", f"{facts.strong_order:g}", ", ".join(texts) or "-", "OPEN", why)


@dataclass(frozen=True)
class Typed(Model):
    """A model that answers in the type it is asked in, as a network does; laws keep to float64."""

    inner: Model

    @property
    def process(self) -> NoiseProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.process

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(Kind.X0, self.inner(x, at).x0.to(x.dtype), x, at)


def single_precision(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """A run in float32 stays float32, and near the run in float64."""
    if _stochastic(target):
        return
    law, grid = LAWS["gaussian"], target.grid(process, 40)
    x = _states(law, process, 4)
    fine = target.run(Exact(law, process), x, grid, keep=False).end
    rough = target.run(Typed(Exact(law, process)), x.float(), grid, keep=False).end
    gap = float((rough.double() - fine).abs().max())
    good = rough.dtype == torch.float32 and gap < ROUNDING
    why = "" if good else "its type is not kept" if rough.dtype != torch.float32 else "rounding grows on the way"
    yield Row(
        "float32", f"float32, below {ROUNDING:.0e}", f"{rough.dtype}, {gap:.1e}", "HOLDS" if good else "FAILS", why
    )


def end_rule(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """How far the last step to sigma = 0, by x0 = D, leaves the exact end, however fine the grid."""
    if _stochastic(target):
        return
    law, cleanest = GaussianMixture.gaussian(0.7, 0.25), 6.0
    at = process.level_at(LAM_END)
    x = _states(law, process, 4)
    end = flow(law, x, process.level_at(LAM_START), at)
    near = process.level_at(min(cleanest, process.lam_range[1] - 1e-6))
    floor = (law.posterior_mean(end, at.alpha, at.sigma) - flow(law, end, at, near) / near.alpha).abs().max()
    yield Row(
        f"floor of the step from lambda={LAM_END} to 0", "-", f"{float(floor):.1e}", "OPEN", "nothing is declared"
    )


SECTIONS: dict[str, Callable[[Target, NoiseProcess], Iterator[Row]]] = {
    "reproducible": reproducible,
    "batches": batches,
    "evaluations": evaluations,
    "ratios": ratios,
    "exactness": exactness,
    "orders": orders,
    "stochastic orders": stochastic_orders,
    "float32": single_precision,
    "end rule": end_rule,
}


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def rows(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Every row of the certificate. A section that cannot be measured gives one OPEN row that says why.

    A sampler that does not get through eight steps on a mixture, with finite states of the right shape, FAILS, and
    nothing else is asked of it.
    """
    law = LAWS["mixture"]
    try:
        noise = Independent(0) if _stochastic(target) else no_noise
        grid = target.grid(process, 8)
        target.run(Exact(law, process), _states(law, process, 4), grid, noise=noise, keep=False)
    except InputChanged:  # which has a row of its own
        pass
    except Exception as error:
        yield Row("runs", "yes", "no", "FAILS", _said(error))
        yield from (Row(name, "-", "-", "OPEN", "missing; it does not run") for name in SECTIONS)
        return
    yield Row("runs", "yes", "yes", "HOLDS")
    for name, section in SECTIONS.items():
        try:
            yield from section(target, process)
        except Exception as error:
            yield Row(name, "-", "-", "OPEN", f"missing; {_said(error)}")


def work_precision(target: Target, process: NoiseProcess) -> list[tuple[str, int, float]]:
    """(name, evaluations, error) of the target and of a standard field of ours, on the mixture."""
    law, points = LAWS["mixture"], []
    reference = _reference(law)
    field = [target, *(SolverTarget(name, SOLVERS[name]()) for name in FIELD if name != target.name)]
    for each in field:
        for steps in (10, 20, 40, 80, 160):
            grid = uniform_lambda(process, steps, start=LAM_START, end=LAM_END)
            run = each.run(Exact(law, process), grid.levels[0].alpha * reference.start, grid, keep=False)
            error = ((run.end / grid.levels[-1].alpha - reference.end) ** 2).sum(-1).mean().sqrt()
            points.append((each.name, run.evaluations, float(error)))
    return points
