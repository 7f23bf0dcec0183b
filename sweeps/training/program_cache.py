"""Traced programs, kept between processes.

JAX keeps what it has compiled, but to find it again it first traces the Python function anew, which
a small model notices. What is kept here is the traced function itself
(`jax.export`: StableHLO), so that a process which meets a shape again goes straight to the compiled
program. Traced or read, the same program runs: losses do not depend on which.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export

from shapelaw.results.record import content_key
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput, NoAnswer

SOURCES = (
    "attention.py",
    "program_cache.py",
    "model.py",
    "step.py",
    "schedule.py",
    "weight_formats.py",
    "../../scaling/architecture.py",
)
"""All that decides what is traced: a change to any of them makes every kept program another's."""

DIGEST_BYTES = 32
"""Of SHA-256, before the content of a file."""


class KeptFunction:
    """A function of arrays that is traced once for each shape of its arguments and kept on disk."""

    def __init__(
        self,
        function: Callable[..., Any],
        result_like: Callable[..., Any],
        *,
        identity: str,
        folder: Path | None,
        donate_first: bool = False,
    ) -> None:
        """Trace nothing yet.

        Args:
            function: pytrees of arrays in, a pytree of arrays out.
            result_like: of the same arguments, any pytree of the structure of the result.
            identity: of the function: two of one identity must be the same.
            folder: where traces are kept; None: they are not.
            donate_first: the first argument is consumed.
        """
        self.function, self.result_like = function, result_like
        self.identity, self.folder, self.donate_first = identity, folder, donate_first
        self.ready: dict[Any, Callable[..., list[jax.Array]]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """The result of the function."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        if (structure, shapes) not in self.ready:
            consumed = len(jax.tree.leaves(arguments[0])) if self.donate_first else 0
            traced = self._traced(leaves, structure, shapes)
            # Compiled ahead: a call would compile again for results that come back as arguments.
            self.ready[structure, shapes] = (
                jax.jit(traced.call, donate_argnums=tuple(range(consumed))).lower(*leaves).compile()
            )
        results = self.ready[structure, shapes](*leaves)
        return jax.tree.unflatten(jax.tree.structure(self.result_like(*arguments)), results)

    def _traced(
        self, leaves: list[Any], structure: Any, shapes: tuple[Any, ...]
    ) -> export.Exported:
        """Read from disk where it is there and whole; else traced, and kept."""

        def flat(*given: Any) -> list[Any]:
            return jax.tree.leaves(self.function(*jax.tree.unflatten(structure, given)))

        def trace() -> export.Exported:
            abstract = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
            return export.export(jax.jit(flat))(*abstract)

        if self.folder is None:
            return trace()
        key = content_key(_versions(), self.identity, str(structure), shapes)
        file = self.folder / f"{key}.stablehlo"
        kept = _read_whole(file)
        if kept is not None:
            return export.deserialize(bytearray(kept))
        traced = trace()
        _write_whole(file, bytes(traced.serialize()))
        return traced


@functools.cache
def _versions() -> str:
    """Of the libraries, the platform and our own source text."""
    here = Path(__file__).parent
    source = hashlib.sha256(b"".join((here / name).read_bytes() for name in SOURCES)).hexdigest()
    versions = (importlib.metadata.version(name) for name in ("jax", "flax", "optax"))
    return " ".join([*versions, jax.default_backend(), source])


def _read_whole(file: Path) -> bytes | None:
    """What `_write_whole` wrote; None where there is nothing, or not all of it."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _write_whole(file: Path, content: bytes) -> None:
    """Content after its digest; where it cannot be written, nothing: a cache is a convenience."""
    with contextlib.suppress(BadInput, NoAnswer):
        write_atomically(file, hashlib.sha256(content).digest() + content)
