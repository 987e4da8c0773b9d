"""Laws and divergences against what a user would do today: time, memory, agreement, and growth of cost.

Run: python -m studies.benchmarks.laws [--out reports/benchmarks.md] [--quick] [--only NAME ...]

Every way of a job runs in a process of its own, in turn with the others, and only ratios within a round are judged.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from studies.benchmarks.contest import Job, Target, contest
from studies.benchmarks.tables import contest_table, machine, rate_line, table
from theory.divergences import samples
from toy_distributions import GaussianMixture

ROUNDS = 5
CHUNK = 5000
COMPONENTS = 64


def normals(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def components(d: int, dtype: torch.dtype, count: int = COMPONENTS) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means 2 N(0, I) and covariances A A^T / d + I / 10 of components that overlap in few dimensions."""
    roots = normals(count, d, d, seed=1)
    covs = roots @ roots.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)
    weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
    return weights.to(dtype), 2 * normals(count, d, seed=2).to(dtype), covs.to(dtype)


def mixture_points(d: int, n: int, dtype: torch.dtype) -> Tensor:
    law = GaussianMixture(*components(d, torch.float64))
    return law.sample(n, generator=torch.Generator().manual_seed(3)).to(dtype)


def our_score(d: int, n: int, dtype: torch.dtype, count: int = COMPONENTS) -> Callable[[], Tensor]:
    law = GaussianMixture(*components(d, torch.float64, count)).to(dtype)
    return partial(law.score, mixture_points(d, n, dtype))


