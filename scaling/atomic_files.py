"""How files are written: beside their place, then moved there: the old file or the new."""

import contextlib
import errno
import os
import stat
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


def check_place(*paths: str | Path | None) -> None:
    """Refuse what `replacing` would, as far as is known before: what is to be written takes long.

    Raises:
        BadInput: a folder stands there, or the nearest folder that exists cannot be written to.
    """
    for path in paths:
        if path is None:
            continue
        target = Path(path)
        try:
            target = _behind_links(target)
            if target.is_dir():
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            folder = next(each for each in target.absolute().parents if each.exists())
            if not folder.is_dir():
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            # Asked of the kernel by trying: permission bits bind not everybody.
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            kind = NoAnswer if error.errno in MACHINE_ERRORS else BadInput
            raise kind(f"{target}: cannot be written ({error.strerror or error})") from None


def _behind_links(path: Path) -> Path:
    """The file that a symbolic link leads to, so that the link stays what it is.

    Raises:
        BadInput: a device or a pipe, or a link among the system's own, such as /dev/stdout: it
            leads to what a process has open, which a rename would not reach.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        folder = os.path.realpath(path.parent)
        if folder == "/dev" or folder.startswith("/proc/"):
            raise BadInput(f"{path}: a device or a pipe; a regular file is needed")
        path = path.parent / os.readlink(path)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A rename would put a file in the place of a device or a pipe.
        raise BadInput(f"{path}: a device or a pipe; a regular file is needed")
    return path


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes to `path`, whole or not at all. Raises as `replacing`."""
    with replacing(path) as temporary:
        # Bytes of a file's name that are no text may stand in it.
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        temporary.write_bytes(content)
    return Path(path)


def own_file(path: Path, flags: int) -> int:
    """The descriptor of a file that is not replaced but kept open, such as a lock or a log.

    In a folder from a stranger a link might stand there, which is not followed, or a pipe, which is
    not waited for.

    Args:
        flags: of `os.open`.

    Raises:
        BadInput: what stands there is no regular file.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path}: a folder, device or pipe; a regular file is needed")
    return descriptor


def _umask() -> int:
    """The process's umask; reading it means setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
