"""EDM's preconditioning: the affine wrapping that gives a network inputs and targets of unit variance."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EDMPreconditioning:
    r"""D(x; k) = c_skip x + c_out F(c_in x; c_noise) for x = y + k n, y of variance sigma_data^2 a coordinate.

    c_in makes the input of F, c_out its target (y - c_skip x) / c_out, of unit variance; c_skip minimises c_out; the
    loss weight makes weight c_out^2 = 1. Only the variance of the data enters, not its law.
    k, "sigma" in the paper, is a number or a tensor. Source: karras2022edm, table 1 and appendix B.6.
    """

    sigma_data: float = 0.5

    def c_skip(self, k: Any) -> Any:
        return self.sigma_data**2 / (k**2 + self.sigma_data**2)

    def c_out(self, k: Any) -> Any:
        return k * self.sigma_data * (k**2 + self.sigma_data**2) ** -0.5

    def c_in(self, k: Any) -> Any:
        return (k**2 + self.sigma_data**2) ** -0.5

    def c_noise(self, k: float) -> float:
        return 0.25 * math.log(k)

    def weight(self, k: Any) -> Any:
        return (k**2 + self.sigma_data**2) / (k * self.sigma_data) ** 2
