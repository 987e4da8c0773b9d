"""Mixtures of Gaussians mapped, observed or tilted, and any law moved by a scaled isometry: textbook matrix algebra."""

from collections.abc import Iterator, Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.mixture import _inverse, _sum, mixture

Matrix = list[list]


def mapped(
    weights: Sequence, means: Sequence, covs: Sequence, matrix: Sequence, shift: Sequence, at: tuple
) -> tuple[Question, list[Input]]:
    """For A x_0 + b: the mixture of N(A m + b, A C A^T). at: x, alpha, sigma."""

    def question(values, digits):
        rest = iter(values)
        w, m, C = _components(rest, len(means), len(means[0]))
        A, b = _take(rest, len(matrix), len(matrix[0])), [next(rest) for _ in shift]
        m = [[v + s for v, s in zip(_times(A, mean), b, strict=True)] for mean in m]
        C = [_product(_product(A, cov), _transposed(A)) for cov in C]
        return _sum(w, m, C, [next(rest) for _ in at[0]], next(rest), next(rest))

    return question, _given(weights, means, covs) + plain(*_flat(matrix), *shift, *at[0], *at[1:])


def conditioned(
    weights: Sequence, means: Sequence, covs: Sequence, matrix: Sequence, y: Sequence, noise: Sequence, at: tuple
) -> tuple[Question, list[Input]]:
    """For x_0 given A x_0 + n = y, n ~ N(0, R): gains C A^T (A C A^T + R)^{-1}. noise: the matrix R."""

    def question(values, digits):
        rest = iter(values)
        parts = _components(rest, len(means), len(means[0]))
        A, target = _take(rest, len(matrix), len(matrix[0])), [next(rest) for _ in y]
        R = _lower(rest, len(y))
        w, m, C, _ = bayes(*parts, A, target, R)
        return _sum(w, m, C, [next(rest) for _ in at[0]], next(rest), next(rest))

    inputs = _given(weights, means, covs) + plain(*_flat(matrix), *y) + _symmetric(noise)
    return question, inputs + plain(*at[0], *at[1:])


def bayes(w: list, m: list, C: list, A: Matrix, y: list, R: Matrix):
    """Weights, means and covariances of the posterior, and log p(y)."""
    logs, means, covs = [], [], []
    for weight, mean, cov in zip(w, m, C, strict=True):
        cross = _product(cov, _transposed(A))
        S = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(_product(A, cross), R, strict=True)]
        inverse, determinant = _inverse(S)
        gap = [a - b for a, b in zip(y, _times(A, mean), strict=True)]
        pulled = _times(inverse, gap)
        energy = mp.fsum(a * b for a, b in zip(gap, pulled, strict=True))
        logs.append(mp.log(weight) - (energy + mp.log(determinant) + len(y) * mp.log(2 * mp.pi)) / 2)
        means.append([a + b for a, b in zip(mean, _times(cross, pulled), strict=True)])
        less = _product(_product(cross, inverse), _transposed(cross))
        covs.append([[a - b for a, b in zip(*rows, strict=True)] for rows in zip(cov, less, strict=True)])
    total = mp.log(mp.fsum(mp.exp(v) for v in logs))
    return [mp.exp(v - total) for v in logs], means, covs, total


def tilted(
    weights: Sequence, means: Sequence, covs: Sequence, precision: Sequence, linear: Sequence, at: tuple
) -> tuple[Question, list[Input]]:
    """For the density times exp(-x^T J x / 2 + h^T x)."""

    def question(values, digits):
        rest = iter(values)
        parts = _components(rest, len(means), len(means[0]))
        J, h = _lower(rest, len(linear)), [next(rest) for _ in linear]
        w, m, C, _ = tilt(*parts, J, h)
        return _sum(w, m, C, [next(rest) for _ in at[0]], next(rest), next(rest))

    inputs = _given(weights, means, covs) + _symmetric(precision) + plain(*linear)
    return question, inputs + plain(*at[0], *at[1:])


