"""diffusers' schedulers on exact models, driven through their own public calls exactly as a pipeline does.

    s.set_timesteps(N);  x = s.init_noise_sigma z
    for t in s.timesteps:  x = s.step(net(s.scale_model_input(x, t), t), t, x)

What a scheduler believes: the level of each call, read off its own tables (``believed``). What a network would infer
is a function of the timestep it is handed (``inferred``). The gap between the two is the scheduler's timestep error.

Tested with diffusers 0.42.1. Tables of levels are float32 in every class, and some cast the state inside ``step``:
``precision="double"`` runs the same code with the name float32 read as float64, which removes the floor and shows the
formula; the native run shows the floor.
"""

import contextlib
import importlib
import importlib.util
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from studies.adapters.measure import Denoiser, Noise, Trace

By = Literal["sigma", "timestep"]
Precision = Literal["native", "double"]

TABLE = 1000
"""Steps of the fine training schedule that a scheduler finds its own levels in."""

NEEDED = "diffusers is not installed; run: pip install 'exactscore[diffusers]'"


def unavailable() -> str | None:
    """None if diffusers can be imported, else one sentence that names the extra."""
    return None if importlib.util.find_spec("diffusers") else NEEDED


def scheduler_class(name: str) -> Any:
    """diffusers' class of that name. Raises ImportError that names the extra, ValueError for an unknown name."""
    if unavailable():
        raise ImportError(NEEDED)
    found = getattr(importlib.import_module("diffusers"), name, None)
    if not inspect.isclass(found) or not hasattr(found, "step"):
        raise ValueError(
            f"diffusers has no scheduler {name!r}; its schedulers are named like 'EulerDiscreteScheduler'."
        )
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' advice (a deprecated setting, a last sigma that is not 0): here these are on purpose."""
    logging = importlib.import_module("diffusers.utils.logging")
    before = logging.get_verbosity()
    try:
        logging.set_verbosity_error()
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logging.set_verbosity(before)


class Place(NamedTuple):
    """A level as its ratio k = sigma / alpha, with alpha and sigma of the state x = alpha x0 + sigma eps."""

    k: float
    alpha: float
    sigma: float


def vp(k: float) -> Place:
    alpha = 1 / math.hypot(1.0, k)
    return Place(k, alpha, k * alpha)


def ve(k: float) -> Place:
    return Place(k, 1.0, k)


def flow(k: float) -> Place:
    return Place(k, 1 / (1 + k), k / (1 + k))


class Family(NamedTuple):
    """What a state and a network's input are in a family of schedulers, and where the level of a call stands."""

    state: Callable[[float], Place]
    input: Callable[[float], Place] | None  # None: EDM, whose input is c_in times the state
    believed: Callable[[Any, Any], float]  # scheduler, timestep -> k of this call
    inferred: Callable[[Any, Any], float]  # scheduler, timestep -> k that a network infers


def _index(s: Any) -> int:
    """The index that the coming call of ``step`` will use: None until scale_model_input or step has set it."""
    return (s.begin_index or 0) if s.step_index is None else s.step_index


def _sigma(s: Any, t: Any) -> float:
    table, i = s.sigmas, _index(s)
    if hasattr(s, "sigmas_interpol") and not s.state_in_first_order:  # the stage of KDPM2: its own, interpolated level
        ancestral = hasattr(s, "sigmas_down")
        return float(s.sigmas_interpol[i - 1 if ancestral else i])
    if getattr(s, "mid_point_sigma", None) is not None:  # the stage of DPMSolverSDE
        return float(s.mid_point_sigma)
    return float(table[i])


def _flow_sigma(s: Any, t: Any) -> float:
    sigma = _sigma(s, t)
    return sigma / (1 - sigma) if sigma < 1 else math.inf


def _cumprod(s: Any, t: Any) -> float:
    a = float(s.alphas_cumprod[int(t)])
    return math.sqrt((1 - a) / a)


def _discrete(s: Any, t: Any) -> float:
    """A network trained on integer timesteps: log k is a function of t, linear between the levels it was trained at."""
    a = s.alphas_cumprod.double().numpy()
    return math.exp(float(np.interp(float(t), np.arange(len(a)), 0.5 * np.log((1 - a) / a))))


def _continuous_flow(s: Any, t: Any) -> float:
    sigma = float(t) / s.config.num_train_timesteps
    return sigma / (1 - sigma) if sigma < 1 else math.inf


def _ipndm(s: Any, t: Any) -> float:
    i = _index(s)
    return float(s.betas[i] / s.alphas[i])


