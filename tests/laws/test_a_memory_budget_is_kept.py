"""What laws hold beside their arguments and their answers stays within a stated budget, whatever the batch."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from toy_distributions import LAWS, Curve, GaussianMixture, Torus, memory_budget

QUICK = ("score", "posterior_mean", "posterior_cov_vp")
SLOW = ("log_prob", "posterior_cov_trace", "posterior_cov_diag")
MIB = 1 << 20


class Memory(TorchDispatchMode):
    """Counts the bytes of all tensors made inside and still alive; ``peak`` is the most there were."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if not isinstance(t, torch.Tensor):
                continue
            storage = t.untyped_storage()
            key = storage._cdata
            if key not in given and key not in self.alive:
                self.alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, key)
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key):
        self.now -= self.alive.pop(key, 0)


def asked(law, method, x):
    noised = law.noised(0.8, 0.5)
    if method in ("log_prob", "score"):
        return lambda: getattr(noised, method)(x)
    if method == "posterior_cov_vp":
        return lambda: law.posterior_cov_vp(x, 0.8, 0.5, x)
    return lambda: getattr(law, method)(x, 0.8, 0.5)


def held(call):
    with Memory() as memory:
        answer = call()
    return answer, memory.peak - answer.untyped_storage().nbytes()


def points(law, n, seed=0):
    return torch.randn(n, law.dim, dtype=law.dtype, generator=torch.Generator().manual_seed(seed))


def check(law, method, x, size):
    asked(law, method, x[:64])()  # what a law makes once and keeps is no temporary
    call = asked(law, method, x)
    plain = call()
    with memory_budget(size):
        answer, most = held(call)
    assert most <= size, f"{most / MIB:.1f} MiB"
    scale = plain.abs().max()
    assert (answer - plain).abs().max() <= 1e-11 * scale
    return most


SMALL = [name for name in LAWS if LAWS[name]().dim <= 8]


@pytest.mark.parametrize("method", [*QUICK, *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)])
@pytest.mark.parametrize("name", SMALL)
def test_for_the_zoo(name, method):
    law = LAWS[name]()
    n, size = (400, 8 * MIB) if isinstance(law, Curve | Torus) else (1000, 2 * MIB)
    check(law, method, points(law, n), size)


def cloud(count, dim):
    data = torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return GaussianMixture.empirical(data)


@pytest.mark.parametrize("method", QUICK + SLOW)
@pytest.mark.parametrize(("count", "dim", "n"), [(40_000, 2, 1_000), (9_000, 1, 6_000), (5_000, 40, 3_000)])
def test_for_clouds(count, dim, n, method):
    law = cloud(count, dim)
    n = n if method in ("posterior_mean", "log_prob") else 150
    check(law, method, points(law, n), 48 * MIB)


@pytest.mark.parametrize("method", ["log_prob", "score", "posterior_mean"])
@pytest.mark.parametrize("dim", [2, 12, 32])
def test_for_mixtures(dim, method):
    generator = torch.Generator().manual_seed(2)
    roots = torch.randn(48, dim, dim, dtype=torch.float64, generator=generator)
    means = torch.randn(48, dim, dtype=torch.float64, generator=generator)
    law = GaussianMixture(torch.full((48,), 1 / 48), means, roots @ roots.mT + torch.eye(dim))
    check(law, method, points(law, 6_000), 12 * MIB)


def test_without_one_more_is_held():
    """So that the counts above can fail."""
    law = LAWS["lissajous"]()
    assert held(asked(law, "score", points(law, 400)))[1] > 8 * MIB


def test_a_budget_too_small_is_refused_in_one_sentence():
    law = cloud(40_000, 2)
    x = points(law, 100)
    with memory_budget(100_000), pytest.raises(ValueError, match=r"memory_budget must be at least \d+ bytes .*100000"):
        law.posterior_mean(x, 0.8, 0.5)
    with memory_budget(1), pytest.raises(ValueError, match=r"memory_budget must be at least \d+ bytes"):
        LAWS["circle"]().posterior_mean(x, 0.8, 0.5)
    for size in (0, -1, 1.5, True, "64 MiB"):
        with pytest.raises(ValueError, match=r"size must be a whole number of bytes >= 1; got"), memory_budget(size):
            pass


def test_the_size_it_asks_for_is_enough():
    law = cloud(40_000, 2)
    x = points(law, 100)
    with memory_budget(1000), pytest.raises(ValueError, match="must be at least") as refused:
        law.posterior_cov_trace(x, 0.8, 0.5)
    size = int(str(refused.value).split(" bytes")[0].split()[-1])
    for _ in range(4):  # each part of the work may ask for more than the one before
        with memory_budget(size):
            try:
                answer, most = held(lambda: law.posterior_cov_trace(x, 0.8, 0.5))
                break
            except ValueError as error:
                size = int(str(error).split(" bytes")[0].split()[-1])
    assert most <= size
    torch.testing.assert_close(answer, law.posterior_cov_trace(x, 0.8, 0.5), rtol=1e-11, atol=0)


def test_budgets_nest_and_end():
    law = cloud(40_000, 2)
    x = points(law, 100)
    plain = law.posterior_mean(x, 0.8, 0.5)
    with memory_budget(1000):
        with memory_budget(64 * MIB):
            torch.testing.assert_close(law.posterior_mean(x, 0.8, 0.5), plain, rtol=1e-11, atol=1e-13)
        with pytest.raises(ValueError, match="must be at least"):
            law.posterior_mean(x, 0.8, 0.5)
    assert torch.equal(law.posterior_mean(x, 0.8, 0.5), plain)
