"""Trajectories seen through noise: a sum over every path of states; a covariance by the textbook's recursion."""

from collections.abc import Sequence
from itertools import pairwise, product

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.combined import mix
from tests.oracle.mixture import _sum
from tests.oracle.moved import _flat, _lower, _product, _symmetric, _take, _times, _transposed


def markov_chain(
    initial: Sequence[float],
    transition: Sequence[Sequence[Sequence[float]]],
    values: Sequence[Sequence[float]],
    blur: float,
    x: Sequence[float],
    alpha: float,
    sigma: float,
) -> tuple[Question, list[Input]]:
    """The question, and its inputs. transition: one matrix a step, as many as the steps less one."""
    states, steps = range(len(initial)), len(transition) + 1
    inputs = plain(
        *initial, *(v for matrix in transition for v in _flat(matrix)), *_flat(values), blur, *x, alpha, sigma
    )

    def question(numbers, digits):
        rest = iter(numbers)
        pi = [next(rest) for _ in states]
        P = [_take(rest, len(states), len(states)) for _ in transition]
        v, tau = _take(rest, len(states), len(values[0])), next(rest)
        point, a, s = [next(rest) for _ in x], next(rest), next(rest)
        weights, answers = [], []
        for path in product(states, repeat=steps):
            weight = pi[path[0]]
            for t, (here, there) in enumerate(pairwise(path)):
                weight *= P[t][here][there]
            if weight > 0:
                weights.append(weight)
                answers.append(_along([u for state in path for u in v[state]], tau, point, a, s))
        return mix(weights, answers)

    return question, inputs


def _along(centre: list, tau, x: list, alpha, sigma) -> Answer:
    """N(centre, tau^2 I)."""
    spread, d = alpha**2 * tau**2 + sigma**2, range(len(x))
    away = [x[i] - alpha * centre[i] for i in d]
    log_prob = -mp.fsum(r**2 for r in away) / spread / 2 - mp.mpf(len(x)) / 2 * mp.log(2 * mp.pi * spread)
    mean = [centre[i] + alpha * tau**2 / spread * away[i] for i in d]
    cov = [tau**2 * sigma**2 / spread if i == j else mp.mpf(0) for i in d for j in d]
    return Answer([log_prob], [-r / spread for r in away], mean, cov)


def state_space(
    mean: Sequence, cov: Sequence, transition: Sequence, noise: Sequence, offset: Sequence, steps: int, at: tuple
) -> tuple[Question, list[Input]]:
    """z_{t+1} = F z_t + c + noise: Cov z_{t+1} = F Cov z_t F^T + Q, Cov(z_{t+1}, z_u) = F Cov(z_t, z_u)."""
    d = len(mean)

    def question(values, digits):
        rest = iter(values)
        m, C = [next(rest) for _ in mean], _lower(rest, d)
        F, Q, c = _take(rest, d, d), _lower(rest, d), [next(rest) for _ in offset]
        means, blocks = [m], {(0, 0): C}
        for t in range(1, steps):
            means.append([a + b for a, b in zip(_times(F, means[-1]), c, strict=True)])
            for u in range(t):
                blocks[t, u] = _product(F, blocks[t - 1, u])
                blocks[u, t] = _transposed(blocks[t, u])
            grown = _product(_product(F, blocks[t - 1, t - 1]), _transposed(F))
            blocks[t, t] = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(grown, Q, strict=True)]
        whole = [[v for u in range(steps) for v in blocks[t, u][i]] for t in range(steps) for i in range(d)]
        return _sum([mp.mpf(1)], [_flat(means)], [whole], [next(rest) for _ in at[0]], next(rest), next(rest))

    inputs = plain(*mean) + _symmetric(cov) + plain(*_flat(transition)) + _symmetric(noise)
    return question, inputs + plain(*offset, *at[0], *at[1:])
