"""Files that are well, one for each border, with the commands that read them."""

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple


class Border(NamedTuple):
    """One kind of file, and what reads it. `{}` in a command stands for the file, `@` for the
    folder of the other files."""

    name: str
    """The file's name: commands judge by its ending."""
    grammar: str
    content: bytes
    commands: Sequence[Sequence[str]]
    folder: str = ""
    """Where it stands within a folder of its own, which is then what `{}` names."""
    weight: int = 1
    """How often it is chosen."""


OPTIONS: tuple[tuple[str, ...], ...] = (
    ("explain", "smollm2-135m", "--device", "m2", "--workload", "chat", "--format", "q8_0",
     "--engine", "llama.cpp", "--json"),
    ("explain", "smollm2-135m", "--device", "m2", "--bits", "4"),
    ("devices", "m2", "--engine", "mlx", "--json"),
    ("query", "--device", "m2", "--space", "@/space.toml", "--memory", "2GB", "--decode", "20tok/s",
     "--ttft", "500ms", "--energy", "50J", "--tokens", "1B", "--json"),
    ("query", "--device", "m2", "--space", "@/space.toml", "--flops", "1e19", "--bits", "4,8",
     "--confidence", "0.8", "--json"),
    ("query", "--device", "m2", "--space", "@/space.toml", "--formats", "q8_0,q4_k_m", "--tokens",
     "1B", "--objectives", "loss,decode", "--workload", "chat"),
    ("query", "--device", "m2", "--space", "@/space.toml", "--tokens", "1B", "--target-loss", "3.5",
     "--accelerator", "h100", "--utilisation", "0.4", "--law", "@/law.json", "--json"),
    ("fit", "@/runs.csv", "--form", "chinchilla", "--bootstrap", "0", "--seed", "3",
     "--no-holdout", "--objective", "huber", "--columns", "n=n,d=d,loss=loss", "--json"),
    ("predict", "@/law.json", "@/runs.csv", "--columns", "n=n,d=d:raw,loss=loss:nats", "--json"),
    ("sweep", "smoke", "--plan", "--json"),
    ("sweep", "smoke", "--next", "2", "--law", "@/law.json", "--flops", "1e14", "--json"),
    ("sweep", "smoke", "--next", "1", "--law", "@/law.json", "--device", "m2", "--memory", "1GB",
     "--decode", "5tok/s"),
    ("sweep", "--status", "@/runs", "--json"),
    ("export", "smollm2-135m", "--to", "hf", "out", "--json"),
    ("calibrate", "--name", "x", "--llama-bench", "@/bench.json", "--out", "x.toml", "--json"),
)  # fmt: skip
"""Command lines that are well; a fuzzer changes their values."""

TOKENISE = "(tokenise)"
"""Not a command: what a sweep does first, reading a design's corpus."""
FIT = ("fit", "{}", "--form", "chinchilla", "--bootstrap", "0", "--no-holdout", "--json")
SHAPE = {
    "vocab_size": 256, "d_model": 64, "n_blocks": 4, "sharing": 1, "n_heads": 4, "n_kv_heads": 2,
    "head_dim": 16, "d_ff": 128, "tied_embeddings": True,
}  # fmt: skip
CONFIG = {
    "model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "head_dim": 16,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "tie_word_embeddings": True, "rope_theta": 10000.0,
    "hidden_act": "silu", "max_position_embeddings": 2048, "attention_bias": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 1000,
    "hidden_size": 64, "head_dim": 16, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 1, "intermediate_size": 128, "sliding_window": 512,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention",
                    "full_attention"], "query_pre_attn_scalar": 16,
}  # fmt: skip


def _rows() -> list[tuple[float, float, float]]:
    return [
        (n, d, round(1.8 + 400 * n**-0.34 + 900 * d**-0.36, 4))
        for n in (1e7, 4e7, 1e8, 1e9)
        for d in (1e9, 9e9, 4e10)
    ]