FAMILIES: dict[str, Family] = {
    "vp table": Family(vp, vp, _cumprod, _discrete),
    "vp sigma": Family(vp, vp, _sigma, _discrete),
    "ve": Family(ve, vp, _sigma, _discrete),
    "edm": Family(ve, None, _sigma, lambda s, t: math.exp(4 * float(t))),
    "edm cosine": Family(ve, None, _sigma, lambda s, t: math.tan(0.5 * math.pi * float(t))),
    "flow": Family(flow, flow, _flow_sigma, _continuous_flow),
    "ipndm": Family(vp, vp, _ipndm, lambda s, t: math.tan(0.5 * math.pi * float(t))),
}


@dataclass(frozen=True)
class Setting:
    """A scheduler class with the configuration and the arguments of ``step`` that it is run with.

    family: a key of FAMILIES. grid: how a grid of one's own is handed to it. prediction: what its network returns.
    """

    name: str
    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    grid: Literal["betas", "betas half", "table", "flow sigmas", "bounds", "attributes", "ipndm"] = "betas"
    prediction: Literal["epsilon", "sample", "v_prediction", "flow_prediction", "edm"] = "epsilon"
    step: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False

    @property
    def module(self) -> Any:
        return importlib.import_module(scheduler_class(self.name).__module__)


def trace(
    setting: Setting,
    denoiser: Denoiser,
    y: Tensor,
    ks: Sequence[float],
    *,
    by: By = "sigma",
    precision: Precision = "native",
    noise: Noise | None = None,
    through: bool = False,
) -> Trace:
    """Run the setting from y = x / alpha at level ks[0] to the last of the levels ks, before any step to sigma = 0;
    with ``through``, to its own end. Raises ArithmeticError if the run leaves the finite numbers."""
    family = FAMILIES[setting.family]
    with at_precision(setting, precision), with_noise(setting, noise), quiet():
        s = build(setting, ks)
        begin = float(s.init_noise_sigma) if hasattr(s, "init_noise_sigma") else 1.0
        x = y * family.state(ks[0]).alpha / begin
        return drive(setting, s, denoiser, x, by=by, stop=None if through else len(ks))


class Reading:
    """A module whose float32 reads as float64."""

    def __init__(self, module: Any):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, "float64" if name == "float32" else name)


@contextlib.contextmanager
def swapped(module: Any, **names: Any) -> Iterator[None]:
    """The module with some of its global names replaced for as long as the block runs; absent ones are left absent."""
    before = {name: getattr(module, name) for name in names if hasattr(module, name)}
    try:
        for name in before:
            setattr(module, name, names[name])
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@contextlib.contextmanager
def at_precision(setting: Setting, precision: Precision) -> Iterator[None]:
    doubled = {"torch": Reading(torch), "np": Reading(np)} if precision == "double" else {}
    with swapped(setting.module, **doubled):
        yield


@contextlib.contextmanager
def with_noise(setting: Setting, noise: Noise | None) -> Iterator[None]:
    """The scheduler's own sources of noise replaced: independent draws, and increments of a Brownian path in k."""
    if noise is None:
        yield
        return

    def draw(shape, generator=None, device=None, dtype=None, layout=None):
        return noise(torch.Size(shape), None).to(dtype or torch.float64)

    def tree(x, *_, **__):
        return lambda k, k_next: noise(x.shape, (float(k), float(k_next))).to(x.dtype)

    with swapped(setting.module, randn_tensor=draw, BrownianTreeNoiseSampler=tree):
        yield


def build(setting: Setting, ks: Sequence[float], **more: Any) -> Any:
    """The scheduler with its timesteps set so that its calls are at the levels ks (decreasing) where it can take them.

    "betas": ks is its training schedule, and it is asked for every step of it. "betas half": the same, with a level
    between each two, for the half steps of a Runge-Kutta start. "table": a fine training schedule, uniform in lambda
    between the ends, in which it finds its own levels. "flow sigmas": handed to set_timesteps. "bounds", "attributes":
    only the ends and the number of levels count, the spacing is its own.
    """
    cls, n, config = scheduler_class(setting.name), len(ks), dict(setting.config) | more
    if setting.prediction not in ("edm",) and "prediction_type" in inspect.signature(cls.__init__).parameters:
        config.setdefault("prediction_type", setting.prediction)
    match setting.grid:
        case "betas" | "betas half" | "table":
            knobs = inspect.signature(cls.__init__).parameters
            table = list(ks)
            if setting.grid == "table":
                table = [ks[0] * (ks[-1] / ks[0]) ** (i / TABLE) for i in range(TABLE + 1)]
            elif setting.grid == "betas half":
                table = [k for a, b in pairwise([*ks, ks[-1] ** 2 / ks[-2]]) for k in (a, math.sqrt(a * b))]
            if "timestep_spacing" in knobs:
                config.setdefault("timestep_spacing", "linspace" if setting.grid == "table" else "trailing")
            elif setting.grid == "betas":  # its calls leave out the last level of the schedule: one more
                table.append(ks[-1] ** 2 / ks[-2])
            if "original_inference_steps" in knobs:
                config.setdefault("original_inference_steps", n)
            a = np.array([1 / (1 + k * k) for k in reversed(table)])
            betas = 1 - a / np.concatenate([[1.0], a[:-1]])
            s = cls(trained_betas=betas.tolist(), num_train_timesteps=len(table), **config)
            s.set_timesteps(n)
        case "ipndm":
            s = cls(trained_betas=[*(vp(k).sigma for k in ks), 0.0], **config)
            s.set_timesteps(n)
        case "flow sigmas":
            s = cls(**config)
            sigmas = [flow(k).sigma for k in ks]
            # UniPC multiplies what it is given, though its signature says list
            s.set_timesteps(sigmas=np.array(sigmas) if setting.name.startswith("UniPC") else sigmas)
        case "bounds":
            s = cls(sigma_min=ks[-1], sigma_max=ks[0], **config)
            s.set_timesteps(n)
        case "attributes":
            s = cls(**config)
            s.sigma_max, s.sigma_min = flow(ks[0]).sigma, flow(ks[-1]).sigma
            s.set_timesteps(n)
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(0)
    return s


