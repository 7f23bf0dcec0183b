"""The one way a file is written: beside its place, then moved there: the old file or the new."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shapelaw.scaling.errors import BadInput, NoAnswer

MACHINE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
"""Errors of the machine, not of the place that was asked for."""
_MOST_LINKS = 40
"""As the kernel follows."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same ending; it replaces `path` when the block ends.

    Where the block fails, or the disk is full, the old file is as it was and nothing is left.
    The new file has the permissions that an ordinary new file gets.

    Raises:
        BadInput: a place that cannot be written to.
        NoAnswer: the disk is full or fails.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target = _behind_links(target)
        if target.exists() and not (target.is_file() or target.is_dir()):
            # A rename would put a file in the place of a device or a pipe.
            raise BadInput(f"{target}: a device or a pipe; a regular file is needed")
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name stays short whatever the target's is, and keeps its ending: writers choose by it.
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=".shapelaw-", suffix=target.suffix[-16:]
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        kind = NoAnswer if error.errno in MACHINE_ERRORS else BadInput
        raise kind(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _behind_links(path: Path) -> Path:
    """The file that a symbolic link leads to, so that the link stays what it is.

    Raises:
        BadInput: a link among the system's own, such as /dev/stdout: it leads to what a process has
            open, which a rename would not reach.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path
        folder = os.path.realpath(path.parent)
        if folder == "/dev" or folder.startswith("/proc/"):
            raise BadInput(f"{path}: a device or a pipe; a regular file is needed")
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes to `path`, whole or not at all. Raises as `replacing`."""
    with replacing(path) as temporary:
        # Bytes of a file's name that are no text may stand in it.
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        temporary.write_bytes(content)
    return Path(path)


def _umask() -> int:
    """The process's umask; reading it means setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
