"""A Hugging Face model folder of an architecture, and of its trained weights where there are any.

The block is LLaMA's, so a stock class of `transformers` loads it wherever one expresses the shape.
Blocks that are applied several times are either written as often (any stock class, more bytes) or
kept shared by model code that travels with the files (`trust_remote_code=True`).
"""

import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.hugging_face_config import CONTEXT_LENGTH, hf_config
from shapelaw.search.export.exchange_weights import (
    StoredWeights,
    WeightSource,
    block_shapes,
    expansion_cost,
    tensor_shapes,
    written_whole,
)
from shapelaw.search.export.vocabulary import END_NAMES, byte_characters

BYTES_VOCABULARY = 256
"""A vocabulary of this size is taken to be one token a byte."""

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""Format -> what config.json calls it. The formats of a Hugging Face folder."""

REMOTE_FILES = ("configuration_shapelaw.py", "modeling_shapelaw.py")


def export_hf(
    architecture: Architecture,
    out_dir: Path,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    *,
    keep_sharing: bool = False,
    weight_formats: Sequence[str] = ("f32",),
    context_length: int = CONTEXT_LENGTH,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write config.json, the weights where given, the tokenizer, and a README, whole or not at all.

    Args:
        architecture: its shape.
        out_dir: a folder that does not exist, or an empty one.
        weights: a safetensors file in the exchange form (see `search.export_weights`).
        tokenizer: a tokenizer.json; a vocabulary of 256 gets one token a byte without it.
        keep_sharing: store shared blocks once, with custom model code, where there are any.
        weight_formats: of `DTYPES`. The first is model.safetensors; each further one stands beside
            it as a variant, which `from_pretrained(..., variant="bf16")` loads.
        context_length: most positions the configuration states.
        progress: told what writing shared blocks several times costs, before it begins and once
            nothing is refused any more.

    Returns:
        `files` (paths), `notes` (lines for a person).

    Raises:
        BadInput: the target exists or cannot be written, or the weights or tokenizer do not fit;
            an unknown format.
    """
    a = architecture
    formats = _known(weight_formats)
    shared = keep_sharing and a.sharing > 1
    if a.input_injection and not shared:
        raise BadInput(
            "architecture input_injection = true: no stock class of transformers adds the "
            "input of the shared blocks again; export with --keep-sharing"
        )
    source = None if weights is None else StoredWeights(weights, a)
    notes = _notes(a, shared, source is not None)
    config = hf_config(a, keep_sharing=shared, context_length=context_length)
    config["dtype"] = DTYPES[formats[0]]
    if notes:
        config["shapelaw_note"] = " ".join(notes)
    out_dir = Path(out_dir)
    with written_whole(out_dir, folder=True) as folder:
        names = _write_tokenizer(folder, a, tokenizer, config)
        _write_json(folder / "config.json", config)
        if shared:
            names += _write_code(folder)
        cost = None if shared else expansion_cost(a)
        if progress is not None and cost is not None:
            progress(cost)
        if source is not None:
            for each in formats:
                file = "model.safetensors" if each == formats[0] else f"model.{each}.safetensors"
                _write_weights(folder / file, a, source, shared, DTYPES[each])
                names.append(file)
        card = _readme(a, config, notes, shared=shared, trained=source is not None)
        write_atomically(folder / "README.md", card)
        names += ["config.json", "README.md"]
    return {"files": [str(out_dir / name) for name in sorted(names)], "notes": notes}


def _known(weight_formats: Sequence[str]) -> list[str]:
    formats = list(dict.fromkeys(each.lower() for each in weight_formats))
    for each in formats:
        if each not in DTYPES:
            raise BadInput(f"format = {each!r}: a Hugging Face folder holds {', '.join(DTYPES)}")
    return formats


