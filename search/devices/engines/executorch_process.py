"""The process that holds ExecuTorch: one JSON job on stdin, one JSON line on stdout.

Run as a script, so that it imports the engine and nothing else of the project. `lower` writes
programs, each for so many tokens at a time; `run` times a token's, and a prompt's where there is
one. Weights are random and of 32 bits, the
keys and values lie in the program's own buffers, and a block that is applied twice is one module
called twice, which ExecuTorch stores once.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

LEAST_S = 1.0
"""Seconds for which a prompt, and a stretch of tokens, are repeated: loading the engine takes
several, and in less time than this its threads may not once run undisturbed."""


def main() -> None:
    """Do the job and print its answer."""
    job = json.loads(sys.stdin.read())
    # The engine logs to stdout and stderr; keep the answer's channel clean.
    answer = os.fdopen(os.dup(1), "w")
    kept = os.dup(2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    warnings.simplefilter("ignore")
    try:
        found = _lower(job) if job["do"] == "lower" else _run(job)
    except Exception as error:
        os.write(kept, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n".encode())
        os._exit(1)
    json.dump(found, answer)
    answer.write("\n")
    answer.flush()
    os._exit(0)


def _lower(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers the cache

    for program in job["programs"]:
        model = _decoder(program["architecture"], program["order"], program["context"])
        example = (torch.zeros(1, program["tokens"], dtype=torch.long), torch.tensor([0]))
        with torch.no_grad():
            exported = torch.export.export(model, example, strict=False)
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            unfinished = f"{program['path']}.part.pte"  # the engine asks for the ending
            lowered.to_executorch().save(unfinished)
        os.replace(unfinished, program["path"])
    return {}


def _decoder(a: dict[str, Any], order: list[int], context: int) -> Any:
    """The project's block as a torch module: RMSNorm, RoPE, grouped queries, SwiGLU."""
    import torch
    from torch import nn

    query, kv = a["n_heads"] * a["head_dim"], a["n_kv_heads"] * a["head_dim"]

    def norm(x: Any, gain: Any) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * gain

    def linear(rows: int, columns: int) -> Any:
        return nn.Linear(rows, columns, bias=False)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, d_ff = a["d_model"], a["d_ff"]
            self.norm_attention = nn.Parameter(torch.ones(width))
            self.norm_mlp = nn.Parameter(torch.ones(width))
            self.query, self.key, self.value = (linear(width, n) for n in (query, kv, kv))
            self.output = linear(query, width)
            self.gate, self.up, self.down = (
                linear(width, d_ff),
                linear(width, d_ff),
                linear(d_ff, width),
            )

        def forward(self, x: Any, keys: Any, values: Any, at: int, turn: tuple[Any, Any]) -> Any:
            cosine, sine = turn
            tokens = x.shape[1]

            def heads(z: Any, count: int) -> Any:
                return z.view(1, tokens, count, a["head_dim"])

            def rotated(z: Any) -> Any:
                half = a["head_dim"] // 2
                first, second = z[..., :half], z[..., half:]
                return torch.cat(
                    (first * cosine - second * sine, first * sine + second * cosine), -1
                )

            y = norm(x, self.norm_attention)
            q = rotated(heads(self.query(y), a["n_heads"]))
            k = rotated(heads(self.key(y), a["n_kv_heads"]))
            torch.ops.llama.update_cache(k, keys, at)
            torch.ops.llama.update_cache(heads(self.value(y), a["n_kv_heads"]), values, at)
            seen = torch.ops.llama.custom_sdpa(q, keys, values, at, None, 0, True, None)
            x = x + self.output(seen.reshape(1, tokens, query))
            y = norm(x, self.norm_mlp)
            return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(a["vocab_size"], a["d_model"])
            self.head = linear(a["d_model"], a["vocab_size"])
            if a["tied_embeddings"]:
                self.head.weight = self.embedding.weight
            self.norm = nn.Parameter(torch.ones(a["d_model"]))
            self.blocks = nn.ModuleList(Block() for _ in range(a["n_blocks"]))
            powers = torch.arange(0, a["head_dim"], 2) / a["head_dim"]
            angles = torch.arange(context)[:, None] * torch.pow(10000.0, -powers)
            self.register_buffer("cosine", torch.cos(angles)[:, None], persistent=False)
            self.register_buffer("sine", torch.sin(angles)[:, None], persistent=False)
            for layer in range(len(order)):
                for name in ("keys", "values"):
                    empty = torch.zeros(1, context, a["n_kv_heads"], a["head_dim"])
                    self.register_buffer(f"{name}{layer}", empty, persistent=False)

        def forward(self, ids: Any, position: Any) -> Any:
            tokens = ids.shape[1]
            at = position[-1].item()
            torch._check_is_size(at)
            torch._check(at < context - tokens)
            own: Any = self
            turn = (own.cosine.narrow(0, at, tokens), own.sine.narrow(0, at, tokens))
            x = self.embedding(ids)
            for layer, block in enumerate(order):
                cache = (getattr(self, f"keys{layer}"), getattr(self, f"values{layer}"))
                x = own.blocks[block](x, *cache, at, turn)
            return self.head(norm(x[:, -1:], self.norm))

    return Decoder().eval()


def _run(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  registers the cache
    from executorch.runtime import Runtime

    before = _resident()
    runtime = Runtime.get()
    decode = runtime.load_program(job["decode"]).load_method("forward")
    token = torch.zeros(1, 1, dtype=torch.long)
    positions = [torch.tensor([job["prompt"] + i]) for i in range(job["tokens"])]

    def stretch() -> None:
        for position in positions:
            decode.execute((token, position))

    step = _best(stretch) / job["tokens"]
    held = _resident() - before
    if job["prefill"] is None:
        return {"decode": step, "held_bytes": held}
    prompt = runtime.load_program(job["prefill"]).load_method("forward")
    ids, start = torch.zeros(1, job["prompt"], dtype=torch.long), torch.tensor([0])
    prefill = _best(lambda: prompt.execute((ids, start)))
    return {"prefill": prefill, "decode": step, "held_bytes": held}


def _best(call: Any) -> float:
    """Seconds of the best of several calls, after one that warms up."""
    call()
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < LEAST_S:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _resident() -> int:
    """Bytes of this process in memory."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
