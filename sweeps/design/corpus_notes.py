"""What should be known of a design's text before it is trained on: repeated, empty, unreadable."""

from shapelaw.results.tables.repeated_text import REPEATED
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown
from shapelaw.sweeps.corpus.readable_text import survey
from shapelaw.sweeps.corpus.sources import CorpusSpec, source_files
from shapelaw.sweeps.corpus.token_corpus import VALIDATION_SHARE, token_file, tokens_held_out
from shapelaw.sweeps.design.design import Design
from shapelaw.sweeps.design.layout import Planned
from shapelaw.sweeps.training.trunk import resolve

_NOT_COMPRESSED = (".json", ".jsonl", ".txt", ".csv")


def corpus_notes(design: Design, planned: list[Planned]) -> list[str]:
    """Remarks on the text of a design.

    Raises:
        BadInput: text files that cannot be decoded, or no text at all.
    """
    spec = design.corpus_spec()
    said = _empty_files(spec)
    most = max(branch.tokens for one in planned for branch in resolve(one.job).branches)
    available, what, exact = _training_tokens(spec)
    epochs = most / available
    if epochs > REPEATED:
        how = "" if exact else "at least "
        times = f"{epochs:.0f}" if epochs >= 10 else f"{epochs:.2g}"
        said.append(
            f"the longest run reads its text {how}{times} times ({most:,} tokens, {what}): "
            "beyond about four passes repeated text teaches less than new text "
            "(arXiv 2305.16264), so a law from these runs is of repeated text."
        )
    return said


def _empty_files(spec: CorpusSpec) -> list[str]:
    if spec.kind() != "text":
        return []
    found = survey(spec)
    if not found.empty:
        return []
    names = ", ".join(shown(name, 40) for name in found.empty[:3])
    return [f"{len(found.empty)} of {found.files} text files are empty: {names}."]


def _training_tokens(spec: CorpusSpec) -> tuple[float, str, bool]:
    """Tokens there are to train on, what they are counted from, and whether there are no fewer.

    Of text no more is counted than its bytes: a token is a byte or longer.
    """
    if spec.kind() == "tokens":
        total = len(token_file(spec))
        return total - tokens_held_out(total), f"{total:,} in its file", True
    if spec.kind() == "text":
        size = survey(spec).bytes
    else:
        files = source_files(spec)
        size = sum(path.stat().st_size for _, path in files)
        if files and not size:
            raise BadInput(f"{spec.kind()} = {shown(spec.label(), 60)}: there is no text in it")
        if spec.kind() == "dataset":
            # Of a file the text is a part, unless it is compressed; of the Hub's, so much is read.
            plain = files and files[0][1].suffix in _NOT_COMPRESSED
            size = min(size, spec.dataset_bytes) if plain else spec.dataset_bytes
    exact = spec.tokenizer == "bytes" and spec.kind() != "dataset"
    return size * (1 - VALIDATION_SHARE), f"{size:,} bytes of text", exact
