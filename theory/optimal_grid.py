"""Time grids that are best for a given law: on Gaussian data, where the KL of an ancestral run is a closed form."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from scipy.optimize import minimize
from torch import Tensor

from theory.grid import TimeGrid
from theory.process import NoiseProcess
from toy_distributions.shapes import count, number


def ancestral_kl(lams: Tensor, variances: Sequence[float]) -> Tensor:
    r"""KL(exact law || output law) in nats of DDPM (beta-tilde, also SDE-DPM-Solver++ 1) on N(m, diag(variances)).

    Started from the true law at lams[0]; on every process, as x / alpha and lambda say all. With k = e^{-lambda}, each
    direction of variance v has the exact posterior mean D = m + v / (v + k_s^2) (y - m), so the mean stays exact and

        V_t = [ e^{-2h} + (1 - e^{-2h}) v / (v + k_s^2) ]^2 V_s + k_t^2 (1 - e^{-2h}),     V_0 = v + k_0^2,

    and the KL is the sum of (r - 1 - log r) / 2 over the directions, r = (v + k_N^2) / V_N. lams: (steps + 1,), rising.
    """
    v = torch.as_tensor(variances, dtype=lams.dtype)
    squares = torch.exp(-2 * lams)
    out = v + squares[0]
    for s, t in pairwise(squares):
        keep = t / s
        out = (keep + (1 - keep) * v / (v + s)) ** 2 * out + t * (1 - keep)
    excess = (v + squares[-1] - out) / out
    return 0.5 * (excess - torch.log1p(excess)).sum()


def ancestral_optimal(
    process: NoiseProcess, steps: int, variances: Sequence[float] = (0.25,), *, start: float = -3.0, end: float = 3.0
) -> TimeGrid:
    """The grid of so many steps from lambda ``start`` to ``end`` with the least ``ancestral_kl`` on N(m, variances).

    What AYS does with an upper bound of the KL, for a law where the KL itself is known. A minimum of the search from
    equal steps: neighbouring grids are worse. Best for this law and sampler, and for no other.
    Raises ValueError for variances that are not positive and start >= end.
    Source: sabour2024align, for the idea; the closed form derived as above.
    """
    steps = count("steps", steps)
    for each in variances:
        number("variances", each, positive=True)
    if not variances or not start < end:
        raise ValueError(f"start must be < end, with one variance or more; got {start}, {end}, {list(variances)}.")

    def grid(logits: Tensor) -> Tensor:
        ends = torch.cat([logits.new_zeros(1), torch.softmax(logits, 0).cumsum(0)])
        return start + (end - start) * ends

    def objective(values) -> tuple[float, object]:
        logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        loss = ancestral_kl(grid(logits), variances).log()  # of one scale whatever the number of steps
        loss.backward()
        assert logits.grad is not None
        return loss.item(), logits.grad.numpy()

    found = minimize(objective, [0.0] * steps, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    lams = grid(torch.tensor(found.x, dtype=torch.float64)).tolist()
    lams[-1] = end
    if not all(math.isfinite(lam) for lam in lams):
        raise ValueError(f"the search must stay finite; it did not from {steps} equal steps on {list(variances)}.")
    return TimeGrid(process, [process.time_at(lam) for lam in lams])