def _write_weights(
    path: Path, a: Architecture, source: WeightSource, shared: bool, dtype: str
) -> None:
    import ml_dtypes  # noqa: F401  # teaches NumPy bfloat16
    from safetensors.numpy import save_file

    def stored(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.ascontiguousarray(source.tensor(name, shape).astype(dtype, copy=False))

    tensors: dict[str, np.ndarray] = {}
    for name, shape in tensor_shapes(a).items():
        if not name.startswith("model.layers."):
            tensors[name] = stored(name, shape)
    blocks = range(a.n_blocks) if shared else a.applied_blocks()
    for layer, block in enumerate(blocks):
        for part, shape in block_shapes(a).items():
            tensors[f"model.layers.{layer}.{part}"] = stored(f"model.layers.{block}.{part}", shape)
    save_file(tensors, path, metadata={"format": "pt"})


def _write_tokenizer(
    folder: Path, a: Architecture, tokenizer: Path | None, config: dict[str, Any]
) -> list[str]:
    """tokenizer.json and tokenizer_config.json; names the end of a document in `config`."""
    from tokenizers import Tokenizer
    from tokenizers.processors import Sequence

    if tokenizer is not None:
        try:
            loaded = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the library raises the bare class
            raise BadInput(
                f"tokenizer = {str(tokenizer)!r}: not a tokenizer.json ({error})"
            ) from None
        if loaded.get_vocab_size() > a.vocab_size:
            raise BadInput(
                f"tokenizer = {str(tokenizer)!r}: needs vocab_size = "
                f"{loaded.get_vocab_size()} or more, the architecture has "
                f"{a.vocab_size}"
            )
    elif a.vocab_size == BYTES_VOCABULARY:
        loaded = _byte_tokenizer()
    else:
        return []
    # What it would put around a text was not there in training.
    loaded.post_processor = Sequence([])
    loaded.no_padding()
    loaded.no_truncation()
    write_atomically(folder / "tokenizer.json", loaded.to_str(pretty=True))
    fields: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    end_names = END_NAMES if tokenizer is not None else (byte_characters()[0],)
    end = next((name for name in end_names if loaded.token_to_id(name) is not None), None)
    if end is not None:
        config["eos_token_id"] = loaded.token_to_id(end)
        fields["eos_token"] = end
    _write_json(folder / "tokenizer_config.json", fields)
    return ["tokenizer.json", "tokenizer_config.json"]


def _byte_tokenizer() -> Any:
    """One token a byte: a byte-level BPE without merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _write_code(folder: Path) -> list[str]:
    for name in REMOTE_FILES:
        text = (
            resources.files("shapelaw.search.export.remote_code")
            .joinpath(name)
            .read_text(encoding="utf-8")
        )
        write_atomically(folder / name, text)
    return list(REMOTE_FILES)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(fields, indent=2) + "\n")


def _notes(a: Architecture, shared: bool, with_weights: bool) -> list[str]:
    notes = []
    if not with_weights:
        notes.append("No weights were given: config.json describes the model to train.")
    if a.sharing > 1 and shared:
        notes.append(
            f"Each of {a.n_shared_blocks} shared blocks is stored once and applied {a.sharing} "
            "times by the model code beside it: load with trust_remote_code=True."
        )
    elif (cost := expansion_cost(a)) is not None:
        notes.append(cost)
        if not with_weights:
            notes.append(
                "Trained from this configuration the copies would not stay equal; with "
                "--keep-sharing the model is the one that was chosen."
            )
    return notes


def _readme(
    a: Architecture, config: dict[str, Any], notes: list[str], *, shared: bool, trained: bool
) -> str:
    """A model card: what it is, how to load it, what to know."""
    trust = ", trust_remote_code=True" if shared else ""
    load = (
        f"""from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("."{trust})"""
        if trained
        else f"""\
from transformers import AutoConfig, AutoModelForCausalLM

config = AutoConfig.from_pretrained("."{trust})
model = AutoModelForCausalLM.from_config(config{trust})"""
    )
    rows = "\n".join(f"| `{name}` | {value} |" for name, value in a.to_dict().items())
    said = "".join(f"\n> {note}\n" for note in notes)
    return f"""# {config["architectures"][0]}, {a.total_parameters / 1e6:,.1f} M parameters

```python
{load}
```
{said}
| field | value |
|---|---|
{rows}

Parameters: {a.total_parameters:,} stored, {a.non_embedding_parameters:,} of them outside the
embedding, {a.applied_parameters:,} applied to each token.
"""
