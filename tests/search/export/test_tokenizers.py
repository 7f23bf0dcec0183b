"""The tokenizer that trained the weights travels with them: the same token ids everywhere."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.record import RunRecord
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.export.export import export_command
from shapelaw.search.export.gguf import write_gguf
from shapelaw.search.export.hugging_face import export_hf
from shapelaw.search.export.pretokenizers import SPLITS
from shapelaw.search.export.vocabulary import read_vocabulary
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.design.design import read_design
from shapelaw.sweeps.running.run_sweep import run_sweep

TEXT = (
    "Ça va? naïve façade — 𝄞 🙂👩‍💻 don't WE'LL 12345 3.14\n\n"
    "def f(x):\n\treturn  {'a': x**2}  # 100%\r\n   \u4f60\u597d \u0416\u0435\n"
)
LLAMA_3 = next(pattern for pattern, name in SPLITS.items() if name == "llama-bpe")


def shape(vocab_size: int) -> Architecture:
    return Architecture(
        vocab_size=vocab_size, d_model=32, n_blocks=1, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=64
    )


def bpe(path: Path, size: int) -> Path:
    """As the sweeps' own: GPT-2's cuts."""
    return _trained(path, size, None, "<|endoftext|>")


def llama_3_style(path: Path, size: int = 400) -> Path:
    """Llama 3's cuts, end token and template that puts a beginning before each text."""
    return _trained(path, size, LLAMA_3, "<|end_of_text|>")


def _trained(path: Path, size: int, pattern: str | None, end: str) -> Path:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=pattern is not None))
    tokenizer.decoder = decoders.ByteLevel()
    special = [end]
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        special = ["<|begin_of_text|>", end]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    sources = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    tokenizer.train_from_iterator([*sources, TEXT * 3, "1234 12345 999 100"], trainer)
    if pattern is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def training_ids(tokenizer: Path | None) -> list[int]:
    """As the corpus encodes a text."""
    from tokenizers import Tokenizer

    if tokenizer is None:
        return list(TEXT.encode())
    loaded = Tokenizer.from_file(str(tokenizer))
    return list(loaded.encode(TEXT, add_special_tokens=False).ids)


LLAMA_CPP = """
import json, os, sys, urllib.request, xllamacpp
job = json.loads(sys.stdin.read())
answer = os.fdopen(os.dup(1), "w")
quiet = os.open(os.devnull, os.O_WRONLY)
os.dup2(quiet, 1)
os.dup2(quiet, 2)
parameters = xllamacpp.CommonParams()
parameters.model.path = job["model"]
"""
"""What every script begins with: the engine's own words kept from the answer."""

LLAMA_CPP_IDS = (
    LLAMA_CPP
    + """
parameters.n_ctx = 256
parameters.n_parallel = 1
server = xllamacpp.Server(parameters)
request = urllib.request.Request(
    server.listening_address + "/tokenize",
    json.dumps({"content": job["text"], "add_special": True}).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=30) as reply:
    json.dump(json.load(reply)["tokens"], answer)
answer.flush()
os._exit(0)
"""
)


def llama_cpp_ids(path: Path, text: str) -> list[int]:
    """Token ids by llama.cpp, asked over the loopback, special tokens where it would add them.

    In a process of its own: the engine's threads may never end in one that holds other runtimes.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", LLAMA_CPP_IDS],
        input=json.dumps({"model": str(path), "text": text}),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("kind", ["bytes", "bpe-304", "bpe-512", "llama-3"])
def test_token_ids_are_those_of_training_in_both_formats(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("xllamacpp")
    tokenizer: Path | None = None
    if kind == "llama-3":
        tokenizer = llama_3_style(tmp_path / "t.json")
    elif kind != "bytes":
        tokenizer = bpe(tmp_path / "t.json", int(kind.removeprefix("bpe-")))
    architecture = shape({"bytes": 256, "llama-3": 416}.get(kind, 512))
    expected = training_ids(tokenizer)
    export_hf(architecture, tmp_path / "hf", None, tokenizer)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert loaded(TEXT)["input_ids"] == expected
    assert loaded.decode(expected) == TEXT
    write_gguf(tmp_path / "m.gguf", architecture, tokenizer=tokenizer)
    assert llama_cpp_ids(tmp_path / "m.gguf", TEXT) == expected


def test_the_end_of_a_document_is_the_tokenizer_s_own(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(llama_3_style(tmp_path / "t.json"), 500)
    assert vocabulary.tokens[vocabulary.end] == "<|end_of_text|>"
    assert vocabulary.pre == "llama-bpe"


def test_a_cut_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    path = bpe(tmp_path / "t.json", 300)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(path))
    with pytest.raises(BadInput, match="normalise"):
        read_vocabulary(path, 300)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save(str(path))
    with pytest.raises(BadInput, match="no name for its pre-tokenizer"):
        read_vocabulary(path, 300)


LLAMA_CPP_LOSS = (
    LLAMA_CPP
    + """
