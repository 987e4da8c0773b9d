"""Laws on the line with tails heavier than a Gaussian's: Laplace's and Student's, blurred or not."""

import math
from abc import abstractmethod
from copy import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toy_distributions import normal, shapes
from toy_distributions.base import Distribution
from toy_distributions.gauss import rule
from toy_distributions.pieces import in_pieces
from toy_distributions.shapes import Scalar

NODES = 64
"""Gauss-Legendre nodes on the part of a half-line where the integrand is above e^-DEPTH of its largest value."""

DEPTH = 40.0


class Seen(NamedTuple):
    """V, the law in standard form, given y = pull V + N(0, S): all (n,)."""

    log_mass: Tensor
    """Log density of y."""
    slope: Tensor
    """Its derivative in y."""
    mean: Tensor
    variance: Tensor


class Line(Distribution):
    r"""x_0 = m + b V + tau zeta on the line, V of a standard form that the subclass knows, zeta ~ N(0, 1).

    With S = alpha^2 tau^2 + sigma^2, y = x - alpha m = alpha b V + N(0, S), and v, w the mean and variance of V
    given y,

        E[x_0|x]   = m + (sigma^2 / S) b v + (alpha tau^2 / S) y
        Var[x_0|x] = tau^2 sigma^2 / S + (sigma^2 / S)^2 b^2 w.

    Formulas are taken in float64 whatever the law's dtype; a float32 law is off by the rounding of its points and
    answers. A new law on the line is a subclass with five short methods.
    """

    dim = 1

    def __init__(self, location: Tensor | float = 0.0, scale: float = 1.0, blur: float = 0.0):
        at = shapes.floating("location", location)
        if at.numel() != 1:
            raise ValueError(f"location must be one number; got shape {tuple(at.shape)}.")
        self._fill(at.reshape(1), shapes.number("scale", scale, positive=True), shapes.number("blur", blur))

    def _fill(self, location: Tensor, scale: float, blur: float) -> None:
        self.location, self.scale, self.blur = location, scale, blur
        self.dtype, self.device = location.dtype, location.device

    def _with(self, location: Tensor, scale: float, blur: float) -> Self:
        law = copy(self)
        law._fill(location, scale, blur)
        return law

    @abstractmethod
    def _standard(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of V, float64."""

    @abstractmethod
    def _variance(self) -> float:
        """Var V, infinite if it is; ValueError if V has no mean."""

    @abstractmethod
    def _seen(self, y: Tensor, pull: Tensor, spread: Tensor) -> Seen:
        """For y, pull >= 0 and spread >= 0, not both zero, all (n,)."""

    @abstractmethod
    def _below(self, y: Tensor, pull: Tensor, spread: Tensor) -> Tensor:
        """P(pull V + N(0, spread) <= y) for y <= 0, with full relative accuracy. V is symmetric."""

    @property
    def mean(self) -> Tensor:
        self._variance()
        return self.location

    @property
    def cov(self) -> Tensor:
        variance = self._variance()
        return self.location.new_full((1, 1), (self.scale**2 * variance if self.scale else 0.0) + self.blur**2)

    @property
    def singular(self) -> bool:
        return self.blur == 0 and self.scale == 0  # only after noised(0, 0)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return self._with(self.location.to(dtype=dtype, device=device), self.scale, self.blur)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        v = self._standard(n, generator=generator)
        zeta = torch.randn(n, dtype=torch.float64, device=self.device, generator=generator)
        return (self.location.double() + self.scale * v + self.blur * zeta).unsqueeze(-1).to(self.dtype)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        return self._with(alpha * self.location, alpha * self.scale, math.hypot(alpha * self.blur, sigma))

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return self._over(lambda seen, *_: seen.log_mass, x, alpha, sigma)

    def _score(self, x: Tensor) -> Tensor:
        return self._over(lambda seen, *_: seen.slope.unsqueeze(-1), x, 1.0, 0.0)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def mean(seen: Seen, y: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor) -> Tensor:
            of_v = sigma**2 / spread * self.scale * seen.mean
            return (self.location.double() + of_v + alpha * self.blur**2 / spread * y).unsqueeze(-1)

        return self._over(mean, x, alpha, sigma)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def cov(seen: Seen, y: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor) -> Tensor:
            narrowed = sigma**2 / spread
            return (self.blur**2 * narrowed + (narrowed * self.scale) ** 2 * seen.variance)[:, None, None]

        return self._over(cov, x, alpha, sigma)

    def _cdf(self, x: Tensor) -> Tensor:
        def below(y: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            y = y.squeeze(-1)
            pull, spread = (torch.full_like(y, v) for v in (self.scale, self.blur**2))
            tail = self._below(-y.abs(), pull, spread)
            return torch.where(y > 0, 1 - tail, tail)

        if self.singular:
            return (x >= self.location).to(x.dtype)
        y = x.double() - self.location.double().squeeze()
        return in_pieces(below, y.unsqueeze(-1), 1.0, 0.0, per_point=self._per_point).to(x.dtype)

    def _size(self) -> tuple[float, float]:
        return self.location.item(), math.hypot(self.scale, self.blur)

    _per_point = 2 * NODES

    def _over(self, of, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            alpha, sigma = (torch.as_tensor(v, dtype=x.dtype, device=x.device).expand(len(x)) for v in (alpha, sigma))
            y, spread = x.squeeze(-1) - alpha * self.location.double(), (alpha * self.blur) ** 2 + sigma**2
            return of(self._seen(y, alpha * self.scale, spread), y, alpha, sigma, spread)

        return in_pieces(formula, x.double(), alpha, sigma, per_point=self._per_point).to(x.dtype)

    def _described(self, name: str) -> str:
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        return f"{name}at {self.location.item():.6g}, scale {self.scale:.6g}{blur})"


class Laplace(Line):
    r"""x_0 = m + b V + tau zeta with density e^{-|v|} / 2 of V: two exponentials, back to back, blurred or not.

    Seen through noise, V is one of two exponentials cut off at zero, of densities

        exp(-q^2 u^2 / 2 - c u) on u = +-V > 0,      q = alpha b / sqrt(S),   c = 1 -+ alpha b y / S,

    and masses, means and variances of both are positive sums over Gauss-Legendre nodes on the part that matters, so
    nothing cancels at any sigma.

    location m; scale b > 0, E|V| = 1; blur tau >= 0. Raises ValueError for a scale that is not positive or a negative
    blur.
    """

    def _standard(self, n: int, *, generator: torch.Generator) -> Tensor:
        u = torch.rand(n, dtype=torch.float64, device=self.device, generator=generator) - 0.5
        return -u.sign() * torch.log1p(-2 * u.abs())

    def _variance(self) -> float:
        return 2.0

    def _seen(self, y: Tensor, pull: Tensor, spread: Tensor) -> Seen:
        if bool((spread == 0).any()):  # then for every point: V is known
            v = y / pull
            return Seen(-math.log(2) - pull.log() - v.abs(), -v.sign() / pull, v, torch.zeros_like(v))
        logs, means, variances = _half_lines(y, pull, spread)
        log_mass = torch.logsumexp(logs, -1)
        parts = torch.softmax(logs, -1)
        apart = means.sum(-1)  # the means lie on either side of zero
        mean = parts[:, 0] * means[:, 0] - parts[:, 1] * means[:, 1]
        variance = (parts * variances).sum(-1) + parts[:, 0] * parts[:, 1] * apart**2
        # p' = (p of V < 0 - p of V > 0) / pull, which says less than y does where the noise is wider than the law
        sharp = pull > spread.sqrt()
        slope = torch.where(sharp, (parts[:, 1] - parts[:, 0]) / pull.where(sharp, 1.0), (pull * mean - y) / spread)
        constant = math.log(2) + 0.5 * (2 * math.pi * spread).log()
        return Seen(log_mass - constant, slope, mean, variance)

    def _below(self, y: Tensor, pull: Tensor, spread: Tensor) -> Tensor:
        """Phi(y / s) + pull (p of V < 0 - p of V > 0): the sum has the derivative p. For y <= 0 the bracket is >= 0."""
        if bool((spread == 0).any()):
            return 0.5 * (y / pull).exp()
        logs = _half_lines(y, pull, spread)[0] - 0.5 * (2 * math.pi * spread).log().unsqueeze(-1)
        masses = pull.unsqueeze(-1) * logs.exp() / 2
        return normal.cdf(y / spread.sqrt()) + (masses[:, 1] - masses[:, 0])

    def __repr__(self) -> str:
        return self._described("Laplace(")


def _half_lines(y: Tensor, pull: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of u = V > 0 and u = -V > 0: log of int e^{-u - (y - pull V)^2 / (2 S)} du, mean and variance, all (n, 2)."""
    root = spread.sqrt()
    q = (pull / root).unsqueeze(-1)
    signs = y.new_tensor([1.0, -1.0])
    tilt = 1 - signs * (pull * (y / spread)).unsqueeze(-1)
    inner = tilt < 0  # then the largest value is not at zero
    peak = torch.where(inner, -tilt / (q**2).where(inner, 1.0), 0.0)
    rate = tilt.clamp_min(0)
    reach = 2 * DEPTH / (rate + (rate**2 + 2 * DEPTH * q**2).sqrt())
    left = torch.maximum(-peak, -reach).where(inner, 0.0)
    node, weight = (part.to(y) for part in rule(NODES))
    length = reach - left
    step = left.unsqueeze(-1) + length.unsqueeze(-1) * node
    bell = torch.exp(-step * (rate.unsqueeze(-1) + q.unsqueeze(-1) ** 2 * step / 2)) * weight
    mass = bell.sum(-1)
    shift = (bell * step).sum(-1) / mass
    variance = (bell * (step - shift.unsqueeze(-1)) ** 2).sum(-1) / mass
    # at the peak: -y^2 / (2 S) at zero, else -(|y| - S / (2 pull)) / pull, where the squares have cancelled
    safe = pull.where(pull > 0, 1.0)
    at_zero, away = -(y**2) / (2 * spread), -(y.abs() - spread / (2 * safe)) / safe
    top = torch.where(inner, away.unsqueeze(-1), at_zero.unsqueeze(-1))
    # where the law is cut at zero the mean is shift itself; about a peak it is peak + shift
    return top + mass.log() + length.log(), peak + shift, variance


class StudentT(Line):
    r"""x_0 = m + b V + tau zeta with V of Student's law with nu >= 1 degrees of freedom; nu = 1 is Cauchy's.

    V = N(0, 1) / sqrt(g) with g ~ Gamma(nu/2, nu/2), so that given g all is Gaussian. With k = alpha b and
    t = log g,

        p(y) = int Normal(y; 0, k^2/g + S) pi(t) dt,    E[V|y, g] = k y / (k^2 + S g),   Var = S / (k^2 + S g),

    sums of positive terms in which nothing cancels. The integrand is analytic for |Im t| < pi/2 and decays at both
    ends, so the trapezoidal rule converges geometrically; its step is chosen so that the error is below 1e-16, by a
    bound on the integrand's growth away from the real axis.

    freedom nu in [1, 10^4]; location m; scale b > 0; blur tau >= 0. The mean exists for nu > 1 (ValueError if asked at
    nu = 1), the covariance is infinite for nu <= 2; posteriors have all moments at any alpha > 0.

    Raises ValueError for nu < 1 or > 10^4 (a Gaussian to four digits), a scale that is not positive, a negative blur,
    and for posteriors at alpha = 0 of moments that the law does not have.
    Source of the rule: trefethen2014trapezoidal.
    """

    def __init__(self, freedom: float, location: Tensor | float = 0.0, scale: float = 1.0, blur: float = 0.0):
        self.freedom = shapes.number("freedom", freedom, positive=True)
        if not 1 <= self.freedom <= 1e4:
            raise ValueError(f"freedom must lie in [1, 1e4]; got freedom={self.freedom}. Use a Gaussian above.")
        half = self.freedom / 2
        # on the line Im t = a the integrand's terms shrink by cos a at most, so it grows by cos(a)^-(nu + 1)/2 at most,
        # against which the rule's error falls like e^{-2 pi a / step}
        angle = torch.linspace(0.02, 1.55, 400, dtype=torch.float64)
        self._step = (2 * math.pi * angle / (DEPTH - (half + 0.5) * angle.cos().log())).max().item()
        # right of `right` the prior is below e^-DEPTH; left of the peak the integrand falls at least like e^{nu t / 2}
        low, high = 0.0, 60.0
        while high - low > 1e-3:
            t = (low + high) / 2
            low, high = (low, t) if half * (math.expm1(t) - t) - t / 2 > DEPTH + 5 else (t, high)
        self._right, self._left = high, (DEPTH + 5 + half + 0.5) / half
        self._left_of_moments = self._left * half / (half - 1) if half > 1 else math.inf
        self._log_constant = 0.5 * math.log(half / (2 * math.pi)) - _stirling(half)
        self._per_point = 2 * round((self._right + self._left) / self._step)
        super().__init__(location, scale, blur)

    def _standard(self, n: int, *, generator: torch.Generator) -> Tensor:
        """sqrt(nu (U^{-2/nu} - 1)) cos(2 pi W), the polar method of bailey1994."""
        u, w = torch.rand(2, n, dtype=torch.float64, device=self.device, generator=generator)
        radius = self.freedom * torch.expm1(-2 / self.freedom * torch.log1p(-u))
        return radius.sqrt() * (2 * math.pi * w).cos()

    def _variance(self) -> float:
        if self.freedom <= 1:
            raise ValueError("StudentT with one degree of freedom (Cauchy's law) has no mean and no covariance.")
        return self.freedom / (self.freedom - 2) if self.freedom > 2 else math.inf

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        self._needs_moment("mean", 1, alpha)
        return super()._posterior_mean(x, alpha, sigma)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        self._needs_moment("covariance", 2, alpha)
        return super()._posterior_cov(x, alpha, sigma)

    def _needs_moment(self, what: str, order: int, alpha: Scalar) -> None:
        smallest = alpha.min().item() if isinstance(alpha, Tensor) and alpha.numel() else alpha
        if self.freedom <= order and smallest == 0:
            raise ValueError(
                f"alpha must be > 0 for the posterior {what} of a StudentT with {self.freedom:g} degrees of freedom, "
                f"since at alpha = 0 it is the law's own, which does not exist; got alpha=0."
            )

    def _seen(self, y: Tensor, pull: Tensor, spread: Tensor) -> Seen:
        t, log_prior = self._nodes(y, pull, spread)
        y, pull, spread = (v.unsqueeze(-1) for v in (y, pull, spread))
        deviation = torch.hypot(pull * (-t / 2).exp(), spread.sqrt())
        z = y / deviation
        logs = log_prior - deviation.log() - z**2 / 2
        log_mass = torch.logsumexp(logs, -1) + math.log(self._step) - 0.5 * math.log(2 * math.pi)
        parts = torch.softmax(logs, -1)
        slope = -(parts * (z / deviation)).sum(-1)
        known = pull**2 + spread * t.exp()
        of_g = torch.where(parts > 0, pull * y / known, 0.0)
        mean = (parts * of_g).sum(-1)
        within = (parts * torch.where(parts > 0, spread / known, 0.0)).sum(-1)
        return Seen(log_mass, slope, mean, within + (parts * (of_g - mean.unsqueeze(-1)) ** 2).sum(-1))

    def _below(self, y: Tensor, pull: Tensor, spread: Tensor) -> Tensor:
        t, log_prior = self._nodes(y, pull, spread)
        deviation = torch.hypot(pull.unsqueeze(-1) * (-t / 2).exp(), spread.sqrt().unsqueeze(-1))
        return (log_prior.exp() * normal.cdf(y.unsqueeze(-1) / deviation)).sum(-1) * self._step

    def _nodes(self, y: Tensor, pull: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes t (n, N) in steps of ``_step`` up to ``_right`` or beyond, and the log of their prior density."""
        with torch.no_grad():
            # below g = (k / y)^2 no term of the integrand but the prior is large
            far = torch.where(pull > 0, 2 * (y.abs() / pull).log(), 0.0).clamp_min(0)
            # and so far down the prior cannot be made up for by the other factor, which is at most this
            gain = (y**2 / (2 * spread) + 0.5 * torch.log1p(pull**2 / spread)).nan_to_num(nan=math.inf, posinf=math.inf)
            # where the noise hides V, its moments weigh small g by 1 / g, down to g = k^2 / S
            left = torch.log1p(spread / pull**2) / (self.freedom / 2) + self._left
            left = torch.where(pull > 0, left.clamp_max(self._left_of_moments), min(self._left_of_moments, 1e3))
            start = -left - torch.minimum(far, gain / (self.freedom / 2))
            count = math.ceil((self._right - start.min().item()) / self._step) + 1 if len(y) else 1
            t = start.unsqueeze(-1) + self._step * torch.arange(count, dtype=y.dtype, device=y.device)
        return t, self._log_constant + self.freedom / 2 * _fall(t)

    def __repr__(self) -> str:
        return self._described(f"StudentT({self.freedom:g} degrees of freedom, ")


def _stirling(z: float) -> float:
    """log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, which is about 1 / (12 z)."""
    if z < 12:
        return math.lgamma(z) - (z - 0.5) * math.log(z) + z - 0.5 * math.log(2 * math.pi)
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
    return sum(c / z ** (2 * i + 1) for i, c in enumerate(terms))


def _fall(t: Tensor) -> Tensor:
    """t - expm1(t) = -(t^2/2 + t^3/6 + ...), to full relative accuracy."""
    series = torch.zeros_like(t)
    for j in range(15, 1, -1):  # |t| <= 1/4
        series = (1 + series) * t / j if j > 2 else (1 + series) * t**2 / 2
    return torch.where(t.abs() < 0.25, -series, t - torch.expm1(t))
