"""Wrong multistep solvers, predictors and correctors."""

from studies.mutants.base import Mutant

MULTISTEP = [
    Mutant(
        "dpm_pp.2m: inverted ratio",
        "dpm_pp",
        "DPMpp2M",
        "self.weight * h / (s.lam - r.lam)",
        "self.weight * (s.lam - r.lam) / h",
    ),
    Mutant(
        "dpm_pp.2m: weights of equal steps", "dpm_pp", "DPMpp2M", "self.weight * h / (s.lam - r.lam)", "self.weight"
    ),
    Mutant(
        "dpm_pp.2m: stale history",
        "dpm_pp",
        "DPMpp2M",
        "(-slope, x0_r)), memory=(s, x0))",
        "(-slope, x0_r)), memory=(s, x0_r))",
    ),
    Mutant(
        "dpm_pp.3m: sign of the second difference",
        "dpm_pp",
        "DPMpp3M",
        "2 * phi(3, -h) + self.second * r0 * slope",
        "-2 * phi(3, -h) - self.second * r0 * slope",
    ),
    Mutant(
        "dpm_pp.3m: node off by one",
        "dpm_pp",
        "DPMpp3M",
        "r1 = (history[0][0].lam - history[1][0].lam) / h",
        "r1 = (s.lam - history[1][0].lam) / h",
    ),
    Mutant("dpm_pp.3m: half the second derivative", "dpm_pp", "DPMpp3M", "(2 * phi(3, -h) +", "(phi(3, -h) +"),
    Mutant(
        "dpm.2m: sign of phi's argument",
        "unipc",
        "_dpm_2m",
        "else (h, t.alpha / s.alpha, -t.sigma)",
        "else (-h, t.alpha / s.alpha, -t.sigma)",
    ),
    Mutant(
        "res.2m: inverted ratio",
        "unipc",
        "_res_2m",
        "float(at.lam - s.lam) / h for at",
        "(h / float(at.lam - s.lam) if at is not s else 0.0) for at",
    ),
    Mutant(
        "deis.rho_ab2: weights of equal steps",
        "adams",
        "_rho_ab2",
        "[(node - nodes[0]) / step for node in nodes]",
        "[-float(i) for i in range(len(nodes))]",
    ),
    Mutant(
        "deis.rho_ab3: nodes on the wrong side",
        "adams",
        "_rho_ab3",
        "[(node - nodes[0]) / step for node in nodes]",
        "[(nodes[0] - node) / step for node in nodes]",
    ),
    Mutant(
        "deis.rho_ab4: oldest node forgotten",
        "adams",
        "_rho_ab4",
        "return Step(combined(t.alpha / s.alpha, x, *terms), memory=history)",
        "return Step(combined(t.alpha / s.alpha, x, *terms), memory=history[:2])",
    ),
    Mutant(
        "deis.t_ab2: swapped difference",
        "adams",
        "_t_ab2",
        "(times - other) / (node - other)",
        "(times - other) / (other - node)",
    ),
    Mutant("deis.t_ab3: integrated backwards", "adams", "_t_ab3", "(start + step * places)", "(start - step * places)"),
    Mutant("dpm_pp.2m: first step never promoted", "dpm_pp", "DPMpp2M", "(gain, x0)), memory=(s, x0))", "(gain, x0)))"),
    Mutant(
        "unipc.1: missing corrector",
        "unipc",
        "_unipc_1",
        "if self.correct and before is not None:",
        "if False and before is not None:",
    ),
    Mutant("unipc.2: corrector without the new point", "unipc", "_unipc_2", "s, [now, *history])", "s, [*history])"),
    Mutant("unipc.2: missing half of B2", "unipc", "_unipc_2", "else 0.5 * moments[0]", "else moments[0]"),
    Mutant(
        "unipc.3: forgotten moment",
        "unipc",
        "_unipc_3",
        "exponential_moments(len(places), z)",
        "[*exponential_moments(len(places) - 1, z), 0.0]",
    ),
]
