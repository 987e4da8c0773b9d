"""The order of whole runs, along paths and in law, the floor of the end, and error against evaluations."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from studies.certificate.row import (
    BAND,
    GRIDS,
    LAWS,
    WIDE,
    Row,
    judged_order,
    order_on,
    reference_of,
    states,
    stochastic,
)
from studies.target import SolverTarget, Target
from theory import SOLVERS
from theory.convergence import LAM_END, LAM_START, law_error, law_order
from theory.grid import uniform_lambda
from theory.models import Exact
from theory.process import NoiseProcess
from theory.reference import flow
from theory.solvers.runge_kutta import RK4, RungeKutta
from theory.strong import strong_order

FIELD = ("ddim", "heun.k", "dpm_pp.2m", "dpm_pp.3m")


def orders(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Deterministic order on three laws, then on unequal steps and on steps in t."""
    if stochastic(target):
        return
    declared = None if target.facts is None else target.facts.order
    cases = [(law, "equal steps", target.grid) for law in LAWS] + [("mixture", name, GRIDS[name]) for name in GRIDS]
    for law, name, grid in cases:
        yield judged_order(
            f"order, {law}, {name}",
            declared,
            lambda ladder, law=law, grid=grid: order_on(target, LAWS[law], grid, process, ladder),
        )


def accurate_start(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """The order of a multistep method whose ``start`` is RK4 in place of its own, against what it declares then.

    The usual start of one or two points limits the order and so hides what a wrong third point loses.
    """
    if stochastic(target) or target.facts is None or not target.facts.multistep:
        return
    fact = "order, mixture, accurate start"
    if not isinstance(target, SolverTarget) or not hasattr(target.solver, "start"):
        yield Row(fact, "-", "-", "OPEN", "another start cannot be given to it")
        return
    started = SolverTarget(target.name, replace(cast(Any, target.solver), start=RungeKutta(RK4)))
    yield judged_order(
        fact, started.facts and started.facts.order,
        lambda ladder: order_on(started, LAWS["mixture"], target.grid, process, ladder),
    )  # fmt: skip


def bias(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Whether a stochastic solver's error in law, exact on a Gaussian, vanishes with the step or stays."""
    facts, counts, fact = target.facts, (40, 80, 160), "bias that stays as the step vanishes"
    if facts is None or not facts.stochastic:
        return
    if not isinstance(target, SolverTarget):
        yield Row(fact, "-", "-", "OPEN", "exact propagation needs a Solver")
        return
    errors = [law_error(target.solver, WIDE, process, steps)[1] for steps in counts]
    measured = ", ".join(f"{error:.1e} in {steps}" for steps, error in zip(counts, errors, strict=True))
    if not facts.weak_order:
        yield Row(fact, "-", measured, "OPEN", "nothing is declared")
    elif errors[2] < 0.4 * errors[0] or errors[2] < 1e-12:  # a first-order error falls to a quarter
        yield Row(fact, "none", measured, "HOLDS")
    elif errors[2] > 0.8 * errors[0] and errors[2] > 0.8 * errors[1]:
        yield Row(fact, "none", measured, "FAILS", "the error in law does not fall with the step")
    else:
        yield Row(fact, "none", measured, "OPEN", "it falls, but not as an order does")


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


def end_rule(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """How far the last step to sigma = 0, by x0 = D, leaves the exact end, however fine the grid."""
    if stochastic(target):
        return
    law, cleanest = LAWS["gaussian"], 6.0
    at = process.level_at(LAM_END)
    x = states(law, process, 4)
    end = flow(law, x, process.level_at(LAM_START), at)
    near = process.level_at(min(cleanest, process.lam_range[1] - 1e-6))
    floor = (law.posterior_mean(end, at.alpha, at.sigma) - flow(law, end, at, near) / near.alpha).abs().max()
    yield Row(
        f"floor of the step from lambda={LAM_END} to 0", "-", f"{float(floor):.1e}", "OPEN", "nothing is declared"
    )


def work_precision(target: Target, process: NoiseProcess) -> list[tuple[str, int, float]]:
    """(name, evaluations, error) of the target and of a standard field of ours, on the mixture."""
    law, points = LAWS["mixture"], []
    reference = reference_of(law)
    field = [target, *(SolverTarget(name, SOLVERS[name]()) for name in FIELD if name != target.name)]
    for each in field:
        for steps in (10, 20, 40, 80, 160):
            grid = uniform_lambda(process, steps, start=LAM_START, end=LAM_END)
            run = each.run(Exact(law, process), grid.levels[0].alpha * reference.start, grid, keep=False)
            error = ((run.end / grid.levels[-1].alpha - reference.end) ** 2).sum(-1).mean().sqrt()
            points.append((each.name, run.evaluations, float(error)))
    return points
