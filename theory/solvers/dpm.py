"""DPM-Solver: exponential integrators in the noise prediction."""

import math
from dataclasses import dataclass

from theory.phi import phi
from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined
from theory.solvers.ddim import DDIM
from toy_distributions.shapes import count


@SOLVERS.add("dpm.2")
@dataclass(frozen=True)
class DPM2(Solver):
    r"""DPM-Solver-2: an exponential two-stage method in the noise prediction e.

    With h = lam_t - lam_s and the stage s1 at lam_s + r1 h,

        u   = (alpha_s1 / alpha_s) x_s - sigma_s1 (e^{r1 h} - 1) e_s
        x_t = (alpha_t / alpha_s) x_s - sigma_t (e^h - 1) [ e_s + (weight / r1) (e(u, s1) - e_s) ]

    Exact for a constant e, at any h. Order 2 in h_max for every r1 in (0, 1].
    weight: 1/2 is the method; any other value has order 1 and serves as a control. estimate: whether Step.error is
    the difference to the DDIM step inside, the term with ``weight``.
    Source: lu2022dpm, algorithm 1 (r1 = 1/2) and eq. 4.1.
    """

    r1: float = 0.5
    weight: float = 0.5
    estimate: bool = False

    def __post_init__(self):
        if not 0 < self.r1 <= 1:
            raise ValueError(f"r1 must lie in (0, 1]; got r1={self.r1}.")

    @property
    def facts(self) -> Facts:
        exact = Exactness(Kind.EPS, "lam", 0)
        return Facts(order=2 if self.weight == 0.5 else 1, evaluations=2, reads=Kind.EPS, exact=exact)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        s1 = model.process.level_at(s.lam + self.r1 * h)
        e = model(x, s).eps
        first = model(combined(s1.alpha / s.alpha, x, (-s1.sigma * math.expm1(self.r1 * h), e)), s1).eps
        gain = -t.sigma * math.expm1(h)
        slope = self.weight / self.r1 * gain
        end = combined(t.alpha / s.alpha, x, (gain - slope, e), (slope, first))
        return Step(end, error=slope * (first - e) if self.estimate else None)


@SOLVERS.add("dpm.3")
@dataclass(frozen=True)
class DPM3(Solver):
    r"""DPM-Solver-3: an exponential three-stage method in the noise prediction e.

    With h = lam_t - lam_s, stages s1, s2 at lam_s + r1 h, lam_s + r2 h, and phi_2(z) = (e^z - 1 - z) / z^2,

        u1  = (alpha_s1 / alpha_s) x_s - sigma_s1 (e^{r1 h} - 1) e_s
        u2  = (alpha_s2 / alpha_s) x_s - sigma_s2 [ (e^{r2 h} - 1) e_s + (r2 / r1) r2 h phi_2(r2 h) (e(u1, s1) - e_s) ]
        x_t = (alpha_t / alpha_s) x_s - sigma_t [ (e^h - 1) e_s + (h phi_2(h) / r2) (e(u2, s2) - e_s) ]

    Exact for e affine in lambda and independent of x. Order 3 in h_max if and only if r2 = 2/3, for every r1 in
    (0, 1): the last line needs 1/r2 int u^2 weights to match, (1/2) r2 = 1/3. Any other r2 has order 2, a control.
    correct: False leaves the correction of u2 out, which has order 2, another. estimate: whether Step.error is the
    difference to the step of DPM-Solver-2 with this r1, which shares the first stage.
    Source: lu2022dpm, algorithm 2 (r1 = 1/3, r2 = 2/3).
    """

    r1: float = 1 / 3
    r2: float = 2 / 3
    correct: bool = True
    estimate: bool = False

    def __post_init__(self):
        for name, r in (("r1", self.r1), ("r2", self.r2)):
            if not 0 < r <= 1:
                raise ValueError(f"{name} must lie in (0, 1]; got {name}={r}.")

    @property
    def facts(self) -> Facts:
        full = self.correct and math.isclose(self.r2, 2 / 3, rel_tol=1e-12)
        return Facts(order=3 if full else 2, evaluations=3, reads=Kind.EPS, exact=Exactness(Kind.EPS, "lam", 1))

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        s1, s2 = (model.process.level_at(s.lam + r * h) for r in (self.r1, self.r2))
        e = model(x, s).eps
        first = model(combined(s1.alpha / s.alpha, x, (-s1.sigma * math.expm1(self.r1 * h), e)), s1).eps
        gain = -s2.sigma * math.expm1(self.r2 * h)
        turn = -s2.sigma * (self.r2**2 / self.r1 * h * phi(2, self.r2 * h)) if self.correct else 0.0
        second = model(combined(s2.alpha / s.alpha, x, (gain - turn, e), (turn, first)), s2).eps
        gain, bend = -t.sigma * math.expm1(h), -t.sigma * (h * phi(2, h) / self.r2)
        end = combined(t.alpha / s.alpha, x, (gain - bend, e), (bend, second))
        if not self.estimate:
            return Step(end)
        return Step(end, error=bend * (second - e) - 0.5 / self.r1 * gain * (first - e))


