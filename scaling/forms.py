"""The forms that ship: each is one declaration, tested by one suite."""

from scaling.errors import BadInput
from scaling.terms import Bowl, Form, Parameter, Power, Term, coefficient, exponent, irreducible

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
    "chinchilla", "L = E + A·N^-alpha + B·D^-beta (Hoffmann et al., arXiv 2203.15556)",
    (_E, _A, _B, _ALPHA, _BETA), _TERMS,
)

_EPSILON = Parameter("epsilon", "size of the aspect factor", log=True, low=-40.0, high=3.0,
                     start=(-8.0, -2.0))
_GAMMA = Parameter("gamma", "exponent of R = d_model / layers", low=-4.0, high=4.0, start=(0.2, 1.5))
_ASPECT = (Power("gamma", "ln_aspect", sign=1.0, owner="epsilon"),)

MORPH = Form(
    "morph", "L = (E + A·N^-alpha + B·D^-beta)·(1 + epsilon·R^gamma), R = d_model/layers "
    "(arXiv 2501.18107)",
    (_E, _A, _B, _ALPHA, _BETA, _EPSILON, _GAMMA),
    _TERMS + tuple(Term(f"{term.name} × aspect", (*term.coefficients, "epsilon"),
                        (*term.powers, *_ASPECT)) for term in _TERMS),
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
    "gemstones", "L = E + W·width^-omega + K·depth^-lambda + A·N^-alpha + B·D^-beta "
    "(arXiv 2502.06857)",
    (_E, _A, _B, _ALPHA, _BETA, *_WIDTH_DEPTH_PARAMETERS), (*_TERMS, *_WIDTH_DEPTH),
)

_KAPPA = Parameter("kappa", "exponent by which N slows learning from tokens", low=-0.5, high=0.6,
                   start=(0.0, 0.3))


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
    phi = Parameter("phi", "exponent of sharing: one block applied s times counts as s^phi",
                    low=-1.0, high=1.5, start=(0.0, 0.9))
    power = Power("alpha", "ln_n_looped")
    return Form(
        "looped", "L = E + A·(N_once + s^phi·N_recurrent)^-alpha + B·D^-beta (arXiv 2604.21106)",
        (_E, _A, _B, _ALPHA, _BETA, phi),
        (_TERMS[0], Term("parameters", ("A",), (power,)), _TERMS[2]), sharing_exponent="phi",
    )


def _conditional(name: str, paper: str, factor: bool) -> Form:
    def strength(of: str) -> Parameter:
        return Parameter(f"c_{of}", f"strength of the {of} factor", log=True, low=-16.0, high=4.0,
                         start=(-5.0, -1.0))

    def optimum(of: str, meaning: str) -> Parameter:
        return Parameter(f"{of}_opt", f"best {meaning}", log=True, low=-12.0, high=12.0)

    return Form(
        name, paper,
        (_E, _A, _B, _ALPHA, _BETA, strength("x"), optimum("x", "d_model / √N"), strength("r"),
         optimum("r", "MLP / attention parameters")), _TERMS,
        (Bowl("width ratio", "c_x", "x_opt", "ln_x", factor),
         Bowl("MLP ratio", "c_r", "r_opt", "ln_r", factor)),
    )


def conditional(features: frozenset[str]) -> Form:
    """Multiplicative variant, each factor 1 at its optimum: that fixes the free scale."""
    return _conditional("conditional", "L = f(x)·g(r)·(E + A·N^-alpha + B·D^-beta), f and g of the "
                        "form a0 + a1·ln q + a2/q, 1 at their minimum (arXiv 2510.18245)", True)


def conditional_additive(features: frozenset[str]) -> Form:
    """Additive variant, each added term 0 at its optimum."""
    return _conditional("conditional-additive", "L = f(x) + g(r) + E + A·N^-alpha + B·D^-beta "
                        "(arXiv 2510.18245)", False)


def shape(features: frozenset[str]) -> Form:
    """Our own form."""
    tokens = Term("tokens", ("B",), (Power("beta", "ln_d"), Power("kappa", "ln_n", sign=1.0)))
    terms = (*_TERMS[:2], tokens)
    parameters = (_E, _A, _B, _ALPHA, _BETA, _KAPPA)
    if {"ln_width", "ln_depth"} <= features:
        terms, parameters = (*terms, *_WIDTH_DEPTH), (*parameters, *_WIDTH_DEPTH_PARAMETERS)
    return Form("shape", "width and depth terms, and a token term that grows with N", parameters,
                terms)


def literature(features: frozenset[str]) -> Form:
    """Composed of published coefficients (results.literature); not a form to fit."""
    loop, base = looped(features), conditional(features)
    strength = Parameter("c_g", "strength of the GQA factor", log=True, low=-16.0, high=4.0)
    optimum = Parameter("g_opt", "best query heads per key-value head, 1 by convention", log=True,
                        low=0.0, high=0.0)
    return Form(
        "literature", "looped Chinchilla × conditional factors × GQA factor",
        (*loop.parameters, *base.parameters[5:], strength, optimum), loop.terms,
        (*base.bowls, Bowl("GQA", "c_g", "g_opt", "ln_g")), sharing_exponent="phi",
    )


FORMS = {
    "chinchilla": chinchilla, "morph": morph, "gemstones": gemstones, "conditional": conditional,
    "conditional-additive": conditional_additive, "looped": looped, "shape": shape,
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
        raise BadInput(f"form = {name}: one of auto, {', '.join(FORMS)} is needed")
    return FORMS[name](features)
