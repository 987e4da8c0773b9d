"""A scheduler of a user's file, shaped as those of diffusers, driven through its own public calls as a pipeline does.

    s.set_timesteps(N);  x = s.init_noise_sigma z
    for t in s.timesteps:  x = s.step(net(s.scale_model_input(x, t), t), t, x)

Needs no part of diffusers. What a pipeline would know from the network's card, the scheduler shows or is told: see
``studies.adapters.conventions``. A class whose constructor takes ``trained_betas`` is given any levels as its training
schedule; another is measured on the levels it chooses itself.
"""

import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from studies.adapters.conventions import Conventions, answer, conventions_of, levels_of, refused
from studies.adapters.diffusers import Reading, swapped
from studies.adapters.pipeline import TrainedLevels
from studies.target import FACTS, InputChanged, Target
from theory.convergence import LAM_END, LAM_START
from theory.grid import TimeGrid, uniform_lambda
from theory.models import Counted, Exact, Model
from theory.noise import Noise, no_noise
from theory.process import Level, NoiseProcess
from theory.solvers.base import Facts, Trajectory
from toy_distributions import GaussianMixture

OWN = TrainedLevels((14.0, -14.0))
"""The process of schedulers that choose their levels: wide enough for every table of levels in use."""

CALLS = ("set_timesteps", "step")
SHAPE = (*CALLS, "timesteps", "init_noise_sigma", "scale_model_input")
SINGLE = 1e-8
"""The floor of errors where a scheduler computes in float32 all the same: its levels are off by 1e-7, of errors below
1e-6 no slope is read."""


class _Draws(TorchFunctionMode):
    """torch.randn, randn_like and normal_ answered by a noise source."""

    def __init__(self, draw: Callable[[Tensor], Tensor]):
        super().__init__()
        self._draw = draw

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            shape = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
            return self._draw(torch.empty(tuple(shape), dtype=kwargs.get("dtype") or torch.get_default_dtype()))
        if func is torch.randn_like:
            return self._draw(args[0]).to(kwargs.get("dtype") or args[0].dtype)
        if func is torch.Tensor.normal_:
            mean, std = (*args[1:], *(0.0, 1.0)[len(args) - 1 :])
            return args[0].copy_(mean + std * self._draw(args[0]))
        return func(*args, **kwargs)


@contextlib.contextmanager
def doubled(module: Any, on: bool) -> Iterator[None]:
    """The scheduler's module with float32 read as float64, and float64 as what a tensor is made of by default."""
    if not on:
        yield
        return
    names = {name: Reading(found) for name, found in vars(module).items() if found is torch or found is np}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with swapped(module, **names):
            yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True, eq=False)
