"""What a network of images expects and gives: declared with its weights, never guessed from them."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from theory.preconditioning import EDMPreconditioning
from theory.prediction import Kind
from theory.process import EDM, PROCESSES, Level, LinearPath, NoiseProcess, TrigonometricPath, VPLinear

KINDS = ("eps", "x0", "v", "velocity", "edm")
TIMES = ("t", "sigma", "log_snr", "c_noise")


@dataclass(frozen=True, repr=False)
class VPTable(NoiseProcess):
    """The variance-preserving process of a table of betas: at index t, alpha^2 is the product of 1 - beta_0 ... beta_t.

    Between the entries lambda is linear in t, so the process is exact at the entries and continuous between them; its
    slope jumps there by a relative O(1/entries). It has no level before entry 0: that is its least noise.
    Raises ValueError for betas outside (0, 1) and fewer than two. Source: ho2020ddpm, section 2.
    """

    betas: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        if len(self.betas) < 2 or not all(0 < b < 1 for b in self.betas):
            raise ValueError(f"betas must be two or more numbers in (0, 1); got {short(self.betas)}.")

    def __repr__(self) -> str:
        return f"VPTable({len(self.betas)} betas from {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @property
    def t_max(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return float(len(self.betas) - 1)

    @cached_property
    def _falling(self) -> list[float]:
        """-lambda at the entries, which rises."""
        logs, total = [], 0.0
        for b in self.betas:
            total += math.log1p(-b)
            logs.append(0.5 * (math.log(-math.expm1(total)) - total))
        return logs

    def _at(self, t, m):
        minus_lam, slope = _line(t, [float(i) for i in range(len(self.betas))], self._falling, m)
        alpha, sigma = _vp(minus_lam, m)
        return alpha, sigma, -alpha * sigma * sigma * slope, sigma * alpha * alpha * slope

    def _time_at(self, lam, m):
        return _line(-lam, self._falling, [float(i) for i in range(len(self.betas))], m)[0]


def _vp(minus_lam: Any, m: Any) -> tuple[Any, Any]:
    """alpha = (1 + k^2)^(-1/2) and sigma = (1 + k^(-2))^(-1/2) for k = e^(-lambda)."""
    k = m.exp(minus_lam)
    return 1 / m.sqrt(1 + k * k), k / m.sqrt(1 + k * k)


def _line(x: Any, xs: list[float], ys: list[float], m: Any) -> tuple[Any, Any]:
    """The polygon through (xs, ys), xs rising, and its slope; beyond the ends its last piece goes on."""
    if m is torch:
        nodes, values = (torch.tensor(part, dtype=torch.float64, device=x.device) for part in (xs, ys))
        i = (torch.searchsorted(nodes, x.double().contiguous(), right=True) - 1).clamp(0, len(xs) - 2)
        slope = (values[i + 1] - values[i]) / (nodes[i + 1] - nodes[i])
        return (values[i] + slope * (x - nodes[i])).to(x.dtype), slope.to(x.dtype)
    i = min(max(bisect_right(xs, x) - 1, 0), len(xs) - 2)
    slope = (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i])
    return ys[i] + slope * (x - xs[i]), slope


ALL_PROCESSES: dict[str, type[NoiseProcess]] = {**{n: PROCESSES[n] for n in PROCESSES.names()}, "vp_table": VPTable}


@dataclass(frozen=True)
class Conventions:
    r"""What goes into a network and what comes out.

    kind: what it says: "eps", "x0", "v" = alpha eps - sigma x_0, "velocity" = alpha' x_0 + sigma' eps, the derivative
    in the network's own time, or "edm", the inner F of D = c_skip y + c_out F(c_in y).
    process: on whose states alpha x_0 + sigma eps it was trained; its time is 0 at the data.
    time: how a level is told to it, one number an image:
        "t"        time_scale t, t the process's time (of a table: the index), or time_scale (t_max - t) for a network
                   whose own time runs from noise to data (time_reversed),
        "sigma"    k = sigma / alpha,    "log_snr"  2 lambda,    "c_noise"  log(k) / 4.
    range: the two numbers that black and white are in its images; ours are -1 and 1.
    labels: how many classes it knows, 0 for none. null_label: the label that stands for none, or None.
    sigma_data: for the kind "edm", in the units of its range.

    Raises ValueError for what is none of these.
    """

    kind: str
    process: NoiseProcess
    time: str
    range: tuple[float, float]
    labels: int
    null_label: int | None
    time_scale: float = 1.0
    time_reversed: bool = False
    sigma_data: float | None = None

    def __post_init__(self):
        _one_of("kind", self.kind, KINDS)
        _one_of("time", self.time, TIMES)
        if not isinstance(self.process, NoiseProcess):
            raise ValueError(f"process must be a noise process; got {short(self.process)}.")
        pair = self.range
        if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(finite, pair)) and pair[0] < pair[1]):
            raise ValueError(f"range must be two numbers, those of black and white; got {short(pair)}.")
        object.__setattr__(self, "range", (float(pair[0]), float(pair[1])))
        if not whole(self.labels) or self.labels < 0:
            raise ValueError(f"labels must be a number of classes, 0 for none; got {short(self.labels)}.")
        null = self.null_label
        if null is not None and not (whole(null) and 0 <= null <= self.labels and self.labels):
            raise ValueError(
                f"null_label must be None or a label from 0 to labels, of a network with labels; "
                f"got {short(null)} and labels={self.labels}."
            )
        if not finite(self.time_scale) or self.time_scale <= 0:
            raise ValueError(f"time_scale must be > 0; got {short(self.time_scale)}.")
        if not isinstance(self.time_reversed, bool) or (self.time_reversed and self.time != "t"):
            raise ValueError(f"time_reversed must be a boolean, true only where time is 't'; got {self.time!r}.")
        if self.kind == "edm":
            if not finite(self.sigma_data) or self.sigma_data <= 0 or not isinstance(self.process, EDM):  # pyright: ignore
                raise ValueError(
                    f"the kind 'edm' needs sigma_data > 0 and the process 'edm'; "
                    f"got {short(self.sigma_data)} and {self.process!r}."
                )
        elif self.sigma_data is not None:
            raise ValueError(f"sigma_data is for the kind 'edm' only; got {short(self.sigma_data)} and {self.kind!r}.")

    @property
    def reading(self) -> Kind | None:
        """What it says as a Kind; None for F of EDM."""
        return None if self.kind == "edm" else Kind(self.kind)

    @property
    def preconditioning(self) -> EDMPreconditioning:
        return EDMPreconditioning(self.sigma_data or math.nan)

    @property
    def scale(self) -> float:
        """Its images are scale x_0 + shift of ours in [-1, 1]."""
        return 0.5 * (self.range[1] - self.range[0])

    @property
    def shift(self) -> float:
        return 0.5 * (self.range[1] + self.range[0])

    def told(self, at: Level) -> float:
        """The number that stands for a level of its own process."""
        match self.time:
            case "t":
                t = float(at.t)
                return self.time_scale * (self.process.t_max - t if self.time_reversed else t)
            case "sigma":
                return float(at.k)
            case "log_snr":
                return 2 * float(at.lam)
            case _:
                return -float(at.lam) / 4

    def points(self, images: Tensor) -> Tensor:
        """Its images (n, 3, 32, 32), floating and in its range, as our points (n, 3072) of [-1, 1].

        Raises ValueError for images that are of another range: beyond it by more than 1e-3, or sixteen and more
        without one pixel in its darker half.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, 32, 32) or not images.is_floating_point():
            raise ValueError(
                f"images must be floating (n, 3, 32, 32); got shape {tuple(images.shape)} of {images.dtype}."
            )
        if not len(images):
            return images.reshape(0, 3072)
        low, high = (float(value) for value in images.aminmax())
        first, last = self.range
        if not (low >= first - 1e-3 and high <= last + 1e-3) or (len(images) >= 16 and low >= self.shift):
            raise ValueError(f"images must fill the range from {first} to {last}; got values from {low} to {high}.")
        return ((images - self.shift) / self.scale).reshape(len(images), 3072)

    def as_json(self) -> dict[str, Any]:
        names = {kind: name for name, kind in ALL_PROCESSES.items()}
        numbers = asdict(self.process)  # pyright: ignore[reportArgumentType]
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in numbers.items()}
        process = {"name": names[type(self.process)], **listed}
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "process": process, "range": list(self.range)}


