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

    sampler: a Solver, a Target, or a plain function (denoiser, x, sigmas) -> x whose promises are ``facts``. sections:
    which parts to measure, of "reproducible", "batches", "evaluations", "ratios", "exactness", "orders" and so on.
    Raises AssertionError with the rows that fail, TypeError for what is no sampler, ValueError for an unknown or no
    section, and for facts beside a sampler that declares its own.
    """
    target = _target(sampler, facts)
    if isinstance(sections, str) or not sections or not set(sections) <= set(SECTIONS):
        raise ValueError(f"sections must be a tuple of some of {', '.join(SECTIONS)}; got {sections!r}.")
    at = target.on(PROCESSES[process]())
    found = [row for name in sections for row in SECTIONS[name](target, at)]
    failing = [row for row in found if row.verdict == "FAILS"]
    if failing:
        lines = [f"{row.fact}: declared {row.declared}, measured {row.measured}; {row.reason}" for row in failing]
        raise AssertionError(f"{target.name} does not keep what it declares:\n" + "\n".join(lines))
    return found


def _target(sampler: Any, facts: Facts | None) -> Target:
    if isinstance(sampler, (Target, Solver)):
        if facts is not None:
            raise ValueError(f"facts are for a plain function; {sampler!r} declares its own, got facts={facts!r}.")
        return sampler if isinstance(sampler, Target) else SolverTarget(type(sampler).__name__, sampler)
    if callable(sampler) and not isinstance(sampler, type):
        function = cast(Callable[..., Tensor], sampler)
        return FunctionTarget(getattr(sampler, "__name__", "sampler"), function, facts)
    raise TypeError(
        f"sampler must be a Solver, a Target or a function (denoiser, x, sigmas) -> x; got {sampler!r}"
        + (", a class: pass an object of it." if isinstance(sampler, type) else ".")
    )


def check_scheduler(
    name: str, *, process: str = "vp_linear", sections: tuple[str, ...] = tuple(SECTIONS), **config: Any
) -> list[Row]:
    """As ``check_solver``, for a scheduler class of diffusers by its name, with its configuration.

    Raises TypeError for anything but a name, ValueError for an unknown one, ImportError where diffusers is missing.
    """
    from studies.adapters.target import foreign

    if not isinstance(name, str):
        raise TypeError(f"name must be that of a scheduler class of diffusers, as text; got {name!r}.")
    return check_solver(foreign("diffusers", name, config), process=process, sections=sections)
