"""The tokenizer that trained the weights travels with them: the same token ids everywhere."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def llama_cpp_ids(path: Path, text: str) -> list[int]:
    """Token ids by llama.cpp, asked over the loopback, special tokens where it would add them.

    In a process of its own: the engine's threads may never end in one that holds other runtimes.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", LLAMA_CPP],
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


@pytest.mark.long
def test_a_run_s_own_tokenizer_travels_or_export_refuses(tmp_path: Path) -> None:
    """Trained on BPE-304; the loss in transformers, by the exported tokenizer, is the record's."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    design = read_design("""
        name = "bpe"
        tokenizer = "bpe-304"
        validation_tokens = 8_192
        sequence_length = 64
        token_budgets = [40_000]
        [base]
        non_embedding = [8_000]
    """)
    out = tmp_path / "out"
    (record,) = run_sweep(
        design, out, keep_weights=True, workers=1, live=False, cache_dir=tmp_path / "cache"
    ).records
    weights = out / "weights" / f"{record.run_key}.safetensors"
    kept = out / "weights" / f"tokenizer-{record.corpus.tokenizer_fingerprint}.json"
    assert hashlib.sha256(kept.read_bytes()).hexdigest()[:16] == record.corpus.tokenizer_fingerprint
    export_command(str(weights), "hf", tmp_path / "hf")
    export_command(str(weights), "gguf", tmp_path / "gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    corpus = load_corpus(design.corpus_spec(), tmp_path / "cache")
    windows = torch.from_numpy(corpus.validation_windows(64).astype("int64"))
    text = loaded.decode(windows[0].tolist())
    assert loaded.decode(loaded(text)["input_ids"]) == text
    with torch.no_grad():
        logits = model(windows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), windows[:, 1:])
    assert float(loss) == pytest.approx(record.loss, abs=1e-3)
    other = bpe(tmp_path / "other.json", 304)
    with pytest.raises(BadInput, match="is another"):
        export_command(str(weights), "hf", tmp_path / "x", tokenizer=other)
    kept.unlink()
    with pytest.raises(BadInput, match="is not here"):
        export_command(str(weights), "gguf", tmp_path / "x")
