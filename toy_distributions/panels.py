r"""Quadrature along a path seen through Gaussian noise: adaptive panels for every point at once, with an error bound.

The law of alpha gamma(T) + N(0, S I), T with density w, has at x the density and the posterior

    p(x) = (2 pi S)^{-d/2} int w(t) e^{-f(t)} dt,        f(t) = |x - alpha gamma(t)|^2 / (2 S),

and for S from 1e-12 to 1e8 all of the mass may lie in a millionth of the path or be spread over it. ``search``
halves panels, for all points together, until each is either negligible or integrated by Gauss and Legendre to far
below rounding, both by bounds that hold always:

* with speed and acceleration bounded, |f(z) - f(c)| <= F(R) for complex |z - c| <= R, so that a panel of half-width r
  has at most the mass 2 r max(w) e^{F(r) - f(c)}, and the point at least the mass of a small interval about c;
* w is a polynomial of degree DEGREE on each first panel, up to rounding (its Legendre coefficients are looked at when
  the panels are made). n nodes integrate its product with a polynomial of degree K = 2n - 1 - DEGREE exactly, and
  e^{-f} is one up to 2 M rho^-K / (rho - 1), where M is its maximum over the ellipse with foci at the panel's ends
  and semi-axes (rho +- 1/rho) r / 2. The error is at most 8 r max(w) M rho^-K / (rho - 1), for the best rho.

First and second moments are sums over the same nodes; their factors |gamma - gamma*|, in units of the posterior's
width, enter the bounds too. All differences are taken from one parameter t* a point, near the largest of the
integrand, so that rounding acts on all nodes alike: f(t* + h) - f(t*) has full relative accuracy.

Everything is float64; other dtypes are converted at the door. Source: trefethen2013approximation, theorem 8.2 and
theorem 19.3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions.gauss import rule, to_coefficients
from toy_distributions.paths import Path
from toy_distributions.pieces import allowed

NODES = 40
DEGREE = 33
"""Degree up to which the weight is resolved on every first panel."""

EPS = torch.finfo(torch.float64).eps
RHO = (1.5, 2.0, 3.0, 4.5, 7.0, 10.0, 15.0, 25.0)
ACCURACY = 41.0
"""Every panel's error is below e^-ACCURACY of the point's mass: 1.6e-18, so that some hundred stay below 1e-15."""

WILD = 500.0
"""A panel over which f may vary by more is cut in eight, which saves rounds; else in two, which saves panels."""

PANELS_TOGETHER = 800
"""Panels whose nodes are worked through together: their temporaries stay in the cache."""

SMALLEST = 2.0**-48
"""Half-width in s below which parameters are no longer exact."""

MOST_PANELS = 2000
"""Panels a point, on average, beyond which the search is given up."""


class Panels(NamedTuple):
    """First panels: intervals of s in [0, 1] along each arc, with dyadic ends so that differences of s are exact."""

    path: Path
    arc: Tensor
    centre: Tensor
    half: Tensor
    log_low: Tensor
    """Log of the smallest weight on the panel."""
    log_high: Tensor
    mass: Tensor
    """Probability of each panel."""
    log_total: float
    """Log of the integral of the path's weight."""

    @property
    def decay(self) -> Tensor:
        """Log of 8 rho^-K / (rho - 1), for every rho."""
        rho = self.centre.new_tensor(RHO)
        return (8 / (rho - 1)).log() - (2 * NODES - 1 - DEGREE) * rho.log()

    def parameter(self, arc: Tensor, s: Tensor) -> Tensor:
        shape = arc.shape + (1,) * (s.ndim - arc.ndim)
        return self.path.start[arc].reshape(shape) + self.path.length[arc].reshape(shape) * s

    def to(self, device: torch.device | str | None) -> "Panels":
        tensors = {name: value.to(device) for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return self._replace(path=self.path.to(device), **tensors)


def resolve(path: Path) -> Panels:
    """The fewest halvings of the arcs on which the weight is a polynomial of degree DEGREE up to rounding.

    Raises ValueError where thirty halvings do not suffice: the weight vanishes there, or is not smooth.
    """
    device = path.start.device
    nodes, weights = (part.to(device) for part in rule(NODES))
    # to coefficients of normalised Legendre polynomials, the high degrees only
    transform = to_coefficients(NODES).to(device)[DEGREE + 1 :]
    transform = transform / (2 * torch.arange(DEGREE + 1, NODES).to(transform) + 1).sqrt().unsqueeze(-1)
    arc = torch.arange(len(path.start), device=device)
    centre, half = torch.full_like(path.start, 0.5), torch.full_like(path.start, 0.5)
    done: list[tuple[Tensor, ...]] = []
    while True:
        s = centre.unsqueeze(-1) + half.unsqueeze(-1) * (2 * nodes - 1)
        t = path.start[arc].unsqueeze(-1) + path.length[arc].unsqueeze(-1) * s
        log_weight = path.log_weight(arc, t)
        top, low = log_weight.max(-1).values, log_weight.min(-1).values
        relative = torch.exp(log_weight - top.unsqueeze(-1))
        tail = (relative @ transform.T).norm(dim=-1) / relative.min(-1).values
        good = (tail <= 8 * EPS) & (half <= 0.25)
        log_mass = top + (2 * path.length[arc] * half * (relative @ weights)).log()
        done.append(tuple(part[good] for part in (arc, centre, half, low, top, log_mass)))
        if bool(good.all()):
            break
        if int((~good).sum()) > MOST_PANELS or half[~good].min() < 2.0**-30:
            raise ValueError(
                f"the density along the path must be positive and smooth; near t={t[~good][0, 0].item():.6g} it is off "
                f"a polynomial of degree {DEGREE} by {tail[~good].max().item():.1e} of its smallest value on panels "
                f"of {half[~good].min().item():.1e}. Round its corners and keep it above zero."
            )
        arc, _, centre, half = _parts(2, *(part[~good] for part in (arc, arc, centre, half)))
    arc, centre, half, low, top, log_mass = (torch.cat(parts) for parts in zip(*done, strict=True))
    log_total = log_mass.logsumexp(0)
    return Panels(path, arc, centre, half, low - 1e-3, top + 0.7, (log_mass - log_total).exp(), log_total.item())


def _parts(into: int, point: Tensor, first: Tensor, centre: Tensor, half: Tensor) -> tuple[Tensor, ...]:
    """Every panel cut in ``into`` equal ones, a power of two."""
    shift = (torch.arange(into).to(half) + 0.5) * (2 / into) - 1
    centre = (centre.unsqueeze(-1) + half.unsqueeze(-1) * shift).reshape(-1)
    point, first, half = (part.repeat_interleave(into) for part in (point, first, half / into))
    return point, first, centre, half


@dataclass(frozen=True, eq=False)
class Found:
    """The panels that count for points (n, dim), m in all, and for each point where its differences are taken from."""

    panels: Panels
    point: Tensor
    """(m,) index of the point that the panel serves."""
    arc: Tensor
    centre: Tensor
    half: Tensor
    home_arc: Tensor
    """(n,)."""
    home: Tensor
    """(n,) in s."""
    bound: Tensor
    """(n,) bound on the relative error of the mass."""

    def batches(self) -> "list[tuple[slice, Found]]":
        """The points in runs that have about PANELS_TOGETHER panels together, each with what was found for it."""
        if not len(self.home):
            return [(slice(0, 0), self)]
        ends = (counts := torch.bincount(self.point, minlength=len(self.home))).cumsum(0).tolist()
        panel = NODES * self.panels.path.width  # elements of its largest temporary
        together = allowed(PANELS_TOGETHER * panel, self.half.element_size(), least=int(counts.max()) * panel) // panel
        out, start, begin = [], 0, 0
        for i, end in enumerate(ends):
            if i + 1 == len(ends) or ends[i + 1] - begin > together:
                panels, points = slice(begin, end), slice(start, i + 1)
                parts = (part[panels] for part in (self.point - start, self.arc, self.centre, self.half))
                homes = (part[points] for part in (self.home_arc, self.home, self.bound))
                out.append((points, Found(self.panels, *parts, *homes)))
                start, begin = i + 1, end
        return out


def search(
    panels: Panels,
    x: Tensor,
    alpha: Tensor,
    spread: Tensor,
    *,
    thin: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Found:
    """Panels for the points x (n, dim), with alpha and the variance ``spread`` of shape (n,), all float64.

    thin: a lower bound on the log of a further factor of the integrand, which is at most one on the real line and in
    the complex plane; it gets the points' indices, gamma(c) and how far from it the panel reaches.

    Raises ValueError if a point needs more than MOST_PANELS panels or panels below SMALLEST, with the error reached.
    """
    path, n = panels.path, x.shape[0]
    nearest = _nearest(panels, x, alpha)
    home = _Home(panels, panels.arc[nearest], panels.centre[nearest], x, alpha, spread)
    point = torch.arange(n, device=x.device).repeat_interleave(len(panels.arc))
    first = torch.arange(len(panels.arc), device=x.device).repeat(n)
    centre, half = panels.centre[first], panels.half[first]
    # logs of masses here are relative to e^-f at the point's home, which moves as panels shrink
    best, width = torch.full_like(alpha, -math.inf), torch.ones_like(alpha)
    bound = torch.zeros_like(alpha)
    taken: list[tuple[Tensor, ...]] = []
    while True:
        arc, low, high = panels.arc[first], panels.log_low[first], panels.log_high[first]
        r = path.length[arc] * half
        view = _View(home, point, arc, centre, r)
        # a point has at least the mass of the interval about c over which f rises by one
        linear, square = view.slope, view.square[:, 0]
        inner = torch.minimum(r, 2 / (linear + (linear**2 + 4 * square).sqrt()))
        least = (2 * inner).log() + low - view.f - 1 - view.rounding
        if thin is not None:
            least = least + thin(point, view.place, view.reach[:, 0])
        improved = best.scatter_reduce(0, point, least, "amax")
        new = _winners((least == improved[point]) & (least > best[point]), point, n)
        best = improved
        width[point[new]] = (inner * view.speed)[new].clamp_min(1e-300)
        # the factors gamma - gamma* of second moments, in units of the posterior's width
        apart = view.apart.unsqueeze(-1) + view.reach
        factors = 2 * torch.log1p(apart / width[point].unsqueeze(-1))
        gain = (2 * r).log() + high + view.fall + factors[:, 0]
        most = gain - view.f + view.rounding
        rise = view.radii * (linear.unsqueeze(-1) + view.radii * view.square)
        decay = (rise + factors)[:, 1:] + panels.decay
        error = r.log() + high - view.f + view.rounding + decay.nan_to_num(math.inf).amin(-1)
        needed = best[point] - ACCURACY
        keep, fine = most > needed, error <= needed
        bound = bound.index_add(0, point[fine], (error - best[point])[fine].exp())
        taken.append(tuple(part[keep & fine] for part in (point, arc, centre, half, gain)))
        split = keep & ~fine
        best = best.index_add(0, point[new], view.f[new])  # from the new home
        home = home.moved(point[new], arc[new], centre[new])
        if not bool(split.any()):
            break
        if int(split.sum()) > MOST_PANELS * n or half.min() < SMALLEST:
            reached = math.exp(min(700.0, (torch.minimum(error, most) - needed)[split].max().item() - ACCURACY))
            raise ValueError(
                f"the quadrature cannot meet its bound at noise {spread[point][split].min().item() ** 0.5:.3g} for "
                f"alpha={alpha[point][split].max().item():.3g}: with panels of {half.min().item():.1e} of the path a "
                f"relative error of {reached:.1e} may remain. Use a larger sigma, or Circle where the path is round."
            )
        wild = r * (linear + r * square) > WILD
        pieces = [
            _parts(into, *(part[chosen] for part in (point, first, centre, half)))
            for into, chosen in ((2, split & ~wild), (8, split & wild))
        ]
        point, first, centre, half = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    point, arc, centre, half, gain = (torch.cat(parts) for parts in zip(*taken, strict=True))
    _, shift, fall = home.differences(point, arc, centre.unsqueeze(-1), torch.zeros_like(centre).unsqueeze(-1))
    order = point.argsort(stable=True)
    # some were taken before the best was known
    most = gain + fall[:, 0] + home.rounding(point, shift[:, 0].norm(dim=-1))
    order = order[(most > best[point] - ACCURACY)[order]]
    point, arc, centre, half = (part[order] for part in (point, arc, centre, half))
    return Found(panels, point, arc, centre, half, home.arc, home.s, bound + 64 * EPS)


def _winners(among: Tensor, point: Tensor, n: int) -> Tensor:
    """Indices of the first panel of each point that is among those marked, as ties would count twice."""
    marked = among.nonzero()[:, 0]
    none = len(point)
    first = torch.full((n,), none, device=point.device).scatter_reduce(0, point[marked], marked, "amin")
    return first[first < none]


def _nearest(panels: Panels, x: Tensor, alpha: Tensor) -> Tensor:
    """The first panel whose centre lies nearest to each point."""
    centres = panels.path.place(panels.arc, panels.parameter(panels.arc, panels.centre))
    return (x.unsqueeze(1) - alpha[:, None, None] * centres).square().sum(-1).argmin(-1)


class _Home:
    """The parameter of each point from which its differences are taken; away is x - alpha gamma there."""

    def __init__(self, panels: Panels, arc: Tensor, s: Tensor, x: Tensor, alpha: Tensor, spread: Tensor):
        self.panels, self.arc, self.s, self.x, self.alpha, self.spread = panels, arc, s, x, alpha, spread
        self.t = panels.parameter(arc, s)
        self.place, self.velocity = panels.path.place(arc, self.t), panels.path.velocity(arc, self.t)
        self.away = x - alpha.unsqueeze(-1) * self.place

    def moved(self, point: Tensor, arc: Tensor, s: Tensor) -> "_Home":
        return _Home(
            self.panels,
            self.arc.index_put((point,), arc),
            self.s.index_put((point,), s),
            self.x,
            self.alpha,
            self.spread,
        )

    def differences(self, point: Tensor, arc: Tensor, centre: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At s = centre + step (m, k): t, gamma(t) - place (m, k, dim), and f at home - f (m, k)."""
        panels, path, h_from = self.panels, self.panels.path, centre - self.s[point].unsqueeze(-1)
        t = panels.parameter(arc, centre + step)
        h = path.length[arc].unsqueeze(-1) * (h_from + step)
        bend = path.bend(self.arc[point], self.t[point], h)
        other = arc != self.arc[point]
        if bool(other.any()):
            h = torch.where(other.unsqueeze(-1), 0.0, h)
            there = path.place(arc[other], t[other]) - self.place[point[other]].unsqueeze(1)
            bend = bend.index_put((other.nonzero()[:, 0],), there)
        shift = h.unsqueeze(-1) * self.velocity[point].unsqueeze(1) + bend
        # the part of away . shift that is linear in h has one coefficient, whose rounding only moves the posterior
        along = (self.away * self.velocity).sum(-1)[point].unsqueeze(-1) * h
        across = (bend @ self.away[point].unsqueeze(-1)).squeeze(-1)
        alpha = self.alpha[point].unsqueeze(-1)
        fall = alpha / self.spread[point].unsqueeze(-1) * (along + across - alpha / 2 * (shift**2).sum(-1))
        return t, shift, fall

    def rounding(self, point: Tensor, apart: Tensor) -> Tensor:
        """A bound on the rounding error of a difference in f over the distance ``apart``."""
        size = (self.x.norm(dim=-1) + self.alpha * self.place.norm(dim=-1))[point] + self.alpha[point] * apart
        return 8 * EPS * size * self.alpha[point] * apart / self.spread[point]


class _View:
    """Panels seen from points: f at the centre c less f at home, and how it may grow within radii R about c.

    |f(z) - f(c)| <= slope R + square R^2 for |z - c| <= R; square and the radii have shape (m, 1 + len(RHO)), the
    first radius is the half-width, the rest belong to the ellipses.
    """

    def __init__(self, home: _Home, point: Tensor, arc: Tensor, centre: Tensor, r: Tensor):
        path, alpha, spread = home.panels.path, home.alpha[point], home.spread[point]
        t, shift, fall = home.differences(point, arc, centre.unsqueeze(-1), torch.zeros_like(centre).unsqueeze(-1))
        t, shift, self.f = t[:, 0], shift[:, 0], -fall[:, 0]
        self.place, velocity = home.place[point] + shift, path.velocity(arc, t)
        self.apart = shift.norm(dim=-1)
        self.rounding = home.rounding(point, self.apart)
        away = home.away[point] - alpha.unsqueeze(-1) * shift
        distance, self.speed = away.norm(dim=-1), velocity.norm(dim=-1)
        scale = alpha / spread
        self.slope = scale * (away * velocity).sum(-1).abs()
        self.radii = r.unsqueeze(-1) * r.new_tensor([1.0, *((rho + 1 / rho) / 2 for rho in RHO)])
        bend = path.acceleration(arc, t, self.radii)
        speed = self.speed.unsqueeze(-1) + self.radii / 2 * bend
        self.reach = self.radii * speed
        """Bounds on |gamma(z) - gamma(c)|."""
        pulled = distance.unsqueeze(-1) * bend
        self.square = (scale / 2).unsqueeze(-1) * (pulled + alpha.unsqueeze(-1) * speed**2)
        # how far f may fall on the panel: by its slope, and by the distance that the path can cover
        by_slope = r * (self.slope + scale / 2 * r * pulled[:, 0])
        nearer = torch.minimum(distance, alpha * self.reach[:, 0])
        self.fall = torch.minimum(by_slope, nearer * (2 * distance - nearer) / (2 * spread))


class Nodes:
    """The nodes of the panels found, with their posterior weights; differentiable in x, alpha and spread.

    gamma = place + shift, where place (n, dim) belongs to the point and shift (m, NODES, dim) to the node;
    away (n, dim) is x - alpha place. log_mass (n,) is the log of int w e^{-f} dt, w a probability density.

    tilt: the log of a further factor of the integrand, from the points' indices (m,) and gamma at the nodes.
    """

    def __init__(
        self,
        found: Found,
        x: Tensor,
        alpha: Tensor,
        spread: Tensor,
        tilt: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        panels, path, point, arc = found.panels, found.panels.path, found.point, found.arc
        self.point, self.n = point, x.shape[0]
        nodes, weights = (part.to(x.device) for part in rule(NODES))
        home = _Home(panels, found.home_arc, found.home, x, alpha, spread)
        self.place, self.away = home.place, home.away
        step = found.half.unsqueeze(-1) * (2 * nodes - 1)
        t, self.shift, fall = home.differences(point, arc, found.centre.unsqueeze(-1), step)
        log_rule = (path.length[arc] * 2 * found.half).log().unsqueeze(-1) + weights.log()
        log_weight = fall + path.log_weight(arc, t) - panels.log_total + log_rule
        if tilt is not None:
            log_weight = log_weight + tilt(point, self.place[point].unsqueeze(1) + self.shift)
        top = log_weight.detach().amax(-1)
        top = torch.full_like(alpha, -math.inf).scatter_reduce(0, point, top, "amax")
        raw = (log_weight - top[point].unsqueeze(-1)).exp()
        mass = raw.new_zeros(self.n).index_add(0, point, raw.sum(-1))
        self.log_mass = mass.log() + top - (self.away**2).sum(-1) / (2 * spread)
        self.weight = raw / mass[point].unsqueeze(-1)

    def mean(self, values: Tensor) -> Tensor:
        """The posterior mean of values (m, NODES, k) at the nodes, (n, k)."""
        sums = (self.weight.unsqueeze(1) @ values).squeeze(1)
        return sums.new_zeros(self.n, values.shape[-1]).index_add(0, self.point, sums)

    def cov(self, values: Tensor, mean: Tensor) -> Tensor:
        """The posterior covariance of values (m, NODES, k) about their mean (n, k): (n, k, k)."""
        off = values - mean[self.point].unsqueeze(1)
        sums = (self.weight.unsqueeze(-1) * off).mT @ off
        return sums.new_zeros(self.n, *sums.shape[1:]).index_add(0, self.point, sums)


def parameters(panels: Panels, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n independent draws of (arc, t) from the path's weight: a panel by its mass, t within it by rejection."""
    device = panels.mass.device
    edges = panels.mass.cumsum(0)
    u = torch.rand(n, dtype=torch.float64, device=device, generator=generator) * edges[-1]
    which = torch.searchsorted(edges, u, right=True).clamp_max(len(edges) - 1)
    arc, t = panels.arc[which], torch.zeros_like(u)
    open_ = torch.arange(n, device=device)
    while len(open_):
        place, height = torch.rand(2, len(open_), dtype=torch.float64, device=device, generator=generator)
        here = which[open_]
        s = panels.centre[here] + panels.half[here] * (2 * place - 1)
        t[open_] = panels.parameter(arc[open_], s)
        log_weight = panels.path.log_weight(arc[open_], t[open_].unsqueeze(-1)).squeeze(-1)
        open_ = open_[height.log() > log_weight - panels.log_high[here]]
    return arc, t
