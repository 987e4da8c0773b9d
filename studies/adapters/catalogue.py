"""Every foreign sampler that is measured: its setting, what it claims, and where the claim stands.

A claim is an order along paths, or for a stochastic sampler in law. Where neither the class, its documentation nor its
paper states one, the claim is that it samples the law at all: an order of 1/2 at least, ``CONVERGES``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studies.adapters import diffusers, k_diffusion, torchdiffeq
from studies.adapters.diffusers import Setting
from studies.adapters.measure import STEPS, Sampler

CONVERGES = 0.5


@dataclass(frozen=True)
class Entry:
    """A sampler and its claim.

    kinds: the grids it can be run on, the first as users run it. floor: of its levels' arithmetic in double precision,
    under which no slope is read. finishes: whether its last step, to sigma = 0, can be run in this setting.
    """

    setting: Setting | k_diffusion.Setting | torchdiffeq.Setting
    claimed: float
    where: str
    kinds: tuple[str, ...] = ("uniform", "graded", "rough")
    steps: tuple[int, ...] = STEPS
    floor: float = 1e-13
    finishes: bool = True

    @property
    def adaptive(self) -> bool:
        """Whether it chooses its steps by a tolerance."""
        return getattr(self.setting, "grid", None) == "adaptive"

    def sampler(self, **more: Any) -> Sampler:
        """The sampler as ``measure`` takes it; more: precision, and for diffusers ``by``."""
        libraries = {Setting: diffusers, k_diffusion.Setting: k_diffusion, torchdiffeq.Setting: torchdiffeq}
        run: Any = libraries[type(self.setting)].trace

        def sampler(denoiser, y, ks, *, noise=None, through=False):
            return run(self.setting, denoiser, y, ks, noise=noise, through=through, **more)

        return sampler


ENTRIES: dict[str, Entry] = {}

OWN = ("uniform",)
"""Samplers that space their levels themselves: uniform in lambda where they offer it."""

TIMED = (
    "DDIMScheduler",
    "PNDMScheduler/plms",
    "IPNDMScheduler",
    "DPMSolverMultistepScheduler/2M++",
    "DPMSolverMultistepScheduler/3M++",
    "DPMSolverSinglestepScheduler/2S++",
    "UniPCMultistepScheduler/2",
    "DEISMultistepScheduler/2",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
)
"""One of each kind, measured on the refined linear schedule too."""

LEFT_OUT: Mapping[str, str] = {
    "LCMScheduler, FlowMatchLCMScheduler, TCDScheduler with eta > 0, SCMScheduler": "need a consistency function",
    "DDPMWuerstchenScheduler, UnCLIPScheduler": "DDPM on levels that cannot be handed over",
    "AmusedScheduler, VQDiffusionScheduler, BlockRefinementScheduler, EntropyBoundScheduler": "discrete states",
    "RePaintScheduler, *InverseScheduler, ConsistencyDecoderScheduler": "another task",
}


def _diffusers(
    variant: str,
    claimed: float,
    where: str,
    family: str,
    *,
    kinds: tuple[str, ...] | None = None,
    steps: tuple[int, ...] = STEPS,
    finishes: bool = True,
    **setting: Any,
) -> None:
    """variant: the class name, then after a slash what tells this setting from its others."""
    made = Setting(variant.split("/")[0], family, **setting)
    own = made.grid in ("bounds", "attributes", "table")
    if kinds is None:
        # a difference quotient of a noisy path over a tiny step is no accurate start, so no graded grid for those
        kinds = OWN if own else ("uniform", "rough") if made.stochastic else ("uniform", "graded", "rough")
    if variant in TIMED:
        kinds = ("uniform", "time", *kinds[1:])
    ENTRIES[f"diffusers:{variant}"] = Entry(made, claimed, where, kinds, steps, finishes=finishes)


EULER, ARGUMENT = "Euler's method", "the argument solver_order"
SDE = "an Euler step of the reverse SDE"
FINE = (36, 72, 144, 288, 576)
COARSE = (12, 24, 48, 96, 192)
"""For a class that searches its table of levels in Python, once a step."""

# --- VP states, levels from alphas_cumprod
TABLE, PLAIN = "vp table", {"clip_sample": False}
_diffusers("DDIMScheduler", 1, "song2020ddim: Euler in sigma/alpha", TABLE, config=PLAIN)
for _type in ("sample", "v_prediction"):
    _diffusers(f"DDIMScheduler/{_type}", 1, "as with epsilon", TABLE, config=PLAIN, prediction=_type, kinds=OWN)
_diffusers("DDIMScheduler/eta=1", 1, SDE, TABLE, config=PLAIN, step={"eta": 1.0}, stochastic=True)
_diffusers("DDIMParallelScheduler", 1, "as DDIMScheduler", TABLE, config=PLAIN, kinds=OWN)
_diffusers("CogVideoXDDIMScheduler", 1, "as DDIMScheduler", TABLE, config=PLAIN | {"snr_shift_scale": 1.0}, kinds=OWN)
_diffusers("TCDScheduler/eta=0", 1, "as DDIMScheduler", TABLE, step={"eta": 0.0}, kinds=OWN)
for _variance in ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"):
    _config = PLAIN | {"variance_type": _variance}
    _diffusers(f"DDPMScheduler/{_variance}", 1, SDE, TABLE, config=_config, stochastic=True)
_diffusers("DDPMParallelScheduler", 1, SDE, TABLE, config=PLAIN, stochastic=True, kinds=OWN)
_diffusers(
    "CogVideoXDPMScheduler", 2, "DPM-Solver++ 2M SDE", TABLE, config=PLAIN | {"snr_shift_scale": 1.0}, stochastic=True
)
EQUAL, _where = ("uniform", "graded"), "liu2022pndm: global order 2"  # their weights are those of equal steps
_diffusers("PNDMScheduler/plms", 2, _where, TABLE, config={"skip_prk_steps": True}, kinds=EQUAL)
_diffusers("PNDMScheduler/prk", 2, _where, TABLE, grid="betas half", kinds=OWN)
_where = "class docstring: fourth-order"
_diffusers("IPNDMScheduler", 4, _where, "ipndm", grid="ipndm", prediction="v_prediction", kinds=EQUAL)

# --- VP states, levels from sigmas
SIGMA, DPM, ONE = "vp sigma", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
for _algorithm, _short in (("dpmsolver++", "++"), ("dpmsolver", "")):
    _last = {} if _short else {"final_sigmas_type": "sigma_min"}
    for _order in (1, 2, 3):
        _config: dict[str, Any] = {"solver_order": _order, "algorithm_type": _algorithm, **_last}
        _diffusers(f"{DPM}/{_order}M{_short}", _order, ARGUMENT, SIGMA, config=_config, finishes=bool(_short))
        if _order > 1:
            _diffusers(
                f"{ONE}/{_order}S{_short}",
                _order,
                ARGUMENT,
                SIGMA,
                config=_config | {"lower_order_final": True},
                steps=FINE if _order == 3 else STEPS,
                finishes=bool(_short),
            )
    _config = {"solver_order": 2, "solver_type": "heun", "algorithm_type": _algorithm, **_last}
    _diffusers(f"{DPM}/2M{_short} heun", 2, ARGUMENT, SIGMA, config=_config, finishes=bool(_short))
_config = {"solver_order": 3, "solver_type": "heun", "lower_order_final": True}
_diffusers(f"{ONE}/3S++ heun", 3, ARGUMENT, SIGMA, config=_config, steps=FINE)
for _type in ("sample", "v_prediction"):
    for _name in (DPM, "UniPCMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler"):
        _config = {"tau_func": lambda t: 0.0} if _name == "SASolverScheduler" else {}
        _claim = 3 if _name == "UniPCMultistepScheduler" else 2
        _steps = FINE if _name == "SASolverScheduler" else STEPS
        _diffusers(
            f"{_name}/{_type}",
            _claim,
            "as with epsilon",
            SIGMA,
            config=_config,
            prediction=_type,
            kinds=OWN,
            steps=_steps,
        )
for _order in (1, 2, 3):
    _config = {"solver_order": _order, "algorithm_type": "sde-dpmsolver++"}
    _diffusers(f"{DPM}/{_order}M++ sde", _order, ARGUMENT, SIGMA, config=_config, stochastic=True)
    if _order > 1:
        _config = _config | {"lower_order_final": True}
        _diffusers(f"{ONE}/{_order}S++ sde", _order, ARGUMENT, SIGMA, config=_config, stochastic=True)
_config = {"solver_order": 2, "algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}
_diffusers(f"{DPM}/2M++ sde heun", 2, ARGUMENT, SIGMA, config=_config, stochastic=True)
_config = {"solver_order": 3, "algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "lower_order_final": True}
_diffusers(f"{ONE}/3S++ sde heun", 3, ARGUMENT, SIGMA, config=_config, stochastic=True)
_config = {"solver_order": 2, "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}
_diffusers(f"{DPM}/2M sde", 2, ARGUMENT, SIGMA, config=_config, stochastic=True)
for _order in (1, 2, 3):
    _where = "class docstring: solver_order + 1"
    _config = {"solver_order": _order, "lower_order_final": False}
    _diffusers(
        f"UniPCMultistepScheduler/{_order}", _order + 1, _where, SIGMA, config=_config, steps=FINE, finishes=False
    )
_diffusers("UniPCMultistepScheduler/2 bh1", 3, _where, SIGMA, config={"solver_order": 2, "solver_type": "bh1"})
_config = {"solver_order": 2, "predict_x0": False}
_diffusers("UniPCMultistepScheduler/2 noise", 3, _where, SIGMA, config=_config)
for _order in (1, 2, 3):
    _diffusers(f"DEISMultistepScheduler/{_order}", _order, ARGUMENT, SIGMA, config={"solver_order": _order})
_config = {"tau_func": lambda t: 0.0}
_where = "the arguments predictor_order, corrector_order"
_diffusers("SASolverScheduler/tau=0", 2, _where, SIGMA, config=_config, steps=FINE)
_config = {"tau_func": lambda t: 1.0}
_diffusers("SASolverScheduler/tau=1", CONVERGES, "no order in law is stated", SIGMA, config=_config, stochastic=True)

# --- VE states
VE, INSPIRED = "ve", "the attribute order, and a second-order method by name"
_diffusers("EulerDiscreteScheduler", 1, EULER, VE)
_diffusers("HeunDiscreteScheduler", 2, "the attribute order", VE)
_diffusers("KDPM2DiscreteScheduler", 2, INSPIRED, VE)
_diffusers("LMSDiscreteScheduler", 4, "order=4 of step", VE)
for _name, _claim in (("Euler", 1), ("Heun", 2), ("KDPM2", 2), ("LMS", 2)):
    for _type in ("sample", "v_prediction"):
        if (_name, _type) != ("KDPM2", "sample"):  # raises that it is not implemented
            _where = "as with epsilon, after the usual start"
            _diffusers(f"{_name}DiscreteScheduler/{_type}", _claim, _where, VE, prediction=_type, kinds=OWN)
_diffusers("EulerAncestralDiscreteScheduler", 1, SDE, VE, stochastic=True)
_diffusers("KDPM2AncestralDiscreteScheduler", 2, INSPIRED, VE, stochastic=True)
_diffusers("DPMSolverSDEScheduler", 2, INSPIRED, VE, stochastic=True)

# --- levels that a scheduler finds itself in a fine training schedule
for _kind in ("exponential", "karras"):
    for _name, _family, _claim in (
        ("EulerDiscreteScheduler", VE, 1),
        ("HeunDiscreteScheduler", VE, 2),
        ("KDPM2DiscreteScheduler", VE, 2),
        ("LMSDiscreteScheduler", VE, 2),
        ("DPMSolverMultistepScheduler", SIGMA, 2),
        ("DPMSolverSinglestepScheduler", SIGMA, 2),
        ("UniPCMultistepScheduler", SIGMA, 3),
        ("DEISMultistepScheduler", SIGMA, 2),
    ):
        _config = {f"use_{_kind}_sigmas": True} | ({"lower_order_final": True} if _name == ONE else {})
        _where, _steps = "as on its own grid", COARSE if _name[:5] == "KDPM2" else STEPS
        _diffusers(f"{_name}/{_kind}", _claim, _where, _family, config=_config, grid="table", steps=_steps)

# --- EDM: the network is preconditioned
for _kind in ("exponential", "karras"):
    _config = {"sigma_schedule": _kind}
    _diffusers(f"EDMEulerScheduler/{_kind}", 1, EULER, "edm", config=_config, grid="bounds", prediction="edm")
    for _order in (2, 3):
        _name = f"EDMDPMSolverMultistepScheduler/{_order}M++ {_kind}"
        _more = _config | {"solver_order": _order}
        _diffusers(_name, _order, ARGUMENT, "edm", config=_more, grid="bounds", prediction="edm")
_config = {"sigma_schedule": "exponential", "algorithm_type": "sde-dpmsolver++"}
_diffusers(
    "EDMDPMSolverMultistepScheduler/2M++ sde",
    2,
    ARGUMENT,
    "edm",
    config=_config,
    grid="bounds",
    prediction="edm",
    stochastic=True,
)
_diffusers(
    "CosineDPMSolverMultistepScheduler", 2, ARGUMENT, "edm cosine", grid="bounds", prediction="edm", stochastic=True
)

# --- straight paths
FLOW: dict[str, Any] = {"grid": "flow sigmas", "prediction": "flow_prediction"}
_diffusers("FlowMatchEulerDiscreteScheduler", 1, EULER, "flow", **FLOW)
_diffusers(
    "FlowMatchEulerDiscreteScheduler/stochastic_sampling",
    CONVERGES,
    "no order is stated",
    "flow",
    config={"stochastic_sampling": True},
    stochastic=True,
    **FLOW,
)
_heun: dict[str, Any] = FLOW | {"grid": "attributes"}
_diffusers("FlowMatchHeunDiscreteScheduler", 2, "the attribute order", "flow", **_heun)
_config = {"use_flow_sigmas": True, "solver_order": 2}
_diffusers("UniPCMultistepScheduler/flow", 3, "class docstring: solver_order + 1", "flow", config=_config, **FLOW)
_diffusers("LTXEulerAncestralRFScheduler", 1, SDE, "flow", stochastic=True, **FLOW)


# --- k-diffusion
def _k(variant: str, claimed: float, where: str, *, floor: float = 1e-13, **setting: Any) -> None:
    made = k_diffusion.Setting("sample_" + variant.split("/")[0], **setting)
    own = made.grid != "sigmas"
    kinds = OWN if own else ("uniform", "rough") if made.stochastic else ("uniform", "graded", "rough")
    ENTRIES[f"k_diffusion:sample_{variant}"] = Entry(made, claimed, where, kinds, floor=floor)


NAMED, CHURN = "its name", {"s_churn": 5.0}
_k("euler", 1, EULER)
_k("heun", 2, "karras2022edm, algorithm 2")
_k("dpm_2", 2, NAMED)
_k("lms", 4, "order=4, its default")
_k("dpmpp_2m", 2, NAMED)
_k("dpmpp_2m_sde/eta=0", 2, NAMED, options={"eta": 0.0})
_k("dpmpp_2m_sde/eta=0 heun", 2, NAMED, options={"eta": 0.0, "solver_type": "heun"})
_k("dpmpp_3m_sde/eta=0", 3, NAMED, options={"eta": 0.0})
_k("dpmpp_2s_ancestral/eta=0", 2, NAMED, options={"eta": 0.0})
_k("dpm_2_ancestral/eta=0", 2, NAMED, options={"eta": 0.0})
_k("euler_ancestral/eta=0", 1, EULER, options={"eta": 0.0})
for _rest, _claim in ((1, 2), (2, 3), (3, 2)):
    _where = f"lu2022dpm: third-order steps, the last of order {_claim - 1}"
    _k(f"dpm_fast/n=3j+{_rest % 3}", _claim, _where, grid="count", last=_rest, floor=1e-11)
for _order in (2, 3):
    _where = "the argument order, against steps on average"
    _k(f"dpm_adaptive/{_order}", _order, _where, grid="adaptive", options={"order": _order})
_k("euler_ancestral", 1, SDE, draws="independent")
_k("dpm_2_ancestral", 2, NAMED, draws="independent")
_k("dpmpp_2s_ancestral", 2, NAMED, draws="independent")
_k("dpmpp_sde", 2, "the stages of DPM-Solver++ 2S", draws="path")
_k("dpmpp_2m_sde", 2, NAMED, draws="path")
_k("dpmpp_2m_sde/heun", 2, NAMED, options={"solver_type": "heun"}, draws="path")
_k("dpmpp_3m_sde", 3, NAMED, draws="path")
_k("euler/churn", 1, EULER, options=CHURN, draws="churn")
_k("heun/churn", 2, "karras2022edm, algorithm 2", options=CHURN, draws="churn")
_k("dpm_2/churn", 2, NAMED, options=CHURN, draws="churn")


# --- torchdiffeq, on the flow in lambda: the generic peer
for _method, _order in torchdiffeq.FIXED.items():
    _peer = torchdiffeq.Setting(_method)
    _kinds, _steps = OWN if "adams" in _method else ("uniform", "rough"), (24, 48, 96, 192, 384)
    ENTRIES[f"torchdiffeq:{_method}"] = Entry(_peer, _order, "its name", _kinds, _steps, 1e-14, finishes=False)


def prefix(name: str) -> str:
    """The library of an entry: "diffusers", "k_diffusion" or "torchdiffeq"."""
    return name.partition(":")[0]