class SchedulerTarget(Target):
    """A scheduler's class under test.

    maker: makes one, from keyword arguments; module: where its code stands. config: arguments of the maker, step: of
    its ``step``. given: whether it takes any levels, as ``trained_betas``.
    """

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    maker: Callable[..., Any]
    module: Any
    config: Mapping[str, Any]
    step: Mapping[str, Any]
    declared: Facts | None
    told: Mapping[str, str] = field(default_factory=dict)
    given: bool = True

    @property
    def facts(self) -> Facts | None:
        return self.declared

    @property
    def stages(self) -> int:
        return 1 if self.declared is None else self.declared.evaluations

    @property
    def any_grid(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.given

    def on(self, process: NoiseProcess) -> NoiseProcess:
        return process if self.given else OWN

    @cached_property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The most steps it can take: its training steps, for one that picks its levels among them."""
        if self.given or self.conventions.levels == "sigmas":
            return None
        return len(self._made(None, 8, True).alphas_cumprod)

    @cached_property
    def conventions(self) -> Conventions:
        with self._precision(True):
            made = self._made(self._standard() if self.given else None, 8, True)
            return conventions_of(self.name, made, self.told)

    @cached_property
    def floor(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1e-13, or SINGLE if its tables or its steps have no more digits than float32.

        On a Gaussian a run is affine: differences of 1e-8 and of 1 must show one slope.
        """
        made = self._made(self._standard() if self.given else None, 8, True)
        table = torch.as_tensor(getattr(made, self.conventions.levels))
        law = GaussianMixture.gaussian(0.3, 0.5)
        process = self.on(OWN)
        x = torch.tensor([[0.4], [0.4 + 1e-8], [1.4]], dtype=torch.float64)
        silent: Noise = lambda s, t, like: torch.zeros_like(like)
        end = self.run(Exact(law, process), x, self.grid(process, 8), noise=silent).end[:, 0]
        slope, wide = (end[1] - end[0]) / 1e-8, end[2] - end[0]
        return 1e-13 if table.dtype == torch.float64 and abs(slope / wide - 1) < 1e-5 else SINGLE

    def grid(self, process: NoiseProcess, steps: int) -> TimeGrid:
        if self.given:
            return uniform_lambda(process, steps, start=LAM_START, end=LAM_END)
        with self._precision(True):
            ks = levels_of(self.name, self._made(None, steps + 1, True), self.conventions)[:: self.stages]
        return TimeGrid(process, [process.time_at(-math.log(k)) for k in ks])

    def _standard(self) -> list[float]:
        return [math.exp(-(LAM_START + (LAM_END - LAM_START) * i / 8)) for i in range(9)]

    def _precision(self, double: bool) -> contextlib.AbstractContextManager[None]:
        return doubled(self.module, double)

    def _made(self, ks: list[float] | None, count: int, double: bool) -> Any:
        """A scheduler with its timesteps set: for the levels ks, or for ``count`` levels of its own."""
        config = dict(self.config)
        if ks is not None:
            a = np.array([1 / (1 + k * k) for k in reversed(ks)])
            config["trained_betas"] = (1 - a / np.concatenate([[1.0], a[:-1]])).tolist()
            if "num_train_timesteps" in inspect.signature(self.maker).parameters:
                config["num_train_timesteps"] = len(ks)
            count = len(ks)
        with self._precision(double):
            made = self.maker(**config)
            made.set_timesteps(count)
        return made

    def run(self, model: Model, x: Tensor, grid: TimeGrid, *, noise: Noise = no_noise, keep: bool = True) -> Trajectory:
        """From x at grid.times[0] to the grid's last level, before the step to sigma = 0.

        A run in float64 reads float32 as float64 in the scheduler's module. Raises ValueError if it cannot take the
        grid's levels, and for what ``step`` returns that is no state.
        """
        states, evaluations, _ = self._driven(model, x, grid, noise, through=False)
        return Trajectory(grid, states if keep else states[-1:], states[-1], evaluations)

    def ended(self, model: Model, x: Tensor, grid: TimeGrid) -> tuple[Tensor, Tensor]:
        states, _, end = self._driven(model, x, grid, no_noise, through=True)
        return end, states[-1]

    def _driven(
        self, model: Model, x: Tensor, grid: TimeGrid, noise: Noise, *, through: bool
    ) -> tuple[tuple[Tensor, ...], int, Tensor]:
        ks = [float(at.k) for at in grid.levels]
        nodes, process, counted = dict(zip(ks, grid.levels, strict=True)), model.process, Counted(model)
        double, means = x.dtype == torch.float64, self.conventions

        def denoiser(y: Tensor, k: float) -> Tensor:
            at = nodes.get(k) or process.level_at(-math.log(k))
            return counted((y * float(at.alpha)).to(x.dtype), at).x0.to(x.dtype)

        def draw(like: Tensor) -> Tensor:
            if noise is no_noise:
                raise ValueError(f"{self.name} draws noise; it must be declared, with --set stochastic=true.")
            return noise(grid.levels[0], grid.levels[-1], like.to(x.dtype))

        s = self._made(ks if self.given else None, len(ks), double)
        with self._precision(double):
            believed = levels_of(self.name, s, means)
        full = believed[:: self.stages]
        if len(full) != len(ks) or any(abs(a / b - 1) > 1e-3 for a, b in zip(full, ks, strict=True)):
            raise ValueError(f"{self.name} chooses its levels itself; it cannot take the {len(ks)} of {grid!r}.")
        state = x / grid.levels[0].alpha * means.state(full[0]).alpha
        states, kept, evaluations = [], state.clone(), 0
        first = state
        timesteps = list(s.timesteps)
        for i, (t, k) in enumerate(zip(timesteps, believed, strict=True)):
            if i % self.stages == 0:
                states.append(state / means.state(k).alpha * _alpha(process, k, nodes))
                evaluations = counted.evaluations
                if len(states) == len(ks) and not through:
                    break
            with self._precision(double):
                asked = s.scale_model_input(state, t) if hasattr(s, "scale_model_input") else state
                out = answer(means, asked, k, denoiser)
                with _Draws(draw):
                    state = self._state_of(s.step(out, t, state, **self.step), state)
        if not torch.equal(first, kept):
            raise InputChanged(f"{self.name} must leave its input as it was; its step writes into the sample.")
        return tuple(states), evaluations, state

    def _state_of(self, found: Any, like: Tensor) -> Tensor:
        """The next state in what ``step`` returned: an object with prev_sample, a tuple that begins with it, itself."""
        found = getattr(found, "prev_sample", found[0] if isinstance(found, tuple) else found)
        if not isinstance(found, Tensor) or found.shape != like.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"step of {self.name} must return a sample of shape {tuple(like.shape)}; got {shape}.")
        if not bool(found.isfinite().all()):
            raise ValueError(f"step of {self.name} must return finite numbers; got NaN or infinity.")
        return found


