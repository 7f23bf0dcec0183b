"""The command line `shapelaw`: the commands, and the one place where a run of them ends."""

import contextlib
import io
import os
import resource
import select
import sys
from typing import NoReturn

import click

from shapelaw.commands.demo_command import demo
from shapelaw.commands.device_commands import calibrate, devices, explain
from shapelaw.commands.export_command import export
from shapelaw.commands.law_commands import fit, predict
from shapelaw.commands.query_command import query
from shapelaw.commands.sweep_command import sweep
from shapelaw.commands.verify_command import verify
from shapelaw.scaling.atomic_files import MACHINE_ERRORS
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.user_files import one_line, shown
from shapelaw.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="shapelaw")
def cli() -> None:
    """Measure what a language model's shape buys in loss and costs on a device; then choose it.

    sweep trains small models across shapes; fit makes a law of them; query answers which shape to
    use on a device under a budget. `shapelaw demo` does all three on this machine, in minutes.
    """


for command in (demo, sweep, fit, predict, query, explain, verify, devices, calibrate, export):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line; every way to end has its exit code and at most one line."""
    # Matrices here are small: one thread is as fast, and the same digits come out on any number of
    # cores. Read when NumPy is first imported, which no command has done yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character of a name gets its number instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(prog_name="shapelaw", standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be said
        sys.exit(code if isinstance(code, int) else 0)
    except BadInput as error:
        _end(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except NoAnswer as error:
        _end(str(error), 1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _drop_output()
            sys.exit(1)  # as a reader such as `head` expects, without a word
        kind = 1 if error.errno in MACHINE_ERRORS else 2
        _end(f"{error.filename or 'output'}: {error.strerror or error}", kind)
    except MemoryError as error:
        _end(f"not enough memory{_detail(error)}; {_memory_remedy()}", 1)
    except ImportError as error:
        _end(f"a library cannot be loaded{_detail(error)}; {_memory_remedy()}", 1)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted; the same command resumes what was finished", 130)


def _open_closed_streams() -> None:
    """Stdin, stdout and stderr that were closed lead nowhere, so that no file takes their place."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number free, which is this one
        if getattr(sys, name) is None:
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader has gone."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return False


def _drop_output() -> None:
    """What stdout still holds is thrown away: at the end Python would try, and tell, again."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # a stream without a descriptor holds nothing back
        return


def _detail(error: Exception) -> str:
    """The last line of what an error says, in brackets; "" where it says nothing."""
    lines = str(error).strip().splitlines()
    return f" ({shown(lines[-1], 120)})" if lines else ""


def _memory_remedy() -> str:
    """What to do where memory has run out: `ulimit -v` is the usual reason."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return "free some memory, or mend the installation"
    return f"this process may map {limit / 1e9:.1f} GB (ulimit -v): raise the limit"


def _end(message: str, code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    with contextlib.suppress(OSError):  # stderr may be full too; the exit code still tells
        click.echo(one_line(f"shapelaw: {message}"), err=True)
    sys.exit(code)
