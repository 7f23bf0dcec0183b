"""What the law of a study reads of runs and of architectures."""

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import table_features
from shapelaw.scaling.run_table import RunTable

Features = dict[str, np.ndarray]

_EQUAL_N, _OTHER_DEPTH = 0.12, 0.2
_PAIRS = 3
_FURTHEST = 1000


def plain_features(rows: int) -> Features:
    """Features of runs of which only N and D are known: no shape, no sharing."""
    names = (
        "ln_n",
        "ln_d",
        "ln_depth",
        "ln_mlp_ratio",
        "ln_gqa",
        "ln_attention_width",
        "ln_sharing",
        "shared",
        "repeated",
        "cycle",
        "has_depth",
        "has_mlp_ratio",
    )
    return {name: np.zeros(rows) for name in names}


def of_architectures(architectures: ArchitectureBatch, tokens: float | np.ndarray) -> Features:
    """Features [n] of architectures trained on `tokens` tokens.

    Raises:
        BadInput: a token count is not positive.
    """
    a = architectures
    tokens = np.asarray(tokens, dtype=float)
    if not np.all(tokens > 0) or not np.all(np.isfinite(tokens)):
        raise BadInput(f"tokens = {tokens.min() if tokens.size else tokens}: more than 0 is needed")
    found = plain_features(len(a))
    n = np.asarray(a.non_embedding_parameters, dtype=float)
    found["ln_n"] = np.log(n)
    found["ln_d"] = np.broadcast_to(np.log(tokens), n.shape)
    found["ln_depth"] = np.log(a.n_blocks)
    found["ln_mlp_ratio"] = np.log(a.mlp_attention_ratio)
    found["ln_gqa"] = np.log(a.n_heads / a.n_kv_heads)
    found["ln_attention_width"] = np.log(a.query_width / a.d_model)
    found["ln_sharing"] = np.log(a.sharing)
    found["shared"] = np.asarray(a.shared_parameters, dtype=float) / n
    found["repeated"] = np.asarray(a.n_shared_blocks / a.n_blocks, dtype=float)
    found["cycle"] = np.asarray(a.in_cycles, dtype=float)
    found["has_depth"] = np.ones(len(n))
    found["has_mlp_ratio"] = np.ones(len(n))
    return found


def varies_depth(ln_n: np.ndarray, ln_depth: np.ndarray) -> bool:
    """Whether depth differs at equal N, so that its effect can be told from that of size."""
    shapes = np.unique(np.stack([np.round(ln_n, 4), ln_depth], axis=1), axis=0)
    pairs = 0
    # Each shape with the one so many places after it by size: a million rows have too many pairs.
    for apart in range(1, min(len(shapes), _FURTHEST)):
        difference = np.abs(shapes[apart:] - shapes[:-apart])
        equal = difference[:, 0] < _EQUAL_N
        pairs += int(np.sum(equal & (difference[:, 1] > _OTHER_DEPTH)))
        if pairs >= _PAIRS or not equal.any():
            break
    return pairs >= _PAIRS


def block_parameters(n: np.ndarray, width: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The part of N in the blocks, from N = v·d_model + c·d_model²·layers by least squares.

    N itself where that does not describe the table to a tenth (N without embeddings, or blocks of
    several kinds).
    """
    from scipy.optimize import nnls

    design = np.stack([width, width**2 * depth], axis=1) / n[:, None]
    distinct = np.unique(np.round(design, 9), axis=0)
    if len(distinct) < 2:
        return n
    embedding, block = nnls(distinct, np.ones(len(distinct)))[0]
    if block <= 0:
        return n
    fitted = embedding * design[:, 0] + block * design[:, 1]
    if np.abs(fitted - 1).max() > 0.1:
        return n
    return np.asarray(n * block * design[:, 1] / fitted)


def of_table(table: RunTable, *, count_blocks: bool = True) -> Features:
    """Features [rows] of a table of runs.

    Depth is read only where it varies at equal N: a table whose depth follows from its size cannot
    tell the two apart.
    """
    read = table_features(table)
    found = plain_features(len(table))
    n = table.n
    width, depth = table.shape.get("d_model"), table.shape.get("n_layers")
    if count_blocks and table.count != "non_embedding" and width is not None and depth is not None:
        n = block_parameters(n, width, depth)
    found["ln_n"], found["ln_d"] = np.log(n), np.log(table.d)
    if "ln_s" in read:
        found["ln_sharing"] = read["ln_s"]
        shares = read["ln_s"] > 0
        found["shared"] = np.where(shares, np.exp(read["ln_n_recurrent"]) / table.n, 0.0)
        found["repeated"] = np.where(shares, 1.0, 0.0)
    if depth is not None and varies_depth(found["ln_n"], np.log(depth)):
        found["ln_depth"] = np.log(depth) - found["ln_sharing"]
        found["has_depth"] = np.ones(len(table))
    if "ln_r" in read:
        found["ln_mlp_ratio"] = read["ln_r"]
        found["has_mlp_ratio"] = np.ones(len(table))
    if "ln_g" in read:
        found["ln_gqa"] = read["ln_g"]
    return found
