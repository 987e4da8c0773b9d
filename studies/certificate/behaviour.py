"""How a sampler behaves: its input, its seeds, its batch, its evaluations, its number type."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from studies.certificate.row import LAWS, Row, states, stochastic
from studies.target import InputChanged, Target
from theory.models import Exact, Model
from theory.noise import Independent, PerRow, no_noise
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess

ROUNDING = 1e-4
"""Of a run of 40 steps in float32: twenty units of 1.2e-7 a step."""


def reproducible(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """Same seed same result, whatever was run between; the input is left as it was."""
    model, grid = Exact(LAWS["mixture"], process), target.grid(process, 8)
    x = states(LAWS["mixture"], process, 4)
    kept, ends = x.clone(), []
    for start in (x, 1.3 * x, x):
        noise = Independent(0) if stochastic(target) else no_noise
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
    x = states(LAWS["mixture"], process, 4)
    x[3] *= 20

    def end(rows: list[int]) -> Tensor:
        noise = PerRow(rows) if stochastic(target) else no_noise
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
    x, counts = states(law, process, 2), {}
    for steps in (8, 16):
        noise = Independent(0) if stochastic(target) else no_noise
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
    if stochastic(target):
        return
    law, grid = LAWS["gaussian"], target.grid(process, 40)
    x = states(law, process, 4)
    fine = target.run(Exact(law, process), x, grid, keep=False).end
    rough = target.run(Typed(Exact(law, process)), x.float(), grid, keep=False).end
    gap = float((rough.double() - fine).abs().max())
    good = rough.dtype == torch.float32 and gap < ROUNDING
    why = "" if good else "its type is not kept" if rough.dtype != torch.float32 else "rounding grows on the way"
    yield Row(
        "float32", f"float32, below {ROUNDING:.0e}", f"{rough.dtype}, {gap:.1e}", "HOLDS" if good else "FAILS", why
    )
