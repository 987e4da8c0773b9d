"""The order of whole runs, along paths and in law, the floor of the end, and error against evaluations."""

from collections.abc import Iterator

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
from theory.convergence import LAM_END, LAM_START, law_order
from theory.grid import uniform_lambda
from theory.models import Exact
from theory.process import NoiseProcess
from theory.reference import flow
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