parameters.n_ctx, parameters.n_parallel, parameters.warmup = 128, 1, False
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)
means = []
for window in job["windows"]:
    total = 0.0
    for place in range(1, len(window)):
        # What it chooses is of no matter; a letter is shown at once, half a character never.
        reply = server.handle_completions({
            "prompt": window[:place], "max_tokens": 1, "temperature": 0, "ignore_eos": True,
            "n_probs": job["vocabulary"], "logit_bias": [[job["letter"], 1000]],
        })
        (row,) = reply["choices"][0]["logprobs"]["content"]
        found = {top["id"]: top["logprob"] for top in row["top_logprobs"]}
        total -= found[window[place]]
    means.append(total / (len(window) - 1))
json.dump(means, answer)
answer.flush()
os._exit(0)
"""
)


def llama_cpp_losses(path: Path, windows: list[list[int]], vocabulary: int) -> list[float]:
    """Mean loss of each window by llama.cpp, nats a token, from its own log-probabilities."""
    job = {"model": str(path), "windows": windows, "vocabulary": vocabulary, "letter": 97}
    done = subprocess.run(
        [sys.executable, "-P", "-c", LLAMA_CPP_LOSS],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return list(json.loads(done.stdout))


SOURCES = Path(__file__).parents[3] / "search" / "answer"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bytes", "bpe-304", "bpe-512", "llama-3"])
def test_a_trained_run_s_loss_is_the_record_s_in_both_formats(tmp_path: Path, kind: str) -> None:
    """By transformers and by llama.cpp, each from its own folder, two precisions in each."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("xllamacpp")
    tokenizer = kind if kind != "llama-3" else str(llama_3_style(tmp_path / "t.json"))
    design = read_design(f"""
        name = "own"
        text = ["{SOURCES}/*.py"]
        tokenizer = "{tokenizer}"
        validation_tokens = 1_024
        sequence_length = 64
        token_budgets = [20_000]
        [base]
        non_embedding = [14_000]
        head_dim = 16
    """)
    out = tmp_path / "out"
    (record,) = run_sweep(
        design, out, keep_weights=True, workers=1, live=False, cache_dir=tmp_path / "cache"
    ).records
    assert record.loss is not None
    weights = out / "weights" / f"{record.run_key}.safetensors"
    export_command(str(weights), "hf", tmp_path / "hf", weight_formats=("f32", "bf16"))
    written = export_command(
        str(weights), "gguf", tmp_path / "gguf", weight_formats=("f16", "q8_0")
    )
    windows = load_corpus(design.corpus_spec(), tmp_path / "cache").validation_windows(64)
    ids = torch.from_numpy(windows.astype("int64"))
    for variant, near in ((None, 1e-4), ("bf16", 5e-3)):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "hf", variant=variant, dtype=torch.float32
        )
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])
        assert float(loss) == pytest.approx(record.loss, abs=near)
    vocabulary = record.architecture.vocab_size
    for path, near in zip(written["files"], (1e-3, 2e-2), strict=True):
        assert len(windows) >= 15
        losses = llama_cpp_losses(Path(path), windows.tolist(), vocabulary)
        assert sum(losses) / len(losses) == pytest.approx(record.loss, abs=near), path
    _same_text_and_no_other_tokenizer(tmp_path, kind, weights, record, windows)


def _same_text_and_no_other_tokenizer(
    tmp_path: Path, kind: str, weights: Path, record: RunRecord, windows: np.ndarray
) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = loaded.decode(windows[0].tolist())
    assert loaded.decode(loaded(text)["input_ids"]) == text
    if kind == "bytes":
        return
    print_of = record.corpus.tokenizer_fingerprint
    kept = weights.parent / f"tokenizer-{print_of}.json"
    assert hashlib.sha256(kept.read_bytes()).hexdigest()[:16] == print_of
    other = bpe(tmp_path / "other.json", 304)
    with pytest.raises(BadInput, match="is another"):
        export_command(str(weights), "hf", tmp_path / "x", tokenizer=other)
    kept.unlink()
    with pytest.raises(BadInput, match="is not here"):
        export_command(str(weights), "gguf", tmp_path / "x")


def test_several_formats_stand_beside_each_other_or_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    arch = tmp_path / "a.json"
    arch.write_text(json.dumps(shape(256).to_dict()))
    written = export_command(str(arch), "gguf", tmp_path / "two", weight_formats=("q8_0", "F16"))
    assert {p.name: p.stat().st_size for p in (tmp_path / "two").iterdir()} == {
        "a-q8_0.gguf": written["bytes"]["q8_0"],
        "a-f16.gguf": written["bytes"]["f16"],
    }
    assert written["bytes"]["q8_0"] < written["bytes"]["f16"]
    with pytest.raises(BadInput, match="one file holds one format"):
        export_command(str(arch), "gguf", tmp_path / "m.gguf", weight_formats=("q8_0", "f16"))
    with pytest.raises(BadInput, match=r"'q8_0'.*holds f32, f16, bf16"):
        export_command(str(arch), "hf", tmp_path / "hf", weight_formats=("q8_0",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "two"]
