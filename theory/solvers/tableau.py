"""Tableau: the coefficients of an explicit Runge-Kutta method, which check themselves when they are written down."""

from dataclasses import dataclass
from fractions import Fraction as F

Row = tuple[F, ...]


@dataclass(frozen=True)
class Tableau:
    """Nodes c, strictly lower triangular stages a (row i has i entries), weights b, and the order that they have.

    Raises ValueError unless c_i = sum_j a_ij and the order conditions up to ``order`` (at most 4) hold exactly.
    Source: hairer1993solving, table II.2.1.
    """

    name: str
    order: int
    a: tuple[Row, ...]
    b: Row

    @property
    def degree(self) -> int:
        """Up to which the quadrature of nodes c and weights b is exact for polynomials."""
        n = 0
        while sum(b * c**n for b, c in zip(self.b, self.c, strict=True)) == F(1, n + 1):
            n += 1
        return n - 1

    def __post_init__(self):
        if not 1 <= self.order <= 4:
            raise ValueError(f"order must lie in 1 .. 4, whose conditions are known here; got order={self.order}.")
        if any(len(row) != i for i, row in enumerate(self.a)) or len(self.a) != len(self.b):
            raise ValueError(f"a must have rows of 0, 1, 2, ... entries and b one entry a row; got {self.name}.")
        for order, (left, right) in self._conditions():
            if order <= self.order and left != right:
                raise ValueError(f"{self.name} is not of order {self.order}: a condition gives {left}, not {right}.")

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def c(self) -> Row:
        return tuple(sum(row, F(0)) for row in self.a)

    @property
    def stages(self) -> int:
        return len(self.b)

    def _conditions(self) -> list[tuple[int, tuple[F, F]]]:
        b, c, a, n = self.b, self.c, self.a, range(len(self.b))

        def inner(values: Row) -> Row:
            return tuple(sum((a[i][j] * values[j] for j in range(i)), F(0)) for i in n)

        def total(*factors: Row) -> F:
            out = F(0)
            for i in n:
                term = b[i]
                for factor in factors:
                    term *= factor[i]
                out += term
            return out

        return [
            (1, (total(), F(1))),
            (2, (total(c), F(1, 2))),
            (3, (total(c, c), F(1, 3))),
            (3, (total(inner(c)), F(1, 6))),
            (4, (total(c, c, c), F(1, 4))),
            (4, (total(c, inner(c)), F(1, 8))),
            (4, (total(inner(tuple(x * x for x in c))), F(1, 12))),
            (4, (total(inner(inner(c))), F(1, 24))),
        ]


EULER = Tableau("Euler", 1, ((),), (F(1),))
MIDPOINT = Tableau("midpoint", 2, ((), (F(1, 2),)), (F(0), F(1)))
HEUN = Tableau("Heun", 2, ((), (F(1),)), (F(1, 2), F(1, 2)))
KUTTA3 = Tableau("Kutta's third order", 3, ((), (F(1, 2),), (F(-1), F(2))), (F(1, 6), F(2, 3), F(1, 6)))
RK4 = Tableau(
    "Kutta's fourth order",
    4,
    ((), (F(1, 2),), (F(0), F(1, 2)), (F(0), F(0), F(1))),
    (F(1, 6), F(1, 3), F(1, 3), F(1, 6)),
)
