"""Random laws, noise levels and points over the widest valid domain, each with the oracle's questions about it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from tests import oracle
from tests.oracle import Input, Question
from toy_distributions import (
    Box,
    Distribution,
    Ellipse,
    GaussianMixture,
    Laplace,
    LinearGaussianChain,
    Lissajous,
    MarkovChain,
    MixtureOf,
    Product,
    Segment,
    Sphere,
    StationaryField,
    StudentT,
    SwissRoll,
    Torus,
    Trefoil,
    TwoMoons,
    VonMisesFisher,
    affine,
    conditioned,
    tilted,
)
from toy_distributions.line import Line

Ask = Callable[[list[float], float, float], list[tuple[Question, list[Input]]]]
"""From x, alpha and sigma to the oracle's questions: one for each block of coordinates."""


class Case(NamedTuple):
    law: Distribution
    x: list[float]
    alpha: float
    sigma: float
    questions: list[tuple[Question, list[Input]]]


def case(kind: str, seed: int) -> Case:
    """Case number ``seed`` of a kind of law: always the same one."""
    rng = np.random.default_rng([seed, *kind.encode()])
    law, ask = KINDS[kind](rng)
    alpha = 1.0 if rng.random() < 0.3 else log_uniform(rng, 1e-4, 1.0)
    sigma = log_uniform(rng, 1e-6, 1e4)
    x = near_or_far(rng, law, alpha, sigma)
    return Case(law, x, alpha, sigma, ask(x, alpha, sigma))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def near_or_far(rng: np.random.Generator, law: Distribution, alpha: float, sigma: float) -> list[float]:
    """A typical point of the noised law or, one time in three, one up to thirty times as far from its mean."""
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 60)))
    eps = torch.randn(1, law.dim, dtype=torch.float64, generator=generator)
    x = (alpha * law.sample(1, generator=generator) + sigma * eps)[0]
    if rng.random() < 1 / 3:
        centre = alpha * (law.location if isinstance(law, Line) else law.mean)
        x = centre + log_uniform(rng, 1.0, 30.0) * (x - centre)
    return x.tolist()


def mixture(rng: np.random.Generator, dim: int | None = None) -> tuple[Distribution, Ask]:
    k, d = (int(n) for n in rng.integers(1, 4, size=2))
    d = dim or d
    # what rounding each entry of a large matrix does, the oracle would take hours to find out
    structure = str(rng.choice(["isotropic", "diagonal", "full"] if d < 8 else ["isotropic", "diagonal"]))
    weights = rng.dirichlet(np.ones(k)) + 1e-3
    weights = weights / weights.sum()
    means = log_uniform(rng, 1e-3, 1e2) * rng.normal(size=(k, d))
    covs = np.stack([covariance(rng, d, structure) for _ in range(k)])
    given = {"isotropic": covs[:, 0, 0], "diagonal": np.diagonal(covs, 0, 1, 2), "full": covs}[structure]
    law = GaussianMixture(*(torch.tensor(part) for part in (weights, means, given)))
    floats = [part.tolist() for part in (weights, means, covs)]
    return law, lambda x, alpha, sigma: [oracle.mixture(*floats, x, alpha, sigma, structure=structure)]


def covariance(rng: np.random.Generator, d: int, structure: str) -> np.ndarray:
    scale = log_uniform(rng, 1e-4, 1e2)
    if structure == "isotropic":
        return (0.0 if rng.random() < 0.25 else scale) * np.eye(d)
    stretch = np.exp(rng.uniform(-4, 4, size=d)) * (rng.random(d) > 0.15)  # one direction in seven is flat
    if structure == "diagonal":
        return scale * np.diag(stretch)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    cov = scale * (turn * stretch) @ turn.T
    return 0.5 * (cov + cov.T)


