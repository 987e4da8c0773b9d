"""Our solvers under diffusers' protocol: ``pipe.scheduler = as_diffusers_scheduler(solver, pipe.scheduler.config)``.

Needs no part of diffusers. A pipeline calls the network and hands its answer to ``step``; a solver calls the model
itself. As a solver's step is pure, it can be run again: with the answers known so far, until it asks for one more.
That question is the next timestep and the next input; an answered step returns the state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from theory.grid import TimeGrid, uniform_lambda
from theory.models import Model
from theory.prediction import Kind, Prediction
from theory.process import Level, LinearPath, NoiseProcess
from theory.solvers.base import Solver

KINDS = {
    "epsilon": Kind.EPS,
    "sample": Kind.X0,
    "v_prediction": Kind.V,
    "flow_prediction": Kind.VELOCITY,
}


@dataclass(frozen=True)
class TrainedLevels(NoiseProcess):
    """Variance preserving, known at the integers: lambda = log(alpha / sigma) is linear between the trained levels.

    lams: lambda at t = 0, 1, 2, ..., falling strictly. t is the timestep that the network reads.
    """

    lams: tuple[float, ...]

    def __post_init__(self):
        if len(self.lams) < 2 or not all(a > b for a, b in zip(self.lams, self.lams[1:], strict=False)):
            raise ValueError(f"lams must be two or more levels that fall strictly; got {len(self.lams)} that do not.")

    @property
    def t_max(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.lams) - 1.0

    def _at(self, t, m):
        table = np.asarray(self.lams)
        if m is math:
            i = min(int(t), len(table) - 2)
            slope = table[i + 1] - table[i]
            lam = table[i] + (t - i) * slope
        else:
            i = t.detach().long().clamp(max=len(table) - 2)
            low, high = (torch.as_tensor(table).to(t)[j] for j in (i, i + 1))
            slope = high - low
            lam = low + (t - i) * slope
        alpha, sigma = 1 / m.sqrt(1 + m.exp(-2 * lam)), 1 / m.sqrt(1 + m.exp(2 * lam))
        return alpha, sigma, alpha * sigma * sigma * slope, -sigma * alpha * alpha * slope

    def _time_at(self, lam, m):
        times = np.interp(-np.asarray(lam, dtype=float), -np.asarray(self.lams), np.arange(len(self.lams)))
        return float(times) if m is math else torch.as_tensor(times).to(lam)


class _Question(Exception):
    """The solver asks for a model answer that is not known yet."""

    def __init__(self, x: Tensor, at: Level):
        self.x, self.at = x, at


class _Answered(Model):
    """A model that repeats the answers known so far and asks for the next."""

    def __init__(self, process: NoiseProcess, answers: Sequence[Prediction]):
        self.process, self._answers, self._next = process, answers, 0

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        if self._next == len(self._answers):
            raise _Question(x, at)
        self._next += 1
        return self._answers[self._next - 1]


class SchedulerOutput(NamedTuple):
    """What ``step`` returns, under diffusers' names: the next input of the network, and x0 as last predicted."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class SolverScheduler:
    """A solver with the face of a diffusers scheduler. Made by ``as_diffusers_scheduler``.

    timesteps: what the network is asked at, stages included; the last is the denoising call at the end of the grid,
    x0 = D(x, t_N). sigmas: sigma / alpha of the states, then 0. order: timesteps a step, as diffusers' own classes say.
    """

    init_noise_sigma = 1.0
    _compatibles: tuple[type, ...] = ()

    def __init__(
        self,
        solver: Solver,
        process: NoiseProcess,
        kind: Kind,
        scale: float,
        grid: Callable[[NoiseProcess, int], TimeGrid],
        config: Mapping[str, Any],
    ):
        self._solver, self._process, self._kind, self._scale, self._make = solver, process, kind, scale, grid
        self.config = SimpleNamespace(**config)
        self.order = solver.facts.evaluations
        self.timesteps = self.sigmas = torch.empty(0)
        self.num_inference_steps: int | None = None

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        """Lay out the grid, and find the levels of its questions by a run on zeros."""
        self._grid = self._make(self._process, num_inference_steps)
        self.num_inference_steps = num_inference_steps
        self._begin()
        asked, x = [], torch.zeros(1, 1, dtype=torch.float64)
        while self._index <= self._grid.steps:
            question = self._ask(x)
            asked.append(float(question.at.t))
            x = self._answer(Prediction(Kind.EPS, torch.zeros_like(question.x), question.x, question.at))
        self._begin()
        self.timesteps = self._scale * torch.tensor(asked, dtype=torch.float32, device=device)
        self.sigmas = torch.tensor([*(float(at.k) for at in self._grid.levels), 0.0], dtype=torch.float32)

    def _begin(self) -> None:
        self._index, self._calls, self._memory = 0, 0, None
        self._question: _Question | None = None
        self._state: Tensor | None = None
        self._answers: list[Prediction] = []
        self._normals: list[Tensor] = []
        self._generator: torch.Generator | None = None

    def _noise(self, s: Level, t: Level, like: Tensor) -> Tensor:
        """The normals of this step: those drawn when it was run before, then new ones."""
        self._drawn += 1
        if self._drawn > len(self._normals):
            z = torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=self._generator)
            self._normals.append(z)
        return self._normals[self._drawn - 1]

    def _ask(self, sample: Tensor) -> _Question:
        """What the model is to be asked, from the state ``sample`` unless the solver stands within a step."""
        if self._question is None:
            self._state = sample
            self._question = self._run()
            if self._question is None:
                raise ValueError(
                    f"a solver asks its model in every step; {self._solver!r} did not in step {self._index}."
                )
        return self._question

    def _redrawn(self, question: _Question, sample: Tensor) -> _Question:
        """The first step drew before it asked, with no generator at hand: drawn again with it, if the input, which the
        network has already been given, is the same."""
        drawn, self._normals, self._question = self._normals, [], None
        again = self._ask(sample)
        if not torch.equal(again.x, question.x):
            self._normals, self._question = drawn, question
            return question
        return again

    def _run(self) -> _Question | None:
        """Run the step with the answers known: its next question, or None if it is done and the state is at its end.

        At the end of the grid there is no step, and one question is left, D(x, t_N).
        """
        if self._index == self._grid.steps:
            return None if self._answers else _Question(self._known(), self._grid.levels[-1])
        s, t = self._grid.levels[self._index : self._index + 2]
        self._drawn = 0
        model = _Answered(self._process, self._answers)
        try:
            done = self._solver.step(model, self._known(), s, t, self._memory, self._noise)
        except _Question as question:
            return question
        self._state, self._memory = done.x, done.memory
        return None

    def _answer(self, prediction: Prediction) -> Tensor:
        """Take an answer; return the next input: of the next stage, or the state at the next level, or x0 at last."""
        self._answers.append(prediction)
        self._question = self._run()
        if self._question is not None:
            return self._question.x
        state = prediction.x0 if self._index == self._grid.steps else self._known()
        self._index += 1
        self._answers, self._normals = [], []
        return state

    def _known(self) -> Tensor:
        assert self._state is not None
        return self._state

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Accepted for the protocol; a run begins at the first timestep. Raises ValueError for another."""
        if begin_index != 0:
            raise ValueError(f"a solver's run begins at its first timestep; got begin_index={begin_index}.")

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """What the network is to be given: the state, or what the solver makes of it before its first question."""
        return self._ask(sample).x

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
        **_: Any,
    ) -> SchedulerOutput | tuple[Tensor, Tensor]:
        """Take the network's answer at ``sample``; return what it is to be asked next, at last the denoised sample.

        generator: of the normals of a stochastic solver; where its first question depends on a normal (churn), that
        one comes from torch's global generator, since the pipeline asks for the input before it names its own.
        Raises ValueError before set_timesteps, after the last timestep, and for a timestep that is not the next one.
        """
        if self.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step; it was not.")
        wanted = float(self.timesteps[self._calls]) if self._calls < len(self.timesteps) else math.nan
        if not abs(float(timestep) - wanted) <= 1e-3 * max(1.0, abs(wanted)):
            raise ValueError(f"timestep must be the next of timesteps, {wanted}; got {float(timestep)}.")
        self._generator = generator
        question = self._ask(sample)
        if self._calls == 0 and self._normals and generator is not None:
            question = self._redrawn(question, sample)
        prediction = Prediction(self._kind, model_output, question.x, question.at)
        self._calls += 1
        out = SchedulerOutput(self._answer(prediction), prediction.x0)
        return out if return_dict else tuple(out)  # pyright: ignore[reportReturnType]

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """alpha_t x0 + sigma_t eps at each row's timestep."""
        at = self._process.level(timesteps.to(original_samples) / self._scale)
        shape = (-1,) + (1,) * (original_samples.ndim - 1)
        alpha, sigma = (torch.as_tensor(entry).reshape(shape) for entry in (at.alpha, at.sigma))
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return len(self.timesteps)


