"""For the test suite of a sampler of your own: its certificate as an assertion."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from studies.certificate import SECTIONS, Row
from studies.target import FunctionTarget, SolverTarget, Target
from theory import PROCESSES
from theory.solvers.base import Facts, Solver


def check_solver(
    sampler: Any, *, facts: Facts | None = None, process: str = "vp_linear", sections: tuple[str, ...] = tuple(SECTIONS)
) -> list[Row]:
    """The rows of a sampler's certificate, none of which FAILS and none of which is missing.

    sampler: a Solver, or a plain function (denoiser, x, sigmas) -> x whose promises are ``facts``. sections: which
    parts to measure, of "reproducible", "batches", "evaluations", "ratios", "exactness", "orders" and so on.
    Raises AssertionError with the rows that fail, TypeError for what is no sampler, KeyError for an unknown section.
    """
    if isinstance(sampler, Target) or hasattr(sampler, "run"):
        target = sampler
    elif isinstance(sampler, Solver):
        target = SolverTarget(type(sampler).__name__, sampler)
    elif callable(sampler) and not isinstance(sampler, type):
        target = FunctionTarget(getattr(sampler, "__name__", "sampler"), cast(Callable[..., Tensor], sampler), facts)
    else:
        raise TypeError(f"sampler must be a Solver or a function (denoiser, x, sigmas) -> x; got {sampler!r}.")
    at = PROCESSES[process]()
    found = [row for name in sections for row in SECTIONS[name](target, at)]
    wrong = [f"{row.fact}: declared {row.declared}, measured {row.measured}; {row.reason}" for row in found
             if row.verdict == "FAILS"]  # fmt: skip
    if wrong:
        raise AssertionError(f"{target.name} does not keep what it declares:\n" + "\n".join(wrong))
    return found


def check_scheduler(name: str, *, process: str = "vp_linear", **config: Any) -> list[Row]:
    """As ``check_solver``, for a scheduler class of diffusers, with its configuration."""
    from studies.adapters.target import foreign

    return check_solver(foreign("diffusers", name, config), process=process)
