"""Whatever is wrong with the input, the answer is one line that names it, the value, and the way out."""

import math

import pytest
import torch

from toy_distributions import LAWS, Box, Circle, Distribution, GaussianMixture, Product, Registry, Sphere, identities

CIRCLE, GAUSSIAN = Circle(), GaussianMixture.gaussian(0.7, 0.25)
POINT = torch.tensor([0.3, 0.4], dtype=torch.float64)
NAN, INF = math.nan, math.inf

BAD = {
    # mixtures
    "means (components, dim)": lambda: GaussianMixture([1.0], [0.0], [1.0]),
    r"weights must have shape \(2,\).*got \(1,\)": lambda: GaussianMixture([1.0], [[0.0], [1.0]], [1.0, 1.0]),
    r"weights must be > 0; got -0.5": lambda: GaussianMixture([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]),
    r"weights must sum to one; got a sum of 0.9": lambda: GaussianMixture([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0]),
    r"weights must be finite; got 1 of 2": lambda: GaussianMixture([0.5, NAN], [[0.0], [1.0]], [1.0, 1.0]),
    r"means must be finite; got 1 of 2 .* inf at index \(1, 0\)": lambda: GaussianMixture(
        [0.5, 0.5], [[0.0], [INF]], [1.0, 1.0]
    ),
    r"covs must have shape \(1,\).*got \(3,\)": lambda: GaussianMixture([1.0], [[0.0, 1.0]], [1.0, 1.0, 1.0]),
    r"covs must hold variances >= 0; got -1.0": lambda: GaussianMixture([1.0], [[0.0]], [-1.0]),
    r"covs must be symmetric; covs\[0\]": lambda: GaussianMixture.gaussian([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]]),
    r"positive semi-definite; covs\[0\] has the eigenvalue -1": lambda: GaussianMixture.gaussian(
        [0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]
    ),
    r"points must have shape \(n, dim\); got \(3,\)": lambda: GaussianMixture.empirical([1.0, 2.0, 3.0]),
    r"means must hold real floating-point numbers; got dtype torch.int64": lambda: GaussianMixture(
        [1.0], torch.tensor([[1]]), [1.0]
    ),
    # spheres, boxes, products
    r"radius must be finite and > 0; got radius=-1.0": lambda: Circle(-1.0),
    r"radius must be finite and > 0; got radius=nan": lambda: Circle(NAN),
    r"blur must be finite and >= 0; got blur=-0.1": lambda: Circle(1.0, -0.1),
    r"dim must be an integer >= 1; got dim=0": lambda: Sphere(0),
    r"centre must have shape \(3,\), as dim=3; got \(2,\)": lambda: Sphere(3, centre=[0.0, 0.0]),
    r"radius must be one number; got a tensor of shape \(2,\)": lambda: Sphere(3, torch.ones(2)),
    r"low must be < high in every coordinate; got low\[1\]=2.0, high\[1\]=1.0": lambda: Box([0.0, 2.0], [1.0, 1.0]),
    r"low and high must both have shape \(dim,\); got \(1,\) and \(2,\)": lambda: Box([0.0], [1.0, 1.0]),
    r"high must be finite": lambda: Box([0.0], [INF]),
    r"Product needs at least one law; got none": lambda: Product(),
    r"Product takes laws.*; got float": lambda: Product(1.0),  # pyright: ignore[reportArgumentType]
    r"must share dtype and device; got torch.float32 on cpu, torch.float64 on cpu": lambda: Product(
        CIRCLE, CIRCLE.to(torch.float32)
    ),
    # points and levels
    r"x must have shape \(..., 2\), one point per row; got \(3,\)": lambda: CIRCLE.posterior_mean(
        torch.ones(3), 1.0, 1.0
    ),
    r"add the last axis with x.unsqueeze\(-1\)": lambda: GAUSSIAN.score(torch.ones(3)),
    r"x must be a tensor of shape \(..., 2\); got list": lambda: CIRCLE.score([1.0, 2.0]),  # pyright: ignore[reportArgumentType]
    r"x must be finite; got 1 of 2 entries that are not, the first is nan at index \(0, 0\)": lambda: GAUSSIAN.log_prob(
        torch.tensor([[NAN], [1.0]])
    ),
    r"sigma must be >= 0; got sigma=-1.0": lambda: CIRCLE.noised(1.0, -1.0),
    r"alpha must be >= 0; got alpha=-1.0": lambda: CIRCLE.noised(-1.0, 1.0),
    r"sigma must be finite; got sigma=inf": lambda: CIRCLE.noised(1.0, INF),
    r"sigma must be > 0 for a posterior.*got sigma=0": lambda: CIRCLE.posterior_mean(POINT, 1.0, 0.0),
    r"sigma must be > 0 for a posterior": lambda: CIRCLE.posterior_cov(POINT, 1.0, torch.tensor(0.0)),
    r"sigma must be finite; got 1 of 2": lambda: CIRCLE.posterior_mean(POINT, 1.0, torch.tensor([1.0, NAN])),
    r"sigma must be a number or broadcast to the batch shape \(4,\) of x; got shape \(3,\)": lambda: (
        CIRCLE.posterior_mean(torch.ones(4, 2), 1.0, torch.ones(3))
    ),
    r"n must be an integer >= 1; got n=0": lambda: CIRCLE.sample(0, generator=torch.Generator()),
    # densities, cdfs
    r"log_prob needs a density, and Sphere\(circle.*blur it first: law.noised\(1.0, sigma\)": lambda: CIRCLE.log_prob(
        POINT
    ),
    r"score needs a density": lambda: GaussianMixture.dirac([0.0, 1.0]).score(POINT),
    r"cdf is defined for 1-D laws; got a law on R\^2": lambda: CIRCLE.cdf(torch.ones(3)),
    r"quantile is defined for 1-D laws": lambda: CIRCLE.quantile(torch.ones(3)),
    r"u must lie in \(0, 1\); got values from 0.5 to 1.0": lambda: GAUSSIAN.quantile(torch.tensor([0.5, 1.0])),
    r"x must be finite": lambda: GAUSSIAN.cdf(torch.tensor([NAN])),
    r"has no closed cdf": lambda: Sphere(1, blur=1.0).cdf(torch.tensor([0.0])),
    # names
    r"no law named 'gausian_1d'; did you mean 'gaussian_1d'\? 'exactscore list laws' shows all": lambda: LAWS[
        "gausian_1d"
    ],
    r"no law named 'xyzzy'\. 'exactscore list laws' shows all": lambda: LAWS["xyzzy"],
    r"each law needs a name of its own; 'circle' is taken already": lambda: LAWS.add("circle")(Circle),
    r"a lattice must have at most": lambda: identities.total_mass(GAUSSIAN, step=1e-9),
}


def complaint(call) -> str | None:
    """The message of the ValueError, if it is one line and one or two sentences; else nothing."""
    try:
        call()
    except ValueError as error:
        message = str(error)
        return message if "\n" not in message and message.endswith(".") and len(message) < 400 else None
    return None


@pytest.mark.parametrize("pattern", BAD)
def test_refused(pattern):
    with pytest.raises(ValueError, match=pattern.replace("means (components, dim)", r"means must have shape")):
        BAD[pattern]()
    assert complaint(BAD[pattern])


def test_an_answer_that_is_no_sentence_is_caught():
    def terse():
        raise ValueError("bad shape")

    assert complaint(terse) is None
    assert complaint(lambda: None) is None
    assert complaint(lambda: GaussianMixture([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0])) is not None


def test_what_is_allowed_is_not_refused():
    assert isinstance(GaussianMixture.gaussian(0.0, 0.0), Distribution)
    assert isinstance(GaussianMixture([1 / 3] * 3, [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]), Distribution)
    assert Box(0.0, 1.0).noised(0.0, 1.0).log_prob(torch.zeros(1).double()).item() == pytest.approx(
        -0.5 * math.log(2 * math.pi)
    )
    assert Registry("thing").names() == []
