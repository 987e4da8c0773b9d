"""k-diffusion's samplers on exact models, called as ``sample_xxx(model, x, sigmas)`` with x = x0 + sigma eps.

The released package imports training code (CLIP, clean-fid, torchvision, wandb) and cannot be imported beside a CPU
torch. Its samplers need none of it: ``sampling`` loads that one file under a package of its own with a stub of the one
function of ``utils`` that it calls. Install: pip install 'exactscore[k-diffusion]', then
pip install --no-deps k-diffusion. Tested with 0.1.1.post1; float64 throughout, but for the two samplers that make
their own levels (fast, adaptive), whose tables have torch's default dtype.
"""

import contextlib
import importlib
import importlib.util
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from studies.adapters.measure import Denoiser, Noise, Trace

NEEDED = (
    "k-diffusion is not installed; run: pip install 'exactscore[k-diffusion]', then: pip install --no-deps k-diffusion"
)
PACKAGE = "_exactscore_k_diffusion"
PER_STEP = 5e-3
"""An adaptive sampler's tolerances over h^order, for steps h on average: so its largest steps are below 0.3."""


def unavailable() -> str | None:
    """None if k_diffusion's samplers can be loaded, else one sentence that names the extra."""
    needs = ("k_diffusion", "torchdiffeq", "torchsde", "tqdm")
    return None if all(importlib.util.find_spec(name) for name in needs) else NEEDED


def sampling() -> Any:
    """The module k_diffusion.sampling, loaded without the rest of its package. Raises ImportError naming the extra."""
    loaded = sys.modules.get(f"{PACKAGE}.sampling")
    if loaded:
        return loaded
    if unavailable():
        raise ImportError(NEEDED)
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None and found.submodule_search_locations
    package, utils = types.ModuleType(PACKAGE), types.ModuleType(f"{PACKAGE}.utils")
    package.__path__ = list(found.submodule_search_locations)
    setattr(utils, "append_dims", lambda x, dims: x.reshape(x.shape + (1,) * (dims - x.ndim)))  # noqa: B010
    setattr(package, "utils", utils)  # noqa: B010
    sys.modules |= {PACKAGE: package, utils.__name__: utils}
    return importlib.import_module(f"{PACKAGE}.sampling")


def names() -> list[str]:
    """Every ``sample_*`` of the installed version."""
    return sorted(name for name in vars(sampling()) if name.startswith("sample_"))


@dataclass(frozen=True)
class Setting:
    """A sampler with its arguments.

    grid: "sigmas" takes the levels; "count" takes two ends and a number of model calls, three a step plus ``last``;
    "adaptive" takes two ends and tolerances, PER_STEP h^order unless set. draws: which noise its default is,
    "independent", "path" (a Brownian tree in sigma) or "churn" (randn_like); None for a deterministic one.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: Literal["sigmas", "count", "adaptive"] = "sigmas"
    draws: Literal["independent", "path", "churn"] | None = None
    last: int = 0

    @property
    def stochastic(self) -> bool:
        return self.draws is not None


class _Reading:
    """torch with its randn_like replaced by a source of noise."""

    def __init__(self, noise: Noise):
        self.randn_like = lambda x: noise(x.shape, None).to(x.dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def _default_double(on: bool) -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64 if on else before)
        yield
    finally:
        torch.set_default_dtype(before)


def trace(
    setting: Setting,
    denoiser: Denoiser,
    y: Tensor,
    ks: Sequence[float],
    *,
    precision: Literal["native", "double"] = "double",
    noise: Noise | None = None,
    through: bool = False,
) -> Trace:
    """Run the sampler from y at level ks[0] over the levels ks, and with ``through`` on to 0 where it takes levels.

    precision: of the levels handed over; the state is float64.
    """
    module, kept, calls = sampling(), Trace([], [], y, 0), 0
    if setting.grid != "sigmas":  # these report a level after they have left it
        kept.k.append(float(ks[0]))
        kept.y.append(y)

    def model(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return denoiser(x, 1.0, float(sigma[0]))

    def record(info: Mapping[str, Any]) -> None:
        if setting.grid == "sigmas" or ks[-1] * (1 + 1e-5) < float(info["sigma"]) < kept.k[-1] * (1 - 1e-5):
            kept.k.append(float(info["sigma"]))
            kept.y.append(info["x"])

    options: dict[str, Any] = {**setting.options, "callback": record, "disable": True}
    if setting.draws in ("independent", "path") and noise is not None:
        path = setting.draws == "path"
        options["noise_sampler"] = lambda k, to: noise(y.shape, (float(k), float(to)) if path else None)
    sampler: Callable[..., Any] = getattr(module, setting.name)
    if setting.draws is None and "noise_sampler" in inspect.signature(sampler).parameters:
        options["noise_sampler"] = lambda k, to: torch.zeros_like(y)  # at eta = 0 its factor is 0: no tree is needed
    double = precision == "double"
    torch_before = module.torch
    try:
        if setting.draws == "churn" and noise is not None:
            module.torch = _Reading(noise)
        with _default_double(double):
            match setting.grid:
                case "sigmas":
                    table = torch.tensor(
                        [*ks, *([0.0] if through else [])], dtype=torch.float64 if double else torch.float32
                    ).to(y.dtype)
                    end = sampler(model, y, table, **options)
                case "count":
                    n = 3 * (len(ks) - 2) + setting.last  # len(ks) - 2 steps of order 3 and one of order ``last``
                    end = sampler(model, y, ks[-1], ks[0], n, **options)
                case "adaptive":
                    h = math.log(ks[0] / ks[-1]) / (len(ks) - 1)
                    tolerance = PER_STEP * h ** options.get("order", 3)
                    end = sampler(model, y, ks[-1], ks[0], **{"rtol": tolerance, "atol": tolerance, **options})
    finally:
        module.torch = torch_before
    if not through:
        kept.k.append(float(ks[-1]))
        kept.y.append(end)
    return kept._replace(end=end, evaluations=calls)


def target(name: str, **options: Any) -> Any:
    """The sampler of that name, with its arguments, as what a certificate measures."""
    return importlib.import_module("studies.adapters.target").foreign("k_diffusion", name, options)
