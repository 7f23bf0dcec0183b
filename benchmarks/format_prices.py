"""Fit the price of weight formats to perplexities that others published, and write its draws.

    python -m benchmarks.format_prices [--data FOLDER] [--out results/evidence/format_prices.json]

The rows (model, format, ln of the ratio of perplexities) stay where they are: figures of many
sources, not committed. The model is that of `shapelaw.scaling.formats.price`; a row's own noise is
that of the printed digits, of the evaluation (more for chat models) and a type's deviation within
a model; a model's deviation is shared by its rows and integrated out on a grid; what the models of
one maker have in common (recipe, corpus, tokenizer) is one parameter each, shrunk towards none.
Maximum a posteriori by L-BFGS on exact gradients, draws from the Laplace approximation.
"""

import argparse
import csv
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.formats.mixes import MIXES, mix
from shapelaw.scaling.formats.price import (
    MOST_EXPONENT,
    NOISE,
    REFERENCE_RATIO,
    FormatPrices,
)
from shapelaw.scaling.formats.stored_tensors import mix_of_types

DATA = Path(__file__).parents[2] / "shared" / "data" / "formats"
OUT = Path(__file__).parents[1] / "results" / "evidence" / "format_prices.json"

SOURCE = "perplexity tables of {models} published models by format (llama.cpp and model cards)"

TYPES = (
    "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_nl", "q3_k", "q2_k",
)  # fmt: skip

UNKNOWN_TOKENS = 6e12
"""Where a model's tokens are not public (Mistral)."""

DRAWS = 256


def _shape(d: int, layers: int, heads: int, kv: int, head: int, ff: int, vocab: int,
           tied: bool) -> Architecture:  # fmt: skip
    return Architecture(
        d_model=d,
        n_blocks=layers,
        n_heads=heads,
        n_kv_heads=kv,
        head_dim=head,
        d_ff=ff,
        vocab_size=vocab,
        tied_embeddings=tied,
    )


SHAPES = {
    "Qwen1.5-0.5B": _shape(1024, 24, 16, 16, 64, 2816, 151936, True),
    "Qwen1.5-1.8B": _shape(2048, 24, 16, 16, 128, 5504, 151936, False),
    "Qwen1.5-14B": _shape(5120, 40, 40, 40, 128, 13696, 152064, False),
    "Qwen2-0.5B": _shape(896, 24, 14, 2, 64, 4864, 151936, True),
    "Qwen2-1.5B": _shape(1536, 28, 12, 2, 128, 8960, 151936, True),
    "Qwen2-7B": _shape(3584, 28, 28, 4, 128, 18944, 152064, False),
    "Qwen2-72B": _shape(8192, 80, 64, 8, 128, 29568, 152064, False),
    "Qwen2.5-0.5B": _shape(896, 24, 14, 2, 64, 4864, 151936, True),
    "Qwen2.5-1.5B": _shape(1536, 28, 12, 2, 128, 8960, 151936, True),
    "Llama-2-7B": _shape(4096, 32, 32, 32, 128, 11008, 32000, False),
    "LLaMA-7B": _shape(4096, 32, 32, 32, 128, 11008, 32000, False),
    "LLaMA-13B": _shape(5120, 40, 40, 40, 128, 13824, 32000, False),
    "Llama-2-70B": _shape(8192, 80, 64, 8, 128, 28672, 32000, False),
    "Llama-3.2-1B": _shape(2048, 16, 32, 8, 64, 8192, 128256, True),
    "Gemma-3-1B": _shape(1152, 26, 4, 1, 256, 6912, 262144, True),
}
"""Models whose rows are no whole number of blocks of 256, or whose layers and heads make another
mix than the usual one's."""

USUAL = _shape(4096, 32, 32, 8, 128, 14336, 128256, False)
"""Stands for every other model: all rows are whole blocks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriceRow:
    """One published figure."""

    model: str
    format: str
    n: float
    d: float
    delta: float
    digits: float
    """Standard deviation of the rounding in print, nats."""
    chat: bool
    imatrix: bool
    shares: np.ndarray
    """[types]."""

    @property
    def maker(self) -> str:
        """The letters a model's name begins with: llama, qwen, mistral, gemma."""
        letters = itertools.takewhile(str.isalpha, self.model)
        return "".join(letters).lower()


