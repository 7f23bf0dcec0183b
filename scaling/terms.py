"""What a law is made of: parameters, power terms, and bowls around an optimal shape.

A law is

    L = ( Σ_k exp u_k + Σ_a c_a·bowl(q_a − q*_a) ) · Π_f (1 + c_f·bowl(q_f − q*_f))

where each u_k is linear in the parameters with features of the run (ln N, ln D, ln depth, ...) as
coefficients, so that exp u_k is a power term such as A·N^-α, and bowl(z) = z + e^-z − 1 is zero at
its optimum and positive elsewhere. Some of the terms may be joined by a norm instead of added,
(x^q + y^q)^(1/q) with a fitted q. The last three kinds of piece are optional. Everything a solver
needs follows from this declaration, so a new law is a new list of terms.
"""

import dataclasses
import math
from collections.abc import Collection

FREE = 80.0
"""Bound, in the logarithm, of a coefficient that is in effect free."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One number to be fitted.

    The solver works in an inner coordinate: ln(value) where `log`, the value itself otherwise.
    """

    name: str
    meaning: str
    """One line, with the unit."""
    log: bool = False
    low: float = -math.inf
    """Lower bound of the inner coordinate."""
    high: float = math.inf
    """Upper bound of the inner coordinate."""
    start: tuple[float, float] = (0.0, 0.0)
    """Range of the inner coordinate that starts are drawn from (unused for linear coefficients)."""
    prior: tuple[float, float] | None = None
    """Mean and width of a weak Gaussian prior on the inner coordinate, where the form has one."""
    prior_of_least_loss: tuple[float, float] | None = None
    """The same for a coefficient, relative to ln of the least loss seen."""


@dataclasses.dataclass(frozen=True)
class Power:
    """A factor feature^(sign·parameter) of a term: u gains sign·parameter·ln(feature)."""

    parameter: str
    feature: str
    """Name of a logarithmic feature, e.g. `ln_n`."""
    sign: float = -1.0
    owner: str = ""
    """Coefficient that absorbs a change of the feature's unit; the term's first when empty."""
    centred: bool = True
    """Whether a solver may measure the feature from its mean (not where terms share an owner)."""


@dataclasses.dataclass(frozen=True)
class Term:
    """coefficient · coefficient · ... · Π feature^(±parameter)."""

    name: str
    coefficients: tuple[str, ...]
    powers: tuple[Power, ...] = ()


@dataclasses.dataclass(frozen=True)
class Bowl:
    """strength · bowl(feature − optimum), as a factor 1 + ... of the whole or as an added term."""

    name: str
    strength: str
    optimum: str
    feature: str
    factor: bool = True


@dataclasses.dataclass(frozen=True)
class Join:
    """Terms joined by a norm: (x^q + y^q)^(1/q), x and y the sums of the terms on either side.

    q = 1 adds them; q → ∞ takes the larger: the scarcer of the two then sets the loss alone.
    """

    left: tuple[str, ...]
    """Names of terms."""
    right: tuple[str, ...]
    order: str
    """The parameter q, a logarithmic one."""


@dataclasses.dataclass(frozen=True)
class Form:
    """A law's declaration: everything but the numbers."""

    name: str
    paper: str
    parameters: tuple[Parameter, ...]
    terms: tuple[Term, ...]
    bowls: tuple[Bowl, ...] = ()
    joins: tuple[Join, ...] = ()
    sharing_exponent: str | None = None
    """Parameter φ of the feature `ln_n_looped` = ln(N_once + sharing^φ·N_recurrent)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the solver's order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def features(self) -> tuple[str, ...]:
        """Features the form reads, each once, in order of appearance."""
        found: dict[str, None] = {}
        for term in self.terms:
            for power in term.powers:
                found[power.feature] = None
        for bowl in self.bowls:
            found[bowl.feature] = None
        return tuple(found)

    @property
    def log_linear(self) -> bool:
        """Whether the law is made of power terms and joins alone, which has a fast path."""
        return not self.bowls and self.sharing_exponent is None

    def rises_with(self, features: Collection[str]) -> tuple[str, ...]:
        """Exponents by which a term grows with one of the features: where they are positive, more
        of it may mean a higher loss."""
        return tuple(
            dict.fromkeys(
                power.parameter
                for term in self.terms
                for power in term.powers
                if power.sign > 0 and power.feature in features
            )
        )

    def index(self, name: str) -> int:
        """Position of a parameter."""
        return self.names.index(name)


def coefficient(name: str, meaning: str) -> Parameter:
    """A positive coefficient of a term, found by variable projection."""
    return Parameter(name, meaning, log=True, low=-FREE, high=FREE)


def irreducible(name: str = "E") -> Parameter:
    """The loss left at infinite size and data; a value at its lower bound means none was seen."""
    return Parameter(
        name, "irreducible loss, nats per token", log=True, low=math.log(1e-3), high=FREE
    )


def exponent(
    name: str,
    meaning: str,
    *,
    low: float = 0.01,
    high: float = 3.0,
    start: tuple[float, float] = (0.1, 0.9),
    prior: tuple[float, float] | None = None,
) -> Parameter:
    """A positive exponent; its sign stands in the term, so that a law stays monotone."""
    return Parameter(name, meaning, low=low, high=high, start=start, prior=prior)
