"""A table of runs, as the laws see it: parameters, tokens, loss, and whatever shape is known."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
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


def numbered(names: np.ndarray) -> np.ndarray:
    """Number of each name [rows], in the order of the names."""
    texts = names.tolist()
    place = {name: number for number, name in enumerate(sorted(set(texts)))}
    return np.fromiter((place[text] for text in texts), np.int64, len(texts))


def equal_rows(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number of the group of equal rows that each is in [rows], and the first row of each group.

    Groups are numbered in the order of their values, as by `numpy.unique(..., axis=0)`, which
    sorts whole rows and takes many times as long.
    """
    group = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, own = np.unique(column, return_inverse=True)
        both = group * len(values) + own.ravel()
        _, first, group = np.unique(both, return_index=True, return_inverse=True)
        group = group.ravel()
    return group, first


def without_duplicates(table: RunTable) -> tuple[RunTable, list[str]]:
    """The table without rows that repeat another to the last digit, and what was dropped.

    Rows of different runs may agree by chance; but where every row is its own run, the names say
    nothing, and a row that agrees in all its columns is a copy.
    """
    columns = [table.n, table.d, table.loss, *(table.shape[name] for name in sorted(table.shape))]
    names = numbered(table.run)
    if names.max(initial=-1) + 1 < len(names):
        columns.append(names)
    _, first = equal_rows(columns)
    if len(first) == len(table):
        return table, []
    kept = np.sort(first)
    return table.take(kept), [f"{len(table) - len(kept)} rows that repeat another row exactly"]


def shape_groups(table: RunTable) -> np.ndarray:
    """Number of each row's shape [rows]: rows of equal shape columns, or of equal N without any."""
    columns = [table.shape[name] for name in sorted(table.shape)]
    return equal_rows(columns or [table.n])[0]


def clusters(table: RunTable) -> np.ndarray:
    """Number of each row's run [rows]: what is resampled together.

    Where one name stands in every row there is no clustering: each row is its own.
    """
    numbers = numbered(table.run)
    return numbers if numbers.any() else np.arange(len(numbers))


def some_of_each_run(table: RunTable, most: int) -> np.ndarray:
    """Numbers of about `most` rows, in order: an equal share of each run, at random within it.

    The same table gives the same rows. Those at either end of N, D, C = 6·N·D and each shape column
    are among them, so that the range seen stays what it was.
    """
    chance = np.random.default_rng(0).random(len(table))
    of_each = np.lexsort((chance, clusters(table)))[np.arange(most) * len(table) // most]
    columns = [table.n, table.d, table.n * table.d, *table.shape.values()]
    ends = [end for column in columns for end in (column.argmin(), column.argmax())]
    return np.unique(np.concatenate([of_each, ends]))


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
