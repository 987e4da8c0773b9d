"""The order of whole runs, along paths and in law, the floor of the end, and error against evaluations."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

from studies.certificate.row import (
    BAND,
    GRIDS,
    LADDERS,
    LAWS,
    OWN_LEVELS,
    WIDE,
    Row,
    error_on,
    floor_of,
    in_time,
    judged_order,
    ladders_of,
    order_on,
    states,
    stochastic,
)
from studies.target import SolverTarget, Target
from theory import SOLVERS
from theory.convergence import LAM_END, LAM_START, law_error, law_order
from theory.estimate import Estimate
from theory.models import Exact
from theory.process import Level, NoiseProcess
from theory.reference import flow, gaussian_flow
from theory.solvers.runge_kutta import RK4, RungeKutta
from theory.strong import strong_order
from toy_distributions import GaussianMixture

GAUSSIAN = cast(GaussianMixture, LAWS["gaussian"])
FIELD = ("ddim", "heun.k", "dpm_pp.2m", "dpm_pp.3m")


def orders(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Deterministic order on three laws, then on unequal steps and on steps in t."""
    if stochastic(target):
        return
    declared = None if target.facts is None else target.facts.order
    steps = "equal steps" if target.any_grid else "its own steps"
    laws = LAWS if target.any_grid else ("gaussian", "mixture")
    cases = [(law, steps, target.grid) for law in laws] + [("mixture", name, GRIDS[name]) for name in GRIDS]
    for law, name, grid in cases:
        if grid != target.grid and not target.any_grid:
            yield Row(f"order, {law}, {name}", "-", "-", "OPEN", OWN_LEVELS)
            continue
        yield judged_order(
            f"order, {law}, {name}",
            declared,
            lambda ladder, law=law, grid=grid: order_on(target, LAWS[law], grid, process, ladder),
            ladders=ladders_of(target),
            slack=BAND if target.any_grid else 0.5,  # on levels of its own a slope is blurred by their unevenness
        )


def _kept(declared: float | None, measure: Callable[[tuple[int, ...]], Estimate]) -> tuple[str, str]:
    """(verdict, slope in words). Lost is an order whose slopes lie below it with all their error, on two ladders, and
    do not rise from the coarser to the finer; a slope that is still changing is told by that sooner than by its value.
    """
    first = measure(LADDERS[0])
    text = lambda found: f"{found.value:.2f} ± {found.error:.2f}"
    if declared is None:
        return "OPEN", text(first)
    if first.error < BAND and first.value > declared - BAND:
        return "HOLDS", text(first)
    finer = measure(LADDERS[1])
    if finer.error < BAND and finer.value > declared - BAND:
        return "HOLDS", text(finer)
    below = all(each.value + each.error < declared - BAND for each in (first, finer))
    return "FAILS" if below and finer.value < first.value + 0.05 else "OPEN", text(finer)


