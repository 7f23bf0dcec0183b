"""What should be known of a design's text before it is trained on: repeated, empty, unreadable."""

from shapelaw.scaling.user_files import shown
from shapelaw.sweeps.corpus.readable_text import survey
from shapelaw.sweeps.corpus.token_corpus import VALIDATION_SHARE
from shapelaw.sweeps.design.design import Design
from shapelaw.sweeps.design.layout import Planned
from shapelaw.sweeps.training.trunk import resolve

REPEATED = 1.1
"""Passes over the text beyond which it is said; up to four cost little (arXiv 2305.16264)."""


def corpus_notes(design: Design, planned: list[Planned]) -> list[str]:
    """Remarks on the text of a design.

    Raises:
        BadInput: text files that cannot be decoded, or no text at all.
    """
    spec = design.corpus_spec()
    if spec.kind() != "text":
        return []
    found = survey(spec)
    said = []
    if found.empty:
        names = ", ".join(shown(name, 40) for name in found.empty[:3])
        said.append(f"{len(found.empty)} of {found.files} text files are empty: {names}.")
    most = max(branch.tokens for one in planned for branch in resolve(one.job).branches)
    epochs = most / (found.bytes * (1 - VALIDATION_SHARE))
    if epochs > REPEATED:
        how = "" if spec.tokenizer == "bytes" else "at least "
        said.append(
            f"the longest run reads its text {how}{epochs:.0f} times ({most:,} tokens, "
            f"{found.bytes:,} bytes of text): beyond about four passes repeated text teaches less "
            "than new text (arXiv 2305.16264), so a law from these runs is of repeated text."
        )
    return said
