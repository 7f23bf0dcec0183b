"""A table of runs, as the laws see it: parameters, tokens, loss, and whatever shape is known."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from shapelaw.scaling.errors import BadInput

SHAPE_COLUMNS: tuple[str, ...] = (
    "d_model",
    "n_layers",
    "d_ff",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "sharing",
    "n_applied",
    "mlp_attention_ratio",
    "gqa_group",
)
"""Shape columns a table may have. `n_layers` is applied depth; `n_applied` counts parameters with
sharing, by the same convention as `n`; the last two are for tables that give the ratios only."""


_LEAST, _MOST = 1e-12, 1e30  # any unit of N, D or loss lies between; beyond is a broken number


Count = Literal["non_embedding", "total", "as given"]
"""What N counts."""


@dataclasses.dataclass(frozen=True, eq=False)
class RunTable:
    """Columns of equal length [rows], float64 except `run`.

    `run` names the trunk a row comes from: rows of one run are correlated and are resampled and
    held out together.
    """

    n: np.ndarray
    """Stored parameters, by the count named in `count`."""
    d: np.ndarray
    """Training tokens."""
    loss: np.ndarray
    """Nats per token."""
    run: np.ndarray
    """Name of the run (strings)."""
    shape: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Columns among SHAPE_COLUMNS that the table has."""
    count: Count = "as given"
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Our name -> the column it was read from, where the table comes from a file."""
    remarks: tuple[str, ...] = ()
    """What the reader did or noticed: said to whoever uses the table."""

    def __len__(self) -> int:
        return len(self.n)

    def take(self, rows: np.ndarray) -> "RunTable":
        """The rows at `rows` (whole numbers or a mask)."""
        return dataclasses.replace(
            self,
            n=self.n[rows],
            d=self.d[rows],
            loss=self.loss[rows],
            run=self.run[rows],
            shape={name: column[rows] for name, column in self.shape.items()},
        )


def checked(table: RunTable) -> RunTable:
    """The table as float64, if every number in it can be used.

    Raises:
        BadInput: columns differ in length, or a loss, N, D or shape is not positive and finite.
    """
    columns = {"n": table.n, "d": table.d, "loss": table.loss, **table.shape}
    rows = len(table.n)
    numbers: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if name not in SHAPE_COLUMNS and name not in ("n", "d", "loss"):
            raise BadInput(f"column {name!r}: one of {', '.join(SHAPE_COLUMNS)} is needed")
        values = np.asarray(column, dtype=float)
        if values.shape != (rows,):
            raise BadInput(f"column {name}: {values.shape} values where n has {rows}")
        bad = np.flatnonzero(~((values >= _LEAST) & (values <= _MOST)))
        if bad.size:
            more = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
            raise BadInput(
                f"row {bad[0] + 1}{more}: {name} = {values[bad[0]]:g}: a finite number above 0 is "
                "needed; correct or remove the row, or drop such rows with --drop-invalid"
            )
        numbers[name] = values
    run = np.asarray(table.run).astype(str)
    if run.shape != (rows,):
        raise BadInput(f"column run: {run.shape} values where n has {rows}")
    return dataclasses.replace(
        table,
        n=numbers.pop("n"),
        d=numbers.pop("d"),
        loss=numbers.pop("loss"),
        run=run,
        shape=numbers,
    )


def without_duplicates(table: RunTable) -> tuple[RunTable, list[str]]:
    """The table without rows that repeat another to the last digit, and what was dropped.

    Rows of different runs may agree by chance; but where every row is its own run, the names say
    nothing, and a row that agrees in all its columns is a copy.
    """
    columns = [table.n, table.d, table.loss, *(table.shape[name] for name in sorted(table.shape))]
    names = np.unique(table.run, return_inverse=True)[1].ravel().astype(float)
    if len(np.unique(names)) < len(names):
        columns.append(names)
    _, first = np.unique(np.stack(columns, axis=1), axis=0, return_index=True)
    if len(first) == len(table):
        return table, []
    kept = np.sort(first)
    return table.take(kept), [f"{len(table) - len(kept)} rows that repeat another row exactly"]


def shape_groups(table: RunTable) -> np.ndarray:
    """Number of each row's shape [rows]: rows of equal shape columns, or of equal N without any."""
    columns = [table.shape[name] for name in sorted(table.shape)]
    keys = np.stack(columns or [table.n], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel()


def clusters(table: RunTable) -> np.ndarray:
    """Number of each row's run [rows]: what is resampled together.

    Where one name stands in every row there is no clustering: each row is its own.
    """
    numbers = np.unique(table.run, return_inverse=True)[1].ravel()
    return numbers if numbers.any() else np.arange(len(numbers))


def joined(tables: "list[RunTable]") -> RunTable:
    """One table of several, with the shape columns that all of them have.

    Raises:
        BadInput: they count parameters differently.
    """
    counts = {table.count for table in tables}
    if len(counts) > 1:
        raise BadInput(
            f"runs: N counted as {' and '.join(sorted(counts))}: tables that count "
            "parameters differently do not compare; fit them apart"
        )
    shared = set.intersection(*(set(table.shape) for table in tables))
    return RunTable(
        n=np.concatenate([table.n for table in tables]),
        d=np.concatenate([table.d for table in tables]),
        loss=np.concatenate([table.loss for table in tables]),
        run=np.concatenate(
            [
                [f"{number}:{run}" for run in table.run] if len(tables) > 1 else table.run
                for number, table in enumerate(tables)
            ]
        ),
        shape={
            name: np.concatenate([table.shape[name] for table in tables])
            for name in tables[0].shape
            if name in shared
        },
        count=tables[0].count,
        columns={
            ours: theirs for table in reversed(tables) for ours, theirs in table.columns.items()
        },
        remarks=tuple(dict.fromkeys(remark for table in tables for remark in table.remarks)),
    )


def fingerprint_of(table: RunTable) -> str:
    """Hash of a table's contents, whatever the order of its rows."""
    columns = [table.n, table.d, table.loss, *(table.shape[name] for name in sorted(table.shape))]
    order = np.lexsort(columns)
    rows = np.stack([np.asarray(column)[order] for column in columns], axis=1).astype("<f8")
    return hashlib.sha256(rows.tobytes()).hexdigest()[:16]