def read_rows(path: Path) -> list[PriceRow]:
    """Rows of ordinary GGUF files in formats that shapelaw knows."""
    found = []
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] != "gguf-ptq" or row["format"] not in MIXES["gguf"]:
                continue
            known = [name for name in SHAPES if row["model"].startswith(name)]
            shape = SHAPES[max(known, key=len)] if known else USUAL
            shares = mix_of_types(mix(row["format"], "gguf"), shape)
            found.append(
                PriceRow(
                    model=row["model"],
                    format=row["format"],
                    n=float(row["non_embedding"]),
                    d=float(row["tokens"] or UNKNOWN_TOKENS),
                    delta=float(row["delta_ln_ppl"]),
                    digits=0.41 * 10.0 ** -int(row["decimals"]) / float(row["base_ppl"] or 7),
                    chat="chat" in row["note"].lower()
                    or any(word in row["model"] for word in ("Chat", "Instruct", "-it", " ft")),
                    imatrix=row["imatrix"] == "yes",
                    shares=np.array([shares.get(name, 0.0) for name in TYPES]),
                )
            )
    return found


SCALARS: dict[str, tuple[float, float]] = {
    "kappa": (1.0, 2.0),
    "beta": (1.0, 0.2),
    # Own runs .45 to .60, published laws .34 to .53.
    "gamma": (0.45, 0.15),
    "curvature": (0.0, 1.0),
    "imatrix": (-0.15, 0.15),
    "chat": (0.0, 0.3),
    "ln_spread": (np.log(0.4), 0.5),
    "ln_spread_type": (np.log(0.3), 0.5),
    "ln_noise": (np.log(5e-4), 0.7),
    "ln_noise_chat": (np.log(2e-3), 0.7),
}
"""Mean and standard deviation of the priors; curvature is cut at 0."""

DEVIATION = 0.4
"""Prior standard deviation of a type's distance from the curve of noise."""

MAKER = 0.3
"""Prior standard deviation of a maker's models from all, as wide as that of chat tuning."""

_MODEL_GRID = np.linspace(-3.6, 3.6, 61)
_TYPE_GRID = np.linspace(-3.2, 3.2, 17)
_RELATIVE = 0.15
"""Of a type's deviation within a model this much is taken as normal in delta: it keeps the
integrand wide enough for the grid."""


