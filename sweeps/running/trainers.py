"""What trains a run: a Python function of this package's kind, or the user's own command.

Which of the two is no matter to the engine that finds it a place.
"""

import re
import shlex
import shutil
from pathlib import Path

import msgspec

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown

BUILT_IN = "shapelaw.sweeps.training.trainer:train_trunk"
SILENCE_SECONDS = 1800.0
"""A command that neither prints nor writes for so long counts as hung."""

PLACEHOLDERS = {
    "config": "the run's Hugging Face config.json",
    "run": "the run's run.json",
    "out": "the run's folder, where result.json must be left",
    "tokens": "training tokens",
    "seed": "seed of weights and text order",
    "learning_rate": "suggested peak learning rate",
    "batch": "suggested sequences a step",
    "sequence_length": "tokens a sequence",
    "steps": "optimiser steps that make the tokens at the suggested batch",
}
"""What a command may name in braces."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")


class PythonTrainer(msgspec.Struct, frozen=True, tag="python"):
    """`module:function`, with the signature of `sweeps.training.trainer.train_trunk`."""

    function: str = BUILT_IN
    devices: int = 1
    """Among which each run's batch is split; no part of a run's key, since its losses agree."""
    fully_sharded: bool = False
    """Split the parameters and the optimiser's moments too."""

    @property
    def module(self) -> str:
        """To be imported before the first order."""
        return self.function.partition(":")[0]


class CommandTrainer(msgspec.Struct, frozen=True, tag="command", kw_only=True):
    """A program of the user's, run once for each budget. Make one with `command_trainer`."""

    arguments: tuple[str, ...]
    """With placeholders; no shell ever sees them."""
    name: str
    """Part of every run's key: losses of different trainers do not mix."""
    folder: str
    """Below it each run has a folder of its own."""
    working_directory: str
    silence_seconds: float = SILENCE_SECONDS


Trainer = PythonTrainer | CommandTrainer


def command_trainer(
    template: str,
    *,
    name: str | None = None,
    folder: Path,
    working_directory: Path,
    silence_seconds: float = SILENCE_SECONDS,
) -> CommandTrainer:
    """A trainer from a command line such as `python train.py --config {config} --out {out}`.

    The template is split as a shell would split it, once; values are put into the arguments that
    come of it, so that a space or a quote in a path is part of the argument. Nothing is expanded:
    no variables, no wildcards, no pipes.

    Args:
        template: see `PLACEHOLDERS`. Braces around anything else but one word are left alone.
        name: part of the runs' keys; the template itself where None. Give one to keep runs
            through a change of the command that moves no loss.

    Raises:
        BadInput: it cannot be split, is empty, names an unknown placeholder, or not {out}.
    """
    try:
        arguments = tuple(shlex.split(template))
    except ValueError as error:
        raise BadInput(f"trainer = {template!r}: {error}".replace("\n", " ")) from None
    if not arguments:
        raise BadInput("trainer = '': a command is needed, such as 'python train.py --out {out}'")
    named = {found for argument in arguments for found in _PLACEHOLDER.findall(argument)}
    unknown = sorted(named - set(PLACEHOLDERS))
    if unknown:
        raise BadInput(f"trainer: {{{unknown[0]}}} is none of {', '.join(PLACEHOLDERS)}")
    if not named & {"out", "run"}:
        raise BadInput("trainer: the command must name {out}, the folder it leaves result.json in")
    if not silence_seconds > 0:
        raise BadInput(f"silence = {silence_seconds:g} s: a positive duration is needed")
    return CommandTrainer(
        arguments=arguments,
        name=" ".join((name or template).split()),
        folder=str(folder.resolve()),
        working_directory=str(working_directory.resolve()),
        silence_seconds=silence_seconds,
    )


def check_program(trainer: CommandTrainer) -> None:
    """Raises BadInput where the trainer's program is none that this machine can start."""
    program = trainer.arguments[0]
    if shutil.which(program) is None:
        raise BadInput(f"trainer: {shown(program)!r} cannot be started: it is no program here")


def filled(arguments: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """The arguments with each placeholder replaced, once; what a value holds is not looked at."""
    return [_PLACEHOLDER.sub(lambda m: values.get(m[1], m[0]), argument) for argument in arguments]
