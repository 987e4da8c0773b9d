"""Weights with a card: safetensors beside a JSON file that declares what the network expects and what it says."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as pack

from studies.cifar10.model import NetworkModel
from studies.cifar10.network import UNet
from studies.cifar10.objective import PARAMETERISATIONS

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class Card:
    """What is known of a network: everything needed to use it, and everything needed to make it again."""

    name: str
    architecture: dict[str, Any]
    """Arguments of UNet."""
    parameterisation: str
    sha256: str
    """Of weights.safetensors."""
    range: list[float] = field(default_factory=lambda: [-1.0, 1.0])
    data: str = "CIFAR-10, 50,000 training images"
    data_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    images_seen: int = 0
    seconds: float = 0.0
    hardware: str = ""
    loss: float | None = None
    """Mean over the last lines of the log."""
    errors: dict[str, float] = field(default_factory=dict)
    """Mean squared error of the denoiser while it was trained, by the middle of a bin of lambda."""
    feature_distances: dict[str, float] = field(default_factory=dict)
    licence: str = "Apache-2.0"


def save(network: UNet, folder: Path, **facts: Any) -> Card:
    """Writes float16 weights and the card into a folder, each whole or not at all. facts: the card's other fields."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = pack({name: value.half().contiguous() for name, value in network.state_dict().items()})
    card = Card(sha256=hashlib.sha256(packed).hexdigest(), **facts)
    text = json.dumps(asdict(card), indent=1) + "\n"
    for name, content in ((WEIGHTS, packed), (CARD, text.encode())):
        fresh = folder / f"{name}.{os.getpid()}.tmp"
        fresh.write_bytes(content)
        fresh.replace(folder / name)
    return card


def read_card(folder: Path) -> Card:
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"a network's folder must hold {CARD}; {folder}: {error}") from error
    known = {f.name for f in fields(Card)}
    needed = {"name", "architecture", "parameterisation", "sha256"}
    if not isinstance(found, dict) or not needed <= set(found) <= known:
        got = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{folder / CARD} must have {sorted(needed)} and nothing but a card's fields; got {got}.")
    return Card(**found)


def load(folder: Path) -> NetworkModel:
    """The network of a folder on its own process, in float32. Raises ValueError in one sentence for whatever is off."""
    card = read_card(folder)
    path = folder / WEIGHTS
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise ValueError(f"a network's folder must hold {WEIGHTS}; {folder}: {error.strerror}.") from error
    digest = hashlib.sha256(packed).hexdigest()
    if digest != card.sha256:
        raise ValueError(f"{path} must have the sha256 of its card, {card.sha256[:16]}...; got {digest[:16]}...")
    how = PARAMETERISATIONS.get(card.parameterisation)
    if how is None:
        raise ValueError(
            f"parameterisation must be one of {', '.join(PARAMETERISATIONS)}; {CARD} has {card.parameterisation!r}."
        )
    network = UNet(**card.architecture)
    try:
        state = {name: value.float() for name, value in parse(packed).items()}
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} must hold the weights of {card.architecture}; {str(error)[:300]}") from error
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ValueError(f"{path} must hold finite weights; got NaN or infinity.")
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    return NetworkModel(network, how, how.process)