class PriceFit:
    """The rows as arrays, and fits that leave models out."""

    def __init__(self, rows: list[PriceRow]) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        self.rows = rows
        self.models = sorted({row.model for row in rows})
        self.model = np.array([self.models.index(row.model) for row in rows])
        names = list(SCALARS)
        self.makers = sorted({row.maker for row in rows})
        maker = np.array([self.makers.index(row.maker) for row in rows])
        zero = np.zeros(len(self.makers))
        self.middle = np.concatenate([np.zeros(len(TYPES)), [SCALARS[n][0] for n in names], zero])
        self.scale = np.concatenate(
            [np.full(len(TYPES), DEVIATION), [SCALARS[n][1] for n in names], zero + MAKER]
        )
        shares = np.stack([row.shares for row in rows])
        exposure = np.array([np.log(row.d / row.n / REFERENCE_RATIO) for row in rows])
        delta, digits = np.array([(row.delta, row.digits) for row in rows]).T
        chat, imatrix = np.array([(row.chat, row.imatrix) for row in rows], dtype=float).T
        noise = np.log(np.array([NOISE[name] for name in TYPES]))
        weight_u = np.exp(-0.5 * _MODEL_GRID**2)
        weight_e = np.exp(-0.5 * _TYPE_GRID**2)

        def level(theta: jax.Array, base: np.ndarray) -> tuple[jax.Array, dict[str, jax.Array]]:
            p = dict(zip(names, theta[len(TYPES) : -len(self.makers)], strict=True))
            rate = base @ jnp.exp(p["kappa"] + p["beta"] * noise + theta[: len(TYPES)])
            z = jnp.log(rate) + p["gamma"] * exposure
            z = z + p["imatrix"] * imatrix + p["chat"] * chat + theta[-len(self.makers) :][maker]
            bend = jnp.maximum(p["curvature"], 0.0) * jnp.minimum(jnp.exp(z), MOST_EXPONENT)
            return z + bend, p

        def by_model(theta: jax.Array) -> jax.Array:
            z, p = level(theta, shares)
            u = _MODEL_GRID * jnp.exp(p["ln_spread"])
            e = _TYPE_GRID * jnp.exp(p["ln_spread_type"])
            mean = jnp.exp(z[:, None, None] + u[None, :, None] + e[None, None, :])
            evaluation = jnp.exp(2 * p["ln_noise"]) + chat * jnp.exp(2 * p["ln_noise_chat"])
            variance = (digits**2 + evaluation)[:, None, None] + (_RELATIVE * mean) ** 2
            log_p = -0.5 * (delta[:, None, None] - mean) ** 2 / variance - 0.5 * jnp.log(variance)
            rows_u = jax.nn.logsumexp(log_p, axis=2, b=weight_e / weight_e.sum())
            total = jnp.zeros((len(self.models), len(u))).at[self.model].add(rows_u)
            return jax.nn.logsumexp(total, axis=1, b=weight_u / weight_u.sum())

        def objective(theta: jax.Array, kept: np.ndarray) -> jax.Array:
            prior = 0.5 * jnp.sum(((theta - self.middle) / self.scale) ** 2)
            return prior - jnp.sum(kept * by_model(theta))

        self.level = jax.jit(lambda theta: level(theta, shares)[0])
        self.value_and_gradient = jax.jit(jax.value_and_grad(objective))
        self.hessian: Callable[..., np.ndarray] = jax.jit(jax.hessian(objective))

    def fit(self, kept: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Maximum a posteriori where `kept` [models] is 1."""
        from scipy.optimize import minimize

        def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.value_and_gradient(self.middle + self.scale * x, kept)
            return float(value), np.asarray(gradient) * self.scale

        x = np.zeros(len(self.middle)) if start is None else (start - self.middle) / self.scale
        found = minimize(scaled, x, jac=True, method="L-BFGS-B", options={"maxiter": 500})
        return self.middle + self.scale * found.x

    def draws(self, theta: np.ndarray, kept: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
        """[count, parameters] of the Laplace approximation; the optimum is not among them."""
        precision = np.asarray(self.hessian(theta, kept)) * np.outer(self.scale, self.scale)
        values, vectors = np.linalg.eigh(precision)
        normal = np.random.default_rng(seed).standard_normal((count, len(theta)))
        # No direction is wider than its prior.
        steps = (normal / np.sqrt(np.maximum(values, 1.0))) @ vectors.T
        return theta + self.scale * steps

    def _scalars(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """Draws [k] by name from draws [k, parameters]."""
        return dict(zip(SCALARS, drawn[:, len(TYPES) : -len(self.makers)].T, strict=True))

    def prices(self, theta: np.ndarray, kept: np.ndarray, count: int = DRAWS) -> FormatPrices:
        """The fit as draws for a new model, base or tuned, rounded without an importance matrix."""
        drawn = self.draws(theta, kept, count)
        p = self._scalars(drawn)

        def column(values: np.ndarray) -> list[float]:
            return [float(f"{value:.6g}") for value in values]

        return FormatPrices(
            source=SOURCE.format(models=len(self.models)),
            kappa=column(p["kappa"]),
            beta=column(p["beta"]),
            gamma=column(p["gamma"]),
            curvature=column(np.maximum(p["curvature"], 0)),
            # A new model's maker is one more of the same kind.
            spread=column(np.hypot(np.exp(p["ln_spread"]), MAKER)),
            spread_type=column(np.hypot(np.exp(p["ln_spread_type"]), _RELATIVE)),
            deviations={name: column(drawn[:, place]) for place, name in enumerate(TYPES)},
            deviation_spread=DEVIATION,
        )

    def left_out(self, *, level: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
        """Each row predicted without its model: middle [rows], and its interval [rows, 2]."""
        everything = np.ones(len(self.models))
        start = self.fit(everything)
        middle, interval = np.zeros(len(self.rows)), np.zeros((len(self.rows), 2))
        rng = np.random.default_rng(3)
        for number in range(len(self.models)):
            kept = everything.copy()
            kept[number] = 0
            theta = self.fit(kept, start)
            rows = np.flatnonzero(self.model == number)
            middle[rows] = np.exp(np.asarray(self.level(theta)))[rows]
            drawn = self.draws(theta, kept, 400, seed=number)
            p = self._scalars(drawn)
            levels = np.stack([np.asarray(self.level(one)) for one in drawn])[:, rows]
            wide = np.sqrt(
                np.exp(2 * p["ln_spread"]) + np.exp(2 * p["ln_spread_type"]) + _RELATIVE**2
            )
            levels = levels + wide[:, None] * rng.standard_normal(levels.shape)
            chat = np.array([self.rows[row].chat for row in rows])
            digits = np.array([self.rows[row].digits for row in rows])
            noise = (
                np.exp(2 * p["ln_noise"])[:, None] + chat * np.exp(2 * p["ln_noise_chat"])[:, None]
            )
            seen = np.exp(levels) + np.sqrt(noise + digits**2) * rng.standard_normal(levels.shape)
            interval[rows] = np.quantile(seen, [0.5 - level / 2, 0.5 + level / 2], axis=0).T
        return middle, interval


def main() -> None:
    """Fit everything and write the draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    fit = PriceFit(read_rows(options.data / "perplexity.csv"))
    kept = np.ones(len(fit.models))
    theta = fit.fit(kept)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    prices = fit.prices(theta, kept)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(prices), indent=1) + b"\n")
    for name, value in zip((*TYPES, *SCALARS, *fit.makers), theta, strict=True):
        print(f"{name:16s} {value:8.4f}")


if __name__ == "__main__":
    main()
