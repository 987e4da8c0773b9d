"""Is the level at which diffusers calls the network the level of the state? A point mass tells, whatever the solver."""

from typing import TYPE_CHECKING

import torch

from studies.adapters import diffusers
from studies.adapters.diffusers import Setting, drive, quiet, scheduler_class
from studies.adapters.measure import denoiser
from studies.store import Values
from studies.study import study
from toy_distributions import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

STEPS = 30
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""The schedule of Stable Diffusion."""

SPACINGS = ("leading", "linspace", "trailing")
SIGMAS = ("karras", "exponential", "beta")
TABLE, SIGMA, VE = "vp table", "vp sigma", "ve"

SETTINGS = {
    "DDIMScheduler": Setting("DDIMScheduler", TABLE, {"clip_sample": False}),
    "PNDMScheduler": Setting("PNDMScheduler", TABLE, {"skip_prk_steps": True}),
    "TCDScheduler": Setting("TCDScheduler", TABLE, step={"eta": 0.0}),
    "DPMSolverMultistepScheduler": Setting("DPMSolverMultistepScheduler", SIGMA),
    "DPMSolverSinglestepScheduler": Setting("DPMSolverSinglestepScheduler", SIGMA, {"lower_order_final": True}),
    "UniPCMultistepScheduler": Setting("UniPCMultistepScheduler", SIGMA),
    "DEISMultistepScheduler": Setting("DEISMultistepScheduler", SIGMA, {"solver_order": 1}),
    "SASolverScheduler": Setting("SASolverScheduler", SIGMA, {"tau_func": lambda t: 0.0}),
    "EulerDiscreteScheduler": Setting("EulerDiscreteScheduler", VE),
    "HeunDiscreteScheduler": Setting("HeunDiscreteScheduler", VE),
    "KDPM2DiscreteScheduler": Setting("KDPM2DiscreteScheduler", VE),
    "LMSDiscreteScheduler": Setting("LMSDiscreteScheduler", VE),
}

NO_CHOICE = {("TCDScheduler", "linspace"), ("TCDScheduler", "trailing")}
NO_CHOICE |= {("DPMSolverSinglestepScheduler", spacing) for spacing in ("leading", "trailing")}
"""Combinations whose option the class does not have, or accepts and ignores."""


def _exists(cell) -> bool:
    scheduler, option = cell["scheduler"], cell["option"]
    if option in SIGMAS:
        return SETTINGS[scheduler].family != TABLE
    return (scheduler, option) not in NO_CHOICE


@study(
    "foreign_timesteps",
    question="Is the level at which diffusers calls the network the level of the state it hands over?",
    axes={"scheduler": list(SETTINGS), "option": [*SPACINGS, *SIGMAS]},
    where=_exists,
    available=diffusers.unavailable,
)
def foreign_timesteps(scheduler: str, option: str, *, seed: int) -> Values:
    """30 steps of Stable Diffusion's schedule on a point mass, whose noise is constant along every exact run.

    by_timestep: how far the noise that the states imply moves if the network reads the timestep it is handed; by_sigma:
    if it is called at the level that the scheduler's own tables state. Both relative to the noise at the start.
    """
    setting = SETTINGS[scheduler]
    config = SCHEDULE | dict(setting.config)
    if option in SIGMAS:
        config[f"use_{option}_sigmas"] = True
    elif scheduler != "DPMSolverSinglestepScheduler":
        config["timestep_spacing"] = option
    if scheduler == "TCDScheduler":
        del config["timestep_spacing"]
    return {"by_timestep": _moved(setting, config, "timestep"), "by_sigma": _moved(setting, config, "sigma")}


def _moved(setting: Setting, config: dict, by: diffusers.By) -> float:
    point = torch.ones(1, 1, dtype=torch.float64)
    with quiet():
        s = scheduler_class(setting.name)(**config)
        s.set_timesteps(STEPS)
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(0)
        family = diffusers.FAMILIES[setting.family]
        first = family.state(family.believed(s, s.timesteps[0]))
        start = first.alpha + first.sigma * torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
        run = drive(setting, s, denoiser(GaussianMixture.dirac(point[0])), start / float(s.init_noise_sigma), by=by)
    implied = torch.stack([(y - 1.0) / k for k, y in zip(run.k, run.y, strict=True)])
    return ((implied - implied[0]).abs() / implied[0].abs()).max().item()


@foreign_timesteps.figure(
    "noise_moved",
    caption="Largest relative change of the noise implied by the states of a point mass, for a network that reads "
    "timesteps. 30 steps of Stable Diffusion's schedule. float32 alone gives about 1e-6. Blank: no such option.",
)
def noise_moved(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank, heatmap

    figure, axes = blank(width=WIDE, height=3.6)
    heatmap(axes[0, 0], table, x="option", y="scheduler", value="by_timestep", fmt=".0e", label="noise moved", log=True)
    return figure
