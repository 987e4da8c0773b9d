"""Networks by name for studies: "shipped", or what ``loading.load`` takes; loaded once a process."""

import hashlib
import math
from functools import cache
from pathlib import Path

from torch import Tensor

from studies.cifar10.loading import load
from studies.cifar10.model import NetworkModel
from theory.process import EDM, NoiseProcess

SHIPPED = Path(__file__).parent / "weights" / "small-edm"
"""The folder of the network that comes with the package, trained by ``exactscore train cifar10``."""


def place(name: str) -> Path:
    return SHIPPED if name == "shipped" else Path(name)


@cache
def _loaded(name: str) -> NetworkModel:
    return load(place(name))


def network(
    name: str, *, labels: Tensor | None = None, guidance: float = 1.0, process: NoiseProcess | None = None
) -> NetworkModel:
    """The network as a model of a process, EDM's by default. labels: (n,), one a state, or None for no label."""
    return _loaded(name).serving(process or EDM(), labels=labels, guidance=guidance)


def reach(name: str, noisiest: float, cleanest: float) -> tuple[float, float]:
    """The two k = sigma / alpha, or the nearest that the network was trained on: a table of betas has an end."""
    does = _loaded(name).conventions
    least, most = (math.exp(-lam) / does.scale for lam in reversed(does.process.lam_range))
    near, inside = 1 + 1e-12, 1 + 1e-9  # its own end may come back from log and exp a rounding off
    return (
        noisiest if noisiest <= most * near else most / inside,
        cleanest if cleanest >= least / near else least * inside,
    )


def unavailable(name: str = "shipped") -> str | None:
    """Why the network cannot be had here, or None."""
    if name == "shipped" and not (SHIPPED / "card.json").exists():
        return "this copy came without its network; train one with 'exactscore train cifar10'."
    return None


def digest(name: str = "shipped") -> str:
    """What results with a network rest on beside laws and solvers: the code for networks, and the network's files."""
    found, there = hashlib.sha256(), place(name)
    beside = [there, there.with_suffix(".json"), there.parent / "card.json"]
    for file in [*Path(__file__).parent.glob("*.py"), *(there.rglob("*") if there.is_dir() else beside)]:
        if file.is_file():
            found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
