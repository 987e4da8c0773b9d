"""Networks from files: ours with a JSON card, a bare state dict with a declared one, and diffusers' folders.

``load`` takes nothing on trust: see ``tensors`` and ``pickles`` for files of weights, ``Conventions`` for what has to
be declared. Whatever is off raises ValueError in one sentence, before anything of the size of the weights is done.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as pack
from torch import Tensor, nn

from studies.cifar10.conventions import Conventions, exact_fields, finite, from_json, of_training, short, whole
from studies.cifar10.model import NetworkModel
from studies.cifar10.network import UNet
from studies.cifar10.tensors import Entry, read_into, read_json

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class Card:
    """What is known of a network: everything needed to use it, and everything needed to make it again.

    Raises ValueError for entries of another type and an architecture that is none of ours.
    """

    name: str
    architecture: dict[str, Any]
    """The class, "UNet", under "class", and its arguments."""
    conventions: Conventions
    sha256: str
    """Of the file of weights."""
    parameterisation: str = ""
    """As it was trained, for networks of ``exactscore train cifar10``."""
    data: str = "CIFAR-10, 50,000 training images"
    data_sha256: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the training: loss, schedule, EMA, seed."""
    images_seen: int = 0
    seconds: float = 0.0
    hardware: str = ""
    loss: float | None = None
    """Mean over the last lines of the log."""
    errors: dict[str, float] = field(default_factory=dict)
    """Mean squared error of the denoiser while it was trained, by the middle of a bin of lambda."""
    feature_distances: dict[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            kind, fits = _TYPES[f.name.split("_")[0] if f.name == "images_seen" else str(f.type)]
            if not fits(value):
                raise ValueError(f"a card's {f.name} must be {kind}; got {short(value)}.")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"a card's sha256 must be 64 hexadecimal digits; got {short(self.sha256)}.")
        _unet_arguments(self.architecture)
        labels = self.architecture.get("labels", 10)
        declared = (self.conventions.labels, self.conventions.null_label)
        if declared != (labels, labels):
            raise ValueError(
                f"a UNet of {labels} labels has the null label {labels}; "
                f"its card's conventions have labels={declared[0]}, null_label={declared[1]}."
            )

    def as_json(self) -> dict[str, Any]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "conventions": self.conventions.as_json()}


_TYPES: dict[str, tuple[str, Any]] = {
    "<class 'str'>": ("text", lambda value: isinstance(value, str)),
    "<class 'float'>": ("a number, 0 or more", lambda value: finite(value) and value >= 0),
    "float | None": ("a number or null", lambda value: value is None or finite(value)),
    "images": ("a whole number, 0 or more", lambda value: whole(value) and value >= 0),
    "dict[str, typing.Any]": ("an object", lambda value: isinstance(value, dict)),
    "dict[str, float]": (
        "an object of numbers",
        lambda value: isinstance(value, dict) and all(map(finite, value.values())),
    ),
    str(Conventions): ("conventions", lambda value: isinstance(value, Conventions)),
}


