"""A small CIFAR-10 classifier of our own, whose 64 penultimate values are features to compare images by.

    python -m studies.cifar10.classifier FOLDER --epochs 12 --seed 0 [--device cuda]

trains it and writes classifier.safetensors (float16) and classifier.json, its card. Deterministic on the CPU, given the
seed, the versions and the number of threads.
"""

import argparse
import hashlib
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from studies.cifar10 import data
from studies.cifar10.tensors import read_into, strict_json

WEIGHTS = Path(__file__).parent / "weights" / "classifier.safetensors"
BATCH, RATE, DECAY, SMOOTHING = 128, 0.1, 5e-4, 0.1


class Classifier(nn.Module):
    """Residual convolutions, 0.42 million parameters: images (n, 3, 32, 32) with values in [-1, 1] to 10 logits.

    features: the 64 values before the last layer. No ReLU comes after them, so that they have no atoms at zero and a
    Gaussian is a fair first description of them.
    """

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            Convolution(3, 32), Convolution(32, 64, stride=2), Convolution(64, 96, stride=2), Convolution(96, 96),
            Convolution(96, 128, stride=2), Convolution(128, 128),
        )  # fmt: skip
        self.project = nn.Linear(128, 64)
        self.decide = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.project(self.trunk(x).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self.features(x))


class Convolution(nn.Module):
    """relu(norm(conv(x))), added to x where the shapes agree."""

    def __init__(self, wide_in: int, wide_out: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(wide_out)
        self.adds = wide_in == wide_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm(self.conv(x)))
        return x + y if self.adds else y


def scaled(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1], channels_last."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train(images: Tensor, labels: Tensor, *, epochs: int, seed: int, device: str = "cpu") -> Classifier:
    """SGD with Nesterov's momentum and a one-cycle rate on random crops and flips, labels smoothed by 0.1.

    Raises ValueError for fewer than 8 batches in all, and FloatingPointError where the loss ends as no number.
    """
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    net = Classifier().to(device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    steps, loss = epochs * (len(images) // BATCH), torch.tensor(torch.inf)
    if steps < 8:
        raise ValueError(f"training must have at least 8 batches of {BATCH}; got {steps}.")
    sgd = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, weight_decay=DECAY, nesterov=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(sgd, RATE, total_steps=steps, pct_start=0.25)
    padded = pad(images.to(device).float(), (4, 4, 4, 4), "reflect").byte()
    labels = labels.to(device)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(images), generator=draws)
        some, order = order[:BATCH], order[BATCH:]
        batch = augmented(padded, some, draws)
        loss = cross_entropy(net(scaled(batch)), labels[some.to(device)], label_smoothing=SMOOTHING)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()
        rate.step()
    if not bool(loss.isfinite()):
        raise FloatingPointError(f"training must end with a finite loss; got {float(loss)} with seed {seed}.")
    return net.eval()


def augmented(padded: Tensor, some: Tensor, draws: torch.Generator) -> Tensor:
    """A random 32 x 32 crop of each padded image, flipped in half of the cases."""
    n, device = len(some), padded.device
    down, right = torch.randint(0, 9, (2, n, 1), generator=draws)
    along = torch.arange(32)
    columns = torch.where(torch.rand(n, 1, generator=draws) < 0.5, right + along, right + 31 - along)
    at = [i.to(device) for i in (some.view(-1, 1, 1, 1), torch.arange(3).view(1, 3, 1, 1))]
    return padded[at[0], at[1], (down + along).view(n, 1, 32, 1).to(device), columns.view(n, 1, 1, 32).to(device)]


@torch.no_grad()
def accuracy(net: Classifier, images: Tensor, labels: Tensor) -> float:
    """The part of the images that the net names rightly."""
    device = next(net.parameters()).device
    hits = [
        net(scaled(x.to(device))).argmax(1).cpu() == y
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    ]
    return torch.cat(hits).double().mean().item()


def load(path: Path = WEIGHTS) -> Classifier:
    """The classifier in a file, whose card of the same name, .json, declares its sha256. On the CPU, float32, eval().

    Raises ValueError in one sentence: no file or card, another checksum, other names or shapes, not finite.
    """
    card = path.with_suffix(".json")
    for wanted in (path, card):
        if not wanted.is_file():
            raise ValueError(f"the classifier must have its weights and its card; there is no {wanted}.")
    about = strict_json(card.read_bytes(), f"the card {card}")
    digest = about.get("sha256") if isinstance(about, dict) else None
    if not isinstance(digest, str) or len(digest) != 64:
        raise ValueError(f"the card {card} must declare the sha256 of {path.name}, 64 digits; got {digest!r}.")
    net = Classifier()
    read_into(path, lambda _: weights(net), sha256=digest)
    return net.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def weights(net: Classifier) -> dict[str, Tensor]:
    """Its weights and running moments by name; the counter of batches is no weight."""
    return {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def write(net: Classifier, path: Path, about: dict[str, object]) -> None:
    """Weights in float16, and a card with their sha256."""
    from safetensors.torch import save

    raw = save({name: value.detach().cpu().half().contiguous() for name, value in weights(net).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(raw).hexdigest(), **about}, indent=1))


def main() -> None:
    ask = argparse.ArgumentParser(description="Trains the classifier of CIFAR-10 whose features are distances' ground.")
    ask.add_argument("folder", type=Path)
    ask.add_argument("--epochs", type=int, default=12)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--device", default="cpu")
    given = ask.parse_args()
    path, learn, test = given.folder / WEIGHTS.name, data.load("train"), data.load("test")
    since = time.monotonic()
    net = train(learn.images, learn.labels, epochs=given.epochs, seed=given.seed, device=given.device)
    about: dict[str, object] = {
        "name": "cifar_classifier", "data": "CIFAR-10, 50,000 training images", "seed": given.seed,
        "images_seen": given.epochs * (len(learn.images) // BATCH) * BATCH,
        "seconds": round(time.monotonic() - since, 1),
        "hardware": f"{given.device}, {torch.get_num_threads()} threads, {platform.machine()}",
        "licence": "Apache-2.0",
    }  # fmt: skip
    write(net, path, about)
    about["test_accuracy"] = accuracy(load(path), test.images, test.labels)  # of the rounded weights, as shipped
    write(net, path, about)
    print(json.dumps(about))


if __name__ == "__main__":
    main()
