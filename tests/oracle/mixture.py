"""A mixture of Gaussians seen through noise: the sum over its components, with matrices inverted outright."""

from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain


def mixture(
    weights: Sequence[float],
    means: Sequence[Sequence[float]],
    covs: Sequence[Sequence[Sequence[float]]],
    x: Sequence[float],
    alpha: float,
    sigma: float,
    *,
    structure: str = "full",
) -> tuple[Question, list[Input]]:
    """The question, and its inputs. covs are full matrices always.

    structure says which of their entries were given: all of them ("full"), the diagonal ("diagonal") or one number
    ("isotropic"); only what was given can have been rounded.
    """
    k, d = len(means), len(x)
    given = {
        "full": [(i, j) for i in range(d) for j in range(i + 1)],
        "diagonal": [(i, i) for i in range(d)],
        "isotropic": [(0, 0)],
    }[structure]
    inputs = plain(*weights) + plain(*(m for mean in means for m in mean))
    for cov in covs:
        size = max(abs(v) for row in cov for v in row)
        inputs += [Input(cov[i][j], size if structure == "full" else abs(cov[i][j])) for i, j in given]
    inputs += plain(*x, alpha, sigma)

    def question(values, digits):
        rest = iter(values)
        w = [next(rest) for _ in range(k)]
        m = [[next(rest) for _ in range(d)] for _ in range(k)]
        C = []
        for _ in range(k):
            matrix = [[mp.mpf(0)] * d for _ in range(d)]
            for i, j in given:
                matrix[i][j] = matrix[j][i] = next(rest)
            if structure == "isotropic":
                for i in range(d):
                    matrix[i][i] = matrix[0][0]
            C.append(matrix)
        point = [next(rest) for _ in range(d)]
        return _sum(w, m, C, point, next(rest), next(rest))

    return question, inputs


def low_rank(
    weights: Sequence[float],
    means: Sequence[Sequence[float]],
    factors: Sequence[Sequence[Sequence[float]]],
    variances: Sequence[float],
    x: Sequence[float],
    alpha: float,
    sigma: float,
) -> tuple[Question, list[Input]]:
    """The question about a mixture with the covariances F_k F_k^T + s_k I, factors F_k being d x r."""
    k, d, r = len(means), len(x), len(factors[0][0])
    inputs = plain(*weights) + plain(*(m for mean in means for m in mean))
    for factor in factors:
        size = max(abs(v) for row in factor for v in row)
        inputs += [Input(v, size) for row in factor for v in row]
    inputs += plain(*variances) + plain(*x, alpha, sigma)

    def question(values, digits):
        rest = iter(values)
        w = [next(rest) for _ in range(k)]
        m = [[next(rest) for _ in range(d)] for _ in range(k)]
        F = [[[next(rest) for _ in range(r)] for _ in range(d)] for _ in range(k)]
        s = [next(rest) for _ in range(k)]
        C = [
            [[mp.fsum(f[i][e] * f[j][e] for e in range(r)) + (v if i == j else 0) for j in range(d)] for i in range(d)]
            for f, v in zip(F, s, strict=True)
        ]
        point = [next(rest) for _ in range(d)]
        return _sum(w, m, C, point, next(rest), next(rest))

    return question, inputs


def _sum(w, m, C, x, alpha, sigma) -> Answer:
    d = range(len(x))
    logs, slopes, means, covs = [], [], [], []
    for weight, centre, matrix in zip(w, m, C, strict=True):
        S = [[alpha**2 * matrix[i][j] + (sigma**2 if i == j else 0) for j in d] for i in d]
        inverse, determinant = _inverse(S)
        away = [x[i] - alpha * centre[i] for i in d]
        pulled = [mp.fsum(inverse[i][j] * away[j] for j in d) for i in d]
        energy = mp.fsum(away[i] * pulled[i] for i in d)
        logs.append(mp.log(weight) - (energy + mp.log(determinant) + len(d) * mp.log(2 * mp.pi)) / 2)
        slopes.append([-p for p in pulled])
        means.append([centre[i] + alpha * mp.fsum(matrix[i][j] * pulled[j] for j in d) for i in d])
        gain = [[alpha * mp.fsum(matrix[i][k] * inverse[k][j] for k in d) for j in d] for i in d]
        covs.append([[matrix[i][j] - alpha * mp.fsum(gain[i][k] * matrix[k][j] for k in d) for j in d] for i in d])
    top = max(logs)
    total = mp.fsum(mp.exp(v - top) for v in logs)
    r = [mp.exp(v - top) / total for v in logs]
    mean = [mp.fsum(q * c[i] for q, c in zip(r, means, strict=True)) for i in d]
    cov = [
        mp.fsum(
            q * (matrix[i][j] + (c[i] - mean[i]) * (c[j] - mean[j]))
            for q, c, matrix in zip(r, means, covs, strict=True)
        )
        for i in d
        for j in d
    ]
    score = [mp.fsum(q * s[i] for q, s in zip(r, slopes, strict=True)) for i in d]
    return Answer([top + mp.log(total)], score, mean, cov)


def _inverse(matrix: list[list]) -> tuple[list[list], object]:
    """Inverse and determinant of a positive definite matrix, by Gauss and Jordan."""
    n = len(matrix)
    rows = [list(row) + [mp.mpf(i == j) for j in range(n)] for i, row in enumerate(matrix)]
    determinant = mp.mpf(1)
    for i in range(n):
        pivot = rows[i][i]
        determinant *= pivot
        rows[i] = [v / pivot for v in rows[i]]
        for j in range(n):
            if j != i and rows[j][i] != 0:
                factor = rows[j][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [row[n:] for row in rows], determinant