@SOLVERS.add("dpm.12")
@dataclass(frozen=True)
class DPM12(Solver):
    """DPM-Solver-2 with DDIM inside as the lower method of a pair: ``Step.error`` is their difference.

    On a grid it is dpm.2; ``theory.adaptive.solve_adaptive`` makes use of the error. Source: lu2022dpm, appendix C.3.
    """

    @property
    def facts(self) -> Facts:
        return DPM2().facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        return DPM2(estimate=True).step(model, x, s, t, memory, noise)


@SOLVERS.add("dpm.23")
@dataclass(frozen=True)
class DPM23(Solver):
    """DPM-Solver-3 with DPM-Solver-2 (r1 = 1/3) inside, which shares its first stage: a pair at three evaluations.

    On a grid it is dpm.3; ``theory.adaptive.solve_adaptive`` makes use of the error. Source: lu2022dpm, appendix C.3.
    """

    @property
    def facts(self) -> Facts:
        return DPM3().facts

    def step(self, model, x, s, t, memory, noise) -> Step:
        return DPM3(estimate=True).step(model, x, s, t, memory, noise)


METHODS: dict[int, Solver] = {1: DDIM(), 2: DPM2(), 3: DPM3()}


@dataclass(frozen=True)
class DPMFast(Solver):
    r"""DPM-Solver of order 3 in all steps but the last, which use up what is left of N ``budget`` evaluations.

    K = floor(N / 3) + 1 steps, equal in lambda, of the orders

        3, ..., 3, 2, 1   if 3 divides N,      3, ..., 3, N mod 3   if it does not,

    which sum to N; 1 is DDIM, 2 and 3 are ``DPM2`` and ``DPM3`` with their usual r. The memory is the number of steps
    done. Not in the registry, as it runs on a grid of its own number of steps, ``len(orders)``, only.

    Order in h_max as N grows: 3 if N = 2 mod 3, else 2. The last steps come once, so their local errors count, not
    their global ones: O(h^3) for DPM2, but O(h^2) for DDIM. Exact for a constant eps.
    lowest_first: takes the orders from the lowest to the highest: still order 2, and another run.

    facts: its cost is that of len(orders) steps. Raises ValueError for a budget below 1 and a grid of more steps.
    Source: lu2022dpm, section 3.4; the orders derived as above.
    """

    budget: int = 20
    lowest_first: bool = False

    def __post_init__(self):
        count("budget", self.budget)

    @property
    def orders(self) -> tuple[int, ...]:
        whole, rest = divmod(self.budget, 3)
        found = (*(3,) * whole, rest) if rest else (*(3,) * (whole - 1), 2, 1)
        return found[::-1] if self.lowest_first else found

    @property
    def facts(self) -> Facts:
        order = 3 if self.budget % 3 == 2 else 2
        beyond = self.budget - 3 * len(self.orders)  # below 0: the last steps take fewer than three
        return Facts(order, 3, reads=Kind.EPS, start_up=beyond, exact=Exactness(Kind.EPS, "lam", 0))

    def step(self, model, x, s, t, memory, noise) -> Step:
        done = memory or 0
        if done >= len(self.orders):
            raise ValueError(
                f"a run of budget={self.budget} has {len(self.orders)} steps; the grid has more. Use a grid of "
                f"len(orders) steps."
            )
        found = METHODS[self.orders[done]].step(model, x, s, t, None, noise)
        return Step(found.x, memory=done + 1)
