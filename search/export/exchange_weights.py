"""Weights on their way to another tool: names, shapes, where they come from, where they go.

The exchange form is the Hugging Face LLaMA layout: matrices are (out, in) and are named as
`LlamaForCausalLM` names them, one set for each *stored* block. A sweep saves its trained models so,
and both exports start from it.
"""

import contextlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.atomic_files import MACHINE_ERRORS
from shapelaw.scaling.errors import BadInput, NoAnswer

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
LM_HEAD = "lm_head.weight"
SHARING_ENGINES = "jax, ExecuTorch on a phone, LiteRT-LM, MLX or Hugging Face transformers"
"""What keeps a block that is applied several times once: as the engines' own files say, which lie
above this room; a test holds the two together."""


class WeightSource(Protocol):
    """Gives one tensor at a time, float32, so that a model need not fit in memory twice."""

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The tensor called `name`, which has `shape`."""
        ...


def block_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name within a block -> shape, (out, in) for matrices."""
    a = architecture
    query, key_value = a.query_width, a.key_width
    return {
        "input_layernorm.weight": (a.d_model,),
        "self_attn.q_proj.weight": (query, a.d_model),
        "self_attn.k_proj.weight": (key_value, a.d_model),
        "self_attn.v_proj.weight": (key_value, a.d_model),
        "self_attn.o_proj.weight": (a.d_model, query),
        "post_attention_layernorm.weight": (a.d_model,),
        "mlp.gate_proj.weight": (a.d_ff, a.d_model),
        "mlp.up_proj.weight": (a.d_ff, a.d_model),
        "mlp.down_proj.weight": (a.d_model, a.d_ff),
    }


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Every stored tensor: name -> shape. Their sizes add up to `total_parameters`."""
    a = architecture
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (a.vocab_size, a.d_model)}
    for block in range(a.n_blocks):
        for name, shape in block_shapes(a).items():
            shapes[f"model.layers.{block}.{name}"] = shape
    shapes[FINAL_NORM] = (a.d_model,)
    if not a.tied_embeddings:
        shapes[LM_HEAD] = (a.vocab_size, a.d_model)
    return shapes


def expansion_parameters(architecture: Architecture) -> int:
    """Parameters that a file must store again where it cannot express shared blocks."""
    a = architecture
    return int((a.depth - a.n_blocks) * a.block_parameters)


def expansion_cost(architecture: Architecture) -> str | None:
    """What writing shared blocks as often as they are applied costs; None where none is shared."""
    a = architecture
    if a.sharing == 1:
        return None
    extra = expansion_parameters(a)
    return (
        f"Each of {a.n_shared_blocks} shared blocks is written {a.sharing} times: {extra:,} "
        f"parameters more, {4 * extra:,} bytes in float32 and {2 * extra:,} in 16 "
        "bits, and as many more to read for each token. To keep them shared an engine such as "
        f"{SHARING_ENGINES} is needed; --to hf keeps them."
    )


class RandomWeights:
    """Normal weights of variance 1 / fan-in and unit gains; the same for the same seed.

    Values repeat with a period of about a million: enough for a model to be timed and to give
    finite logits, and a billion of them cost a copy, not a billion draws.
    """

    PERIOD = 2**20

    def __init__(self, seed: int = 0) -> None:
        self._noise = np.random.default_rng(seed).standard_normal(self.PERIOD, dtype=np.float32)

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor whose place in the noise comes from its name."""
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        start = zlib.crc32(name.encode()) % self.PERIOD
        size = int(np.prod(shape))
        values = np.resize(np.roll(self._noise, -start), size).reshape(shape)
        return values * np.float32(shape[-1] ** -0.5)


class StoredWeights:
    """A safetensors file in the exchange form, checked against the architecture before use.

    Raises:
        BadInput: the file is not there, is not safetensors, or does not hold exactly the
            architecture's tensors with their shapes.
    """

    def __init__(self, path: Path, architecture: Architecture) -> None:
        import ml_dtypes  # noqa: F401  # teaches NumPy the bfloat16 that a file may hold
        from safetensors import SafetensorError, safe_open

        if not os.path.isfile(path):
            raise BadInput(f"weights = {str(path)!r}: no such file")
        try:
            self._file = safe_open(path, framework="numpy")
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(f"weights = {str(path)!r}: not a safetensors file ({error})") from None
        self.path = path
        self._check(architecture)

    def _check(self, architecture: Architecture) -> None:
        expected = tensor_shapes(architecture)
        names = list(self._file.keys())
        found = {name: tuple(self._file.get_slice(name).get_shape()) for name in names}
        for name, shape in expected.items():
            if name not in found:
                raise BadInput(
                    f"weights = {str(self.path)!r}: holds no tensor {name!r}, which "
                    "the architecture has"
                )
            if found[name] != shape:
                raise BadInput(
                    f"weights = {str(self.path)!r}: {name} has shape {found[name]}, "
                    f"the architecture's is {shape}"
                )
        for name in found:
            if name not in expected:
                raise BadInput(
                    f"weights = {str(self.path)!r}: holds {name!r}, which the architecture has not"
                )

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The stored tensor as float32."""
        return np.asarray(self._file.get_tensor(name)).astype(np.float32, copy=False)


@contextlib.contextmanager
def written_whole(target: Path, *, folder: bool) -> Iterator[Path]:
    """A temporary path beside `target` that becomes `target` when the block ends well.

    Nothing is left behind where it does not: neither the target nor the temporary.

    Raises:
        BadInput: the target exists (an empty folder does not count), or its place cannot be
            written to.
        NoAnswer: the disk is full or fails.
    """
    target = Path(os.path.abspath(target))
    if target.exists() and not (folder and target.is_dir() and not any(target.iterdir())):
        raise BadInput(f"output = {str(target)!r}: it exists; name a place that does not")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        kind = NoAnswer if error.errno in MACHINE_ERRORS else BadInput
        raise kind(f"output = {str(target)!r}: cannot be written ({error.strerror})") from None
    made = workshop / target.name
    try:
        if folder:
            made.mkdir()
        yield made
        os.replace(made, target)
    except (BadInput, NoAnswer) as error:
        # A file in the workshop is named by where it would have stood.
        raise type(error)(str(error).replace(str(made), str(target))) from None
    except OSError as error:
        kind = NoAnswer if error.errno in MACHINE_ERRORS else BadInput
        raise kind(f"output = {str(target)!r}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
