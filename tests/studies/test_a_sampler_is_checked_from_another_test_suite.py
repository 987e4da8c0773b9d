"""check_solver and check_scheduler accept right samplers, reject wrong ones, and say what they cannot check."""

import pytest
import torch

from studies.testing import check_scheduler, check_solver
from theory.solvers import DDIM, Facts

CHEAP = ("reproducible", "evaluations")


class Runs:
    """Not a sampler, though it has a method of that name."""

    def run(self):
        return None


@pytest.mark.parametrize("wrong", [Runs(), DDIM, "ddim", 3, None], ids=["has run", "class", "name", "number", "none"])
def test_what_is_no_sampler_is_refused(wrong):
    with pytest.raises(TypeError, match="must be a Solver, a Target or a function"):
        check_solver(wrong)


def test_what_cannot_be_checked_is_said():
    with pytest.raises(ValueError, match="declares its own"):
        check_solver(DDIM(), facts=Facts(order=1, evaluations=1))
    for sections in ("orders", (), ("colour",)):
        with pytest.raises(ValueError, match="sections must be a tuple of some of reproducible"):
            check_solver(DDIM(), sections=sections)
    with pytest.raises(TypeError, match="as text"):
        check_scheduler(DDIM())  # pyright: ignore[reportArgumentType]


def test_a_solver_that_keeps_its_facts_passes_and_one_that_does_not_is_rejected():
    rows = check_solver(DDIM(), sections=CHEAP)
    assert rows and all(row.verdict == "HOLDS" for row in rows)

    def dear(denoiser, x, sigmas):
        denoiser(x, sigmas[0])
        return x / sigmas[0]

    with pytest.raises(AssertionError, match="the model counts others"):
        check_solver(dear, facts=Facts(order=1, evaluations=1), sections=CHEAP)


def test_a_right_scheduler_passes_and_a_wrong_one_is_rejected(monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    name = "HeunDiscreteScheduler"
    assert all(row.verdict == "HOLDS" for row in check_scheduler(name, sections=CHEAP))
    with pytest.raises(ValueError, match="no sampler 'NoScheduler'"):
        check_scheduler("NoScheduler")
    right = diffusers.HeunDiscreteScheduler.step

    def noisy(self, model_output, timestep, sample, **options):
        return right(self, model_output, timestep, sample + 1e-6 * torch.randn_like(sample), **options)

    monkeypatch.setattr(diffusers.HeunDiscreteScheduler, "step", noisy)
    with pytest.raises(AssertionError, match="two runs with the same seed differ"):
        check_scheduler(name, sections=CHEAP)