def _shaped_table() -> str:
    """Runs that vary in shape, as CSV."""
    text = "run,n,d,loss,d_model,n_layers,d_ff,n_heads,n_kv_heads,head_dim,sharing\n"
    shapes = [(w, deep, d) for w in (256, 512, 1024) for deep in (4, 8, 16) for d in (1e9, 4e9)]
    for i, (width, depth, d) in enumerate(shapes):
        n, heads = 12 * width**2 * depth, width // 64
        loss = 2 + 900 * d**-0.36 + 300 * n**-0.34 + 0.01 * (i % 3)
        text += f"r{i},{n},{d:.0f},{loss:.4f},{width},{depth},{width * (2 + i % 3)},{heads},"
        text += f"{max(1, heads // (1 + i % 2))},64,1\n"
    return text


def _plain(law: bytes, draws: int) -> bytes:
    document = json.loads(law)
    document["draws"] = document["draws"][:draws]
    for other in document.get("others", []):
        other["draws"] = other["draws"][:draws]
    return json.dumps(document).encode()


def _said(arguments: Sequence[str]) -> bytes:
    """What a command prints."""
    from shapelaw.cli import main

    before, sys.argv = sys.argv, ["shapelaw", *arguments]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main()
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"a well input is refused: {arguments}") from None
    finally:
        sys.argv = before
    return out.getvalue().encode()


def _tokenizer() -> dict[str, Any]:
    from shapelaw.search.export.vocabulary import byte_characters

    return {
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": "<|endoftext|>", "special": True,
                          "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(byte_characters())},
                  "merges": []},
    }  # fmt: skip


def _bench() -> list[dict[str, Any]]:
    row = {"model_filename": "llama-2-7b.Q4_0.gguf", "model_type": "llama 7B Q4_0",
           "model_size": 3825065984, "model_n_params": 6738415616, "n_batch": 2048,
           "n_ubatch": 512, "n_threads": 8, "type_k": "f16", "type_v": "f16", "n_gpu_layers": -1,
           "flash_attn": -1, "n_depth": 0}  # fmt: skip
    times = ((512, 0, 216142857), (0, 128, 2_000_000_000))
    return [
        {**row, "n_prompt": p, "n_gen": g, "avg_ns": t, "samples_ns": [t, t + 1000]}
        for p, g, t in times
    ]