def time_grids(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """The order on equal steps in lambda beside that on equal steps in t, and the errors of as many evaluations.

    On steps equal in t the ratio of neighbouring steps in lambda tends to one with the steps: weights of equal steps
    then lose the orders beyond the second, and a ratio the wrong way up in a method of order two loses nothing.
    """
    if stochastic(target):
        return
    fact, count = "lambda against time grids", 160
    if not target.any_grid:
        yield Row(fact, "-", "-", "OPEN", OWN_LEVELS)
        return
    declared = None if target.facts is None else target.facts.order
    law, grids = LAWS["mixture"], {"lambda": target.grid, "t": in_time}
    found = {
        name: _kept(declared, lambda ladder, grid=grid: order_on(target, law, grid, process, ladder))
        for name, grid in grids.items()
    }
    errors = [error_on(target, law, grid(process, count)) for grid in grids.values()]
    ratio = f"{errors[1] / errors[0]:.2g}" if min(errors) > 1e2 * target.floor else "lost in rounding"
    measured = ", ".join(f"{text} on {name}" for name, (_, text) in found.items())
    measured += f"; error on t / on lambda {ratio} in {count}"
    lost = [name for name, (verdict, _) in found.items() if verdict == "FAILS"]
    unclear = [name for name, (verdict, _) in found.items() if verdict == "OPEN"]
    said = "-" if declared is None else f"{declared:g}"
    if lost:
        yield Row(fact, said, measured, "FAILS", f"the order is lost on steps equal in {' and in '.join(lost)}")
    elif unclear:
        why = "nothing is declared" if declared is None else f"no window of steps equal in {' or in '.join(unclear)}"
        yield Row(fact, said, measured, "OPEN", why)
    else:
        yield Row(fact, said, measured, "HOLDS")


def falls(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Whether the error falls at all as the steps shrink: it may have no slope and still stay."""
    if stochastic(target):
        return
    fact, counts = "error falls with the steps", (40, 160, 640)
    if target.reach is not None:
        counts = tuple(target.reach // part - 1 for part in (50, 10, 4))
    grids = [target.grid(process, steps) for steps in counts]
    errors = [error_on(target, LAWS["mixture"], grid) for grid in grids]
    measured = ", ".join(f"{error:.1e} in {steps}" for steps, error in zip(counts, errors, strict=True))
    declared = None if target.facts is None else target.facts.order
    least = max(1e3 * floor_of(target), 1e-10)
    if not declared:
        yield Row(fact, "-", measured, "OPEN", "nothing is declared")
    elif errors[2] > least and errors[2] > 0.5 * max(errors[:2]):
        yield Row(fact, "yes", measured, "FAILS", "it stays, however small the steps")
    elif errors[2] <= least or (errors[2] < 0.5 * errors[1] and errors[2] < 0.25 * errors[0]):
        yield Row(fact, "yes", measured, "HOLDS")
    else:
        yield Row(fact, "yes", measured, "OPEN", "it falls, but not as an order does")


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
    law, cleanest = GAUSSIAN, 6.0
    at = process.level_at(LAM_END)
    x = states(law, process, 4)
    end = flow(law, x, process.level_at(LAM_START), at)
    near = process.level_at(min(cleanest, process.lam_range[1] - 1e-6))
    floor = (law.posterior_mean(end, at.alpha, at.sigma) - flow(law, end, at, near) / near.alpha).abs().max()
    yield Row(
        f"floor of the step from lambda={LAM_END} to 0", "-", f"{float(floor):.1e}", "OPEN", "nothing is declared"
    )
    yield from _own_end(target, process)


def _own_end(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """How far its own last step is from the exact flow to sigma = 0 of the state it starts from: on a Gaussian, from
    the last level of a run. No solver of ours has an end of its own."""
    law, fact = GAUSSIAN, "floor of its own end"
    grid = target.grid(process, 40)
    at, clean = grid.levels[-1], Level(0.0, 1.0, 0.0, 0.0, 0.0)
    x = states(law, process, 4)
    try:
        found = target.ended(Exact(law, process), x, grid)
    except (ArithmeticError, ValueError) as error:
        yield Row(fact, "-", "-", "OPEN", f"it does not come to its end; {' '.join(str(error).split())}")
        return
    if found is None:
        return
    end, before = found
    floor = float((end - gaussian_flow(law, before, at, clean)).abs().max())
    gap = float((end - law.posterior_mean(before, float(at.alpha), float(at.sigma))).abs().max())
    why = "nothing is declared; " + ("it is x0 = D" if gap < 1e-3 * floor else f"{gap:.1e} from x0 = D")
    yield Row(f"{fact}, from lambda={at.lam:.3g}", "-", f"{floor:.1e}", "OPEN", why)


def work_precision(target: Target, process: NoiseProcess) -> list[tuple[str, int, float]]:
    """(name, evaluations, error) of the target and of a standard field of ours, on the mixture."""
    law, points, process = LAWS["mixture"], [], target.on(process)
    field = [target, *(SolverTarget(name, SOLVERS[name]()) for name in FIELD if name != target.name)]
    for each in field:
        for steps in (10, 20, 40, 80, 160):
            grid = target.grid(process, steps)
            run = each.run(Exact(law, process), states(law, process, 1), grid, keep=False)
            points.append((each.name, run.evaluations, error_on(each, law, grid)))
    return points
