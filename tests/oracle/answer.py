"""What an oracle returns, and how well the question determines it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mpmath as mp

DIGITS = 50


class Answer(NamedTuple):
    log_prob: list
    """One number, in a list."""
    score: list
    mean: list
    cov: list
    """Row by row."""


class Input(NamedTuple):
    """A number the question is asked with, and the size to which its rounding is relative.

    The size is |value| but for entries of a covariance matrix, where it is the largest entry of the matrix.
    """

    value: float
    size: float


Question = Callable[[Sequence, int], Answer]
"""From the inputs' values as mpmath numbers, and the digits wanted, to the answer.

The last inputs are x, alpha and sigma, so that questions about one point can share them.
"""


def plain(*values: float) -> list[Input]:
    return [Input(v, abs(v)) for v in values]


def answer(question: Question, inputs: Sequence[Input], digits: int = DIGITS) -> Answer:
    with mp.workdps(digits + 10):
        return question([mp.mpf(i.value) for i in inputs], digits)


def condition(question: Question, inputs: Sequence[Input], digits: int = 20) -> Answer:
    """sum over the inputs of |input| |d answer / d input|: times eps, what rounding the inputs alone does.

    By differences, at a step below the rounding of floats (a singular matrix must stay one as far as they can tell).
    The integrals need few digits, as they err alike at both ends of a difference; the arithmetic keeps all.
    """
    step = mp.mpf("1e-18")
    with mp.workdps(DIGITS):
        values = [mp.mpf(i.value) for i in inputs]
        base = question(values, digits)
        total = [[mp.mpf(0)] * len(part) for part in base]
        for k, (_, size) in enumerate(inputs):
            if size == 0:
                continue
            moved = question([*values[:k], values[k] + step * size, *values[k + 1 :]], digits)
            for sums, part, was in zip(total, moved, base, strict=True):
                for i, (a, b) in enumerate(zip(part, was, strict=True)):
                    sums[i] += abs(a - b) / step
        return Answer(*total)
