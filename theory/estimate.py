"""A number that carries its own error, and the ranges that claims accept.

An ``Estimate`` is compared with an accepted ``Range``; the answer is HOLDS, FAILS or OPEN, and OPEN says that the
error bar straddles an edge of the range: measure better.
"""

import math
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """HOLDS: the whole error bar is accepted. FAILS: none of it is. OPEN: part of it is."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    OPEN = "OPEN"


@dataclass(frozen=True)
class Estimate:
    """A measured value with an error bound: the truth lies in [value - error, value + error].

    value: the number; +-inf is allowed (a KL can be infinite), NaN is not.
    error: half-width, >= 0; for sampled methods the half-width at the confidence the method states.
    method: how it was found, e.g. "closed form", "quadrature", "monte carlo n=100000", "slope".

    Raises ValueError for a NaN value and for a negative or NaN error.
    """

    value: float
    error: float = 0.0
    method: str = "closed form"

    def __post_init__(self):
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "error", float(self.error))
        if math.isnan(self.value):
            raise ValueError(f"an Estimate needs a number as its value; got NaN from method {self.method!r}.")
        if not self.error >= 0:
            raise ValueError(f"an Estimate needs an error >= 0; got {self.error} from method {self.method!r}.")

    @property
    def low(self) -> float:
        return self.value if math.isinf(self.value) else self.value - self.error

    @property
    def high(self) -> float:
        return self.value if math.isinf(self.value) else self.value + self.error

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.error:.1g} ({self.method})"


@dataclass(frozen=True)
class Range:
    """The closed interval [low, high] of values that a claim accepts."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if not self.low <= self.high:
            raise ValueError(f"a Range needs low <= high; got low={self.low}, high={self.high}.")

    def judge(self, estimate: Estimate) -> Verdict:
        """HOLDS if the estimate lies inside with its whole error bar, FAILS if wholly outside, else OPEN."""
        if self.low <= estimate.low and estimate.high <= self.high:
            return Verdict.HOLDS
        if estimate.high < self.low or estimate.low > self.high:
            return Verdict.FAILS
        return Verdict.OPEN

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:.6g}"
        if math.isinf(self.high):
            return f">= {self.low:.6g}"
        return f"{self.low:.6g} .. {self.high:.6g}"


def near(target: float, tolerance: float) -> Range:
    """Accept target - tolerance <= value <= target + tolerance."""
    return Range(target - tolerance, target + tolerance)


def at_most(bound: float) -> Range:
    """Accept value <= bound."""
    return Range(high=bound)


def at_least(bound: float) -> Range:
    """Accept value >= bound."""
    return Range(low=bound)
