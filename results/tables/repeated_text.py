"""Whether runs read their text several times: new and repeated text do not teach alike."""

import numpy as np

REPEATED = 1.1
"""Passes over the training text beyond which it is said; up to four cost little
(arXiv 2305.16264)."""


def repeated_text(epochs: np.ndarray, of: str) -> tuple[str, ...]:
    """A remark on runs that read their text more than once; none where none did.

    Args:
        epochs: passes over the training text of each row; NaN where it is not known.
        of: what a row is, in the plural.
    """
    repeated = epochs[np.isfinite(epochs) & (epochs > REPEATED)]
    if not repeated.size:
        return ()
    return (
        f"{repeated.size} of {epochs.size} {of} read their text more than once, up to "
        f"{repeated.max():.3g} times: beyond about four passes it teaches less than new text would "
        "(arXiv 2305.16264)",
    )
