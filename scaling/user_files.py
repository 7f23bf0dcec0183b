"""The border: the one place through which a user's file enters.

Bytes are read with limits (a regular file, its size), decoded as UTF-8, parsed with limits
(nesting, length of numbers, no key twice, nothing that is not finite), and converted strictly to a
type. What does not pass ends in one line that names the file, the field, the value and what is
accepted. Nothing here evaluates, imports or unpickles.
"""

import json
import math
import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from shapelaw.scaling.errors import BadInput

LARGEST_DOCUMENT = 64_000_000
"""Bytes of a JSON or TOML document: a law with ten thousand draws has a twentieth of it."""
LARGEST_TOML = 1_000_000
DEEPEST = 64
"""Nesting of lists and objects: no file of ours or of other tools goes beyond ten."""
MOST_VALUES = 4_000_000
"""Values of a JSON document: a law with ten thousand draws of each parameter has half a million."""
LONGEST_NUMBER = 64
"""Characters of one number: a float64 needs 24."""
LARGEST_INTEGER = 2**63 - 1
LONGEST_LINE = 300
"""Characters of a message."""
_SHOWN = 60
_PIECE = 1 << 16

T = TypeVar("T")
# Possessive (*+, ++): a way once taken is not kept in mind, whatever the length of the text.
# A string left open runs to the end, so that no second quote is tried as the start of another.
_JSON_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
# Triple quotes first: one quote within them ends nothing. A mark within a string begins no comment.
_TOML_STRINGS_AND_COMMENTS = re.compile(
    rb'"""(?:[^"\\]++|\\.?|"(?!""))*+(?:"""|\Z)'
    rb"|'''(?:[^']++|'(?!''))*+(?:'''|\Z)"
    rb'|"(?:[^"\\\n]++|\\.?)*+(?:"|$)'
    rb"|'[^'\n]*+(?:'|$)"
    rb"|#[^\n]*+",
    re.DOTALL | re.MULTILINE,
)
_BETWEEN_KEYS = re.compile(rb"[=,{}\[\]\n]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LONG_NUMBER = re.compile(rb"[0-9_.+-]{%d,}" % (LONGEST_NUMBER + 1))


# --- showing what a file says --------------------------------------------------------------------


def shown(value: object, most: int = _SHOWN) -> str:
    """A user's text or value for a message: control characters escaped, cut at `most`."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode()
        for c in text[: 4 * most]
    )
    return text if len(text) <= most else text[: most - 1] + "…"


def file_name(path: str | os.PathLike[str], most: int = 120) -> str:
    """The name of a file as text: as UTF-8 whatever the locale, other bytes by their numbers."""
    name = os.fsencode(Path(path).name)
    return shown(name.decode("utf-8", "backslashreplace"), most)


def one_line(text: object, most: int = LONGEST_LINE) -> str:
    """A library's message as one line without control characters, cut to `most` characters."""
    return shown(" ".join(str(text).split()), most)


def said_by(error: Exception, most: int = 120) -> str:
    """What a library's error says, in one line; its kind where it says nothing."""
    return one_line(error, most) or type(error).__name__


# --- bytes ---------------------------------------------------------------------------------------


def read_bytes(path: str | os.PathLike[str], what: str, most: int = LARGEST_DOCUMENT) -> bytes:
    """The content of a regular file of at most `most` bytes; `what` names its role in the message.

    Raises:
        BadInput: no such file, not a regular file (a folder, pipe or device), or too large.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            refuse(what, path, f"{size:,} bytes; at most {most:,} are read")
        # A file may have grown since, or not say its size. Room for no more than it says is asked
        # for: there may be little.
        pieces, held = [], 0
        while held <= most and (piece := file.read(min(most - held, max(size, _PIECE)) + 1)):
            pieces.append(piece)
            held += len(piece)
    if held > most:
        refuse(what, path, f"more than {most:,} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def open_regular(path: str | os.PathLike[str], what: str) -> Any:
    """A regular file opened for reading bytes. A pipe or device is not waited for.

    Raises:
        BadInput: there is no such file, it cannot be read, or it is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        refuse(what, path, error.strerror or str(error))
    except ValueError:  # a zero byte in the name
        refuse(what, path, "not the name of a file")
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = (
                "a folder"
                if stat.S_ISDIR(mode)
                else "a pipe"
                if stat.S_ISFIFO(mode)
                else "a device or socket"
            )
            refuse(what, path, f"{kind}; a regular file is needed")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_plain_name(path: Path) -> bool:
    """Whether it is a word that may be a preset's: no folder before it, no ending."""
    return len(path.parts) == 1 and not path.suffix


def exists(name: str | os.PathLike[str]) -> bool:
    """Whether a name that may also be a preset's is that of something in the file system.

    A pipe is there too: to read it says what is wrong with it. So is a folder, but not one of a
    plain name: `demo` is the preset also where a folder of that name lies beside.
    """
    path = Path(name)
    try:
        return path.exists() and not (is_plain_name(path) and path.is_dir())
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def read_text(path: str | os.PathLike[str], what: str, most: int = LARGEST_DOCUMENT) -> str:
    """The content as text. Raises BadInput as `read_bytes`, or where it is not UTF-8 text."""
    return decoded(read_bytes(path, what, most), what, path)


def decoded(content: bytes, what: str, path: object) -> str:
    """UTF-8 (a byte order mark is taken off). Raises BadInput naming the line and the remedy."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        refuse(
            what,
            path,
            f"line {line}: byte 0x{byte:02x} is not UTF-8; convert the file, "
            "such as with iconv -t UTF-8",
        )
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        refuse(what, path, f"line {line}: it holds a zero byte, so it is not text")
    return text


# --- documents -----------------------------------------------------------------------------------


def read_json(path: str | os.PathLike[str], what: str, most: int = LARGEST_DOCUMENT) -> Any:
    """A JSON document as plain values. Raises BadInput."""
    return parse_json(read_bytes(path, what, most), what, path)


def read_toml(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """A TOML document as plain values. Raises BadInput."""
    return parse_toml(read_bytes(path, what, LARGEST_TOML), what, path)


def read_document(path: str | os.PathLike[str], what: str) -> Any:
    """A JSON or TOML document, by its ending or, with another ending, by its first character."""
    content = read_bytes(path, what)
    suffix = Path(path).suffix.lower()
    is_json = suffix == ".json" or (suffix != ".toml" and content.lstrip()[:1] in (b"{", b"["))
    return (parse_json if is_json else parse_toml)(content, what, path)


def parse_json(
    content: bytes | str,
    what: str,
    path: object,
    *,
    allow_nan: bool = False,
    most: int = MOST_VALUES,
) -> Any:
    """JSON text to plain values, strictly.

    Args:
        allow_nan: accept NaN and Infinity, which are not JSON and which Python's tools write.
        most: values in all, judged by the commas: a small file may unpack to a large object.

    Raises:
        BadInput: not JSON, nested too deep, a key twice, a number too long or not finite, or too
            many values.
    """
    raw = content.encode() if isinstance(content, str) else content
    if (values := raw.count(b",") + raw.count(b"[") + raw.count(b"{")) > most:
        refuse(what, path, f"{values:,} values; at most {most:,} are read")
    text = decoded(raw, what, path)
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check_brackets(_JSON_STRINGS.sub(b"", raw), what, path)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            counts = Counter(name for name, _ in items)
            twice = next(name for name, count in counts.items() if count > 1)
            refuse(what, path, f"the key {shown(twice)!r} stands twice in one object")
        return found

    def whole(digits: str) -> int | float:
        if len(digits) > LONGEST_NUMBER:
            refuse(what, path, f"a number of {len(digits)} digits; at most {LONGEST_NUMBER}")
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits)
        if len(digits) > LONGEST_NUMBER or (math.isinf(value) and not allow_nan):
            refuse(what, path, f"the number {shown(digits, 30)} is beyond what can be held")
        return value

    def constant(name: str) -> float:
        if not allow_nan:
            refuse(what, path, f"{name} stands where a finite number is needed")
        return float(name.replace("Infinity", "inf"))

    try:
        return json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=whole,
            parse_float=real,
            parse_constant=constant,
        )
    except json.JSONDecodeError as error:
        refuse(what, path, f"line {error.lineno}: not JSON ({error.msg})")
    except RecursionError:
        refuse(what, path, f"nested too deep; at most {DEEPEST}")


def parse_toml(content: bytes | str, what: str, path: object) -> dict[str, Any]:
    """TOML text to plain values, strictly.

    Raises:
        BadInput: not TOML, nested too deep, a number too long or not finite.
    """
    raw = content.encode() if isinstance(content, str) else content
    text = decoded(raw, what, path)
    bare = _TOML_STRINGS_AND_COMMENTS.sub(b"", raw)
    _check_brackets(bare, what, path)
    dotted = max(key.count(b".") for key in _BETWEEN_KEYS.split(bare))
    if dotted >= DEEPEST:
        refuse(what, path, f"a name of {dotted + 1} parts; at most {DEEPEST}")
    if (long := _LONG_NUMBER.search(bare)) is not None:
        refuse(what, path, f"{shown(long[0].decode(), 30)!r} is too long for a number or a name")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        refuse(what, path, f"not TOML ({one_line(error, 120)})")
    except RecursionError:
        refuse(what, path, f"nested too deep; at most {DEEPEST}")
    except ValueError as error:  # a date or number that Python cannot hold
        refuse(what, path, f"not TOML ({one_line(error, 120)})")
    if (depth := _depth(document)) > DEEPEST:  # by dotted names, which have no brackets
        refuse(what, path, f"nested {depth} deep; at most {DEEPEST}")
    for name, value in _leaves(document, ""):
        if isinstance(value, float) and not math.isfinite(value):
            refuse(what, path, f"{shown(name)} = {value}: a finite number is needed")
    return document


def _check_brackets(bare: bytes, what: str, path: object) -> None:
    """Nesting by the brackets of a text without its strings, before a parser recurses into them."""
    depth = deepest = 0
    for bracket in bare.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        refuse(what, path, f"nested {deepest} deep; at most {DEEPEST}")


def _depth(document: Any) -> int:
    """Tables and lists below the document itself, one within the other; without recursion."""
    depth, level = -1, [document]
    while level:
        depth += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
    return depth


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every plain value with its dotted name, without recursion."""
    stack = [(name, value)]
    while stack:
        where, item = stack.pop()
        if isinstance(item, dict):
            stack += [(f"{where}.{key}" if where else str(key), v) for key, v in item.items()]
        elif isinstance(item, list):
            stack += [(f"{where}[{index}]", v) for index, v in enumerate(item)]
        else:
            yield where, item


def convert(document: Any, kind: type[T], what: str, path: object) -> T:
    """A document as a msgspec type, strictly.

    Raises:
        BadInput: a field is unknown, missing, of another type or out of range; a whole number is
            beyond 64 bits; a text holds control characters.
    """
    for name, value in _leaves(document, ""):
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            refuse(what, path, f"{shown(name)} = {shown(value, 30)}: too large a whole number")
        if isinstance(value, str) and _CONTROL.search(value):
            refuse(what, path, f"{shown(name)} = {shown(value)!r}: it holds control characters")
        if _CONTROL.search(name):
            refuse(what, path, f"{shown(name)}: the name of a field holds control characters")
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        said, _, where = one_line(error, 200).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        value = _value_at(document, field)
        named = f"{shown(field)}{'' if value is None else f' = {shown(value, 40)}'}: "
        refuse(what, path, (named if field else "") + said)


def _value_at(document: Any, field: str) -> object:
    """The plain value at `a.b[0]` of a document; None where it is a table or not there."""
    found = document
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
        try:
            found = found[int(index)] if index else found[name]
        except (KeyError, IndexError, TypeError):
            return None
    return None if isinstance(found, dict | list) else found


def reason_of(error: BadInput) -> str:
    """What a message of `refuse` says after naming the file."""
    head, parted, reason = str(error).partition(": ")
    return reason if parted and " = " in head else str(error)


def refuse(what: str, path: object, why: str) -> NoReturn:
    """Raises BadInput in one line: `what = path: why`, at most 300 characters."""
    head = f"{what} = {shown(str(path), 100)}: "
    raise BadInput(head + shown(why, LONGEST_LINE - len(head))) from None