def low_rank(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    k, d = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    rank = int(rng.integers(1, d))
    weights = np.exp(-rng.uniform(0, 690, size=k)) if rng.random() < 0.3 else rng.dirichlet(np.ones(k)) + 1e-3
    weights = weights / weights.sum() if k > 1 else np.ones(1)
    means = log_uniform(rng, 1e-3, 1e2) * rng.normal(size=(k, d))
    factors = (
        log_uniform(rng, 1e-2, 1e1) * rng.normal(size=(k, d, rank)) * np.exp(rng.uniform(-3, 3, size=(k, 1, rank)))
    )
    variances = np.array([0.0 if rng.random() < 0.25 else log_uniform(rng, 1e-4, 1e2) for _ in range(k)])
    parts = weights, means, factors, variances
    law = GaussianMixture.low_rank(*(torch.tensor(part) for part in parts))
    return law, lambda x, alpha, sigma: [oracle.low_rank(*(part.tolist() for part in parts), x, alpha, sigma)]


def sphere(rng: np.random.Generator, dim: int | None = None) -> tuple[Distribution, Ask]:
    d = dim or int(rng.choice([1, 2, 2, 3, 3, 4, 5, 8, 13]))
    radius = log_uniform(rng, 1e-2, 1e2)
    blur = 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    centre = rng.normal(size=d) * (rng.random() < 0.3)
    law = Sphere(d, radius, blur, centre=torch.tensor(centre))
    return law, lambda x, alpha, sigma: [oracle.sphere(radius, blur, centre.tolist(), x, alpha, sigma)]


def von_mises_fisher(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    d = int(rng.choice([1, 2, 2, 3, 3, 5, 8]))
    radius = log_uniform(rng, 1e-2, 1e2)
    blur = 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    pull = log_uniform(rng, 1e-2, 1e3) * rng.normal(size=d) / np.sqrt(d)
    centre = rng.normal(size=d) * (rng.random() < 0.3)
    law = VonMisesFisher(torch.tensor(pull), radius, blur, centre=torch.tensor(centre))
    return law, lambda *at: [oracle.von_mises_fisher(pull.tolist(), radius, blur, centre.tolist(), *at)]


def box(rng: np.random.Generator, dim: int | None = None) -> tuple[Distribution, Ask]:
    d = dim or int(rng.integers(1, 3))
    low = log_uniform(rng, 1e-2, 1e1) * rng.normal(size=d)
    high = low + np.exp(rng.uniform(-4, 3, size=d))
    blur = 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    law = Box(torch.tensor(low), torch.tensor(high), blur)
    return law, lambda x, alpha, sigma: [oracle.box(low.tolist(), high.tolist(), blur, x, alpha, sigma)]


def high_dimensional(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    d = int(rng.choice([8, 16, 32, 64]))
    return (mixture, sphere, box)[int(rng.integers(3))](rng, d)


def product(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    (one, ask_one), (two, ask_two) = ((sphere, box, mixture)[i](rng) for i in rng.permutation(3)[:2])

    def ask(x, alpha, sigma):
        return ask_one(x[: one.dim], alpha, sigma) + ask_two(x[one.dim :], alpha, sigma)

    return Product(one, two), ask


def mixture_of(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """Two or three laws; in one case of three, one of them weighs next to nothing."""
    k, d = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    weights = rng.dirichlet(np.ones(k)) + 1e-3
    weights = weights / weights.sum()
    if rng.random() < 1 / 3:
        weights[0] = log_uniform(rng, 1e-300, 1e-3)
        weights[1:] *= (1 - weights[0]) / weights[1:].sum()
    laws, asks = zip(*((sphere, box, mixture)[i](rng, d) for i in rng.integers(0, 3, size=k)), strict=True)

    def ask(x, alpha, sigma):
        return [oracle.mixture_of(weights.tolist(), [ask(x, alpha, sigma)[0] for ask in asks], d)]

    return MixtureOf(torch.tensor(weights), laws), ask


def gaussians(rng: np.random.Generator) -> tuple[list, list, list]:
    """Weights, means and full covariances of one to three components in one to three dimensions."""
    k, d = (int(n) for n in rng.integers(1, 4, size=2))
    weights = rng.dirichlet(np.ones(k)) + 1e-3
    means, spread = log_uniform(rng, 1e-2, 1e1) * rng.normal(size=(k, d)), log_uniform(rng, 1e-2, 1e1)
    covs = np.stack([spread * covariance(rng, d, "full") for _ in range(k)])
    return (weights / weights.sum()).tolist(), means.tolist(), covs.tolist()


def tensors(*parts: list) -> list[torch.Tensor]:
    return [torch.tensor(part, dtype=torch.float64) for part in parts]


def mapped(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    parts = gaussians(rng)
    m, d = int(rng.integers(1, 4)), len(parts[1][0])
    matrix, shift = rng.normal(size=(m, d)).tolist(), rng.normal(size=m).tolist()
    law = affine(GaussianMixture(*tensors(*parts)), *tensors(matrix, shift))
    return law, lambda *at: [oracle.mapped(*parts, matrix, shift, at)]


def observed(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """A posterior, with noise or without."""
    parts = gaussians(rng)
    d = len(parts[1][0])
    m = int(rng.integers(1, d + 1))
    exact = m < d and rng.random() < 1 / 2  # of all coordinates, there would be nothing left to ask
    matrix = rng.normal(size=(m, d))
    noise = np.zeros((m, m)) if exact else covariance(rng, m, "full") + log_uniform(rng, 1e-6, 1e1) * np.eye(m)
    y = matrix @ rng.normal(size=d)
    if exact:  # an exact observation of a component on a subspace may be impossible
        eyes = [[[float(i == j) for j in range(d)] for i in range(d)]] * len(parts[2])
        parts = parts[0], parts[1], (np.array(parts[2]) + 0.1 * np.array(eyes)).tolist()
    given = matrix.tolist(), y.tolist(), noise.tolist()
    law = conditioned(GaussianMixture(*tensors(*parts)), *tensors(*given)).law
    return law, lambda *at: [oracle.conditioned(*parts, *given, at)]


def tilted_mixture(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    parts = gaussians(rng)
    d = len(parts[1][0])
    precision = covariance(rng, d, "full")
    if rng.random() < 1 / 3:  # less than every component's own
        precision = -0.3 / max(1e-3, *(np.linalg.norm(cov) for cov in parts[2])) * np.eye(d)
    given = precision.tolist(), rng.normal(size=d).tolist()
    law = tilted(GaussianMixture(*tensors(*parts)), *tensors(*given)).law
    return law, lambda *at: [oracle.tilted(*parts, *given, at)]


ISOMETRIES = [
    np.array(rows, dtype=float)
    for rows in ([[1, 2, 2], [2, 1, -2], [2, -2, 1]], [[3, -4], [4, 3]], [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]])
]
"""Rows that are orthogonal and of one length, in integers: exactly so in floats."""


def embedded(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """A sphere or a box turned, or set into a larger space."""
    rows = ISOMETRIES[int(rng.integers(3))]
    rows = rows[rng.permutation(len(rows))][: int(rng.integers(1, len(rows) + 1))]
    matrix = (2.0 ** int(rng.integers(-6, 7)) * rows).T
    shift = rng.normal(size=len(matrix)).tolist()
    inner, ask = (sphere, box)[int(rng.integers(2))](rng, len(rows))
    law = affine(inner, torch.tensor(matrix), torch.tensor(shift, dtype=torch.float64))

    def asked(*at):
        part = ask([0.0] * inner.dim, 1.0, 1.0)[0]
        return [oracle.embedded(part, inner.dim, matrix.tolist(), shift, at)]

    return law, asked


def field(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """Small periodic grids with one or two channels; one frequency in ten has no power."""
    grid = ((4,), (5,), (2, 3), (3, 2), (1, 4), (2, 1, 2))[int(rng.integers(6))]
    power = log_uniform(rng, 1e-4, 1e2) * np.exp(rng.uniform(-3, 3, size=grid)) * (rng.random(grid) > 0.1)
    power = power + np.roll(np.flip(power), 1, tuple(range(len(grid))))  # even: the same at n - k as at k
    channels = [[1.0]] if rng.random() < 0.5 else covariance(rng, 2, "full").tolist()
    mean = (rng.normal(size=power.size * len(channels)) * (rng.random() < 0.7)).tolist()
    law = StationaryField(*tensors(power.tolist(), channels, mean))
    asked = grid, power.reshape(-1).tolist(), channels, mean
    return law, lambda *at: [oracle.field(*asked, *at)]


CURVES = {"trefoil": Trefoil, "swiss_roll": SwissRoll, "two_moons": TwoMoons}


def curve(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """A curve of some size, off the origin by about as much: by symmetry alone its mean would be zero."""
    shape = str(rng.choice(["segment", "ellipse", "lissajous", *CURVES]))
    size, blur = log_uniform(rng, 1e-2, 1e2), 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    d = 3 if shape == "trefoil" else 2
    centre = (size * rng.normal(size=d)).tolist()
    given = [size]
    if shape == "segment":
        d = int(rng.integers(2, 4))
        ends, centre = size * rng.normal(size=(2, d)), [0.0] * d
        law, given = Segment(*(torch.tensor(end) for end in ends), blur), ends.reshape(-1).tolist()
    elif shape == "ellipse":
        given = [size, size * log_uniform(rng, 0.3, 3)]
        law = Ellipse(*given, blur, centre=centre)
    elif shape == "lissajous":
        law = Lissajous(3, 2, blur, size=size, centre=centre)
    else:
        law = CURVES[shape](size, blur, centre=centre)
    return law, lambda *at: [oracle.curve(shape, given, blur, centre, *at)]


def markov_chain(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    """Two or three states, one to four steps; one transition in four is impossible."""
    states, steps, d = int(rng.integers(2, 4)), int(rng.integers(1, 5)), int(rng.integers(1, 3))
    rows = rng.random((steps, states, states)) * (rng.random((steps, states, states)) > 0.25) + 1e-3 * np.eye(states)
    rows = rows / rows.sum(-1, keepdims=True)
    values = log_uniform(rng, 1e-2, 1e2) * rng.normal(size=(states, d))
    blur = 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    given = rows[0, 0].tolist(), rows[1:].tolist(), values.tolist()
    law = MarkovChain(given[0], torch.tensor(rows[1:]), *tensors(given[2]), steps, blur)
    return law, lambda *at: [oracle.markov_chain(*given, blur, *at)]


def state_space(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    steps, d = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    mean, offset, transition = rng.normal(size=d), rng.normal(size=d), rng.normal(size=(d, d))
    covs = covariance(rng, d, "full"), covariance(rng, d, "full")
    parts = [part.tolist() for part in (mean, covs[0], transition, covs[1])]
    law = LinearGaussianChain(*tensors(*parts), steps, torch.tensor(offset))
    return law, lambda *at: [oracle.state_space(*parts, offset.tolist(), steps, at)]


def torus(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    major, blur = log_uniform(rng, 1e-2, 1e2), 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    minor, centre = major * rng.uniform(0.1, 0.9), (major * rng.normal(size=3)).tolist()
    law = Torus(major, minor, blur, centre=torch.tensor(centre, dtype=torch.float64))
    return law, lambda *at: [oracle.torus(major, minor, blur, centre, *at)]


def laplace(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    given = rng.normal(), log_uniform(rng, 1e-2, 1e2), 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    return Laplace(*given), lambda *at: [oracle.laplace(*given, *at)]


def student_t(rng: np.random.Generator) -> tuple[Distribution, Ask]:
    freedom = float(rng.choice([1.0, 1.5, 2.0, 3.0, 7.0, 30.0, 200.0]))
    given = rng.normal(), log_uniform(rng, 1e-2, 1e2), 0.0 if rng.random() < 0.5 else log_uniform(rng, 1e-4, 1e1)
    return StudentT(freedom, *given), lambda *at: [oracle.student_t(freedom, *given, *at)]


KINDS: dict[str, Callable[[np.random.Generator], tuple[Distribution, Ask]]] = {
    "mixture": mixture,
    "low_rank": low_rank,
    "sphere": sphere,
    "von_mises_fisher": von_mises_fisher,
    "box": box,
    "high_dimensional": high_dimensional,
    "product": product,
    "mixture_of": mixture_of,
    "affine_mixture": mapped,
    "conditioned": observed,
    "tilted": tilted_mixture,
    "affine": embedded,
    "field": field,
    "markov_chain": markov_chain,
    "state_space": state_space,
    "curve": curve,
    "torus": torus,
    "laplace": laplace,
    "student_t": student_t,
}

QUADRATURES = {"curve": 6, "torus": 3, "student_t": 8, "high_dimensional": 12}
"""Kinds whose oracle takes some tenths of a second or more, and how many cases of them the quick lane asks about."""

DERIVED = ("affine_mixture", "conditioned", "state_space", "tilted")
"""Mixtures with computed parameters: rounded to float32, those are not what float32 makes of the question's numbers."""
