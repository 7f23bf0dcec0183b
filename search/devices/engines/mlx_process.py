"""The process that holds MLX: one JSON job on stdin, one JSON line on stdout.

Run as a script, so that it imports the engine and nothing else of the project. Weights are random,
of 16 bits or packed in groups of 64; a block that is applied twice is read twice from one copy.
"""

import contextlib
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

GROUP = 64
"""Weights to one scale and offset, as mlx_lm packs them."""
LEAST_S = 0.05
"""Seconds for which a prompt, and a stretch of tokens, are repeated."""


def main() -> None:
    """Build the model, time a prompt and a stretch of tokens after it, print both."""
    job = json.loads(sys.stdin.read())
    try:
        found = _run(job)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    print(json.dumps(found))


def _run(job: dict[str, Any]) -> dict[str, Any]:
    mx = _mlx()
    model = _Decoder(job["architecture"], job["order"], int(job["bits"]))
    prompt = mx.arange(job["prompt"]) % job["architecture"]["vocab_size"]

    def prefill() -> list[Any]:
        logits, cache = model.step(prompt, model.empty(job["prompt"] + job["tokens"]), 0)
        mx.eval(logits, cache)
        return list(cache)

    cache = prefill()

    def stretch() -> None:
        state = list(cache)
        token = mx.array([1])
        for at in range(job["tokens"]):
            logits, state = model.step(token, state, job["prompt"] + at)
            token = mx.argmax(logits, axis=-1)
            mx.eval(token, state)

    step = _best(stretch) / job["tokens"]
    return {"prefill": _best(prefill), "decode": step, "peak_bytes": _peak_bytes()}


def _mlx() -> Any:
    """The package; its types are left out, so that they are the same where it is not installed."""
    return importlib.import_module("mlx.core")


class _Decoder:
    """The project's block in MLX: RMSNorm, RoPE, grouped queries, SwiGLU."""

    def __init__(self, a: dict[str, Any], order: list[int], bits: int) -> None:
        self.mx, self.a, self.order, self.bits = _mlx(), a, order, bits
        mx = self.mx
        width, d_ff, head = a["d_model"], a["d_ff"], a["head_dim"]
        query, kv = a["n_heads"] * head, a["n_kv_heads"] * head
        shapes = {
            "query": (query, width),
            "key": (kv, width),
            "value": (kv, width),
            "output": (width, query),
            "gate": (d_ff, width),
            "up": (d_ff, width),
            "down": (width, d_ff),
        }
        self.embedding = self.matrix(a["vocab_size"], width)
        tied = a["tied_embeddings"]
        self.head = self.embedding if tied else self.matrix(a["vocab_size"], width)
        self.gain = mx.ones((width,), mx.float16)
        self.blocks = [
            {name: self.matrix(*shape) for name, shape in shapes.items()}
            for _ in range(a["n_blocks"])
        ]

    def matrix(self, rows: int, columns: int) -> tuple[Any, ...]:
        """Random weights, packed where they have fewer than 16 bits."""
        mx = self.mx
        dense = (mx.random.normal((rows, columns)) * columns**-0.5).astype(mx.float16)
        packed = (
            (dense,)
            if self.bits == 16
            else tuple(mx.quantize(dense, group_size=GROUP, bits=self.bits))
        )
        mx.eval(packed)
        return packed

    def multiply(self, x: Any, w: tuple[Any, ...]) -> Any:
        if len(w) == 1:
            return x @ w[0].T
        return self.mx.quantized_matmul(x, *w, transpose=True, group_size=GROUP, bits=self.bits)

    def embedded(self, ids: Any) -> Any:
        rows = tuple(part[ids] for part in self.embedding)
        if len(rows) == 1:
            return rows[0]
        return self.mx.dequantize(*rows, group_size=GROUP, bits=self.bits)

    def empty(self, tokens: int) -> list[Any]:
        """Keys and values of every application, of 16 bits."""
        shape = (1, self.a["n_kv_heads"], tokens, self.a["head_dim"])
        return [self.mx.zeros(shape, self.mx.float16) for _ in range(2 * len(self.order))]

    def step(self, ids: Any, cache: list[Any], at: int) -> tuple[Any, list[Any]]:
        """Logits of the last token, and the cache with these tokens in it."""
        mx, a = self.mx, self.a
        tokens, head = ids.shape[0], a["head_dim"]
        x, kept = self.embedded(ids), list(cache)

        def heads(z: Any, count: int) -> Any:
            return z.reshape(1, tokens, count, head).transpose(0, 2, 1, 3)

        def turned(z: Any) -> Any:
            return mx.fast.rope(z, head, traditional=False, base=10000.0, scale=1.0, offset=at)

        for layer, block in enumerate(self.order):
            w = self.blocks[block]
            y = mx.fast.rms_norm(x, self.gain, 1e-6)
            q = turned(heads(self.multiply(y, w["query"]), a["n_heads"]))
            new = (
                turned(heads(self.multiply(y, w["key"]), a["n_kv_heads"])),
                heads(self.multiply(y, w["value"]), a["n_kv_heads"]),
            )
            for which, values in enumerate(new):
                where = mx.array([at])
                kept[2 * layer + which] = mx.slice_update(
                    kept[2 * layer + which], values, where, axes=[2]
                )
            seen = mx.fast.scaled_dot_product_attention(
                q,
                kept[2 * layer][:, :, : at + tokens],
                kept[2 * layer + 1][:, :, : at + tokens],
                scale=head**-0.5,
                mask="causal" if tokens > 1 else None,
            )
            x = x + self.multiply(seen.transpose(0, 2, 1, 3).reshape(tokens, -1), w["output"])
            y = mx.fast.rms_norm(x, self.gain, 1e-6)
            gate = self.multiply(y, w["gate"])
            x = x + self.multiply(gate * mx.sigmoid(gate) * self.multiply(y, w["up"]), w["down"])
        return self.multiply(mx.fast.rms_norm(x[-1:], self.gain, 1e-6), self.head), kept


def _best(call: Any) -> float:
    """Seconds of the best of several calls, after one that warms up."""
    call()
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < LEAST_S:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _peak_bytes() -> int:
    """The most memory this process ever held."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