def save(network: nn.Module, folder: Path, *, conventions: Conventions | None = None, **facts: Any) -> Card:
    """Writes float16 weights and the card into a folder, each whole or not at all. facts: the card's other fields.

    conventions may be left to ``parameterisation``, one of those that ``exactscore train cifar10`` knows. Raises
    ValueError for weights that float16 cannot hold.
    """
    state = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"weights must be finite numbers of float16, below 65,504; got others in {bad[0]}.")
    packed = pack(state)
    architecture = {"class": type(network).__name__, **facts.pop("architecture")}
    if conventions is None:
        conventions = of_training(facts.get("parameterisation", ""), architecture.get("labels", 10))
    digest = hashlib.sha256(packed).hexdigest()
    card = Card(sha256=digest, architecture=architecture, conventions=conventions, **facts)
    text = json.dumps(card.as_json(), indent=1, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    fresh = {folder / name: folder / f"{name}.{os.getpid()}.tmp" for name in (WEIGHTS, CARD)}
    try:
        for path, content in zip(fresh.values(), (packed, text.encode()), strict=True):
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, whole in fresh.items():
            whole.replace(path)
    finally:
        for left in fresh.values():
            left.unlink(missing_ok=True)
    return card


def read_card(place: Path) -> Card:
    """The card in a folder, or the card that is the file ``place``."""
    path = place / CARD if place.is_dir() else place
    given = dict(exact_fields(str(path), read_json(path), Card))
    try:
        return Card(**{**given, "conventions": from_json(given["conventions"])})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load(source: str | Path, *, card: Card | Path | None = None, labels: Tensor | None = None) -> NetworkModel:
    """A network on its own process, in float32 and eval mode; for labels, which one without a null label needs.

    source: a folder of ours (card.json, weights.safetensors); a file of weights, safetensors or torch.save, whose card
    is ``card``, or lies beside it with the ending .json or as card.json; a folder in diffusers' format with a
    UNet2DModel and its scheduler; or the hub's name of one, such as google/ddpm-cifar10-32, whose files are fetched.
    """
    path = Path(source)
    if not path.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        from studies.cifar10 import foreign

        return foreign.load(foreign.from_hub(str(source)), labels)
    if path.is_dir():
        if (path / CARD).exists() or card is not None:
            return _ours(path / WEIGHTS, card or path, labels)
        if any((path / part / "config.json").exists() for part in ("", "unet")):
            from studies.cifar10 import foreign

            return foreign.load(path, labels)
        raise ValueError(
            f"a network's folder must hold {CARD} and {WEIGHTS}, or config.json and scheduler_config.json; "
            f"{path} holds {short(', '.join(sorted(os.listdir(path))[:8]) or 'nothing')}."
        )
    if not path.exists():
        raise ValueError(f"a network must be a folder, a file of weights or a hub's name; there is no {source}.")
    if card is None:
        card = next((c for c in (path.with_suffix(".json"), path.parent / CARD) if c.exists()), None)
    if card is None:
        raise ValueError(
            f"{path} must come with a card, {path.stem}.json or {CARD}: its architecture and conventions "
            f"are declared, never guessed; got none."
        )
    return _ours(path, card, labels)


def _ours(weights: Path, card: Card | Path, labels: Tensor | None) -> NetworkModel:
    card = card if isinstance(card, Card) else read_card(card)
    built: list[UNet] = []

    def build(entries: Mapping[str, Entry]) -> dict[str, Tensor]:
        arguments = _unet_arguments(card.architecture)
        widths, blocks = arguments["channels"], arguments["blocks"]
        fits(weights, entries, sum(2 * blocks * 9 * c * c for c in widths))
        try:
            built.append(UNet(**arguments))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"the architecture of {card.name} is none: {short(str(error))}") from error
        return built[0].state_dict()

    read_into(weights, build, sha256=card.sha256)
    return served(built[0], card.conventions, labels)


def fits(weights: Path, entries: Mapping[str, Entry], least: int) -> None:
    """Refuses a declared architecture larger than its file, before it takes memory."""
    held = sum((e.end - e.begin) // e.dtype.itemsize for e in entries.values())
    if least > held:
        raise ValueError(
            f"{weights} must hold the weights of its declared architecture, {least:,} and more; it holds {held:,}."
        )


def served(network: nn.Module, conventions: Conventions, labels: Tensor | None) -> NetworkModel:
    network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    return NetworkModel(network, conventions, conventions.process, labels)


def _unet_arguments(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of UNet, each of its type and of a sensible size."""
    tests = {
        "class": ("'UNet'", lambda value: value == "UNet"),
        "channels": (
            "1 to 4 multiples of 8 up to 2048",
            lambda value: _list(value) and all(whole(c) and 8 <= c <= 2048 and c % 8 == 0 for c in value),
        ),
        "attention": ("1 to 4 booleans", lambda value: _list(value) and all(isinstance(a, bool) for a in value)),
        "blocks": ("a number from 1 to 16", lambda value: whole(value) and 1 <= value <= 16),
        "labels": ("a number from 1 to 100,000", lambda value: whole(value) and 1 <= value <= 100_000),
        "dropout": ("a number from 0 up to 1", lambda value: finite(value) and 0 <= value < 1),
    }
    missing = {"class", "channels", "attention", "blocks"} - set(architecture)
    if missing or set(architecture) - set(tests):
        raise ValueError(
            f"an architecture must have class, channels, attention and blocks, and may have labels and dropout; "
            f"got {short(', '.join(map(str, sorted(architecture))))}."
        )
    for name, value in architecture.items():
        accepted, right = tests[name]
        if not right(value):
            raise ValueError(f"an architecture's {name} must be {accepted}; got {short(value)}.")
    return {name: value for name, value in architecture.items() if name != "class"}


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple) and 1 <= len(value) <= 4
