"""Wrong solvers of single steps."""

from studies.mutants.base import Mutant

SINGLE_STEP = [
    Mutant("ddim: alpha ratio for sigma ratio", "ddim", "DDIM", "t.sigma / s.sigma *", "t.alpha / s.alpha *"),
    Mutant(
        "euler.k: alpha of the wrong end",
        "euler_heun",
        "_euler_k",
        "(t.alpha * (t.k - s.k), eps)",
        "(s.alpha * (t.k - s.k), eps)",
    ),
    Mutant(
        "euler.t: v for velocity",
        "euler_heun",
        "_euler_t",
        "(t.t - s.t) * model(x, s).velocity",
        "(t.t - s.t) * model(x, s).v",
    ),
    Mutant("heun.k: eps at the wrong node", "euler_heun", "_heun_k", "(h, first)), t).eps", "(h, first)), s).eps"),
    Mutant("heun.t: stage without its step", "euler_heun", "_heun_t", "model(x + h * first, t)", "model(x, t)"),
    Mutant("heun.t: missing half", "euler_heun", "_heun_t", "(1 - self.weight) * first +", "first +"),
    Mutant(
        "midpoint.geometric: full step to the middle",
        "ancestral",
        "GeometricMidpoint",
        "m.alpha * (m.k - s.k)",
        "m.alpha * (t.k - s.k)",
    ),
    Mutant(
        "midpoint.k: middle in lambda for middle in k",
        "runge_kutta",
        "_midpoint_k",
        "level_at(-math.log(s.k + c * (t.k - s.k)))",
        "level_at(s.lam + c * (t.lam - s.lam))",
    ),
    Mutant(
        "kutta3.k: lost minus sign",
        "runge_kutta",
        "_kutta3_k",
        "stage + h * float(weight) * slope",
        "stage + h * abs(float(weight)) * slope",
    ),
    Mutant("rk4.k: last stage at the first node", "runge_kutta", "_rk4_k", "return s if c == 0 else t", "return s"),
    Mutant("rk4.lam: k of the wrong node", "runge_kutta", "_rk4_lam", "else -at.k * eps", "else -s.k * eps"),
    Mutant("heun.lam: forgotten alpha", "runge_kutta", "_heun_lam", "else -at.k * eps", "else -at.sigma * eps"),
    Mutant(
        "dpm.2: missing division by r1",
        "dpm",
        "DPM2",
        "slope = self.weight / self.r1 * gain",
        "slope = self.weight * gain",
    ),
    Mutant("dpm.3: wrong phi index", "dpm", "DPM3", "h * phi(2, h) / self.r2", "h * phi(3, h) / self.r2"),
    Mutant("dpm.3: r2 for its square", "dpm", "DPM3", "self.r2**2 / self.r1 * h", "self.r2 / self.r1 * h"),
    Mutant("dpm.12: stage at the end", "dpm", "DPM12", "level_at(s.lam + self.r1 * h)", "level_at(s.lam + h)"),
    Mutant(
        "dpm.23: half the turn of a stage", "dpm", "DPM23", "self.r2**2 / self.r1 * h", "0.5 * self.r2**2 / self.r1 * h"
    ),
    Mutant(
        "dpm_pp.2s: wrong log base",
        "dpm_pp",
        "DPMpp2S",
        "h = t.lam - s.lam\n        s1 = ",
        "h = (t.lam - s.lam) / math.log(2)\n        s1 = ",
    ),
    Mutant(
        "dpm_pp.2s: alpha of the wrong end",
        "dpm_pp",
        "DPMpp2S",
        "gain, share = -t.alpha * math.expm1(-h)",
        "gain, share = -s.alpha * math.expm1(-h)",
    ),
    Mutant(
        "dpm_pp.3s: sign of phi's argument",
        "dpm_pp",
        "DPMpp3S",
        "h * phi(2, -h) / self.r2",
        "h * phi(2, h) / self.r2",
    ),
    Mutant(
        "pndm.f (its start): last stage at the middle",
        "pndm",
        "PseudoRungeKutta",
        "fourth = seen(t, third)",
        "fourth = seen(middle, third)",
    ),
    Mutant(
        "quasi_taylor.2: mu without rho",
        "quasi_taylor",
        "_quasi_taylor_2",
        "(sigma - rho * sigmas[0])",
        "(sigma - sigmas[0])",
    ),
]