def autograd_score(d: int, n: int, dtype: torch.dtype, chunk: int | None = None) -> Callable[[], Tensor]:
    """torch.distributions and reverse differentiation, at once or in chunks."""
    weights, means, covs = components(d, dtype)
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights), torch.distributions.MultivariateNormal(means, covs)
    )
    x = mixture_points(d, n, dtype)

    def at(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(law.log_prob(x).sum(), x)[0]

    return lambda: torch.cat([at(part) for part in x.split(chunk or n)])


def looped_score(d: int, n: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A loop over components with precisions made beforehand; their pulls are kept, and weighed at the end."""
    weights, means, covs = components(d, dtype)
    precisions, constants = torch.linalg.inv(covs), weights.log() - 0.5 * torch.logdet(covs)
    x = mixture_points(d, n, dtype)

    def run() -> Tensor:
        pulls, logits = [], []
        for mean, precision, constant in zip(means, precisions, constants, strict=True):
            away = x - mean
            pull = away @ precision
            pulls.append(pull)
            logits.append(constant - 0.5 * (away * pull).sum(-1))
        weight = torch.softmax(torch.stack(logits, -1), -1)
        return -(weight.unsqueeze(-1) * torch.stack(pulls, -2)).sum(-2)

    return run


def score_job(d: int, n: int, dtype: torch.dtype, targets: list[Target], memory: float | None, one_shot: bool) -> Job:
    ways: dict[str, Callable[[], Callable[[], Any]]] = {
        "ours": partial(our_score, d, n, dtype),
        "autograd in chunks": partial(autograd_score, d, n, dtype, CHUNK),
        "loop over components": partial(looped_score, d, n, dtype),
    }
    if one_shot:
        ways["autograd at once"] = partial(autograd_score, d, n, dtype)
    name = str(dtype).removeprefix("torch.")
    return Job(f"score, {n:,} points, {COMPONENTS} full covariances, d = {d}, {name}", ways, targets, memory)


def cloud(n: int, d: int, queries: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Data in the cube and noised points of it; in many dimensions noise at which hundreds of images compete."""
    data = normals(n, d, seed=4, dtype=torch.float32).mul_(0.2).to(dtype)
    return data, data[:queries] + noise(d) * normals(queries, d, seed=5, dtype=torch.float32).to(dtype)


def noise(d: int) -> float:
    return 0.05 if d == 2 else 2.0


def our_cloud(n: int, d: int, queries: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    data, x = cloud(n, d, queries, dtype)
    law = GaussianMixture.empirical(data)
    return lambda: law.posterior_mean(x, 1.0, noise(d))


def cdist_cloud(n: int, d: int, queries: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    data, x = cloud(n, d, queries, dtype)
    return lambda: torch.softmax(torch.cdist(x, data).square_().mul_(-0.5 / noise(d) ** 2), -1) @ data


def attention_cloud(n: int, d: int, queries: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    data, x = cloud(n, d, queries, dtype)
    bias = -0.5 * (data**2).sum(-1) / noise(d) ** 2

    def run() -> Tensor:
        q, k, v = x[None, None], data[None, None], data[None, None]
        mask = bias.expand(1, 1, len(x), -1)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1 / noise(d) ** 2)[0, 0]

    return run


def keops_cloud(n: int, d: int, queries: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    from pykeops.torch import LazyTensor  # pyright: ignore[reportMissingImports]

    data, x = cloud(n, d, queries, dtype)
    xi, mj = LazyTensor(x[:, None, :].contiguous()), LazyTensor(data[None].contiguous())
    return lambda: (-0.5 / noise(d) ** 2 * ((xi - mj) ** 2).sum(-1)).sumsoftmaxweight(mj, axis=1)


def products(n: int, d: int, queries: int, dtype: torch.dtype, linear: bool) -> Callable[[], Tensor]:
    """The two products alone, (queries x d) (d x n) and (queries x n) (n x d), in blocks of 4096 data, no softmax."""
    data, x = cloud(n, d, queries, dtype)
    blocks = data.split(4096)
    turned = [block.T.contiguous() for block in blocks] if linear else []

    def by_matmul() -> Tensor:
        return sum((x @ block.T) @ block for block in blocks)  # pyright: ignore[reportReturnType]

    def by_linear() -> Tensor:
        f = torch.nn.functional.linear
        return sum(f(f(x, b), t) for b, t in zip(blocks, turned, strict=True))  # pyright: ignore[reportReturnType]

    return by_linear if linear else by_matmul


def sample_sets(n: int, d: int) -> tuple[Tensor, Tensor]:
    return normals(n, d, seed=6), normals(n, d, seed=7) + 0.1


def directions(m: int) -> Tensor:
    return torch.nn.functional.normalize(normals(m, 2, seed=8), dim=-1)


def our_sliced(n: int) -> Callable[[], float]:
    x, y = sample_sets(n, 2)
    return lambda: samples.sliced(x, y, directions(50)).value


def pot_sliced(n: int) -> Callable[[], float]:
    x, y = (part.numpy() for part in sample_sets(n, 2))
    units = directions(50).T.numpy()
    return lambda: float(np.asarray(ot.sliced_wasserstein_distance(x, y, projections=units)))


def our_line(n: int) -> Callable[[], float]:
    x, y = (part[:, 0] for part in sample_sets(n, 1))
    return lambda: samples.line(x, y, 2)


def pot_line(n: int, exact: bool) -> Callable[[], float]:
    x, y = (part[:, 0].numpy() for part in sample_sets(n, 1))
    if exact:
        return lambda: math.sqrt(float(np.asarray(ot.emd2_1d(x, y))))
    return lambda: math.sqrt(float(np.asarray(ot.wasserstein_1d(x, y, p=2))))


def jobs(quick: bool) -> dict[str, Job]:
    """The table of jobs; quick: a tenth of the points, to see that everything runs."""
    tenth = 10 if quick else 1
    n, double, single = 100_000 // tenth, torch.float64, torch.float32
    chunks, loop, at_once = "autograd in chunks", "loop over components", "autograd at once"
    faster = [Target(chunks, 1 / 11), Target(loop, 1 / 11)]
    images = 50_000 // tenth, 3072, 1024 // tenth
    plane = 100_000 // tenth, 2, 10_000 // tenth
    million = 1_000_000 // tenth, 2, 1_000 // tenth
    out = {
        "score_2_double": score_job(2, n, double, [Target(chunks, 1 / 6), Target(at_once, 1 / 15)], None, True),
        "score_32_double": score_job(32, n, double, faster, 64, False),
        "score_2_single": score_job(2, n, single, [Target(chunks, 1 / 5)], None, True),
        "score_32_single": score_job(32, n, single, [Target(loop, 1 / 6)], None, False),
        "cloud_images": Job(
            f"posterior mean, cloud {images[0]:,} x {images[1]:,}, {images[2]:,} queries, float32",
            {
                "ours": partial(our_cloud, *images, single),
                "attention": partial(attention_cloud, *images, single),
                "cdist, softmax, matmul": partial(cdist_cloud, *images, single),
                "product: matmul": partial(products, *images, single, False),
                "product: linear": partial(products, *images, single, True),
            },
            [Target("attention", 1 / 2)],
            256,
            4.0 * images[0] * images[1] * images[2],
            0.85,
        ),
    }
    for name, dtype, ratio in (("single", single, 1 / 8), ("double", double, 1 / 5)):
        out[f"cloud_plane_{name}"] = Job(
            f"posterior mean, cloud {plane[0]:,} x 2, {plane[2]:,} queries, {str(dtype)[6:]}",
            {
                "ours": partial(our_cloud, *plane, dtype),
                "KeOps": partial(keops_cloud, *plane, dtype),
                "cdist, softmax, matmul": partial(cdist_cloud, *plane, dtype),
            },
            [Target("KeOps", ratio)],
            notes=["KeOps took 2.9 s (float32) and 2.8 s (float64) on another machine, an AMD with two cores."],
        )
    out["cloud_million"] = Job(
        f"posterior mean, cloud {million[0]:,} x 2, {million[2]:,} queries, float64",
        {
            "ours": partial(our_cloud, *million, double),
            "cdist, softmax, matmul": partial(cdist_cloud, *million, double),
        },
    )
    out["sliced"] = Job(
        f"sliced W2, {n:,} points x 50 projections, float64",
        {"ours": partial(our_sliced, n), "POT": partial(pot_sliced, n)},
        [Target("POT", 1 / 25)],
        100,
    )
    out["line"] = Job(
        f"W2 on the line, {10 * n:,} points, float64",
        {
            "ours": partial(our_line, 10 * n),
            "POT emd2_1d": partial(pot_line, 10 * n, True),
            "POT wasserstein_1d": partial(pot_line, 10 * n, False),
        },
        [Target("POT emd2_1d", 1 / 6), Target("POT wasserstein_1d", 1 / 6)],
    )
    return out


def growth(quick: bool) -> list[tuple[str, float, float]]:
    """Exponents of cost in points, components and data, each fitted over four doublings, with their standard errors."""
    base = 1000 if quick else 8000
    sizes = [1, 2, 4, 8, 16]
    double = torch.float64
    rows = {
        "points, mixture, d = 2": lambda k: our_score(2, 4 * base * k, double),
        "points, mixture, d = 32": lambda k: our_score(32, base * k, double),
        "components, d = 2": lambda k: our_score(2, 4 * base, double, 16 * k),
        "components, d = 32": lambda k: our_score(32, base, double, 16 * k),
        "data, cloud in R^2": lambda k: our_cloud(base * k, 2, 1000, double),
        "data, cloud in R^768": lambda k: our_cloud(base // 4 * k, 768, 256, torch.float32),
        "queries, cloud in R^768": lambda k: our_cloud(base, 768, 64 * k, torch.float32),
        "points, sliced W2": lambda k: our_sliced(base * k),
    }
    return [(name, *_slope(sizes, [_least_cpu(make(k)) for k in sizes])) for name, make in rows.items()]


def _least_cpu(run: Callable[[], Any]) -> float:
    """Least processor time of five calls: a load beside us can only add to it."""
    times = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times[1:])


def _slope(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    x, y = np.log(sizes), np.log(seconds)
    (slope, _), cov = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(cov[0, 0] ** 0.5)


def report(names: list[str], quick: bool, threads: int) -> str:
    parts = [
        "# Benchmarks of the laws",
        f"""\
Made by `python -m studies.benchmarks.laws`. Medians of {ROUNDS} rounds; in a round every way runs once, in a process of
its own, and ratios are taken within rounds. A target is met where every round meets it; the ratio of processor times
feels a load beside the run less. Extra memory is the highest resident size during a call above that before it, results
included. Disagreement compares mean sizes of eight shares of the results.""",
        machine(threads) + (" **Quick run: a tenth of the points.**" if quick else ""),
    ]
    for name, job in jobs(quick).items():
        if names and name not in names:
            continue
        ways = contest("studies.benchmarks.laws", name, job, rounds=ROUNDS, quick=quick, threads=threads)
        found = [f"## {job.title}", contest_table(job, ways), *filter(None, (rate_line(job, ways), *job.notes))]
        print("\n\n".join(found), end="\n\n", flush=True)
        parts += found
    if not names or "growth" in names:
        torch.set_num_threads(threads)
        rows = [[name, f"{slope:.2f} ± {error:.2f}"] for name, slope, error in growth(quick)]
        found = ["## Growth of cost", "Exponents fitted to least processor times over four doublings."]
        found += [table(["in", "exponent"], rows)]
        print("\n\n".join(found), flush=True)
        parts += found
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file")
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these jobs, or 'growth'")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of every way")
    options = parser.parse_args()
    known = [*jobs(options.quick), "growth"]
    for name in options.only:
        if name not in known:
            parser.error(f"--only takes names of jobs; got {name!r}. There are {', '.join(known)}.")
    text = report(options.only, options.quick, options.threads)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