def as_diffusers_scheduler(
    solver: Solver,
    config: Mapping[str, Any] | Any,
    *,
    grid: Callable[[NoiseProcess, int], TimeGrid] | None = None,
) -> SolverScheduler:
    """The solver as a scheduler that a diffusers pipeline can run.

    config: of the scheduler the network was trained for, ``pipe.scheduler.config``, or a dict with ``trained_betas``,
    or beta_start, beta_end, beta_schedule ("linear" or "scaled_linear") and num_train_timesteps; and prediction_type:
    "epsilon" (default), "sample", "v_prediction", or "flow_prediction" for a network of a straight path. grid:
    (process, steps) -> TimeGrid; by default equal steps in lambda between the trained levels, and for a straight path
    from t = 0.999 to 0.001. ``solver.facts.evaluations`` network calls a step and one at the end.

    Raises ValueError for a prediction type or a schedule it does not know.
    """
    known = dict(config)
    kind = known.get("prediction_type", "epsilon")
    if kind not in KINDS:
        raise ValueError(f"prediction_type must be one of {', '.join(KINDS)}; got {kind!r}.")
    count = int(known.get("num_train_timesteps", 1000))
    if kind == "flow_prediction":
        straight = lambda process, steps: uniform_lambda(process, steps, start=-LAM_FLOW, end=LAM_FLOW)
        return SolverScheduler(solver, LinearPath(), KINDS[kind], count, grid or straight, known)
    process = TrainedLevels(_lams(known, count))
    between = lambda process, steps: uniform_lambda(process, steps, start=process.lams[-1], end=process.lams[0])
    return SolverScheduler(solver, process, KINDS[kind], 1.0, grid or between, known)


LAM_FLOW = math.log(0.999 / 0.001)


def _lams(config: Mapping[str, Any], count: int) -> tuple[float, ...]:
    """lambda at the trained levels, by log1p and expm1 sums: 1 - alpha^2 loses its digits at the clean end."""
    schedule, betas = config.get("beta_schedule", "linear"), config.get("trained_betas")
    low, high = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if betas is not None:
        betas = np.asarray(betas, dtype=float)
    elif schedule == "linear":
        betas = np.linspace(low, high, count)
    elif schedule == "scaled_linear":
        betas = np.linspace(low**0.5, high**0.5, count) ** 2
    else:
        raise ValueError(
            f"beta_schedule must be 'linear' or 'scaled_linear', or trained_betas given; got {schedule!r}."
        )
    b = -np.cumsum(np.log1p(-betas))  # alpha^2 = e^{-b}
    return tuple((-0.5 * np.log(np.expm1(b))).tolist())
