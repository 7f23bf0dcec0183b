"""The forms that ship: each is one declaration, tested by one suite."""

import dataclasses
import math

from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.terms import (
    Bowl,
    Form,
    Join,
    Parameter,
    Power,
    Term,
    coefficient,
    exponent,
    irreducible,
)

_EXPONENT_PRIOR = (0.45, 0.25)
"""Published exponents of N, D, width and depth lie between .2 and .8."""

_ORDER_PRIOR = (0.5, 0.7)
"""Of ln q: between addition and a norm of the order of 3, as wide as published runs leave it."""
_E = irreducible()
_A = coefficient("A", "coefficient of the parameter term, nats · N^alpha")
_B = coefficient("B", "coefficient of the token term, nats · D^beta")
_ALPHA = exponent("alpha", "exponent of N")
_BETA = exponent("beta", "exponent of D")
_TERMS = (
    Term("irreducible", ("E",)),
    Term("parameters", ("A",), (Power("alpha", "ln_n"),)),
    Term("tokens", ("B",), (Power("beta", "ln_d"),)),
)

CHINCHILLA = Form(
    "chinchilla",
    "L = E + A·N^-alpha + B·D^-beta (Hoffmann et al., arXiv 2203.15556)",
    (_E, _A, _B, _ALPHA, _BETA),
    _TERMS,
)

_EPSILON = Parameter(
    "epsilon", "size of the aspect factor", log=True, low=-40.0, high=3.0, start=(-8.0, -2.0)
)
_GAMMA = Parameter(
    "gamma", "exponent of R = d_model / layers", low=-4.0, high=4.0, start=(0.2, 1.5)
)
_ASPECT = (Power("gamma", "ln_aspect", sign=1.0, owner="epsilon"),)

MORPH = Form(
    "morph",
    "L = (E + A·N^-alpha + B·D^-beta)·(1 + epsilon·R^gamma), R = d_model/layers (arXiv 2501.18107)",
    (_E, _A, _B, _ALPHA, _BETA, _EPSILON, _GAMMA),
    _TERMS
    + tuple(
        Term(f"{term.name} × aspect", (*term.coefficients, "epsilon"), (*term.powers, *_ASPECT))
        for term in _TERMS
    ),
)

_WIDTH_DEPTH = (
    Term("width", ("W",), (Power("omega", "ln_width"),)),
    Term("depth", ("K",), (Power("lambda", "ln_depth"),)),
)
_WIDTH_DEPTH_PARAMETERS = (
    coefficient("W", "coefficient of the width term"),
    coefficient("K", "coefficient of the depth term"),
    exponent("omega", "exponent of d_model"),
    exponent("lambda", "exponent of applied layers"),
)

GEMSTONES = Form(
    "gemstones",
    "L = E + W·width^-omega + K·depth^-lambda + A·N^-alpha + B·D^-beta (arXiv 2502.06857)",
    (_E, _A, _B, _ALPHA, _BETA, *_WIDTH_DEPTH_PARAMETERS),
    (*_TERMS, *_WIDTH_DEPTH),
)


def chinchilla(features: frozenset[str]) -> Form:
    """The Chinchilla form, whatever columns there are."""
    return CHINCHILLA


def morph(features: frozenset[str]) -> Form:
    """Morph's form."""
    return MORPH


def gemstones(features: frozenset[str]) -> Form:
    """Gemstones' form."""
    return GEMSTONES


def looped(features: frozenset[str]) -> Form:
    """Parameters applied s times count as s^phi."""
    phi = Parameter(
        "phi",
        "exponent of sharing: one block applied s times counts as s^phi",
        low=-1.0,
        high=1.5,
        start=(0.0, 0.9),
    )
    power = Power("alpha", "ln_n_looped")
    return Form(
        "looped",
        "L = E + A·(N_once + s^phi·N_recurrent)^-alpha + B·D^-beta (arXiv 2604.21106)",
        (_E, _A, _B, _ALPHA, _BETA, phi),
        (_TERMS[0], Term("parameters", ("A",), (power,)), _TERMS[2]),
        sharing_exponent="phi",
    )


def _conditional(name: str, paper: str, factor: bool) -> Form:
    def strength(of: str) -> Parameter:
        return Parameter(
            f"c_{of}",
            f"strength of the {of} factor",
            log=True,
            low=-16.0,
            high=4.0,
            start=(-5.0, -1.0),
        )

    def optimum(of: str, meaning: str) -> Parameter:
        return Parameter(f"{of}_opt", f"best {meaning}", log=True, low=-12.0, high=12.0)

    return Form(
        name,
        paper,
        (
            _E,
            _A,
            _B,
            _ALPHA,
            _BETA,
            strength("x"),
            optimum("x", "d_model / √N"),
            strength("r"),
            optimum("r", "MLP / attention parameters"),
        ),
        _TERMS,
        (
            Bowl("width ratio", "c_x", "x_opt", "ln_x", factor),
            Bowl("MLP ratio", "c_r", "r_opt", "ln_r", factor),
        ),
    )


