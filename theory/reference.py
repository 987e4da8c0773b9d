"""Reference flow maps of the probability-flow ODE: what a deterministic sampler should have returned.

In y = x / alpha and lambda the flow depends on the law alone, not on the process, so one reference serves them all.
"""

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from theory.process import Level
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture


def flow(law: Distribution, x: Tensor, s: Level, t: Level) -> Tensor:
    """The state at level t of the probability-flow trajectory through x (n, dim) at level s.

    Closed form for one Gaussian, DOP853 in lambda otherwise.
    """
    if isinstance(law, GaussianMixture) and law.components == 1:
        return gaussian_flow(law, x, s, t)
    return ode_flow(law, x, s, t)


def gaussian_flow(law: GaussianMixture, x: Tensor, s: Level, t: Level) -> Tensor:
    r"""x_t = alpha_t m + U sqrt(S_t / S_s) U^T (x - alpha_s m), S = alpha^2 v + sigma^2, for N(m, U diag(v) U^T)."""
    if law.components != 1:
        raise ValueError(f"gaussian_flow needs one Gaussian; got {law!r}.")
    variances, basis = torch.linalg.eigh(law.full_covs()[0])
    variances = variances.clamp_min(0)
    growth = torch.sqrt((t.alpha**2 * variances + t.sigma**2) / (s.alpha**2 * variances + s.sigma**2))
    return t.alpha * law.means + (x - s.alpha * law.means) @ (basis * growth) @ basis.T


def quantile_flow(law: Distribution, x: Tensor, s: Level, t: Level) -> Tensor:
    """x_t = Q_t(F_s(x)) for a 1-D law: the flow of a line keeps ranks. Accurate to about eps / density(x).

    x (n, 1). An independent second route; in the upper tail the cdf has no digits left, so ODE values are better.
    """
    u = law.noised(float(s.alpha), float(s.sigma)).cdf(x)
    return law.noised(float(t.alpha), float(t.sigma)).quantile(u)


def ode_flow(
    law: Distribution, x: Tensor, s: Level, t: Level, *, rtol: float = 1e-13, together: bool = False
) -> Tensor:
    r"""DOP853 on  d(x/sigma)/dlambda = e^lambda D(x, lambda), each trajectory with its own step sizes.

    With y = x / alpha, k = e^{-lambda}:  D = law.posterior_mean(y, 1, k). x (n, dim) -> (n, dim). Works in either
    direction. together: all rows share one step size and each model call, for laws so dear that rows cannot be
    followed one by one; the error is then controlled for the batch as a whole, so leave rtol a margin of sqrt(n).
    Raises ArithmeticError if the integrator gives up.
    """
    lam_s, lam_t = float(s.lam), float(t.lam)

    def slope(lam: float, u: np.ndarray) -> np.ndarray:
        k = math.exp(-lam)
        state = torch.from_numpy(u * k).reshape(-1, x.shape[-1])  # y = (x / sigma) k
        return (law.posterior_mean(state, 1.0, k) / k).numpy().reshape(-1)

    scaled = x.detach().double().cpu().numpy() / float(s.sigma)
    rows = []
    for row in scaled.reshape(1, -1) if together else scaled:
        run = solve_ivp(slope, (lam_s, lam_t), row, method="DOP853", rtol=rtol, atol=1e-2 * rtol)
        if not run.success:
            raise ArithmeticError(f"the reference ODE must reach lambda={lam_t:.6g}; DOP853 stopped: {run.message}")
        rows.append(run.y[:, -1])
    return torch.from_numpy(np.concatenate(rows)).reshape(x.shape).to(x) * float(t.sigma)
