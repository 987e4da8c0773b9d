"""How far two sets of images lie apart in the features of an extractor: Frechet and kernel distance, precision, recall.

They are named FD-<extractor> and KD-<extractor> (`name`): another network's features give other numbers, and only the
Inception network's give the FID and KID of papers. The floor of each is the distance of the test set to the train set.
Every error is the half-width of a 95 % interval, by the way its method names.

The work of `fd` is that of the eigenvalues of 33 d x d matrices.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from scipy.special import stdtrit

from theory.estimate import Estimate


def half_width(blocks: int) -> float:
    """Standard errors in a 95 % interval whose standard error was itself found from so many blocks: Student's law."""
    return float(stdtrit(blocks - 1, 0.975))


def name(kind: str, extractor: str) -> str:
    """FD-<extractor> or KD-<extractor>. Raises ValueError for another kind."""
    if kind not in ("FD", "KD"):
        raise ValueError(f"kind must be 'FD' or 'KD'; got {kind!r}.")
    return f"{kind}-{extractor}"


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (d,) and covariance (d, d), symmetric and positive semidefinite up to rounding; any rank.

    Raises ValueError for other shapes, NaN or infinity, an asymmetric covariance, a clearly negative eigenvalue.
    """

    mean: np.ndarray
    cov: np.ndarray

    def __post_init__(self):
        mean, cov = np.asarray(self.mean, np.float64), np.asarray(self.cov, np.float64)
        if mean.ndim != 1 or not mean.size or cov.shape != (mean.size, mean.size):
            raise ValueError(f"mean and cov must have shapes (d,) and (d, d); got {mean.shape} and {cov.shape}.")
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise ValueError("mean and cov must be finite; got NaN or infinity.")
        if np.abs(cov - cov.T).max() > 1e-8 * np.abs(cov).max():
            raise ValueError(f"cov must be symmetric; got entries {np.abs(cov - cov.T).max():.3g} apart.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", (cov + cov.T) / 2)
        self.root()

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Mean and unbiased covariance of features (n, d), n >= 2."""
        x = checked(features, "features", 2)
        mean = x.mean(0)
        centred = x - mean
        return cls(mean, centred.T @ centred / (len(x) - 1))

    def root(self) -> np.ndarray:
        """The symmetric root of cov. Eigenvalues below zero by rounding count as zero."""
        values, vectors = eigh(self.cov)
        if values[0] < -1e-8 * max(values[-1], 0.0) - 1e-300:
            raise ValueError(f"cov must have no negative eigenvalue; got {values[0]:.3g} beside {values[-1]:.3g}.")
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2: the squared 2-Wasserstein distance of Gaussians.

    The last trace is the sum of the roots of the eigenvalues of a symmetric product, which needs no root of a product
    that is not symmetric and bears any rank. Source: heusel2017gans.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"both moments must have one dimension; got {a.mean.size} and {b.mean.size}.")
    return _frechet(a, a.root(), b.mean, b.cov)