def conditional(features: frozenset[str]) -> Form:
    """Multiplicative variant, each factor 1 at its optimum: that fixes the free scale."""
    return _conditional(
        "conditional",
        "L = f(x)·g(r)·(E + A·N^-alpha + B·D^-beta), f and g of the "
        "form a0 + a1·ln q + a2/q, 1 at their minimum (arXiv 2510.18245)",
        True,
    )


def conditional_additive(features: frozenset[str]) -> Form:
    """Additive variant, each added term 0 at its optimum."""
    return _conditional(
        "conditional-additive",
        "L = f(x) + g(r) + E + A·N^-alpha + B·D^-beta (arXiv 2510.18245)",
        False,
    )


def shape(features: frozenset[str]) -> Form:
    """Our own form: L = E + A·N_eff^-alpha + W·width^-omega + K·depth^-lambda + B·D^-beta·N^kappa.

    `_shape` says what each piece is for.
    """
    return _shape(
        "shape",
        "effective N, width and depth terms, and a token term that knows N "
        "(this project, after arXiv 2502.06857 and 2510.18245)",
        features,
    )


def shape_depth(features: frozenset[str]) -> Form:
    """Our own form with B·D^-beta·N^kappa·depth^psi: depth, too, slows learning from tokens.

    Shallow models learn fast and stop early. psi is positive on the published tables of Morph and
    Gemstones and on the reference study (`python -m benchmarks.holdout`, results/reference); it
    pays where one or two blocks are among the depths.
    """
    psi = Parameter(
        "psi",
        "exponent by which depth slows learning from tokens",
        low=-0.5,
        high=0.6,
        start=(0.0, 0.3),
        prior=(0.0, 0.2),
    )
    return _shape(
        "shape-depth",
        "shape, with a token term that knows N and the applied depth (this project)",
        features,
        (psi, Power("psi", "ln_depth", sign=1.0)),
    )


def norm(features: frozenset[str]) -> Form:
    """Capacity and data alone, joined by a norm: for tables of few shapes, whose width and depth
    terms would follow each of them."""
    return _shape(
        "norm",
        "L = E + [(A·N^-alpha)^q + (B·D^-beta·N^kappa)^q]^(1/q) (this project)",
        features & {"one", "ln_n", "ln_d"},
        norm=True,
    )


def shape_norm(features: frozenset[str]) -> Form:
    """Our own form with capacity and data joined by a norm of a fitted order q.

    q = 1 adds them, as every published law does. More than 1 says that a model far from the end of
    its data is held back by data alone, and one at its end by capacity alone.
    """
    return _shape(
        "shape-norm",
        "shape, with capacity and data joined by a norm: L = E + W·width^-omega + "
        "K·depth^-lambda + [(A·N_eff^-alpha)^q + (B·D^-beta·N^kappa)^q]^(1/q) (this project)",
        features,
        norm=True,
    )


def shape_norm_monotone(features: frozenset[str]) -> Form:
    """The same with kappa = 0: a larger model is never worse, however few the tokens."""
    return _shape(
        "shape-norm-monotone", "shape-norm with kappa = 0", features, norm=True, interaction=False
    )


