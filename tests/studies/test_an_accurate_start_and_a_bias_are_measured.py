"""Rows of an accurate start and of a bias: right solvers keep them, one wrong solver each does not."""

from dataclasses import dataclass, replace

import pytest

from studies.testing import check_solver
from theory.solvers import SDEDPM, DPMpp2M, DPMpp3M, Facts, Solver, Step


@dataclass(frozen=True)
class HalfBend(Solver):
    """DPM-Solver++ 3M with half of one difference: its usual start, of order 2, hides that."""

    start: Solver | None = None

    @property
    def facts(self) -> Facts:
        return DPMpp3M(self.start).facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        return DPMpp3M(self.start, second=0.5).step(model, x, s, t, memory, noise)


@dataclass(frozen=True)
class Louder(Solver):
    """SDE-DPM-Solver++ with noise five hundredths too loud, which it does not say."""

    @property
    def facts(self) -> Facts:
        return SDEDPM(1).facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        return replace(SDEDPM(1), noise_scale=1.05).step(model, x, s, t, memory, noise)


def test_an_accurate_start_shows_what_the_usual_one_hides():
    (row,) = check_solver(DPMpp3M(), sections=("accurate start",))
    assert (row.declared, row.verdict) == ("3", "HOLDS")
    with pytest.raises(AssertionError, match="accurate start: declared 3, measured 2"):
        check_solver(HalfBend(), sections=("accurate start",))


def test_a_method_that_takes_no_other_start_is_open():
    (row,) = check_solver(DPMpp2M(), sections=("accurate start",))
    assert row.verdict == ("HOLDS" if hasattr(DPMpp2M(), "start") else "OPEN")


def test_a_bias_that_stays_is_found():
    (row,) = check_solver(SDEDPM(1), sections=("bias",))
    assert row.verdict == "HOLDS"
    with pytest.raises(AssertionError, match="does not fall with the step"):
        check_solver(Louder(), sections=("bias",))