def from_json(found: Any) -> Conventions:
    """Conventions as a card writes them. Raises ValueError in one sentence for missing, unknown and wrong entries."""
    given = dict(exact_fields("conventions", found, Conventions))
    process = given["process"]
    if not isinstance(process, Mapping) or not isinstance(process.get("name"), str):
        raise ValueError(f"conventions' process must be an object with a name; got {short(process)}.")
    kind = ALL_PROCESSES.get(process["name"])
    if kind is None:
        raise ValueError(
            f"conventions' process must be one of {', '.join(ALL_PROCESSES)}; got {short(process['name'])}."
        )
    numbers = {name: value for name, value in process.items() if name != "name"}
    exact_fields(f"the process {process['name']}", numbers, kind)
    for name, value in numbers.items():
        if not (all(map(finite, value)) if name == "betas" and isinstance(value, list) else finite(value)):
            raise ValueError(f"the process {process['name']} must have numbers for {name}; got {short(value)}.")
    try:
        given["process"] = kind(**numbers)
        first, last = given["process"].lam_range
    except (ValueError, ArithmeticError, TypeError) as error:
        raise ValueError(f"the process {short(dict(process))} is none: {str(error).rstrip('.')}.") from error
    if not first < last:
        raise ValueError(f"lambda must rise from noise to data; {given['process']!r} runs from {first} to {last}.")
    return Conventions(**given)


def exact_fields(what: str, found: Any, kind: type) -> Mapping[str, Any]:
    """``found`` if it names fields of the dataclass, all that have no default, and nothing else."""
    known = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is f.default_factory}  # both are MISSING
    if not isinstance(found, Mapping):
        raise ValueError(f"{what} must be an object with {', '.join(sorted(needed))}; got {short(found)}.")
    if missing := sorted(needed - set(found)):
        raise ValueError(f"{what} must declare {', '.join(missing)}; got only {short(', '.join(sorted(found)))}.")
    if unknown := sorted(set(found) - known):
        raise ValueError(f"{what} may have {', '.join(sorted(known))}; got also {short(', '.join(unknown))}.")
    return found


OURS: dict[str, tuple[str, NoiseProcess, float | None]] = {
    "edm": ("edm", EDM(), 0.5),
    "eps": ("eps", VPLinear(), None),
    "v": ("v", TrigonometricPath(), None),
    "velocity": ("velocity", LinearPath(), None),
}


def of_training(parameterisation: str, labels: int) -> Conventions:
    """The conventions of networks that ``exactscore train cifar10`` makes; their null label is ``labels``."""
    if parameterisation not in OURS:
        raise ValueError(f"parameterisation must be one of {', '.join(OURS)}; got {short(parameterisation)}.")
    kind, process, sigma_data = OURS[parameterisation]
    return Conventions(kind, process, "c_noise", (-1.0, 1.0), labels, labels, sigma_data=sigma_data)


def _one_of(what: str, value: Any, known: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; got {short(value)}.")


def finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """The value as it is, or its beginning: a stranger's file may put anything there."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
    return text if len(text) <= 80 else text[:77] + "..."