def _frechet(a: Moments, root: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> float:
    cross = float(np.sqrt(eigh(root @ cov @ root, eigvals_only=True).clip(0)).sum())
    return max(float(((a.mean - mean) ** 2).sum() + np.trace(a.cov) + np.trace(cov) - 2 * cross), 0.0)


def fd(features: np.ndarray, reference: np.ndarray | Moments, *, blocks: int = 10) -> Estimate:
    """FD_infinity: the Frechet distance, with its bias of order 1/N in the size of ``features`` extrapolated away.

    A line in 1/N through the distance of the whole and the mean distance of its two disjoint halves, of interleaved
    blocks, is carried to 1/N = 0. Error: the jackknife of the whole procedure that leaves out one block at a time; that
    of the reference, taken as it is given, is not in it. What is left is a bias of order 1/N^2, small only where n is
    several times d.

    n >= 4 blocks. Source: chong2020effectively.
    """
    if blocks < 4:
        raise ValueError(f"blocks must be at least 4; got {blocks}.")
    x = checked(features, "features", 4 * blocks)
    ref = reference if isinstance(reference, Moments) else Moments.of(reference)
    if x.shape[1] != ref.mean.size:
        raise ValueError(f"features and reference must have one dimension; got {x.shape[1]} and {ref.mean.size}.")
    root = ref.root()
    centre = ref.mean  # sums about it: a large mean costs no digits
    ref = Moments(0 * centre, ref.cov)
    parts = [Sums.of(part - centre) for part in np.array_split(x, blocks)]
    whole = _extrapolated(parts, ref, root)
    left_out = np.array([_extrapolated(parts[:i] + parts[i + 1 :], ref, root) for i in range(blocks)])
    error = math.sqrt((blocks - 1) / blocks * float(((left_out - left_out.mean()) ** 2).sum()))
    return Estimate(whole, half_width(blocks) * error, f"FD_infinity n={len(x)}, jackknife over {blocks} blocks")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of a block of samples, from which the moments of unions of blocks follow with no second pass."""

    count: int
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Sums":
        return cls(len(x), x.sum(0), x.T @ x)


def _extrapolated(parts: list[Sums], ref: Moments, root: np.ndarray) -> float:
    whole, *halves = (_distance(some, ref, root) for some in (parts, parts[0::2], parts[1::2]))
    inverse, value = np.mean(halves, 0)
    return float(whole[1] - whole[0] * (value - whole[1]) / (inverse - whole[0]))


def _distance(parts: list[Sums], ref: Moments, root: np.ndarray) -> tuple[float, float]:
    """1/N and the distance of a union of blocks."""
    n = sum(p.count for p in parts)
    mean = np.sum([p.first for p in parts], 0) / n
    cov = (np.sum([p.second for p in parts], 0) - n * np.outer(mean, mean)) / (n - 1)
    return 1 / n, _frechet(ref, root, mean, cov)


def kd(features: np.ndarray, reference: np.ndarray, *, block: int = 1000) -> Estimate:
    """Unbiased squared maximum mean discrepancy with the kernel (x . y / d + 1)^3: the mean over disjoint blocks.

    Error: 95 % by Student's law for the mean of the blocks, independent where the samples are. It may come out
    negative: an unbiased estimate of zero has to. Source: binkowski2018demystifying.
    """
    x, y = checked(features, "features", 4), checked(reference, "reference", 4)
    same_width(x, y)
    if block < 2:
        raise ValueError(f"block must be at least 2; got {block}.")
    count = max(2, min(len(x), len(y)) // block)
    pairs = zip(np.array_split(x, count), np.array_split(y, count), strict=True)
    values = np.array([mmd2(a, b) for a, b in pairs])
    error = float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(float(values.mean()), half_width(count) * error, f"unbiased MMD^2, {count} blocks")


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j), k = (x . y / d + 1)^3."""
    return _off_diagonal(kernel(x, x)) + _off_diagonal(kernel(y, y)) - 2 * float(kernel(x, y).mean())


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal(k: np.ndarray) -> float:
    return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))


def precision_recall(features: np.ndarray, reference: np.ndarray, *, k: int = 3) -> tuple[Estimate, Estimate]:
    """Precision: the part of ``features`` within the manifold of the reference; recall: the other way round.

    The manifold of a set is the union of balls about its points, each out to its k-th nearest other one. Both depend on
    the sizes of the sets: compare at one size only. Error: two binomial standard errors of the part at this manifold,
    widened by one point of n (Agresti and Coull), so that it is not zero at 0 and 1.

    Source: kynkaanniemi2019improved.
    """
    x, y = checked(features, "features", k + 1), checked(reference, "reference", k + 1)
    same_width(x, y)
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.")
    return _covered(x, y, k), _covered(y, x, k)


def _covered(x: np.ndarray, by: np.ndarray, k: int, rows: int = 1000) -> Estimate:
    radii = np.concatenate([np.partition(cdist(some, by), k, 1)[:, k] for some in _rows(by, rows)])  # 0 is itself
    inside = np.concatenate([(cdist(some, by) <= radii).any(1) for some in _rows(x, rows)])
    n, part = len(x), float(inside.mean())
    smooth = (part * n + 2) / (n + 4)
    error = 2 * math.sqrt(smooth * (1 - smooth) / (n + 4)) + abs(smooth - part)
    return Estimate(part, error, f"k={k} nearest neighbours, n={n} in {len(by)}, binomial")


def _rows(x: np.ndarray, rows: int) -> list[np.ndarray]:
    return [x[i : i + rows] for i in range(0, len(x), rows)]


def checked(x: np.ndarray, what: str, least: int) -> np.ndarray:
    """float64 (n, d), n >= least, finite. Raises ValueError otherwise."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < least or not x.shape[1]:
        raise ValueError(f"{what} must have shape (n, d) with n >= {least}; got {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"{what} must be finite; got NaN or infinity.")
    return x


def same_width(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features and reference must have one dimension; got {x.shape[1]} and {y.shape[1]}.")
