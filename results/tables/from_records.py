"""Records of a sweep as a table of runs."""

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.tables.repeated_text import repeated_text
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.run_table import RunTable


def table_of(records: list[RunRecord], *, allow_mixed: bool = False) -> RunTable:
    """Finished records as a table: N is the non-embedding count, `run` the trunk's key.

    Raises:
        BadInput: no finished record with a finite loss, or records of different tokenizers, corpora
            or validation sets unless `allow_mixed`.
    """
    usable = [record for record in records if unusable(record) is None]
    if not usable:
        raise BadInput(f"runs = {len(records)} records, none finished: at least one is needed")
    if not allow_mixed:
        for field in ("tokenizer_fingerprint", "corpus_fingerprint", "validation_fingerprint"):
            kinds = {getattr(record.corpus, field) for record in usable}
            if len(kinds) > 1:
                raise BadInput(
                    f"runs: {len(kinds)} different values of {field}: losses do not compare; fit "
                    "them apart, or allow it with --allow-mixed"
                )
    shapes = [record.architecture.build() for record in usable]

    def column(values: list[float]) -> np.ndarray:
        return np.array(values, dtype=float)

    return RunTable(
        n=column([record.n_parameters.non_embedding for record in usable]),
        d=column([record.tokens for record in usable]),
        loss=column([record.loss or 0.0 for record in usable]),
        run=np.array([record.trunk_key for record in usable]),
        shape={
            "d_model": column([shape.d_model for shape in shapes]),
            "n_layers": column([shape.depth for shape in shapes]),
            "d_ff": column([shape.d_ff for shape in shapes]),
            "n_heads": column([shape.n_heads for shape in shapes]),
            "n_kv_heads": column([shape.n_kv_heads for shape in shapes]),
            "head_dim": column([shape.head_dim for shape in shapes]),
            "sharing": column([shape.sharing for shape in shapes]),
            "n_applied": column([record.n_parameters.applied for record in usable]),
        },
        count="non_embedding",
        remarks=repeated_text(column([record.epochs for record in usable]), "runs"),
    )


def unusable(record: RunRecord) -> str | None:
    """Why a record cannot enter a fit; None where it can."""
    if record.status != "finished":
        return f"{record.status}{': ' + record.reason if record.reason else ''}"
    if record.loss is None or not np.isfinite(record.loss) or record.loss <= 0:
        return f"loss = {record.loss}"
    return None