def _alpha(process: NoiseProcess, k: float, nodes: Mapping[float, Level]) -> float:
    return float((nodes.get(k) or process.level_at(-math.log(k))).alpha)


def scheduler(name: str, found: Any, config: Mapping[str, Any]) -> SchedulerTarget:
    """The target of a scheduler's class, or of an object of one, in a user's file.

    config: each entry goes where its name is known: arguments of the constructor; facts (order, evaluations, ...);
    conventions (prediction_type, state, input); arguments of ``step``. Raises ValueError, in one sentence, for a class
    that lacks ``step`` or ``set_timesteps``, an entry nobody takes, a convention neither shown nor told.
    """
    for call in CALLS:
        if not callable(getattr(found, call, None)):
            raise ValueError(f"{name} must have {call}, as a scheduler has; it has {refused(found, SHAPE)}.")
    maker = found if inspect.isclass(found) else (lambda: found)
    taken = inspect.signature(maker).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    accepted = inspect.signature(cast(Any, found).step).parameters
    parts: dict[str, dict[str, Any]] = {"maker": {}, "facts": {}, "told": {}, "step": {}}
    for key, value in config.items():
        if key in taken:
            parts["maker"][key] = value
            if key == "prediction_type":
                parts["told"][key] = value
            continue
        places = (("facts", FACTS), ("told", Conventions.TOLD), ("step", accepted))
        place = next((place for place, keys in places if key in keys), "maker" if anything else None)
        if place is None:
            known = ", ".join([*taken, *FACTS, *Conventions.TOLD])
            raise ValueError(f"{name} takes none of that name; --set knows {known} here; got {key!r}.")
        parts[place][key] = value
    declared = getattr(found, "facts", None) if not parts["facts"] else None
    if parts["facts"]:
        declared = Facts(**{"order": None, "evaluations": 1} | parts["facts"])
    more = {"return_dict": False} if "return_dict" in accepted else {}
    module = sys.modules[found.__module__ if inspect.isclass(found) else type(found).__module__]
    made = SchedulerTarget(name, maker, module, parts["maker"], parts["step"] | more, declared, parts["told"])
    if "trained_betas" in taken and "trained_betas" not in parts["maker"] and _takes_levels(made):
        return made
    own = SchedulerTarget(name, maker, module, parts["maker"], made.step, declared, parts["told"], given=False)
    try:
        assert own.conventions
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {parts['maker']!r}; {error}") from error
    return own


def _takes_levels(made: SchedulerTarget) -> bool:
    """Whether its calls are at the levels it is given as its training schedule."""
    try:
        ks = made._standard()
        found = levels_of(made.name, made._made(ks, 9, True), made.conventions)[:: made.stages]
    except (ValueError, TypeError, IndexError, RuntimeError):
        return False
    return len(found) == len(ks) and all(abs(a / b - 1) < 1e-3 for a, b in zip(found, ks, strict=True))
