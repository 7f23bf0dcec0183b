"""Checkpoints of a trunk under way, so that a long run goes on from where it was killed.

What is kept is what the loop needs and no more: the state on the trunk, the state on a decay where
one is under way, the losses so far and the records already made. Orbax writes each checkpoint whole
or not at all. One that a disk has spoilt since is seen (the arrays carry checksums of TensorStore,
the position one of ours) and given up for the one before it.
"""

import sys
import time
from pathlib import Path
from typing import Any

import jax
import msgspec

from shapelaw.results.record import RunRecord, content_key
from shapelaw.scaling.user_files import one_line

_UNREADABLE = (ValueError, KeyError, TypeError, OSError, msgspec.MsgspecError)
"""What Orbax, TensorStore and parsers make of a spoilt checkpoint; memory that runs out is not."""


class Stretch(msgspec.Struct, kw_only=True):
    """A path of steps: the trunk, or a decay with the trunk it came from."""

    step: int
    """Steps done."""
    losses: list[list[float]]
    """Training losses of each member."""
    trouble: list[str | None]
    """Why each member is no longer trained; None: it is."""

    @classmethod
    def fresh(cls, members: int) -> "Stretch":
        """Nothing done yet."""
        return cls(step=0, losses=[[] for _ in range(members)], trouble=[None] * members)

    def copy(self) -> "Stretch":
        """Another that goes its own way from here."""
        return Stretch(
            step=self.step,
            losses=[list(losses) for losses in self.losses],
            trouble=list(self.trouble),
        )


class Position(msgspec.Struct, kw_only=True):
    """Where the loop of a trunk stands."""

    branch: int = 0
    """Number of the budget under way, smallest first."""
    trunk: Stretch
    decay: Stretch | None = None
    """The decay under way, if one is."""
    records: list[RunRecord] = []
    """Made already."""


class Checkpoints:
    """The checkpoints of one trunk in one folder; at most the last two are kept."""

    def __init__(self, folder: Path, every_seconds: float) -> None:
        from orbax import checkpoint  # a second to import: only for those who ask for checkpoints

        self.spoilt = 0
        """Checkpoints that were found and could not be read."""
        self._orbax = checkpoint
        self._every = every_seconds
        self._last = time.monotonic()
        self._manager = checkpoint.CheckpointManager(
            Path(folder).resolve(),
            options=checkpoint.CheckpointManagerOptions(
                max_to_keep=2, create=True, enable_async_checkpointing=False
            ),
        )

    def due(self) -> bool:
        """Whether it is time for another."""
        return time.monotonic() - self._last >= self._every

    def save(self, position: Position, trunk: Any | None, decay: Any | None) -> None:
        """Write, whole or not at all; the arrays may be given away once this returns.

        `trunk` is None on the last decay, after which nothing leaves the trunk.
        """
        latest = self._manager.latest_step()
        states = {
            name: state for name, state in (("trunk", trunk), ("decay", decay)) if state is not None
        }
        described = {"states": sorted(states), "position": msgspec.to_builtins(position)}
        described["check"] = content_key(described)
        arguments = self._orbax.args
        self._manager.save(
            0 if latest is None else latest + 1,
            args=arguments.Composite(
                states=arguments.StandardSave(states), loop=arguments.JsonSave(described)
            ),
        )
        self._last = time.monotonic()

    def restore(self, state: Any) -> tuple[Position, Any | None, Any | None] | None:
        """The last whole checkpoint: (position, trunk, decay), placed as `state` is; or None.

        One that cannot be read is passed over and counted in `spoilt`.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, state)
            except _UNREADABLE as error:
                self.spoilt += 1
                print(f"checkpoint {step} cannot be read: {one_line(error)}", file=sys.stderr)
        return None

    def _read(self, step: int, state: Any) -> tuple[Position, Any | None, Any | None]:
        arguments = self._orbax.args
        described = self._manager.restore(
            step, args=arguments.Composite(loop=arguments.JsonRestore())
        )["loop"]
        if described.pop("check") != content_key(described):
            raise ValueError("the position is not what was written")
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
        )
        wanted = dict.fromkeys(described["states"], abstract)
        states = self._manager.restore(
            step, args=arguments.Composite(states=arguments.StandardRestore(wanted))
        )["states"]
        position = msgspec.convert(described["position"], type=Position)
        return position, states.get("trunk"), states.get("decay")

    def clear(self) -> None:
        """The trunk is done: its checkpoints go."""
        for step in self._manager.all_steps():
            self._manager.delete(step)

    def close(self) -> None:
        """Let go of the folder."""
        self._manager.close()