def well_inputs(folder: Path) -> list[Border]:
    """Every border with a file that is well; the files it leans on are written to `folder`."""
    root = resources.files("shapelaw")
    rows = _rows()
    csv = "n,d,loss\n" + "".join(f"{n:.0f},{d:.0f},{loss}\n" for n, d, loss in rows)
    shaped = _shaped_table()
    tracked = "Name,Step,train/loss,val/loss,n_params,tokens,State\n" + "".join(
        f"run{r},{s},{4 - s / 10},{3.9 - s / 10 + r / 9},{10**7 * (r + 1)},{s * 10**8},finished\n"
        for r in range(4) for s in range(1, 6)
    )  # fmt: skip
    objects = [dict(zip(("n", "d", "loss"), row, strict=True)) for row in rows]
    trainer_state = {"log_history": [{"step": i, "params": n, "tokens": d, "eval_loss": loss}
                                     for i, (n, d, loss) in enumerate(rows)],
                     "global_step": 12, "best_metric": None}  # fmt: skip
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("n", "d", "loss"))}
    space = (
        b'name = "x"\nd_model = [64, 128]\nhead_dim = 32\nsharing = [1, 2]\nn_blocks = [4, 8]\n'
        b"gqa_group = [1, 2]\nmlp_attention_ratio = { from = 1.0, to = 2.0, step = 0.5 }\n"
        b'd_ff_multiple_of = 32\nvocab_size = 1000\nweight_bits = 8\nattention = ["full"]\n'
    )
    record = (root / "results/reference/runs.jsonl").read_bytes().split(b"\n")[:6]
    records = []
    for line in record:
        document = json.loads(line)
        document["curve"] = document["curve"][:3]
        records.append(json.dumps(document).encode())
    runs = b"\n".join(records) + b"\n"
    law_v1 = _plain((root / "results/reference/laws/reference.json").read_bytes(), 4)
    device = _profile(folder / "device.toml")
    tokenizer = json.dumps(_tokenizer()).encode()
    bench = json.dumps(_bench()).encode()
    design = (root / "sweeps/design/presets/smoke.toml").read_bytes()
    own_text = (
        b'name = "own"\ntext = ["@/corpus/*.txt"]\nencoding = "utf-8"\ntokenizer = '
        b'"@/tokenizer.json"\nvalidation_tokens = 1024\ntokens_per_parameter = [1, 2]\n'
        b"seeds = [0, 1]\n[base]\nnon_embedding = [4_000, 8_000]\naspect_ratio = 12\n"
        b"head_dim = 8\n[vary]\nmlp_attention_ratio = [0.5, 2.0]\nsharing = [2]\n"
    ).replace(b"@", str(folder).encode())
    explicit = (
        b'name = "given"\ntoken_budgets = ["1M", 2_000_000]\n[[part]]\nname = "a"\n[[part.runs]]\n'
        b'label = "x"\ntokens = [100_000]\nseed = 1\n[part.runs.architecture]\nvocab_size = 256\n'
        b"d_model = 32\nn_blocks = 2\nsharing = 1\nn_heads = 2\nn_kv_heads = 1\nhead_dim = 16\n"
        b"d_ff = 64\n[[part]]\nflops = [1e12]\n[part.base]\nnon_embedding = 10_000\n[part.latin]\n"
        b"runs = 4\nseed = 2\nmlp_attention_ratio = [0.5, 4.0]\nsharing = [1, 2]\n"
    )
    (folder / "corpus").mkdir(exist_ok=True)
    for number in range(3):
        (folder / "corpus" / f"{number}.txt").write_text("one two three four five\n" * 400)
    beside = {
        "tokenizer.json": tokenizer,
        "space.toml": space,
        "bench.json": bench,
        "shape.json": json.dumps(SHAPE).encode(),
        "runs.csv": csv.encode(),
        "shaped.csv": shaped.encode(),
    }
    for name, content in beside.items():
        (folder / name).write_bytes(content)
    # Of the mutated files themselves, in the current folder.
    words = b'name = "t"\ntext = ["%s"]\nvalidation_tokens = 1024\ntokens_per_parameter = [1]\n'
    (folder / "tokenized.toml").write_bytes(
        words % (str(folder).encode() + b"/corpus/*.txt")
        + b'tokenizer = "tokenizer.json"\n'
        + b"[base]\nnon_embedding = 4_000\n"
    )
    (folder / "text.toml").write_bytes(words % b"text.txt" + b"[base]\nnon_embedding = 4_000\n")
    wider = {**SHAPE, "vocab_size": 257}
    (folder / "wider.json").write_text(json.dumps(wider))
    (folder / "wider.safetensors").write_bytes(_weights(wider))
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "runs" / "runs.jsonl").write_bytes(runs)
    _said([*(part.replace("{}", str(folder / "runs.csv")) for part in FIT[:3]), "chinchilla",
           "--bootstrap", "4", "--no-holdout", "--out", str(folder / "law.json")])  # fmt: skip
    _said(["fit", str(folder / "runs.csv"), "--prior", "evidence", "--out",
           str(folder / "evidence.json"), "--json"])  # fmt: skip
    evidence = _plain((folder / "evidence.json").read_bytes(), 6)
    (folder / "evidence.json").write_bytes(evidence)
    query = ("query", "--device", "m2", "--space", "@/space.toml", "--tokens", "1B", "--json")
    answer = _said([part.replace("@", str(folder)) for part in query])
    shape = json.dumps(SHAPE).encode()
    explain = ("explain", "{}", "--device", "m2", "--json")
    to_hf, to_gguf = ("export", "{}", "--to", "hf", "out", "--json"), (
        "export", "{}", "--to", "gguf", "out.gguf", "--json")  # fmt: skip
    state = json.dumps({"design": "smoke", "run_keys": [json.loads(r)["run_key"] for r in records],
                        "flops": 1e12, "flops_done": 5e11, "seconds_left": 3.0,
                        "tokens_per_second": 1e5, "workers": ["a"], "updated": "now"})  # fmt: skip
    weights = _weights(SHAPE)
    with_weights = ("export", "@/shape.json", "--to", "hf", "out", "--weights", "{}", "--json")
    return [
        Border("law.json", "json", (folder / "law.json").read_bytes(), (
            ("predict", "{}", "@/runs.csv", "--json"),
            (*query[:-1], "--law", "{}", "--json"), (*query[:-1], "--law", "{}"),
            ("predict", "{}", "@/runs.csv"),
            ("sweep", "smoke", "--next", "2", "--law", "{}", "--json"))),
        Border("shape-law.json", "json", law_v1, (
            ("predict", "{}", "@/shaped.csv", "--json"), (*query[:-1], "--law", "{}", "--json"))),
        Border("evidence-law.json", "json", evidence, (
            ("predict", "{}", "@/shaped.csv", "--json"), (*query[:-1], "--law", "{}", "--json"))),
        Border("device.toml", "toml", device, (
            ("devices", "{}", "--json"), ("explain", "smollm2-135m", "--device", "{}", "--json"),
            ("devices", "{}"), ("query", "--device", "{}", *query[3:-1]),
            ("query", "--device", "{}", *query[3:])), weight=2),
        Border("calibrated.toml", "toml", device, (
            ("devices", "--json"), ("devices", "calibrated"),
            ("explain", "smollm2-135m", "--device", "calibrated")), folder="devices"),
        Border("workload.toml", "toml", (root / "search/workloads/agent.toml").read_bytes(), (
            ("explain", "smollm2-135m", "--device", "m2", "--workload", "{}", "--json"),
            (*query[:-1], "--workload", "{}", "--json"), (*query[:-1], "--workload", "{}"))),
        Border("sparse.toml", "toml", b'name = "x"\nprompt = 1000\ngenerated = 100\nbatch = 2\n'
               b"context = 900\nturns = 3\ncached_share = 0.5\n[decode_attention]\n"
               b'kind = "eviction"\ncapacity = 512\n', (
            ("explain", "smollm2-135m", "--device", "m2", "--workload", "{}", "--json"),)),
        Border("space.toml", "toml", space, (
            ("query", "--device", "m2", "--space", "{}", "--tokens", "1B", "--json"),
            ("query", "--device", "m2", "--space", "{}", "--tokens", "1B")), weight=2),
        Border("design.toml", "toml", design, (("sweep", "{}", "--plan", "--json"),
            ("sweep", "{}", "--next", "1", "--law", "@/law.json", "--json"))),
        Border("own-text.toml", "toml", own_text, (("sweep", "{}", "--plan"),)),
        Border("explicit.toml", "toml", explicit, (("sweep", "{}", "--plan", "--json"),)),
        Border("shape.json", "json", shape, (explain, to_hf, to_gguf)),
        Border("shape.toml", "toml", "\n".join(f"{k} = {str(v).lower()}" for k, v in SHAPE.items())
               .encode(), (explain,)),
        Border("config.json", "json", json.dumps(CONFIG).encode(), (explain, to_hf)),
        Border("gemma.json", "json", json.dumps(GEMMA).encode(), (explain,)),
        Border("answer.json", "json", answer, (explain, to_hf, to_gguf, ("explain", "{}",
            "--device", "m2"), ("verify", "{}", "--plan"), ("verify", "{}", "--plan", "--json"))),
        Border("model.gguf", "binary", _gguf(), (explain,), weight=2),
        Border("runs.csv", "csv", csv.encode(), (
            FIT, FIT, ("predict", "@/law.json", "{}", "--json"),
            ("fit", "{}", "--json"), ("fit", "{}", "--prior", "none", "--bootstrap", "3", "--json"),
            ("fit", "{}", "--form", "chinchilla", "--bootstrap", "8", "--drop-invalid"),
            ("fit", "{}", "--form", "norm", "--objective", "squared", "--bootstrap", "3")),
            weight=4),
        Border("shaped.csv", "csv", shaped.encode(), (
            ("predict", "evidence", "{}", "--json"), ("predict", "reference", "{}"),
            ("fit", "{}", "--form", "shape", "--bootstrap", "0", "--no-holdout", "--json"),
            ("fit", "{}", "--form", "shape-norm", "--bootstrap", "3", "--no-holdout"),
            ("fit", "{}", "--prior", "evidence", "--json")), weight=2),
        Border("tracked.csv", "csv", tracked.encode(), (
            (*FIT[:2], "--columns", "n=n_params,d=tokens,loss=val/loss", *FIT[2:]),
            ("predict", "@/law.json", "{}", "--columns", "n=n_params,d=tokens"))),
        Border("runs.jsonl", "jsonl", b"\n".join(json.dumps(o).encode() for o in objects),
               (FIT, ("predict", "@/law.json", "{}", "--json"))),
        Border("columns.json", "json", json.dumps(columns).encode(),
               (FIT, ("predict", "@/law.json", "{}", "--json"))),
        Border("trainer_state.json", "json", json.dumps(trainer_state).encode(), (
            (*FIT[:2], "--columns", "n=params,d=tokens,loss=eval_loss", *FIT[2:]),
            ("predict", "@/law.json", "{}", "--columns", "n=params,d=tokens", "--json"))),
        Border("runs.parquet", "parquet", csv.encode(),
               (FIT, ("predict", "@/law.json", "{}", "--json"))),
        Border("runs.csv.gz", "gzip", csv.encode(), (("predict", "@/law.json", "{}", "--json"),)),
        Border("runs.jsonl", "jsonl", runs, (
            ("sweep", "--status", "{}", "--json"), ("predict", "@/law.json", "{}", "--json"), FIT,
            ("sweep", "smoke", "--next", "1", "--law", "@/law.json", "--out", "{}", "--json")),
            folder="sweep", weight=2),
        Border("sweep.json", "json", state.encode(), (("sweep", "--status", "{}"),
                                                      ("sweep", "--status", "{}", "--json")),
               folder="state"),
        Border("bench.json", "json", bench, (
            ("calibrate", "--name", "x", "--llama-bench", "{}", "--out", "x.toml", "--json"),)),
        Border("bench.csv", "csv", _bench_csv().encode(), (
            ("calibrate", "--name", "x", "--llama-bench", "{}", "--out", "x.toml", "--json"),)),
        Border("tokenizer.json", "json", tokenizer, (
            ("sweep", "@/tokenized.toml", "--plan", "--json"), (TOKENISE, "@/tokenized.toml"),
            ("export", "@/wider.json", "--to", "gguf", "out.gguf", "--tokenizer", "{}",
             "--weights", "@/wider.safetensors", "--json"))),
        Border("weights.safetensors", "binary", weights, (with_weights,)),
        Border("text.txt", "text", b"plain words of a text, \xc3\xa9 and \xe6\xbc\xa2\n" * 300,
               (("sweep", "@/text.toml", "--plan", "--json"), (TOKENISE, "@/text.toml"))),
    ]  # fmt: skip


