"""What a certificate is about: a sampler with a name, facts, the levels it visits, and a run."""

import importlib.util
import inspect
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from theory import SOLVERS
from theory.convergence import LAM_END, LAM_START
from theory.grid import TimeGrid, uniform_lambda
from theory.models import Counted, Model
from theory.noise import Noise, no_noise
from theory.process import NoiseProcess
from theory.solvers.base import Facts, Solver, Trajectory, solve


class Target(ABC):
    """A sampler under test. facts: what it promises, None where nothing is declared.

    any_grid: whether it takes whatever levels it is given. reach: the most steps it can take, None without a limit.
    floor: absolute accuracy of its arithmetic.
    """

    name: str
    any_grid: bool = True
    reach: int | None = None
    floor: float = 1e-13

    @property
    @abstractmethod
    def facts(self) -> Facts | None: ...

    def on(self, process: NoiseProcess) -> NoiseProcess:
        """The process it is measured on: the one asked for, unless its own levels lie beyond that."""
        return process

    def grid(self, process: NoiseProcess, steps: int) -> TimeGrid:
        """The levels it visits for about so many steps: equal steps in lambda, unless the sampler forces others."""
        return uniform_lambda(process, steps, start=LAM_START, end=LAM_END)

    @abstractmethod
    def run(
        self, model: Model, x: Tensor, grid: TimeGrid, *, noise: Noise = no_noise, keep: bool = True
    ) -> Trajectory: ...

    def ended(self, model: Model, x: Tensor, grid: TimeGrid) -> tuple[Tensor, Tensor] | None:
        """What a whole run returns, its own last step to sigma = 0 included, and the state that step began with, at
        the last level of the grid; None for a sampler that leaves the end to others."""
        return None


@dataclass(frozen=True)
class SolverTarget(Target):
    """A Solver, of ours or of a user's file."""

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    solver: Solver

    @property
    def facts(self) -> Facts | None:
        return self.solver.facts

    def run(self, model: Model, x: Tensor, grid: TimeGrid, *, noise: Noise = no_noise, keep: bool = True) -> Trajectory:
        return solve(self.solver, model, x, grid, noise=noise, keep=keep)


class InputChanged(ValueError):
    """A sampler wrote into the states it was given."""


@dataclass(frozen=True)
class FunctionTarget(Target):
    """A plain function (denoiser, x, sigmas) -> x: x = x0 + sigma eps, denoiser(x, sigma of every row) -> x0.

    It runs on any process: x / alpha has the noise k = sigma / alpha. Only its last state is seen. declared: its facts.
    """

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    function: Callable[..., Tensor]
    declared: Facts | None = None

    @property
    def facts(self) -> Facts | None:
        return self.declared

    def run(self, model: Model, x: Tensor, grid: TimeGrid, *, noise: Noise = no_noise, keep: bool = True) -> Trajectory:
        """Raises ValueError if what it returns is no tensor of the shape and type of x, or not finite."""
        counted, process = Counted(model), grid.process
        first, last = grid.levels[0], grid.levels[-1]
        nodes = {float(at.k): at for at in grid.levels}

        def denoiser(y: Tensor, sigma: Any, **_: Any) -> Tensor:
            k = float(torch.as_tensor(sigma).reshape(-1)[0])
            at = nodes.get(k) or process.level_at(-math.log(k))
            return counted(y * float(at.alpha), at).x0.to(y.dtype)

        sigmas = torch.tensor(list(nodes), dtype=x.dtype)
        start = x / first.alpha
        kept = start.clone()
        found = self.function(denoiser, start, sigmas)
        if not torch.equal(start, kept):
            raise InputChanged(f"{self.name} must leave its input as it was; it writes into x.")
        if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
            shape = (tuple(found.shape), found.dtype) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{self.name} must return a tensor like x, {tuple(x.shape)} of {x.dtype}; got {shape}.")
        if not bool(found.isfinite().all()):
            raise ValueError(f"{self.name} must return finite numbers; got NaN or infinity on {grid!r}.")
        end = found * last.alpha
        return Trajectory(grid, (x, end) if keep else (end,), end, counted.evaluations)


FACTS = ("order", "evaluations", "stochastic", "weak_order", "strong_order", "start_up", "multistep")


def load(text: str, config: Mapping[str, Any] | None = None) -> Target:
    """The target of that name: "dpm_pp.2m", "diffusers:Class", "k_diffusion:sample_x" or "path/to/file.py:name".

    The name in a file is a Solver's, a plain function's, or that of a class shaped as a scheduler of diffusers.
    config: arguments of its constructor; for a plain function its facts: order, evaluations, multistep and so on; for a
    scheduler both, and its conventions.
    Raises ValueError if there is no such target or it cannot be made, ImportError if its library is missing.
    """
    config = dict(config or {})
    place, colon, name = text.rpartition(":")
    if place in ("diffusers", "k_diffusion"):
        from studies.adapters.target import foreign

        return foreign(place, name, config)  # pyright: ignore[reportReturnType]
    if not colon:
        made = SOLVERS[text]
        return SolverTarget(text, _made(text, made, config))
    return _from_object(name, _imported(Path(place), name), config)


def _imported(path: Path, name: str) -> Any:
    if not path.is_file():
        raise ValueError(f"a target file must exist; got {str(path)!r}.")
    spec = importlib.util.spec_from_file_location(f"target_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"a target file must be Python, ending in .py; got {str(path)!r}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be imported; {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{path} must define {name!r}; it does not.")
    return getattr(module, name)


def _from_object(name: str, found: Any, config: dict[str, Any]) -> Target:
    if isinstance(found, Solver):
        return SolverTarget(name, found)
    if not (inspect.isclass(found) and issubclass(found, Solver)) and _is_scheduler(found):
        from studies.adapters.scheduler import scheduler

        return scheduler(name, found, config)
    if inspect.isclass(found):
        made = _made(name, found, config)
        if not isinstance(made, Solver):
            raise ValueError(f"{name} must be a Solver or a function (denoiser, x, sigmas); got {type(made).__name__}.")
        return SolverTarget(name, made)
    if not callable(found):
        raise ValueError(
            f"{name} must be a Solver or a function (denoiser, x, sigmas); got an object of {type(found).__name__}."
        )
    if unknown := [key for key in config if key not in FACTS]:
        raise ValueError(f"a plain function is told its facts, {', '.join(FACTS)}; got {unknown[0]!r}.")
    declared = Facts(**{"order": None, "evaluations": 1} | config) if config else getattr(found, "facts", None)
    return FunctionTarget(name, cast(Callable[..., Tensor], found), declared)


def _is_scheduler(found: Any) -> bool:
    """Whether it has a scheduler's set_timesteps, or enough of the rest to have been meant as one."""
    rest = ("timesteps", "init_noise_sigma", "scale_model_input")
    return hasattr(found, "set_timesteps") or (hasattr(found, "step") and any(hasattr(found, name) for name in rest))


def _made(name: str, maker: Callable[..., Any], config: dict[str, Any]) -> Any:
    try:
        return maker(**config)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {config!r}; {error}") from error