def tilt(w: list, m: list, C: list, J: Matrix, h: list):
    """Weights, means and covariances of the tilted mixture, and the logarithm of its normaliser."""
    d = range(len(h))
    logs, means, covs = [], [], []
    for weight, mean, cov in zip(w, m, C, strict=True):
        inverse, determinant = _inverse(
            [[(i == j) + v for j, v in enumerate(r)] for i, r in enumerate(_product(cov, J))]
        )
        thin = _product(inverse, cov)  # (I + C J)^{-1} C
        pull = [a - b for a, b in zip(h, _times(J, mean), strict=True)]
        moved = _times(thin, pull)
        exponent = mp.fsum(h[i] * mean[i] - mean[i] * _times(J, mean)[i] / 2 + pull[i] * moved[i] / 2 for i in d)
        logs.append(mp.log(weight) + exponent - mp.log(determinant) / 2)
        means.append([mean[i] + moved[i] for i in d])
        covs.append([[(thin[i][j] + thin[j][i]) / 2 for j in d] for i in d])
    total = mp.log(mp.fsum(mp.exp(v) for v in logs))
    return [mp.exp(v - total) for v in logs], means, covs, total


def embedded(
    part: tuple[Question, list[Input]], dim: int, matrix: Sequence, shift: Sequence, at: tuple
) -> tuple[Question, list[Input]]:
    """For A u + b with A^T A = c^2 I exactly; part asks about u in R^dim (of any point).

    The kernel splits: |x - alpha (A u + b)|^2 = c^2 |v - alpha u|^2 + |r|^2, v = A^T y / c^2, r = y - A v.
    """
    square = _product(_transposed(matrix), matrix)
    assert all(v == (square[0][0] if i == j else 0) for i, row in enumerate(square) for j, v in enumerate(row))
    asked, own = part[0], part[1][: -dim - 2]
    m = range(len(shift))

    def question(values, digits):
        rest = iter(values)
        given, scale = [next(rest) for _ in own], next(rest)
        b, x, alpha, sigma = [next(rest) for _ in m], [next(rest) for _ in m], next(rest), next(rest)
        A, c = [[scale * v for v in row] for row in matrix], scale * mp.sqrt(square[0][0])
        y = [x[i] - alpha * b[i] for i in m]
        v = [p / c**2 for p in _times(_transposed(A), y)]
        r = [y[i] - p for i, p in zip(m, _times(A, v), strict=True)]
        on = asked([*given, *v, alpha, sigma / c], digits)
        log_prob = on.log_prob[0] - dim * mp.log(c) - mp.fsum(p**2 for p in r) / sigma**2 / 2
        log_prob -= mp.mpf(len(r) - dim) / 2 * mp.log(2 * mp.pi * sigma**2)
        score = [p / c**2 - r[i] / sigma**2 for i, p in zip(m, _times(A, on.score), strict=True)]
        mean = [p + b[i] for i, p in zip(m, _times(A, on.mean), strict=True)]
        inner = [on.cov[i * dim : (i + 1) * dim] for i in range(dim)]
        return Answer([log_prob], score, mean, _flat(_product(_product(A, inner), _transposed(A))))

    return question, own + plain(1.0, *shift, *at[0], *at[1:])


def _given(weights: Sequence, means: Sequence, covs: Sequence) -> list[Input]:
    d = len(means[0])
    return mixture(weights, means, covs, [0.0] * d, 1.0, 1.0)[1][: -d - 2]


def _components(rest: Iterator, k: int, d: int) -> tuple[list, list, list]:
    w = [next(rest) for _ in range(k)]
    return w, _take(rest, k, d), [_lower(rest, d) for _ in range(k)]


def _symmetric(matrix: Sequence) -> list[Input]:
    size = max(abs(v) for row in matrix for v in row)
    return [Input(matrix[i][j], size) for i in range(len(matrix)) for j in range(i + 1)]


def _lower(rest: Iterator, d: int) -> Matrix:
    out = [[mp.mpf(0)] * d for _ in range(d)]
    for i in range(d):
        for j in range(i + 1):
            out[i][j] = out[j][i] = next(rest)
    return out


def _take(rest: Iterator, rows: int, columns: int) -> Matrix:
    return [[next(rest) for _ in range(columns)] for _ in range(rows)]


def _flat(matrix: Sequence) -> list:
    return [v for row in matrix for v in row]


def _transposed(A: Sequence) -> Matrix:
    return [list(column) for column in zip(*A, strict=True)]


def _product(A: Sequence, B: Sequence) -> Matrix:
    return [[mp.fsum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*B, strict=True)] for row in A]


def _times(A: Sequence, x: Sequence) -> list:
    return [mp.fsum(a * b for a, b in zip(row, x, strict=True)) for row in A]