def network(setting: Setting, s: Any, denoiser: Denoiser) -> Callable[[Tensor, float], Tensor]:
    """What a trained network would return for its input at the level k: exact, in the scheduler's prediction type."""
    family = FAMILIES[setting.family]

    def edm(xin: Tensor, k: float) -> Tensor:
        sd = s.config.sigma_data
        total = math.hypot(k, sd)
        x = xin * total  # c_in = 1 / total
        c_out = k * sd / total * (-1 if s.config.prediction_type == "v_prediction" else 1)
        return (denoiser(x, 1.0, k) - (sd / total) ** 2 * x) / c_out

    def standard(xin: Tensor, k: float) -> Tensor:
        assert family.input is not None
        at = family.input(k) if math.isfinite(k) else Place(k, 0.0, 1.0)
        x0 = denoiser(xin, at.alpha, at.sigma)
        eps = (xin - at.alpha * x0) / at.sigma
        match setting.prediction:
            case "epsilon":
                return eps
            case "sample":
                return x0
            case "v_prediction":
                return at.alpha * eps - at.sigma * x0
            case _:
                return eps - x0  # the velocity of the straight path

    return edm if family.input is None else standard


def drive(
    setting: Setting, s: Any, denoiser: Denoiser, z: Tensor, *, by: By = "sigma", stop: int | None = None
) -> Trace:
    """Run a scheduler whose timesteps are set, from x = init_noise_sigma z, as a pipeline does.

    stop: end where that many states are known, instead of at the end.
    """
    family, net = FAMILIES[setting.family], network(setting, s, denoiser)
    x = float(s.init_noise_sigma) * z if hasattr(s, "init_noise_sigma") else z
    kept, timesteps, old = Trace([], [], x, 0), list(s.timesteps), None
    for i, t in enumerate(timesteps):
        xin = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
        k = family.believed(s, t)
        if _is_full(s, timesteps, i):
            kept.k.append(k)
            kept.y.append(x.double() / family.state(k).alpha)
            if len(kept.k) == stop:
                return kept._replace(end=x.double(), evaluations=i)
        out = net(xin, k if by == "sigma" else family.inferred(s, t))
        if setting.name == "CogVideoXDPMScheduler":  # its pipeline hands it the last x0 and the last timestep
            x, old = s.step(out, old, t, timesteps[i - 1] if i else None, x, return_dict=False, **setting.step)
        else:
            x = s.step(out, t, x, return_dict=False, **setting.step)[0]
        if not bool(x.isfinite().all()):
            raise ArithmeticError(f"{setting.name} leaves the finite numbers in call {i + 1} of {len(timesteps)}")
    return kept._replace(end=x.double(), evaluations=len(timesteps))


def _is_full(s: Any, timesteps: list[Any], i: int) -> bool:
    if hasattr(s, "state_in_first_order"):
        return bool(s.state_in_first_order)
    if hasattr(s, "order_list"):
        return s.order_list[i] == 1  # a singlestep block begins
    if hasattr(s, "prk_timesteps"):
        if s.config.skip_prk_steps:
            return i != 1
        return i >= len(s.prk_timesteps) or i % 4 == 0
    return True


def target(name: str, **config: Any) -> Any:
    """The scheduler class of that name, with its configuration, as what a certificate measures."""
    return importlib.import_module("studies.adapters.target").foreign("diffusers", name, config)
