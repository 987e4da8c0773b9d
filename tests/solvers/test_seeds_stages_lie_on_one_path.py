"""SEEDS: stages share one Brownian path, exactly; orders need that; without noise it is DPM-Solver; mutants are not."""

from dataclasses import dataclass

import mpmath
import pytest
import torch

from theory import PROCESSES, Kind, Model, Prediction, VPLinear
from theory.solvers import DDIM, DDPM, DPM2, DPM3, SDEDPM, SEEDS, DPMpp2S, DPMpp3S, Step

from .mutants import Decay, Mutant, NoiseTwice
from .problems import LAWS
from .test_every_solver_has_its_declared_order import measured_order, weak_order
from .test_exponential_sde_solvers_are_exact_where_they_say import gap, step_errors, strong_order

READS = ("x0", "eps")


@dataclass(frozen=True)
class Swapped(Mutant):
    """Uses the draws of a step in another order: right variances would not notice, right covariances do."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        draws = []

        def other(a, b, like):
            draws.append(noise(a, b, like))
            return draws[0]

        return self.inner.step(model, x, s, t, memory, other)


class Silent(Model):
    """Predicts 0 and keeps the states it is asked about: what is left of a step is its noise."""

    process = VPLinear()

    def __init__(self, kind):
        self.kind, self.seen = kind, []

    def __call__(self, x, at):
        self.seen.append((x, at))
        return Prediction(self.kind, torch.zeros_like(x), x, at)


def covariances(solver, reads, eta):
    """Of the noise at the stages and at the end, as the solver has it and by quadrature of the SDE."""
    model = Silent(Kind.X0 if reads == "x0" else Kind.EPS)
    s, t = (model.process.level_at(lam) for lam in (-0.4, 0.9))
    draws = iter(torch.eye(5, dtype=torch.float64))
    end = solver.step(
        model, torch.zeros(1, 5, dtype=torch.float64), s, t, None, lambda a, b, like: next(draws).expand_as(like)
    ).x
    states = [*model.seen[1:], (end, t)]
    found = torch.stack([x[0] for x, _ in states])
    exact = torch.zeros(len(states), len(states), dtype=torch.float64)
    with mpmath.workdps(25):
        for i, (_, a) in enumerate(states):
            for j, (_, b) in enumerate(states):

                def push(v, at):  # of noise that enters at v, to the level at
                    if reads == "x0":
                        return at.sigma * mpmath.exp(-eta * (at.lam - v))
                    return at.alpha * mpmath.exp(-v)

                both = mpmath.quad(lambda v, a=a, b=b: 2 * eta * push(v, a) * push(v, b), [s.lam, min(a.lam, b.lam)])
                exact[i, j] = float(both)
    return found @ found.T, exact


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_noise_at_the_nodes_is_jointly_that_of_the_sde(stages, eta, reads):
    found, exact = covariances(SEEDS(stages, eta, reads), reads, eta)
    torch.testing.assert_close(found, exact, rtol=1e-13, atol=1e-14)
    if stages > 1:
        fresh, _ = covariances(SEEDS(stages, eta, reads, nested=False), reads, eta)
        torch.testing.assert_close(fresh.diagonal(), exact.diagonal(), rtol=1e-13, atol=1e-14)
        assert (fresh - exact).abs().max() > 0.01
        swapped, _ = covariances(Swapped(SEEDS(stages, eta, reads)), reads, eta)
        assert (swapped - exact).abs().max() > 0.01
    twice, _ = covariances(NoiseTwice(SEEDS(1, eta, reads)), reads, eta)
    assert (twice[-1, -1] - exact[-1, -1]).abs() > 0.01


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_one_step_is_exact_in_law_up_to_its_degree_and_not_beyond(eta, reads):
    kind = Kind.X0 if reads == "x0" else Kind.EPS
    for stages, degree in ((1, 0), (2, 0), (3, 1)):
        if stages < 3:  # the helper has two unit vectors
            assert max(step_errors(SEEDS(stages, eta, reads), eta, kind, degree)) < 1e-14
        means = [step_errors(_Quiet(SEEDS(stages, eta, reads)), eta, kind, n)[0] for n in (degree, degree + 1)]
        assert means[0] < 1e-14 and means[1] > 1e-5
    assert max(step_errors(Decay(SEEDS(1, 1.0)), 1.0, Kind.X0, 0)) > 1e-3


@dataclass(frozen=True)
class _Quiet(Mutant):
    def step(self, model, x, s, t, memory, noise) -> Step:
        return self.inner.step(model, x, s, t, memory, lambda a, b, like: torch.zeros_like(like))


@pytest.mark.parametrize("name", PROCESSES)
def test_without_noise_it_is_dpm_solver_and_with_one_stage_sde_dpm(name):
    process = PROCESSES[name]()
    same = [
        (SEEDS(1, 0.0), DDIM()),
        (SEEDS(2, 0.0), DPMpp2S()),
        (SEEDS(3, 0.0), DPMpp3S()),
        (SEEDS(2, 0.0, "eps", r1=0.3), DPM2(0.3)),
        (SEEDS(3, 0.0, "eps"), DPM3()),
        (SEEDS(1, 0.6, "eps"), SDEDPM(1, 0.6, "eps")),
        (SEEDS(1), DDPM("beta_tilde")),
    ]
    for one, other in same:
        assert gap(one, other, process) < 1e-13, (one, other)
    for one, other in ((SEEDS(2, 0.0), DPM2()), (SEEDS(3, 0.0, r2=0.5), DPMpp3S()), (SEEDS(1), DDPM("beta"))):
        assert gap(one, other, process) > 1e-4, (one, other)


def test_weak_order_2_needs_the_nested_noise():
    for stages in (2, 3):
        found = weak_order(SEEDS(stages, nested=False), VPLinear())
        assert SEEDS(stages, nested=False).facts.weak_order == 1 and abs(found.value - 1) < 0.1, found


def test_strong_order_is_1_for_every_number_of_stages():
    for solver, clock in ((SEEDS(2, 0.5), 1), (SEEDS(3), 2), (SEEDS(3, reads="eps"), -2)):
        found = strong_order(solver, solver.eta**0.5, clock)
        assert abs(found.value - 1) < 0.1, found
    assert strong_order(SEEDS(2, 0.5), 1.0, 1).value < 0.5
    with pytest.raises(ValueError, match="draw one normal"):
        strong_order(SEEDS(2, nested=False), 1.0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("reads", READS)
def test_order_without_noise(law, reads):
    for solver in (SEEDS(2, 0.0, reads), SEEDS(3, 0.0, reads), SEEDS(3, 0.0, reads, r2=0.5), SEEDS(2, 0.0, weight=1.0)):
        found = measured_order(solver, VPLinear(), law, (40, 80, 160, 320, 640))
        assert abs(found.value - solver.facts.order) < 0.1, found


def test_bad_input_is_refused():
    for wrong in (
        lambda: SEEDS(4),
        lambda: SEEDS(eta=-1.0),
        lambda: SEEDS(reads="v"),
        lambda: SEEDS(2, r1=1.0),
        lambda: SEEDS(3, r1=0.7),
    ):
        with pytest.raises(ValueError, match=r"must .*; got"):
            wrong()
