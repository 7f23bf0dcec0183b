"""Logarithmic features of runs and of architectures: the one place that turns columns into them."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.shape_formulas import attention_parameters, mlp_parameters
from shapelaw.scaling.terms import Form

FEATURES: dict[str, str] = {
    "one": "1, for parameters that stand alone",
    "ln_n": "N, stored parameters by the law's count",
    "ln_d": "D, training tokens",
    "ln_width": "d_model",
    "ln_depth": "applied layers",
    "ln_aspect": "d_model / applied layers (R of Morph)",
    "ln_x": "d_model / √N",
    "ln_r": "MLP parameters / attention parameters",
    "ln_g": "query heads per key-value head",
    "ln_s": "times each block is applied",
    "ln_n_once": "parameters applied once (−inf where none)",
    "ln_n_recurrent": "parameters applied `sharing` times",
}
"""Every feature a form may read, with its meaning."""


_COLUMNS: dict[str, str] = {
    "ln_n": "n",
    "ln_d": "d",
    "ln_width": "d_model",
    "ln_depth": "n_layers",
    "ln_aspect": "d_model and n_layers",
    "ln_x": "d_model",
    "ln_r": "mlp_attention_ratio (or d_model, d_ff and n_heads)",
    "ln_g": "gqa_group (or n_heads and n_kv_heads)",
    "ln_s": "sharing",
    "ln_n_once": "sharing",
    "ln_n_recurrent": "sharing",
}


def columns_of(features: Iterable[str]) -> str:
    """The columns of a table that features come from, as a message names them."""
    return ", ".join(dict.fromkeys(_COLUMNS.get(name, name) for name in features))


def in_parts(features: Mapping[str, np.ndarray], most: int) -> Iterator[dict[str, np.ndarray]]:
    """Features of at most `most` rows at a time."""
    rows = len(next(iter(features.values()), ()))
    for at in range(0, max(rows, 1), most):
        yield {name: column[at : at + most] for name, column in features.items()}


def table_features(table: RunTable) -> dict[str, np.ndarray]:
    """Features a table of runs has, each [rows]; those it has no columns for are absent."""
    shape = table.shape
    width, depth = shape.get("d_model"), shape.get("n_layers")
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {"one": np.ones(len(table.n)), "ln_n": np.log(table.n), "ln_d": np.log(table.d)}
        if width is not None:
            found["ln_width"] = np.log(width)
            found["ln_x"] = found["ln_width"] - 0.5 * found["ln_n"]
        if depth is not None:
            found["ln_depth"] = np.log(depth)
        if width is not None and depth is not None:
            found["ln_aspect"] = found["ln_width"] - found["ln_depth"]
        heads, kv_heads = shape.get("n_heads"), shape.get("n_kv_heads")
        if "gqa_group" in shape:
            found["ln_g"] = np.log(shape["gqa_group"])
        elif heads is not None and kv_heads is not None:
            found["ln_g"] = np.log(heads / kv_heads)
        if "mlp_attention_ratio" in shape:
            found["ln_r"] = np.log(shape["mlp_attention_ratio"])
        elif heads is not None and width is not None and "d_ff" in shape:
            head_dim = shape.get("head_dim", width / heads)
            all_heads = heads + (heads if kv_heads is None else kv_heads)
            found["ln_r"] = np.log(
                mlp_parameters(1, shape["d_ff"]) / attention_parameters(1, head_dim, all_heads)
            )
        if "sharing" in shape:
            sharing = shape["sharing"]
            found["ln_s"] = np.log(sharing)
            recurrent = table.n
            if "n_applied" in shape:
                extra = np.where(
                    sharing > 1,
                    (shape["n_applied"] - table.n) / np.maximum(sharing - 1, 1e-9),
                    table.n,
                )
                recurrent = np.clip(extra, 0, table.n)
            found["ln_n_recurrent"] = np.log(recurrent)
            found["ln_n_once"] = np.log(table.n - recurrent)
        return found


def architecture_n(architectures: ArchitectureBatch, count: str) -> np.ndarray:
    """N of each architecture by the law's count; `as given` is read as non-embedding."""
    if count == "total":
        return np.asarray(architectures.total_parameters, dtype=float)
    return np.asarray(architectures.non_embedding_parameters, dtype=float)


def architecture_features(
    architectures: ArchitectureBatch,
    tokens: float | np.ndarray,
    count: str,
    wanted: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """The features `wanted` of architectures trained on `tokens` tokens, each [n].

    Raises:
        BadInput: a token count is not positive.
    """
    tokens = np.asarray(tokens, dtype=float)
    if not np.all(tokens > 0) or not np.all(np.isfinite(tokens)):
        raise BadInput(f"tokens = {tokens.min() if tokens.size else tokens}: more than 0 is needed")
    n = architecture_n(architectures, count)
    found: dict[str, np.ndarray] = {}
    for name in wanted:
        if name == "one":
            value = np.ones(len(n))
        elif name == "ln_n":
            value = np.log(n)
        elif name == "ln_d":
            value = np.broadcast_to(np.log(tokens), n.shape)
        elif name == "ln_width":
            value = np.log(architectures.d_model)
        elif name == "ln_depth":
            value = np.log(architectures.depth)
        elif name == "ln_aspect":
            value = np.log(architectures.d_model / architectures.depth)
        elif name == "ln_x":
            value = np.log(architectures.d_model) - 0.5 * np.log(n)
        elif name == "ln_r":
            value = np.log(architectures.mlp_attention_ratio)
        elif name == "ln_g":
            value = np.log(architectures.n_heads / architectures.n_kv_heads)
        elif name == "ln_s":
            value = np.log(architectures.sharing)
        elif name in ("ln_n_once", "ln_n_recurrent"):
            recurrent = np.asarray(architectures.shared_parameters, float)
            with np.errstate(divide="ignore"):
                value = np.log(
                    recurrent if name == "ln_n_recurrent" else np.maximum(n - recurrent, 0.0)
                )
        else:
            raise BadInput(f"feature {name!r} is not known; known: {', '.join(FEATURES)}")
        found[name] = value
    return found


def wanted_features(form: Form) -> tuple[str, ...]:
    """Plain features a form reads, with those behind the looped one."""
    wanted = [name for name in form.features if name != "ln_n_looped"]
    if form.sharing_exponent is not None:
        wanted += ["ln_s", "ln_n_once", "ln_n_recurrent"]
    return tuple(wanted)
