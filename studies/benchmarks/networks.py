"""Training and sampling with networks against the bare network: what our own machinery costs, in images a second.

Run: python -m studies.benchmarks.networks [--out reports/benchmarks_networks.md] [--device cuda]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import mse_loss

from studies.benchmarks.tables import machine, table, verdict
from studies.cifar10.conventions import of_training
from studies.cifar10.data import load
from studies.cifar10.model import NetworkModel
from studies.cifar10.network import SIZES, UNet
from studies.cifar10.train import Run, Settings
from theory import EDM, SOLVERS, solve, uniform_lambda

ROUNDS = 5
STEPS = 4
SAMPLES, SAMPLE_STEPS = 64, 4
MOST = 1 / 0.9
"""Asked: at least 90 % of the bare network's images a second."""


def our_training(settings: Settings, device: str) -> Callable[[], object]:
    run = Run(settings, Path("unused"), device)

    def steps() -> None:
        loss = torch.zeros(())
        for _ in range(STEPS):
            loss = run.advance()
        loss.item()

    return steps


def bare_training(settings: Settings, device: str) -> Callable[[], object]:
    """The same network and optimiser in the shortest loop that trains: images, noise, loss, backward, step."""
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    network = settings.network().to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate, fused=True)
    images, labels = load("train")
    images, labels = images[: 64 * settings.batch].to(device), labels[: 64 * settings.batch].to(device)

    def steps() -> None:
        loss = torch.zeros(())
        for _ in range(STEPS):
            index = torch.randint(len(images), (settings.batch,), device=device)
            x0 = images[index].float().div_(127.5).sub_(1.0).contiguous(memory_format=layout)
            noise = torch.randn_like(x0)
            optimiser.zero_grad(set_to_none=True)
            loss = mse_loss(network(x0 + 0.5 * noise, torch.zeros(settings.batch, device=device), labels[index]), noise)
            loss.backward()
            optimiser.step()
        loss.item()

    return steps


def sampling(settings: Settings, device: str) -> dict[str, Callable[[], object]]:
    """DPM-Solver++(2M) on the network as a model, and as many calls of the network alone."""
    network = UNet(**SIZES[settings.size]).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network = network.eval().requires_grad_(False)
    labels = torch.arange(SAMPLES, device=device) % 10
    model = NetworkModel(network, of_training("edm", 10), EDM(), labels)
    grid = uniform_lambda(EDM(), SAMPLE_STEPS)
    x = torch.randn(SAMPLES, 3, 32, 32, device=device)
    noise = torch.zeros(SAMPLES, device=device)

    def ours() -> float:
        with torch.no_grad():
            return solve(SOLVERS["dpm_pp.2m"](), model, x, grid, keep=False).end.sum().item()

    def bare() -> float:
        y = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for _ in range(SAMPLE_STEPS):
                y = network(y, noise, labels)
        return y.sum().item()

    return {"ours": ours, "bare": bare}


def rounds(ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of every way, round by round, after one call that warms up."""
    out: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            if turn:
                out[name].append(time.perf_counter() - begun)
    return out


def report(device: str, sizes: list[str]) -> str:
    settings = Settings(images=10**6)
    if device != "cpu":
        settings = replace(settings, dtype="bfloat16", batch=512)
    rows = []
    for size in sizes:
        chosen = replace(settings, size=size)
        jobs = {
            f"training, {size}": (
                {"ours": our_training(chosen, device), "bare": bare_training(chosen, device)},
                STEPS * chosen.batch,
            ),
            f"sampling, {size}": (sampling(chosen, device), SAMPLES * SAMPLE_STEPS),
        }
        for name, (ways, images) in jobs.items():
            seconds = rounds(ways)
            shares = [a / b for a, b in zip(seconds["ours"], seconds["bare"], strict=True)]
            speeds = [f"{images / statistics.median(seconds[way]):.0f}" for way in ("ours", "bare")]
            share = f"{statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f}), {verdict(shares, MOST)}"
            rows.append([name, *speeds, share])
            print(" | ".join(rows[-1]), flush=True)
    parts = [
        "# Benchmarks of networks",
        f"""\
Made by `python -m studies.benchmarks.networks`. Images a second through the network, medians of {ROUNDS} rounds; in a
round both ways run once. Sampling counts each image once an evaluation. Asked: at least 90 % of the bare network's
speed, so a ratio of times of at most {MOST:.2f}.""",
        machine(torch.get_num_threads()) + (f" {torch.cuda.get_device_name()}." if device != "cpu" else ""),
        table(["job", "ours, images/s", "bare, images/s", "time, ours / bare"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="*", default=["small", "base"], choices=list(SIZES))
    options = parser.parse_args()
    text = report(options.device, options.sizes)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
