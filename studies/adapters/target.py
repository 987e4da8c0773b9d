"""A foreign sampler with the face that a certificate asks for: name, facts, grid, run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from studies.adapters import diffusers, k_diffusion
from studies.adapters.catalogue import ENTRIES, Entry
from studies.adapters.measure import Trace
from studies.target import Target
from theory.grid import TimeGrid
from theory.models import Counted, Model
from theory.noise import Noise, no_noise
from theory.solvers.base import Facts, Trajectory

START_UP = {"PNDMScheduler/plms": 1, "PNDMScheduler/prk": 9}
"""Calls beyond one a step: PLMS asks its first step twice, and three Runge-Kutta steps take four calls each."""

TWO_STAGES = ("sample_heun", "sample_dpm_2", "sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral", "sample_dpmpp_sde")


@dataclass(frozen=True)
class ForeignTarget(Target):
    """A sampler of the catalogue. facts: what it claims. precision: "double" or "native", as in its adapter."""

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]
    entry: Entry
    precision: str = "double"

    @property
    def facts(self) -> Facts:
        setting, order = self.entry.setting, int(self.entry.claimed) or None
        if isinstance(setting, diffusers.Setting):
            evaluations = int(diffusers.scheduler_class(setting.name).order)  # timesteps a step, in diffusers' words
        else:
            evaluations = 2 if setting.name in TWO_STAGES else 1
        if setting.stochastic:
            return Facts(order=None, evaluations=evaluations, stochastic=True, weak_order=order)
        variant = f"{setting.name}/{'plms' if dict(getattr(setting, 'config', ())).get('skip_prk_steps') else 'prk'}"
        return Facts(order=order, evaluations=evaluations, start_up=START_UP.get(variant, 0))

    def run(self, model: Model, x: Tensor, grid: TimeGrid, *, noise: Noise = no_noise, keep: bool = True) -> Trajectory:
        """Run the library's code from x at grid.times[0] to the last level, before any step to sigma = 0.

        noise: gives the library's draws, in the order it makes them; by default a stochastic sampler draws its own.
        Increments of a Brownian path that overlap cannot be had from independent draws: those keep to the library's.
        Raises ValueError if the library cannot take the grid's levels.
        """
        run, states, evaluations = self._driven(model, x, grid, noise, through=False)
        ks = [float(at.k) for at in grid.levels]
        gaps = [abs(found / wanted - 1) for found, wanted in zip(run.k, ks, strict=False)]
        if len(run.k) not in (len(ks), 2) and self.entry.setting.name != "DPMSolverSinglestepScheduler":
            raise ValueError(f"{self.name} must take the {len(ks)} levels of the grid; it took {len(run.k)}.")
        if gaps[0] > 1e-4 or abs(run.k[-1] / ks[-1] - 1) > 1e-4:
            raise ValueError(
                f"{self.name} must run between the ends of the grid; it ran {run.k[0]:.4g}..{run.k[-1]:.4g}."
            )
        return Trajectory(grid, states if keep else states[-1:], states[-1], evaluations)

    def ended(self, model: Model, x: Tensor, grid: TimeGrid) -> tuple[Tensor, Tensor] | None:
        if not self.entry.finishes or self.facts.stochastic:
            return None
        run, states, _ = self._driven(model, x, grid, no_noise, through=True)
        at = min(range(len(run.k)), key=lambda i: abs(run.k[i] / float(grid.levels[-1].k) - 1))
        return run.end.to(x.dtype), states[at]

    def _driven(
        self, model: Model, x: Tensor, grid: TimeGrid, noise: Noise, *, through: bool
    ) -> tuple[Trace, tuple[Tensor, ...], int]:
        counted, levels = Counted(model), grid.levels
        process = model.process

        def denoiser(z: Tensor, alpha: float, sigma: float) -> Tensor:
            at = process.level_at(math.log(alpha) - math.log(sigma))
            return counted(z.to(x.dtype) * (float(at.alpha) / alpha), at).x0

        def draw(shape: torch.Size, interval: tuple[float, float] | None) -> Tensor:
            return noise(levels[0], levels[-1], x.new_empty(shape))

        ks = [float(at.k) for at in levels]
        own = noise is no_noise or getattr(self.entry.setting, "draws", None) == "path"
        run = self.entry.sampler(precision=self.precision)(
            denoiser,
            x / levels[0].alpha,
            ks,
            noise=None if own or not self.entry.setting.stochastic else draw,
            through=through,
        )
        states = tuple(
            y.to(x.dtype) * float(process.level_at(-math.log(k)).alpha) for k, y in zip(run.k, run.y, strict=True)
        )
        return run, states, counted.evaluations


def foreign(library: str, name: str, config: Mapping[str, Any]) -> ForeignTarget:
    """The catalogue's entry of that name, or of the class or sampler of that name, with more of its configuration.

    name: "HeunDiscreteScheduler", "DPMSolverMultistepScheduler/3M++", "sample_heun". config: arguments of the class, or
    of the sampler. Raises ImportError naming the extra, ValueError for an unknown name.
    """
    module = diffusers if library == "diffusers" else k_diffusion
    if missing := module.unavailable():
        raise ImportError(missing)
    full = f"{library}:{name}"
    known = [key for key in ENTRIES if key == full] or [key for key in ENTRIES if key.split("/")[0] == full]
    if not known:
        names = ", ".join(sorted({key.partition(":")[2].split("/")[0] for key in ENTRIES if key.startswith(library)}))
        raise ValueError(f"{library} has no sampler {name!r} that can run on an exact model; there are {names}.")
    entry = ENTRIES[known[0]]
    if entry.adaptive:
        raise ValueError(
            f"{full} chooses its own levels by a tolerance, and a certificate asks for given ones; its order is "
            "measured by: exactscore run foreign_schedulers."
        )
    setting: Any = entry.setting
    if config:
        knob = "config" if library == "diffusers" else "options"
        setting = replace(setting, **{knob: dict(getattr(setting, knob)) | dict(config)})
    return ForeignTarget(full, replace(entry, setting=setting))
