"""On a CUDA device every law says what it says on the CPU, in both precisions."""

import pytest
import torch

from tests.laws.checks import EPS, rounding, typical, worst
from toy_distributions import LAWS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("sigma", [1e-6, 0.3, 1e4])
@pytest.mark.parametrize("name", LAWS)
def test_the_zoo(name, sigma, dtype):
    law, coarser = LAWS[name](), torch.finfo(dtype).eps / EPS
    there = law.to(dtype=dtype, device="cuda")
    x = typical(law, 0.8, sigma).to(dtype)
    mean = there.posterior_mean(x.cuda(), 0.8, sigma)
    score = there.noised(0.8, sigma).score(x.cuda())
    assert mean.is_cuda and mean.dtype == dtype
    x = x.double()
    bound = rounding(law, x, 0.8, sigma)
    assert worst((mean.cpu().double() - law.posterior_mean(x, 0.8, sigma)).norm(dim=-1), coarser * bound.mean) <= 1
    off = sigma**2 * (score.cpu().double() - law.noised(0.8, sigma).score(x))
    assert worst(off.norm(dim=-1), coarser * bound.tweedie) <= 1
    assert there.posterior_cov(x.to(dtype).cuda(), 0.8, sigma).is_cuda
    assert bool(there.noised(0.8, sigma).log_prob(x.to(dtype).cuda()).isfinite().all())
    assert there.sample(5, generator=torch.Generator("cuda").manual_seed(0)).is_cuda
