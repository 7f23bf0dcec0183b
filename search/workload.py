"""What the device is asked to do: prompts, answers, turns, and how attention may be thinned.

One *artifact* is what the user waits or pays for: a finished conversation, summary or agent run of
`turns` turns. Turn k (from 0) brings `prompt` new tokens on top of k·(prompt + generated) tokens of
history, of which the share `cached_share` of the whole input is read from a cached prefix and the
rest is prefilled; then `generated` tokens are decoded. Costs are given for the mean turn.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import whole_count, with_units
from shapelaw.scaling.user_files import convert, exists, parse_toml, read_toml, shown
from shapelaw.search.sparse_attention import DecodeSparsity, Eviction, PrefillSparsity

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Workload(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One kind of request, in tokens."""

    name: str
    prompt: Count
    """New tokens the user or the tool brings, each turn."""
    generated: Count
    """Tokens decoded each turn."""
    batch: Count = 1
    """Sequences decoded together."""
    context: Count | None = None
    """Tokens in view of a decoded token; by default the mean over the artifact."""
    turns: Count = 1
    cached_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of a turn's input (history and new tokens) read from a cached prefix."""
    prefill_attention: PrefillSparsity | None = None
    decode_attention: DecodeSparsity | None = None

    def served(self, batch: int | None = None, context: int | None = None) -> "Workload":
        """The same requests with so many sequences decoded together, and so many tokens in view.

        Raises:
            BadInput: less than one of either.
        """
        for name, value in (("batch", batch), ("context", context)):
            if value is not None and value < 1:
                raise BadInput(f"{name} = {value}: 1 or more is needed")
        return msgspec.structs.replace(
            self,
            batch=self.batch if batch is None else batch,
            context=self.context if context is None else context,
        )

    @property
    def mean_history(self) -> float:
        """Tokens before the mean turn's prompt."""
        return (self.turns - 1) / 2 * (self.prompt + self.generated)

    @property
    def decode_context(self) -> float:
        """Tokens in view of the decoded token the costs are given for."""
        if self.context is not None:
            return float(self.context)
        return self.mean_history + self.prompt + self.generated / 2

    @property
    def final_context(self) -> float:
        """Tokens in the KV cache at the end: what sets peak memory."""
        return max(self.turns * (self.prompt + self.generated), self.decode_context)

    @property
    def mean_input(self) -> float:
        """Tokens at the input of the mean turn, history included."""
        return self.mean_history + self.prompt

    @property
    def prefill_tokens(self) -> float:
        """Tokens the mean turn really computes: its input less what the cached prefix holds."""
        return max(1.0, self.mean_input * (1 - self.cached_share))

    @property
    def prefix_tokens(self) -> float:
        """Tokens the mean turn finds in its cached prefix."""
        return self.mean_input - self.prefill_tokens

    def attended(self, window: np.ndarray) -> np.ndarray:
        """Keys in view of one decoded token: the context, or the window where that is shorter.

        Args:
            window: [n] tokens, 0 for full attention.
        """
        context = self.decode_context
        return np.where(window == 0, context, np.minimum(window, context))

    def read_share(self, context: float) -> float:
        """Share of `context` whose keys and values a decode step reads under sparse attention."""
        if self.decode_attention is None:
            return 1.0
        return 1 - self.decode_attention.sparsity(max(1, round(context)))

    def page_vectors(self, context: float) -> float:
        """Key-sized vectors a decode step reads beside that, to choose what to read."""
        if self.decode_attention is None:
            return 0.0
        return self.decode_attention.page_vectors(max(1, round(context)))

    def kept_tokens(self, context: float) -> float:
        """Tokens whose keys and values stay in memory."""
        if isinstance(self.decode_attention, Eviction):
            return min(float(self.decode_attention.capacity), context)
        return context

    def prefill_pairs(self, window: np.ndarray) -> np.ndarray:
        """Query-key pairs the mean turn's prefill computes in one layer and one head.

        Causal: query i of n after a prefix of p sees p + i keys, or its window of them; full
        attention is thinned by `prefill_attention`.
        """
        new, prefix = self.prefill_tokens, self.prefix_tokens
        dense = new * prefix + new * (new + 1) / 2
        if self.prefill_attention is not None:
            dense *= 1 - self.prefill_attention.sparsity(max(1, round(self.mean_input)))
        # The first `ramp` queries see fewer keys than the window; the others see a full one.
        ramp = np.clip(window - prefix, 0, new)
        local = ramp * prefix + ramp * (ramp + 1) / 2 + (new - ramp) * window
        return np.where(window == 0, dense, local)


def load_workload(name_or_path: str | Path) -> Workload:
    """A preset by name, or a TOML file.

    Raises:
        BadInput: no such preset or file, or a field is unknown, missing or out of range.
    """
    name = str(name_or_path)
    if name in workload_names():
        preset = resources.files("shapelaw.search") / "workloads" / f"{name}.toml"
        document = parse_toml(preset.read_bytes(), "workload", name)
    elif exists(name):
        document = read_toml(name, "workload")
    else:
        raise BadInput(
            f"workload = {shown(name)}: a file or one of {', '.join(workload_names())}"
            f"{close_names(name, workload_names())}"
        )
    counts = ("prompt", "generated", "context")
    return convert(
        with_units(document, dict.fromkeys(counts, whole_count)), Workload, "workload", name
    )


def workload_names() -> list[str]:
    """The presets that ship with the package."""
    folder = resources.files("shapelaw.search") / "workloads"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
