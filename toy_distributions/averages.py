"""Averages of affine maps over the components that a point may come from, at many points and at machine speed.

Two routes. In few dimensions all energies are squares of a few planes (components x points), each one small product of
matrices. In many, a pass in float32 finds the components that can weigh anything at a point, with a bound on its own
error, and only those are looked at in full precision. A row for which a route cannot promise its digits is handed back
as not sure, and the caller answers it by differences.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions.axes import Axes
from toy_distributions.pieces import allowed, fits

FEW_DIMENSIONS = 8
"""Up to this many the planes serve, beyond it the contenders."""

MOST_DIMENSIONS = 128
"""Beyond this many a table of matrices, one a component, would outgrow what it saves."""

TABLES = 8
"""Tables of a matrix a component that a route holds."""

LOGIT_UNITS = 4096.0
"""Largest bound on the error of a logit, in eps, with which a row counts as sure: 9.1e-13 in float64."""

CROWDED = 0.25
"""Share of components in contention beyond which looking at them one by one does not pay."""

BITS = math.log2(math.e)

CACHED = 1 << 19
"""Elements of a buffer: large enough to hide the cost of a call, small enough for the caches (4 MiB in float64)."""

STRETCH = 1 << 14
"""Points screened together."""

MASK = 1 << 24
"""Pairs of a component and a point screened together, a byte each."""

PAIRS = 1 << 19
"""Elements (contenders x dim) looked at together."""

NEGLIGIBLE = 1e-60
"""Share of the heaviest weight below which no sum over components can feel a weight."""


class Terms(NamedTuple):
    """log w_k (K,), alpha m_k (K, d), the noised variances (K, R) along the axes."""

    log_weights: Tensor
    means: Tensor
    spread: Tensor
    axes: Axes

    @property
    def heights(self) -> Tensor:
        """The logit of each component at its own mean, (K,)."""
        return self.log_weights - 0.5 * self.axes.total(self.spread.log(), self.means.shape[-1])

    def roots(self) -> Tensor:
        """Matrices W_k (K, d, d) with |W_k (x - alpha m_k)|^2 twice the energy."""
        return self.axes.matrix(self.spread.rsqrt(), self.means.shape[-1])


class Pull(NamedTuple):
    """The maps x -> U_k (shift_k + gain_k U_k^T (x - base_k)); shift and gain (K, R), base (K, d)."""

    base: Tensor
    shift: Tensor
    gain: Tensor


class Averages(NamedTuple):
    values: Tensor
    """sum_k r_k (map k of x), (n, d)."""
    log_total: Tensor
    """log sum_k exp(logit_k), (n,)."""
    sure: Tensor
    """Rows with all their digits, (n,) of bool."""


def worthwhile(terms: Terms, x: Tensor) -> bool:
    """Whether there is enough to do for tables to pay, and nobody wants derivatives through reused buffers."""
    components, dim = terms.means.shape
    if torch.is_grad_enabled() and (x.requires_grad or terms.means.requires_grad or terms.spread.requires_grad):
        return False
    enough = components > 2 and len(x) * components * dim >= 1 << 14 and len(x) >= 4 * dim
    return enough and dim <= MOST_DIMENSIONS and fits(TABLES * components * dim**2 * x.element_size())


def faintest(dtype: torch.dtype) -> float:
    """Bits below which a weight is nothing: subnormal weights would cost more than all the others."""
    return 0.98 * math.log2(torch.finfo(dtype).tiny)


def averages(terms: Terms, pull: Pull, x: Tensor) -> Averages:
    """The averages at x (n, d), with weights r_k proportional to w_k N(x; alpha m_k, S_k)."""
    route = _by_planes if x.shape[-1] <= FEW_DIMENSIONS else _by_contenders
    return route(terms, pull, x)


def _by_planes(terms: Terms, pull: Pull, x: Tensor) -> Averages:
    r"""Energies (1/2) sum_i y_i^2 with planes y_i = W_i x - W_i alpha m, (K, n), i = 1 .. d, in bits, not in nats.

    Each y is off by at most (d + 2) eps (|W| |x| + |W alpha m|), as is any y computed from a rounded x or m; the
    logit by that times |y|. The maps are averaged as numbers: sum_k r_k offset_k + (sum_k r_k gain_k) x.
    Bits, since exp2 costs half of what exp does.
    """
    n, d = x.shape
    roots = terms.roots()
    at_mean = torch.einsum("kde,ke->kd", roots, terms.means)
    planes = math.sqrt(0.5 * BITS) * torch.cat([roots, -at_mean.unsqueeze(-1)], -1).transpose(0, 1)
    heights = BITS * terms.heights
    gains = terms.axes.matrix(pull.gain, d)
    offsets = terms.axes.back(pull.shift - pull.gain * terms.axes.turn(pull.base))
    upper = torch.triu_indices(d, d, device=x.device)
    maps = torch.cat([torch.ones_like(heights)[None], offsets.T, gains[:, upper[0], upper[1]].T])
    where = x.new_zeros(d, d, dtype=torch.long)
    where[upper[0], upper[1]] = where[upper[1], upper[0]] = torch.arange(len(upper[0]), device=x.device)

    steep, far, highest = roots.flatten(1).norm(dim=-1).max(), at_mean.norm(dim=-1).max(), heights.max()
    count = len(heights)
    size = min(n, allowed(max(CACHED, 64 * count), x.element_size(), least=count) // count)
    features = torch.cat([x.T, x.new_ones(1, n)])
    values, log_total = torch.empty_like(x.T), x.new_empty(n)
    sure = torch.empty(n, dtype=torch.bool, device=x.device)
    buffers = x.new_empty(2, len(heights) * size)
    for start in range(0, n, size):
        some = slice(start, min(start + size, n))
        here = features[:, some].contiguous()
        logits, y = (buffer[: len(heights) * here.shape[1]].view(len(heights), -1) for buffer in buffers)
        torch.mm(planes[0], here, out=logits)
        torch.mul(logits, logits, out=logits)
        for plane in planes[1:]:
            torch.mm(plane, here, out=y)
            logits.addcmul_(y, y)
        torch.sub(heights.unsqueeze(-1), logits, out=logits)
        top = logits.amax(0)
        weights = torch.threshold_(logits.sub_(top), faintest(x.dtype), -math.inf).exp2_()
        sums = maps @ weights
        sums[1:] /= sums[0]
        offset, gain = sums[1 : d + 1], sums[d + 1 :]
        values[:, some] = offset + (gain[where] * here[:d]).sum(1)
        log_total[some] = (top + sums[0].log2()) / BITS
        energy = (highest - top) / BITS + 0.5  # of no component that weighs anything is it larger, but for its weight
        off = (d + 2) * ((2 * energy).sqrt() * (steep * (here[:d] ** 2).sum(0).sqrt() + far) + energy)
        sure[some] = off <= LOGIT_UNITS
    return Averages(values.T.contiguous(), log_total, sure)


def _by_contenders(terms: Terms, pull: Pull, x: Tensor) -> Averages:
    """Only the components that float32 cannot rule out, each by differences at the points that it may reach."""
    n, d = x.shape
    screen = _Screen(terms)
    values, log_total = torch.zeros_like(x), x.new_zeros(n)
    sure = torch.zeros(n, dtype=torch.bool, device=x.device)
    if _crowded(screen(x[:: max(1, n // 256)])):
        return Averages(values, log_total, sure)
    count = screen.components
    stretch = allowed(min(STRETCH * count, max(MASK, 64 * count)), 1, least=count) // count
    pairs = allowed(PAIRS, x.element_size(), least=d)
    for start in range(0, n, stretch):
        mask = screen(x[start : start + stretch])
        if _crowded(mask):
            continue
        contenders = mask.sum(-1)
        # as many rows at a time as keep their contenders together within the budget
        piece = (contenders.cumsum(0) * d).div(pairs, rounding_mode="floor")
        begin = start
        for rows in piece.unique_consecutive(return_counts=True)[1].tolist():
            some = slice(begin, begin + rows)
            values[some], log_total[some], sure[some] = _over_pairs(
                terms, pull, x[some], mask[begin - start : begin - start + rows]
            )
            begin += rows
    return Averages(values, log_total, sure)


def _crowded(mask: Tensor) -> bool:
    return bool(mask.sum() > CROWDED * mask.numel())


class _Screen:
    """Which components of terms can weigh anything at a point: those whose upper bound is not below a lower one.

    About the centre c of the means, z = x - c and P = W^T W, the logit is linear in the F = d (d + 3) / 2 + 1
    features z_i z_j, z_i, 1: one product of matrices in float32. By Cauchy and Schwarz the terms add up in size to no
    more than (1/2) |P| |z|^2 + |P m| |z| + (1/2) m P m + |height|, and the logit is off by at most (F + 8) eps of it.
    """

    def __init__(self, terms: Terms):
        self.centre = terms.means.mean(0)
        roots, away = terms.roots().double(), (terms.means - self.centre).double()
        precision = roots.mT @ roots
        pull = (precision @ away.unsqueeze(-1)).squeeze(-1)
        own = 0.5 * (roots @ away.unsqueeze(-1)).square().sum((-2, -1))
        heights = terms.heights.double()
        self.components, d = terms.means.shape
        upper = torch.triu_indices(d, d, device=away.device)
        squares = precision[:, upper[0], upper[1]] * torch.where(upper[0] == upper[1], -0.5, -1.0)
        self.table = torch.cat([squares, pull, (heights - own).unsqueeze(-1)], -1).float()
        eps = (self.table.shape[1] + 8) * torch.finfo(torch.float32).eps
        sizes = (0.5 * precision.flatten(1).norm(dim=-1), pull.norm(dim=-1), own + heights.abs())
        self.sizes = eps * torch.stack(sizes, -1).float()
        tiny = torch.finfo(terms.means.dtype).tiny * torch.finfo(terms.means.dtype).eps
        self.reach = -max(math.log(NEGLIGIBLE), math.log(tiny))
        wide = max(self.table.shape)
        self.rows = allowed(max(2 * CACHED, 64 * wide), 4, least=wide) // wide

    def __call__(self, x: Tensor) -> Tensor:
        """(n, K) of bool."""
        d, count = x.shape[-1], self.table.shape[1]
        z = (x - self.centre).float().T.contiguous()
        out = torch.empty(self.components, len(x), dtype=torch.bool, device=x.device)
        buffer = z.new_empty(count * min(self.rows, len(x)))
        for here, found in zip(z.split(self.rows, -1), out.split(self.rows, -1), strict=True):
            features = buffer[: count * here.shape[1]].view(count, -1)
            begin = 0
            for i in range(d):
                torch.mul(here[i], here[i:], out=features[begin : begin + d - i])
                begin += d - i
            features[begin:-1], features[-1] = here, 1.0
            logits = self.table @ features
            length = torch.linalg.vector_norm(here, dim=0)
            off = self.sizes @ torch.stack([length.square(), length, torch.ones_like(length)])
            if not bool((logits.sum() + off.sum()).isfinite()):
                found.fill_(True)  # what overflows float32 stays in
                continue
            lowest = (logits - off).amax(0)
            torch.ge(logits.add_(off), lowest - self.reach, out=found)
        return out.T


def _over_pairs(terms: Terms, pull: Pull, x: Tensor, mask: Tensor) -> Averages:
    """The averages over the pairs (component, point) in the mask (n, K), one component after the other."""
    which, rows = mask.T.nonzero().unbind(-1)
    runs = [(k, run) for k, run in enumerate(rows.split(mask.sum(0).tolist())) if len(run)]
    values, energies = [], []
    for k, run in runs:
        here, turned = x[run], terms.axes.turner(k)
        away = turned(here - terms.means[k])
        energies.append((away.square() / terms.spread[k]).sum(-1))
        along = away if pull.base is terms.means else turned(here - pull.base[k])
        values.append(terms.axes.back_of(k, pull.shift[k] + pull.gain[k] * along))
    energy = torch.cat(energies)
    logit = terms.heights[which] - 0.5 * energy
    top = x.new_full((len(x),), -math.inf).scatter_reduce(0, rows, logit, "amax")
    weight = (logit - top[rows]).exp()
    total = torch.zeros_like(top).index_add(0, rows, weight)
    weight = weight / total[rows]
    out = torch.zeros_like(x)
    for (_, run), value, share in zip(runs, values, weight.split([len(run) for _, run in runs]), strict=True):
        out.index_add_(0, run, value.mul_(share.unsqueeze(-1)))
    least = torch.full_like(top, math.inf).scatter_reduce(0, rows, energy, "amin")
    return Averages(out, top + total.log(), least <= 32 + 2 * x.shape[-1])
