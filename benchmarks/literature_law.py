"""Published coefficients composed into one law, which the pooled evidence is compared with.

It was fitted by nobody as a whole. Each piece comes from another paper, corpus and tokenizer, so
its absolute loss is a reference scale (Chinchilla's corpus); what it is for is comparing shapes.

L = (E + A·N_eff^-alpha + B·D^-beta)·(1 + c_x·bowl(ln x/x_opt))·(1 + c_r·bowl(ln r/r_opt))
    ·(1 + c_g·bowl(ln g)),   N_eff = N_once + s^phi·N_recurrent,   bowl(z) = z + e^-z − 1

- E, A, B, alpha, beta: Besiroglu et al., "Chinchilla scaling: a replication attempt"
  (arXiv 2404.10102), with their 95 % intervals. N is taken as the non-embedding count.
- x_opt, c_x, r_opt, c_r: Bian et al. (arXiv 2510.18245), multiplicative variant fitted on
  80M + 145M + 297M, each factor divided by its minimum. The spread is the distance to the same
  paper's fit on 1B alone.
- phi: looped models at equal depth (arXiv 2604.21106), .459 with interval [.41, .53].
- c_g: MobileLLM (arXiv 2402.14905) saw 0 and −.2 accuracy points for 4 query heads a key-value head
  at 125M and 350M; points become loss by the 5.2 points its two sizes differ by. Bian et al. find
  GQA too noisy to model, so the draws run from nothing to several times that.
"""

import numpy as np

from shapelaw.scaling.bound_form import bowl
from shapelaw.scaling.coordinates import to_natural
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.law import Law

NAME = "literature"
DRAWS = 400
_Z95 = 1.959964
_REFERENCE = {"E": 1.8169, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3659}
_INTERVALS_95 = {
    "A": (285.0, 744.0),
    "B": (1042.0, 5810.0),
    "E": (1.769, 1.871),
    "alpha": (0.317, 0.373),
    "beta": (0.331, 0.415),
}
_E_CORRELATION = 0.7  # E rises with either exponent: the usual ridge of the five-parameter fit
_WIDTH_FACTORS = ((2.697, 0.0974, 0.0078), (2.319, 0.238, 0.0176))  # small models; 1B alone
_MLP_FACTORS = ((0.3870, 0.0063, 0.0065), (0.5104, 0.0051, 0.0062))
_PHI, _PHI_95 = 0.459, (0.41, 0.53)
_GQA_POINTS, _GQA_GROUP = (0.0, 0.2), 4.0
_POINTS_BETWEEN_SIZES, _SIZES = 5.2, (106.2e6, 315e6)  # MobileLLM 125M and 350M, non-embedding
_HELD_OUT_MSE, _TYPICAL_LOSS = 1.5e-4, 2.8  # Bian et al., on held-out shapes


def published_factor(a0: float, a1: float, a2: float) -> tuple[float, float]:
    """Optimum q* = a2/a1 and strength of (a0 + a1·ln q + a2/q), divided by its minimum."""
    optimum = a2 / a1
    return optimum, a1 / (a0 + a1 * np.log(optimum) + a1)


def gqa_strength() -> float:
    """c_g from accuracy points, by the reference law's loss between MobileLLM's two sizes."""
    small, large = (_REFERENCE["A"] * n ** -_REFERENCE["alpha"] for n in _SIZES)
    loss_a_point = (small - large) / (_REFERENCE["E"] + large) / _POINTS_BETWEEN_SIZES
    height = float(bowl(np.array([np.log(_GQA_GROUP)]))[0][0])
    return float(np.mean(_GQA_POINTS)) * loss_a_point / height


def literature_law() -> Law:
    """Compose the law and its draws; always the same."""
    form = build_form(NAME, frozenset())
    generator = np.random.default_rng(0)
    centre = {name: _REFERENCE[name] for name in ("alpha", "beta")}
    log_centre = {name: float(np.log(_REFERENCE[name])) for name in ("E", "A", "B")}
    values = {
        **log_centre,
        **centre,
        "phi": _PHI,
        "c_g": float(np.log(gqa_strength())),
        "g_opt": 0.0,
    }
    spreads: dict[str, float] = {"c_g": 0.8}
    for key, factors in (("x", _WIDTH_FACTORS), ("r", _MLP_FACTORS)):
        (optimum, strength), (other_optimum, other_strength) = (
            published_factor(*factor) for factor in factors
        )
        values[f"{key}_opt"], values[f"c_{key}"] = float(np.log(optimum)), float(np.log(strength))
        spreads[f"{key}_opt"] = abs(float(np.log(other_optimum / optimum)))
        spreads[f"c_{key}"] = abs(float(np.log(other_strength / strength)))
    theta = np.array([values[name] for name in form.names])
    draws = np.repeat(theta[None, :], DRAWS, axis=0)
    z = {name: generator.standard_normal(DRAWS) for name in form.names}
    for exponent, scale in (("alpha", "A"), ("beta", "B")):
        low, high = _INTERVALS_95[exponent]
        step = (high - low) / (2 * _Z95) * z[exponent]
        draws[:, form.index(exponent)] += step
        # The coefficient follows its exponent: the published intervals imply the size at which
        # the term hardly moves.
        low_scale, high_scale = _INTERVALS_95[scale]
        pivot = np.log(high_scale / low_scale) / (high - low)
        draws[:, form.index(scale)] += pivot * step
    low, high = _INTERVALS_95["E"]
    shared = (z["alpha"] + z["beta"]) / np.sqrt(2)
    mixed = _E_CORRELATION * shared + np.sqrt(1 - _E_CORRELATION**2) * z["E"]
    draws[:, form.index("E")] += (high - low) / (2 * _Z95) / _REFERENCE["E"] * mixed
    draws[:, form.index("phi")] += (_PHI_95[1] - _PHI_95[0]) / (2 * _Z95) * z["phi"]
    for name, spread in spreads.items():
        draws[:, form.index(name)] += spread * z[name]
    noise = np.sqrt(_HELD_OUT_MSE) / _TYPICAL_LOSS
    quantiles = np.quantile(generator.standard_normal(20_000), np.linspace(0.01, 0.99, 41)) * noise
    natural = to_natural(form, theta)
    return Law(
        form=NAME,
        parameters=dict(zip(form.names, map(float, natural), strict=True)),
        draws=to_natural(form, draws),
        features=(),
        residuals=quantiles,
        runs=0,
        range={
            "N": (7e7, 1.6e10),
            "tokens": (5e9, 5e11),
            "width_ratio": (0.03, 0.2),
            "mlp_attention_ratio": (0.5, 5.0),
            "gqa_group": (1.0, 9.0),
            "sharing": (1.0, 8.0),
        },
        count="non_embedding",
        fingerprint="published coefficients",
        label=NAME,
        source="composed of published coefficients from different corpora: arXiv 2404.10102 (size "
        "and tokens), 2510.18245 (width and MLP ratios), 2604.21106 (sharing), 2402.14905 (GQA)",
    )