def _profile(place: Path) -> bytes:
    """A profile as `calibrate` writes it."""
    from shapelaw.search.devices.catalogue import load_device

    profile = load_device("m2")
    profile.to_file(place)
    return place.read_bytes()


def _bench_csv() -> str:
    rows = _bench()
    names = [name for name in rows[0] if name != "samples_ns"]
    return "\n".join([",".join(names), *(",".join(str(r[n]) for n in names) for r in rows)]) + "\n"


def _weights(shape: dict[str, Any]) -> bytes:
    """A safetensors file of an architecture, of zeros."""
    import numpy as np
    from safetensors.numpy import save

    from shapelaw.scaling.architecture import Architecture
    from shapelaw.search.export.exchange_weights import tensor_shapes

    shapes = tensor_shapes(Architecture.from_dict(dict(shape)))
    return bytes(save({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}))


def _gguf() -> bytes:
    """The head of a GGUF of a llama, tensors left out."""
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    said: dict[str, Any] = {
        "general.architecture": "llama", "general.name": "x", "llama.embedding_length": 64,
        "llama.block_count": 4, "llama.feed_forward_length": 128, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.context_length": 2048,
        "llama.rope.dimension_count": 16, "llama.vocab_size": 1000,
    }  # fmt: skip
    out = b"GGUF" + struct.pack("<IQQ", 3, 2, len(said) + 1)
    for key, value in said.items():
        out += text(key)
        out += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack(
            "<II", 4, value)  # fmt: skip
    out += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3)
    out += text("a") + text("b") + text("c")
    for name, shape in (("token_embd.weight", (64, 1000)), ("output_norm.weight", (64,))):
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        out += struct.pack("<IQ", 0, 0)
    return out
