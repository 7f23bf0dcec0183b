"""How a tokenizer.json cuts text before it merges, in llama.cpp's names.

A GGUF file carries a tokenizer's vocabulary and merges, and the *name* of its rule for cutting
text; llama.cpp has the rules built in. A rule that has no name there cannot be carried.
"""

from typing import Any

from shapelaw.scaling.errors import BadInput

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    _WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _WORDS + r"\p{N}" + _REST: "qwen2",
}
"""Regular expression of a Split before ByteLevel → llama.cpp's name: of Llama 3 and Qwen 2."""
UNCUT = "uncut"
"""Text is not cut at all: of no account without merges, and unknown to llama.cpp with them."""


def llama_cpp_name(tokenizer: dict[str, Any], where: str) -> str:
    """`gpt-2`, `llama-bpe`, `qwen2`, `smollm`, or `UNCUT`, of a parsed tokenizer.json.

    Raises:
        BadInput: it cuts or normalises text in a way llama.cpp has no name for.
    """
    normalizer = tokenizer.get("normalizer")
    steps = _steps(tokenizer.get("pre_tokenizer"))
    name = _name(steps)
    if name is None:
        kinds = ", ".join(str(step.get("type")) for step in steps) or "nothing"
        raise BadInput(
            f"{where}: llama.cpp has no name for its pre-tokenizer ({kinds}); GPT-2's, Llama 3's, "
            "Qwen 2's and SmolLM's byte-level ones are carried"
        )
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if kind is not None and not (name == "qwen2" and kind == "NFC"):
        raise BadInput(
            f"{where}: llama.cpp does not normalise text, this tokenizer does ({str(kind)[:40]})"
        )
    return name


def _steps(pre_tokenizer: Any) -> list[dict[str, Any]]:
    if not isinstance(pre_tokenizer, dict):
        return []
    if pre_tokenizer.get("type") == "Sequence":
        return [step for step in pre_tokenizer.get("pretokenizers", []) if isinstance(step, dict)]
    return [pre_tokenizer]


def _name(steps: list[dict[str, Any]]) -> str | None:
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    cuts_itself = steps[-1].get("use_regex", True)
    if len(steps) == 1:
        return "gpt-2" if cuts_itself else UNCUT
    first = steps[0]
    if len(steps) == 2 and first.get("type") == "Digits" and first.get("individual_digits"):
        return "smollm" if cuts_itself else None
    isolated = first.get("behavior") == "Isolated" and not first.get("invert")
    if len(steps) == 2 and first.get("type") == "Split" and isolated and not cuts_itself:
        return SPLITS.get(str((first.get("pattern") or {}).get("Regex")))
    return None
