"""What a scheduler of a user's file means by its numbers: read off its public attributes, or told; never guessed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from studies.adapters.diffusers import Place, flow, ve, vp

PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction")
PLACES: Mapping[str, Callable[[float], Place]] = {"vp": vp, "ve": ve, "flow": flow}


@dataclass(frozen=True)
class Conventions:
    """prediction: what its network returns. levels: the attribute with the level of each call, "sigmas", one a
    timestep, or "alphas_cumprod", looked up at the timestep. state, input: what sample and network input are made of,
    "vp" (alpha^2 + sigma^2 = 1; sigmas are sigma / alpha), "ve" (alpha = 1) or "flow" (alpha + sigma = 1)."""

    TOLD: ClassVar[tuple[str, ...]] = ("prediction_type", "state", "input")

    prediction: str
    levels: str
    kind: str
    read: str

    def state(self, k: float) -> Place:
        return PLACES[self.kind](k)

    def input(self, k: float) -> Place:
        return PLACES[self.read](k)


def refused(found: Any, names: tuple[str, ...]) -> str:
    """Which of the names it has, in words."""
    return ", ".join(name for name in names if hasattr(found, name)) or "none of them"


def _chosen(name: str, key: str, value: Any, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise ValueError(f"{key} of {name} must be one of {', '.join(accepted)}; got {value!r}.")
    return value


def conventions_of(name: str, s: Any, told: Mapping[str, Any]) -> Conventions:
    """The conventions of a scheduler whose timesteps are set. Raises ValueError for one neither shown nor told."""
    shown = getattr(s, "prediction_type", None) or _entry(getattr(s, "config", None), "prediction_type")
    prediction = told.get("prediction_type", shown)
    if prediction is None:
        raise ValueError(
            f"{name} must show its prediction_type, as an attribute or in its config, or be told by "
            f"--set prediction_type=..., one of {', '.join(PREDICTIONS)}; it does neither."
        )
    _chosen(name, "prediction_type", prediction, PREDICTIONS)
    count = len(s.timesteps)
    sigmas, table = getattr(s, "sigmas", None), getattr(s, "alphas_cumprod", None)
    if sigmas is not None and len(sigmas) in (count, count + 1):
        levels = "sigmas"
        first = float(sigmas[0])
        kind = told.get("state") or _state(name, s, first, prediction)
    elif table is not None:
        levels, kind = "alphas_cumprod", told.get("state", "vp")
    else:
        raise ValueError(
            f"{name} must show the level of each of its {count} timesteps, in alphas_cumprod or one each in sigmas; "
            f"it has {refused(s, ('alphas_cumprod', 'sigmas'))}."
        )
    _chosen(name, "state", kind, tuple(PLACES))
    found = Conventions(prediction, levels, kind, kind)
    read = told.get("input") or (_input(name, s, found) if kind == "ve" else kind)
    return Conventions(prediction, levels, kind, _chosen(name, "input", read, tuple(PLACES)))


def _entry(config: Any, key: str) -> Any:
    return config.get(key) if isinstance(config, Mapping) else getattr(config, key, None)


def _state(name: str, s: Any, first: float, prediction: str) -> str:
    """Of a scheduler with sigmas: by the size of its start, if that is one of one kind only."""
    if prediction == "flow_prediction":
        return "flow"
    begin = getattr(s, "init_noise_sigma", None)
    near = lambda size: begin is not None and abs(float(begin) / size - 1) < 1e-3
    fits = [kind for kind, fit in (("vp", near(1.0)), ("ve", near(first) or near(math.hypot(1.0, first)))) if fit]
    if len(fits) != 1:
        raise ValueError(
            f"{name} must tell what its sigmas belong to, by --set state=vp (sigma / alpha), ve or flow; its "
            f"init_noise_sigma is {begin} at the first sigma {first:.4g}."
        )
    return fits[0]


def _input(name: str, s: Any, found: Conventions) -> str:
    """Of a scheduler with alpha = 1: by what scale_model_input does to a sample at the first level."""
    if not hasattr(s, "scale_model_input"):
        return "ve"
    k = levels_of(name, s, found)[0]
    x = torch.ones(1, 1, dtype=torch.float64)
    factor = float(s.scale_model_input(x, s.timesteps[0]).double())
    for kind in ("ve", "vp"):
        if abs(factor / PLACES[kind](k).alpha - 1) < 1e-3:
            return kind
    raise ValueError(
        f"{name} must be told what its network reads, by --set input=vp or ve; scale_model_input multiplies by "
        f"{factor:.4g} at sigma {k:.4g}, which is neither."
    )


def levels_of(name: str, s: Any, means: Conventions) -> list[float]:
    """k = sigma / alpha of each call, once timesteps are set. Raises ValueError for a level without noise or signal."""
    timesteps = [float(t) for t in s.timesteps]
    if means.levels == "sigmas":
        sigmas = [float(sigma) for sigma in s.sigmas[: len(timesteps)]]
        ks = [sigma / (1 - sigma) if sigma < 1 else math.inf for sigma in sigmas] if means.kind == "flow" else sigmas
    else:
        if wrong := [t for t in timesteps if t != int(t) or not 0 <= t < len(s.alphas_cumprod)]:
            raise ValueError(
                f"timesteps of {name} must be whole numbers below {len(s.alphas_cumprod)}, places in alphas_cumprod; "
                f"got {wrong[0]:g}."
            )
        a = [float(s.alphas_cumprod[int(t)]) for t in timesteps]
        ks = [math.sqrt((1 - each) / each) if 0 < each <= 1 else math.inf for each in a]
    if any(not 0 < k < math.inf for k in ks):
        raise ValueError(f"each call of {name} must have a level with both signal and noise; got sigma / alpha {ks}.")
    return ks


def answer(means: Conventions, asked: Tensor, k: float, denoiser: Callable[[Tensor, float], Tensor]) -> Tensor:
    """What a trained network would return for its input ``asked`` at the level k: exact, in its prediction type.

    denoiser: (x / alpha, k) -> x0.
    """
    at = means.input(k)
    x0 = denoiser(asked / at.alpha, k)
    eps = (asked - at.alpha * x0) / at.sigma
    match means.prediction:
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":
            unit = vp(k)
            return unit.alpha * eps - unit.sigma * x0
        case _:
            return eps - x0