def _shape(
    name: str,
    paper: str,
    features: frozenset[str],
    slowed_by: tuple[Parameter, Power] | None = None,
    *,
    interaction: bool = True,
    norm: bool = False,
) -> Form:
    """Shape acts on the capacity terms, tokens on a term that knows the size.

    L = E + A·N_eff^-alpha + W·width^-omega + K·depth^-lambda + B·D^-beta·N^kappa

    N_eff^-alpha = N^-alpha · ½[(r/r_opt)^rho + (r/r_opt)^-rho] · g^gamma · s^-sigma

    Each piece is there only where the table has columns that tell it apart:

    - Width and depth each leave a loss of their own (arXiv 2502.06857). At equal N one falls as the
      other rises, so a best shape exists, drifts with N as a power law, and far from it the loss
      grows as a power, never faster: that is what keeps extrapolation sane where a quadratic
      around a drifting optimum does not. Depth is applied depth: sharing helps where depth is what
      is missing.
    - N_eff: the MLP-to-attention ratio r wastes parameters on either side of its optimum, a GQA
      group g > 1 and sharing s change what a stored parameter is worth: s^-sigma is (s^phi)^-alpha
      with phi = sigma/alpha.
    - kappa (`interaction`): larger models are further behind at equal tokens. It is free in sign,
      so that a recipe without the effect gives 0. Where it is positive, a law may say that a larger
      model is worse when tokens are few (`Form.rises_with`): runs of a constant learning rate show
      just that. `slowed_by` is a further power of that term.
    - `norm`: the capacity and the token term are joined by (x^q + y^q)^(1/q) instead of added.

    All exponents carry wide Gaussian priors, worth less than one run: they decide only what a table
    leaves open.
    """
    capacity = [Power("alpha", "ln_n")]
    parameters: list[Parameter] = [
        dataclasses.replace(_E, prior_of_least_loss=(math.log(0.65), 0.5)),
        _A,
        _B,
        dataclasses.replace(_ALPHA, prior=_EXPONENT_PRIOR),
        dataclasses.replace(_BETA, prior=_EXPONENT_PRIOR),
    ]
    learning = [Power("beta", "ln_d")]
    if interaction and {"ln_n", "ln_d"} <= features:
        learning.append(Power("kappa", "ln_n", sign=1.0))
        parameters.append(
            Parameter(
                "kappa",
                "exponent by which N slows learning from tokens",
                low=-0.5,
                high=0.6,
                start=(0.0, 0.3),
                prior=(0.0, 0.2),
            )
        )
    if slowed_by is not None:
        parameters.append(slowed_by[0])
        learning.append(slowed_by[1])
    if "ln_g" in features:
        capacity.append(Power("gamma", "ln_g", sign=1.0))
        parameters.append(
            Parameter(
                "gamma",
                "exponent of GQA group g",
                low=0.0,
                high=1.0,
                start=(0.0, 0.1),
                prior=(0.0, 0.05),
            )
        )
    if "ln_s" in features:
        capacity.append(Power("sigma", "ln_s"))
        parameters.append(
            Parameter(
                "sigma",
                "exponent of sharing s",
                low=-0.5,
                high=1.0,
                start=(0.0, 0.2),
                prior=(0.1, 0.1),
            )
        )
    terms = [_TERMS[0]]
    capacities = ("MLP-heavy", "attention-heavy") if "ln_r" in features else ("parameters",)
    if "ln_r" in features:
        for side, sign in (("MLP-heavy", 1.0), ("attention-heavy", -1.0)):
            terms.append(
                Term(
                    side,
                    ("A",),
                    (
                        *capacity,
                        Power("rho", "ln_r", sign=sign, centred=False),
                        Power("tau", "one", sign=-sign, centred=False),
                    ),
                )
            )
        parameters += [
            Parameter(
                "rho",
                "exponent of r on either side of its optimum",
                low=0.0,
                high=2.0,
                start=(0.05, 0.5),
                prior=(0.2, 0.2),
            ),
            Parameter(
                "tau", "rho·ln(r_opt)", low=-2.0, high=2.0, start=(-0.3, 0.5), prior=(0.1, 0.3)
            ),
        ]
    else:
        terms.append(Term("parameters", ("A",), tuple(capacity)))
    terms.append(Term("tokens", ("B",), tuple(learning)))
    if {"ln_width", "ln_depth"} <= features:
        terms += _WIDTH_DEPTH
        parameters += [
            dataclasses.replace(p, prior=None if p.log else _EXPONENT_PRIOR)
            for p in _WIDTH_DEPTH_PARAMETERS
        ]
    joins: tuple[Join, ...] = ()
    if norm:
        parameters.append(
            Parameter(
                "q",
                "order of the norm that joins capacity and data: 1 adds them, more lets the "
                "scarcer decide",
                log=True,
                low=math.log(0.2),
                high=math.log(20.0),
                start=(-0.2, 1.2),
                prior=_ORDER_PRIOR,
            )
        )
        joins = (Join(capacities, ("tokens",), "q"),)
    return Form(name, paper, tuple(parameters), tuple(terms), joins=joins)


def literature(features: frozenset[str]) -> Form:
    """Composed of published coefficients: read from law files of users, not a form to fit."""
    loop, base = looped(features), conditional(features)
    strength = Parameter("c_g", "strength of the GQA factor", log=True, low=-16.0, high=4.0)
    optimum = Parameter(
        "g_opt", "best query heads per key-value head, 1 by convention", log=True, low=0.0, high=0.0
    )
    return Form(
        "literature",
        "looped Chinchilla × conditional factors × GQA factor",
        (*loop.parameters, *base.parameters[5:], strength, optimum),
        loop.terms,
        (*base.bowls, Bowl("GQA", "c_g", "g_opt", "ln_g")),
        sharing_exponent="phi",
    )


FORMS = {
    "chinchilla": chinchilla,
    "morph": morph,
    "gemstones": gemstones,
    "conditional": conditional,
    "conditional-additive": conditional_additive,
    "looped": looped,
    "shape": shape,
    "shape-depth": shape_depth,
    "norm": norm,
    "shape-norm": shape_norm,
    "shape-norm-monotone": shape_norm_monotone,
}
"""Every form by name: a function of the features that carry information to a declaration."""


def build_form(name: str, features: frozenset[str]) -> Form:
    """The declaration of form `name` for a table with `features`.

    Raises:
        BadInput: there is no such form.
    """
    if name == "literature":
        return literature(features)
    if name not in FORMS:
        raise BadInput(
            f"form = {name}: one of auto, {', '.join(FORMS)} is needed{close_names(name, FORMS)}"
        )
    return FORMS[name](features)
