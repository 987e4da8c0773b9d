"""Wrong stochastic solvers."""

from studies.mutants.base import Mutant

_ADD_NOISE = "(self.noise_scale * std, noise(s, t, x))"

STOCHASTIC = [
    Mutant(
        "ddim.eta1: variance for standard deviation",
        "ddim",
        "_ddim_eta1",
        "self.eta * t.sigma * math.sqrt(fresh)",
        "self.eta * t.sigma * fresh",
    ),
    Mutant(
        "ddim.eta1: missing half of a logarithm", "ddim", "_ddim_eta1", "log_c = 0.5 * math.log1p", "log_c = math.log1p"
    ),
    Mutant(
        "ddpm.beta: forgotten alpha ratio",
        "ddpm",
        "_ddpm_beta",
        "t.sigma / s.sigma * math.exp(-h) * x",
        "t.sigma / s.sigma * x",
    ),
    Mutant(
        "ddpm.beta_tilde: variance for standard deviation",
        "ddpm",
        "_ddpm_beta_tilde",
        "math.sqrt(variance) * noise",
        "variance * noise",
    ),
    Mutant(
        "euler_maruyama: step for its root",
        "euler_maruyama",
        "EulerMaruyama",
        "math.sqrt(g2 * (s.t - t.t))",
        "math.sqrt(g2) * (s.t - t.t)",
    ),
    Mutant(
        "euler_maruyama: half the score",
        "euler_maruyama",
        "EulerMaruyama",
        "0.5 * (1 + self.eta**2) * g2",
        "0.5 * self.eta**2 * g2",
    ),
    Mutant(
        "sde_dpm_pp.1: missing two in the noise",
        "sde_dpm",
        "_sde_dpm_pp_1",
        "math.sqrt(-math.expm1(-2 * self.eta * h))",
        "math.sqrt(-math.expm1(-self.eta * h))",
    ),
    Mutant(
        "sde_dpm_pp.2m: noise twice",
        "sde_dpm",
        "_sde_dpm_pp_2m",
        _ADD_NOISE,
        _ADD_NOISE.replace("noise(s, t, x)", "(noise(s, t, x) + noise(s, t, x))"),
    ),
    Mutant(
        "sde_dpm_pp.3m: noise level missing in the exponent",
        "sde_dpm",
        "_sde_dpm_pp_3m",
        "z, decay, scale = -(1 + self.eta) * h,",
        "z, decay, scale = -h,",
    ),
    Mutant(
        "sde_dpm.1: missing two in the noise",
        "sde_dpm",
        "_sde_dpm_1",
        "math.sqrt(self.eta * math.expm1(2 * h))",
        "math.sqrt(self.eta * math.expm1(h))",
    ),
    Mutant(
        "sde_dpm.2m: missing half", "sde_dpm", "_sde_dpm_2m", "moments[1] = 0.5 * moments[0]", "moments[1] = moments[0]"
    ),
    Mutant(
        "er_sde.1: forgotten alpha ratio",
        "er_sde",
        "_er_sde_1",
        "combined(t.alpha / s.alpha * (1 - moments[0]), x",
        "combined(1 - moments[0], x",
    ),
    Mutant("er_sde.2: power off by one", "er_sde", "_er_sde_2", "n * v ** (n - 1)", "n * v**n"),
    Mutant(
        "er_sde.3: nodes on the wrong side",
        "er_sde",
        "_er_sde_3",
        "(s.k - at.k) / (s.k - t.k)",
        "(at.k - s.k) / (s.k - t.k)",
    ),
    Mutant(
        "sa_solver: sigma of the wrong end",
        "sa_solver",
        "SASolver",
        "t.sigma * math.sqrt(fresh) * noise",
        "s.sigma * math.sqrt(fresh) * noise",
    ),
    Mutant(
        "sa_solver: noise not damped by the corrector",
        "sa_solver",
        "SASolver",
        "(1.0, self.kick)",
        "(t.sigma / s.sigma * math.exp(-eta * h), self.kick)",
    ),
    Mutant(
        "seeds.1: missing two in the noise",
        "seeds",
        "_seeds_1",
        "self.eta * math.expm1(2 * d)",
        "self.eta * math.expm1(d)",
    ),
    Mutant(
        "seeds.2: stage noise not carried on",
        "seeds",
        "_seeds_2",
        "kick + self._decay(before, at) * kicks[-1]",
        "kick + kicks[-1]",
    ),
    Mutant(
        "seeds.2: missing division by r1",
        "seeds",
        "_seeds_2",
        "self.weight / self._first * self._part(1, h)",
        "self.weight * self._part(1, h)",
    ),
    Mutant("seeds.3: stages off the path", "seeds", "_seeds_3", "if not self.nested:", "if self.nested:"),
    Mutant(
        "euler.ancestral: missing half of a logarithm",
        "ancestral",
        "Ancestral",
        "t.lam - 0.5 * math.log1p",
        "t.lam - math.log1p",
    ),
    Mutant(
        "dpm_2.ancestral: forgotten alpha ratio",
        "ancestral",
        "_dpm_2_ancestral",
        "x = t.alpha / down.alpha *",
        "x = 1.0 *",
    ),
    Mutant(
        "dpm_pp.2s_ancestral: sigma of the wrong end",
        "ancestral",
        "_dpm_pp_2s_ancestral",
        "self.eta * t.sigma * math.sqrt(fresh)",
        "self.eta * s.sigma * math.sqrt(fresh)",
    ),
    Mutant(
        "edm.churn: difference for root of squares",
        "churn",
        "Churn",
        "math.sqrt((up.k - s.k) * (up.k + s.k))",
        "(up.k - s.k)",
    ),
    Mutant("edm.churn: forgotten alpha ratio", "churn", "Churn", "x = up.alpha / s.alpha * x +", "x = x +"),
    Mutant(
        "langevin.annealed: a move too few",
        "langevin",
        "AnnealedLangevin",
        "x = t.alpha / s.alpha * x\n        for _ in range(self.moves):",
        "x = t.alpha / s.alpha * x\n        for _ in range(self.moves - 1):",
    ),
    Mutant(
        "predictor_corrector: missing corrector",
        "langevin",
        "PredictorCorrector",
        "epsilon = 2 * (self.snr * t.sigma) ** 2\n        for _ in range(self.moves):",
        "epsilon = 2 * (self.snr * t.sigma) ** 2\n        for _ in range(self.moves - 1):",
    ),
    Mutant(
        "restart: a repeat too few",
        "restart",
        "Restart",
        "for _ in range(each.repeats):",
        "for _ in range(each.repeats - 1):",
    ),
]
