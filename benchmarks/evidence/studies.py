"""Public tables and the project's own study as studies of one population."""

import dataclasses
from pathlib import Path

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records
from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.evidence.conditioning import Runs
from shapelaw.scaling.evidence.study_features import Features, of_table, plain_features

ROOT = Path(__file__).parents[2]
TABLES = ROOT.parent / "shared" / "data" / "runs"
LEAST_STEPS = 300
"""Runs of the reference study of fewer optimizer steps have hardly left the warmup."""

NATS_A_TOKEN_IN_BITS_A_BYTE = 4.4 * float(np.log(2))
"""A token of the usual vocabularies is about 4.4 bytes: brings levels onto one scale, roughly."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A table: its study's name, the family it is left out with, and what its rows are."""

    file: str
    name: str
    family: str
    licence: str
    run: str | None = None
    """Column whose equal values are checkpoints of one run."""
    unit: float = 1.0
    """What its losses are multiplied with to be roughly nats a token; matters to the level only."""


_MIT, _FIGURES = "MIT", "figures only, no licence file"
SOURCES = (
    Source("chinchilla.csv", "chinchilla", "chinchilla", _MIT),
    Source("gemstones.csv", "gemstones", "gemstones", _MIT, run="run"),
    Source("morph.csv", "morph", "morph", _MIT),
    Source("gadre_c4_original.csv", "gadre c4", "gadre", _MIT),
    Source("gadre_rpj.csv", "gadre rpj", "gadre", _MIT),
    Source("gadre_rw_original.csv", "gadre rw", "gadre", _MIT),
    Source("marin_comma.csv", "marin comma", "marin", _FIGURES),
    Source("marin_dclm.csv", "marin dclm", "marin", _FIGURES),
    Source("marin_nemotron.csv", "marin nemotron", "marin", _FIGURES),
    Source("llama3.csv", "llama3", "llama3", _FIGURES, unit=NATS_A_TOKEN_IN_BITS_A_BYTE),
    Source("misfit_best.csv", "misfit", "misfit", _FIGURES),
    Source("porian_owt2_tuned_short_const.csv", "porian owt2", "porian", _MIT, run="n"),
    Source("porian_rw_base_short_chinchilla.csv", "porian rw", "porian", _MIT, run="n"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """One source of runs."""

    name: str
    family: str
    licence: str
    runs: Runs
    shape: bool
    """Whether it says anything about shape."""

    def __len__(self) -> int:
        return len(self.runs.log_loss)

    def take(self, rows: np.ndarray) -> "Study":
        """Some of its rows."""
        runs = self.runs
        return dataclasses.replace(
            self,
            runs=Runs(
                {name: column[rows] for name, column in runs.features.items()},
                runs.log_loss[rows],
                np.unique(runs.run[rows], return_inverse=True)[1].ravel(),
                runs.weight[rows],
            ),
        )


def _study(
    name: str,
    family: str,
    licence: str,
    features: Features,
    loss: np.ndarray,
    run: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Study:
    rows = len(loss)
    number = np.arange(rows) if run is None else np.unique(run, return_inverse=True)[1].ravel()
    runs = Runs(features, np.log(loss), number, np.ones(rows) if weight is None else weight)
    return Study(name, family, licence, runs, runs.has_shape)


def table_study(source: Source, folder: Path = TABLES) -> Study:
    """A public table as a study."""
    table, _ = read_table(folder / source.file, drop_invalid=True)
    run = None
    if source.run == "run":
        run = table.run
    elif source.run == "n":
        run = table.n
    return _study(
        source.name, source.family, source.licence, of_table(table), table.loss * source.unit, run
    )


def reference_study(folder: Path = ROOT / "results" / "reference") -> Study:
    """The project's own runs: seeds of one shape and budget averaged, the rule's learning rate."""
    groups: dict[tuple[str, int], dict[float, list[RunRecord]]] = {}
    for record in read_records(folder):
        if record.status == "finished" and record.recipe.total_steps >= LEAST_STEPS:
            key = repr(record.architecture), record.tokens
            rates = groups.setdefault(key, {})
            rates.setdefault(record.recipe.learning_rate, []).append(record)
    cells = [max(rates.values(), key=len) for rates in groups.values()]
    shapes = [cell[0].architecture.build() for cell in cells]
    features = plain_features(len(cells))
    features["ln_n"] = np.log([shape.non_embedding_parameters for shape in shapes])
    features["ln_d"] = np.log([cell[0].tokens for cell in cells])
    features["ln_depth"] = np.log([shape.n_blocks for shape in shapes])
    features["ln_mlp_ratio"] = np.log([shape.mlp_attention_ratio for shape in shapes])
    features["ln_gqa"] = np.log([shape.gqa_group for shape in shapes])
    features["ln_sharing"] = np.log([shape.sharing for shape in shapes])
    shared = np.array([float(shape.sharing > 1) for shape in shapes])
    features["shared"], features["repeated"] = shared, shared.copy()
    features["has_depth"], features["has_mlp_ratio"] = np.ones((2, len(cells)))
    loss = np.exp([np.mean([np.log(one.loss or np.nan) for one in cell]) for cell in cells])
    return _study(
        "reference",
        "reference",
        "this project",
        features,
        loss * 4.4,
        np.array([key[0] for key in groups]),
        np.array([float(len(cell)) for cell in cells]),
    )


def _columns(path: Path) -> dict[str, np.ndarray]:
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line]
    return {name: np.array(column) for name, *column in zip(*lines, strict=True)}


def looped_studies(folder: Path = TABLES) -> list[Study]:
    """Equal-FLOP losses by loop factor, one study a width: 2 prelude, 4 looped, 2 coda blocks."""
    columns = {k: v.astype(float) for k, v in _columns(folder / "looped.csv").items()}
    found = []
    for width in np.unique(columns["d_model"]):
        rows = columns["d_model"] == width
        features = plain_features(int(rows.sum()))
        blocks = columns["stored_blocks"][rows]
        features["ln_n"] = np.log(12 * width**2 * blocks)
        features["ln_d"] = np.log(columns["tokens"][rows])
        features["ln_depth"] = np.log(blocks)
        features["ln_sharing"] = np.log(columns["loop_factor"][rows])
        features["shared"] = columns["loop_blocks"][rows] / blocks
        features["repeated"] = features["shared"].copy()
        features["cycle"], features["has_depth"] = np.ones((2, int(rows.sum())))
        loss = columns["bits_per_byte"][rows] * NATS_A_TOKEN_IN_BITS_A_BYTE
        found.append(_study(f"looped {width:.0f}", "looped", _MIT, features, loss))
    return found


def conditional_studies(folder: Path = TABLES) -> list[Study]:
    """Six trained models of arXiv 2510.18245, one study a size."""
    text = _columns(folder / "conditional_models.csv")
    columns = {name: column.astype(float) for name, column in text.items() if name != "size"}
    found = []
    for size in np.unique(text["size"]):
        rows = text["size"] == size
        one = {name: column[rows] for name, column in columns.items()}
        attention = 2 * one["d_model"] ** 2 * (1 + 1 / one["gqa_group"])
        mlp = 3 * one["d_model"] * one["d_ff"]
        n = one["n_layers"] * (attention + mlp)
        features = plain_features(int(rows.sum()))
        features["ln_n"] = np.log(n)
        features["ln_d"] = np.log(n * one["tokens_per_non_embedding_parameter"])
        features["ln_depth"] = np.log(one["n_layers"])
        features["ln_mlp_ratio"] = np.log(mlp / attention)
        features["ln_gqa"] = np.log(one["gqa_group"])
        features["has_depth"], features["has_mlp_ratio"] = np.ones((2, int(rows.sum())))
        found.append(_study(f"conditional {size}", "conditional", _FIGURES, features, one["loss"]))
    return found


def all_studies(folder: Path = TABLES) -> list[Study]:
    """Every study, in a fixed order. `mobilellm_depth.csv` is not among them: it is a check."""
    return [
        *(table_study(source, folder) for source in SOURCES),
        reference_study(),
        *looped_studies(folder),
        *conditional_studies(folder),
    ]
