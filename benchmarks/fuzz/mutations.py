"""Mutations of a file that is well: of its bytes, of its values, of a table's rows and columns.

Every mutation is a function of a random generator alone, so that a seed gives the same file again.
"""

import gzip
import io
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

NUMBERS: tuple[Any, ...] = (
    0, -0.0, -1, 1, 2, 3, 0.5, -0.5, 1e-9, 1e-300, 5e-324, 1e15, 1e30, 1e100, 1e300,
    1.7976931348623157e308, -1e300, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62,
    2**63 - 1, 2**63, -(2**63), 2**64, 10**40, 10**400, float("nan"), float("inf"),
    float("-inf"), 1e9, 1e12, 7, 13, 1024, 1000000,
)  # fmt: skip
"""Numbers that few files mean."""
TEXTS: tuple[str, ...] = (
    "", " ", "\t", "\n", "x", "0", "-1", "1e999", "nan", "NaN", "inf", "null", "None", "true",
    "١٢٣", "１２３", "½", "²", "1_000", "1,5", "1.234.567", "0x10", "5MB", "1 TB", "10%", "1e5B",
    "[/]", "[bold red]x", "[link=http://x]y[/link]", "\x1b[31m", "\x1b]0;x\x07", "\x00", "\x7f",
    "\u202eabc", "\u200b", "\ufeff", "\U0001f600", "é" * 200, "漢字", "$\\frac{1}{", "$x_{", "%s%n",
    "{0}{x}", "{{", "<script>alert(1)</script>", "</script>", "../../../etc/passwd", "/dev/zero",
    "/dev/stdin", "/", ".", "..", "~", "~nobody/x", "-", "--help", "-x", "a/b\\c", "=1+1", "'", '"',
    "`", ";", "#", "a" * 300, "a" * 5000, "[" * 200, "((((", "(a+)+$", "*" * 50, "**/**", "[a-",
    "\ud800", "import os", "__class__", "utf-8", "bytes", "bpe-300", "bpe-٣٠٠", "q4_0", "f16",
    "chinchilla", "auto", "m2", "smoke", "evidence", "reference", "inf tok/s", "nan s", "-5ms",
)  # fmt: skip
"""Texts that mean something to a terminal, a shell, a path, a regular expression or a number."""


def hostile(generator: random.Random, old: Any = None, depth: int = 0) -> Any:
    """A value to stand where `old` stood: of its own kind, or of another."""
    kind = generator.random()
    number = isinstance(old, int | float) and not isinstance(old, bool)
    if number and kind < 0.35:
        factor = generator.choice((-1, 0.5, 2, 10, 1e3, 1e6, 1e-3, 1e-6, 1e12, 1e-12))
        return old * factor if abs(old) < 1e280 else -old
    if kind < 0.65:
        return generator.choice(NUMBERS)
    if kind < 0.85:
        return generator.choice(TEXTS)
    containers: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: True,
        lambda: False,
        list,
        dict,
        lambda: [None],
        lambda: [old],
        lambda: [old, old],
        lambda: {"": old},
        lambda: {"value": old},
        lambda: [0] * 3000,
        lambda: _nested(generator.choice((5, 60, 70, 3000))),
        lambda: {str(n): n for n in range(generator.choice((10, 3000)))},
        lambda: str(old),
        lambda: "9" * generator.choice((20, 70, 5000)),
        lambda: [hostile(generator, old, depth + 1) for _ in range(3)] if depth < 2 else [],
    )
    return generator.choice(containers)()


class Raw(str):
    """Text that stands in a document as it is."""


def _nested(deep: int) -> Raw:
    return Raw("[" * deep + "]" * deep)


# --- documents -----------------------------------------------------------------------------------


def json_text(value: Any, generator: random.Random, twice: float = 0.0) -> str:
    """JSON as lax writers make it: NaN, lone surrogates and, with chance `twice`, double keys."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        parts = []
        for key, item in value.items():
            parts.append(f"{json.dumps(str(key))}: {json_text(item, generator, twice)}")
            if generator.random() < twice:
                parts.append(f"{json.dumps(str(key))}: {json_text(item, generator)}")
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(json_text(item, generator, twice) for item in value) + "]"
    if isinstance(value, int) and abs(value) > 10**300:
        return "1" + "0" * 400
    return json.dumps(value)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document; long lists by a few of their items."""
    found, stack = [], [document]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            keys: list[Any] = list(item)
        elif isinstance(item, list):
            keys = list(range(len(item)))
            keys = keys if len(keys) < 12 else [*keys[:4], keys[len(keys) // 2], keys[-1]]
        else:
            continue
        found += [(item, key) for key in keys]
        stack += [item[key] for key in keys]
    return found


def document(content: bytes, generator: random.Random) -> bytes:
    """A JSON document with one to three of its values, keys or lists changed."""
    whole = [json.loads(content)]
    twice = 0.0
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        places = _places(whole)
        # The fields near the root first: deep lists would otherwise take all the mutations.
        place = int(len(places) * generator.random() ** 2)
        inside, key = places[place]
        kind = generator.random()
        if kind < 0.62:
            inside[key] = hostile(generator, inside[key])
        elif kind < 0.72 and inside is not whole:
            del inside[key]
        elif kind < 0.8 and isinstance(inside, dict):
            inside[generator.choice((*TEXTS, str(key).upper(), f"{key} ", f"{key}s"))] = inside.pop(
                key
            )
        elif kind < 0.84:
            twice = 0.3
        elif kind < 0.92 and isinstance(inside, dict):
            inside[generator.choice(TEXTS)] = hostile(generator)
        elif isinstance(inside[key], list):
            items = inside[key]
            inside[key] = generator.choice(([], items[::-1], items * 3))
    return json_text(whole[0], generator, twice).encode("utf-8", "surrogatepass")


def lines(content: bytes, generator: random.Random) -> bytes:
    """JSON lines with one to three of them changed, lost, doubled, emptied or cut."""
    rows = content.split(b"\n")
    for _ in range(generator.choice((1, 1, 2, 3))):
        number = generator.randrange(len(rows))
        row = rows[number]
        kind = generator.random()
        if kind < 0.7 and row.strip().startswith(b"{"):
            try:
                rows[number] = document(row, generator)
            except (ValueError, RecursionError):  # already broken, or too deep to be changed again
                continue
        elif kind < 0.76:
            del rows[number]
        elif kind < 0.84:
            rows.insert(number, row)
        elif kind < 0.9:
            rows[number] = row[: generator.randrange(len(row) + 1)]
        else:
            other = (b"", b"null", b"[]", b"1", b"{}", b"\x00" * 50, b"# x", b'"x"', b"NaN")
            rows.insert(number, generator.choice(other))
        if not rows:
            break
    return b"\n".join(rows)


def toml_value(value: Any) -> str:
    """A value as TOML writes it, or nearly."""
    if isinstance(value, Raw):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**300 else "1" + "0" * 400
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


_TOML_VALUE = re.compile(
    r"(?<=[=\[,] )(-?[\d.eE+_]+|\"[^\"\n]*\"|true|false|\[[^\[\]\n]*\])"
    r"|(?<=\[)(-?[\d.]+|\"[^\"\n]*\")"
)


def toml(content: bytes, generator: random.Random) -> bytes:
    """A TOML document with one to three of its values, lines or tables changed."""
    text = content.decode()
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        kind = generator.random()
        values = list(_TOML_VALUE.finditer(text))
        rows = text.split("\n")
        number = generator.randrange(len(rows))
        if kind < 0.7 and values:
            match = generator.choice(values)
            try:
                old = json.loads(match[0])
            except ValueError:
                old = match[0]
            new = toml_value(hostile(generator, old))
            text = text[: match.start()] + new + text[match.end() :]
        elif kind < 0.8:
            del rows[number]
            text = "\n".join(rows)
        elif kind < 0.86:
            rows.insert(generator.randrange(len(rows) + 1), rows[number])
            text = "\n".join(rows)
        elif kind < 0.93:
            _, equals, value = rows[number].partition("=")
            key = json.dumps(generator.choice(TEXTS))
            rows[number] = f"{key} ={value}" if equals else f"[{key}]"
            text = "\n".join(rows)
        else:
            line = f"{generator.choice(('zzz', 'name', 'a.b'))} = {toml_value(hostile(generator))}"
            rows.insert(generator.randrange(len(rows) + 1), line)
            text = "\n".join(rows)
    return text.encode("utf-8", "surrogatepass")


# --- bytes ---------------------------------------------------------------------------------------


def raw(content: bytes, generator: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, moved, or put in: what a bad disk or editor does."""
    for _ in range(generator.choice((1, 1, 2, 4))):
        size = len(content)
        kind = generator.randrange(10)
        low, high = sorted(generator.choices(range(size + 1), k=2))
        place = generator.randrange(size + 1)
        if kind == 0 and size:
            place = min(place, size - 1)
            content = content[:place] + bytes([generator.randrange(256)]) + content[place + 1 :]
        elif kind == 1:
            content = content[:low] + content[high:]
        elif kind == 2:
            content = (
                content[:high] + content[low:high] * generator.choice((1, 1, 30)) + content[high:]
            )
            content = content[:2_000_000]
        elif kind == 3:
            content = content[:place]
        elif kind == 4:
            content = (
                generator.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\n\n", b"\x00"))
                + content
            )
        elif kind == 5:
            content = (
                content[:place]
                + generator.choice(TEXTS).encode("utf-8", "surrogatepass")
                + content[place:]
            )
        elif kind == 6:
            content = content.replace(
                b"\n", generator.choice((b"\r\n", b"\r", b"\x0b", b"\x85", b""))
            )
        elif kind == 7:
            text = content.decode("utf-8", "replace")
            content = text.encode(
                generator.choice(("utf-16", "utf-16-le", "latin-1", "utf-32", "utf-7")), "replace"
            )
        elif kind == 8:
            content = (
                content[:place]
                + generator.choice((b"[", b"{", b'"', b"'", b"\\", b"#"))
                * generator.choice((1, 100, 20_000))
                + content[place:]
            )
        else:
            content = generator.choice(
                (
                    b"",
                    b" ",
                    b"\n",
                    b"null",
                    b"0",
                    b"[]",
                    b"{}",
                    b'""',
                    b"\x00" * 4096,
                    b"PAR1",
                    b"PK\x03\x04",
                    b"\x1f\x8b",
                    b"GGUF",
                )
            )
    return content


def binary(content: bytes, generator: random.Random) -> bytes:
    """A binary file with bytes flipped and with whole numbers in its head that are absurd."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 3))):
        if not changed:
            break
        head = min(len(changed), 4096 if generator.random() < 0.5 else 256)
        place = generator.randrange(len(changed) if generator.random() < 0.3 else head)
        kind = generator.randrange(5)
        if kind == 0:
            changed[place] = generator.randrange(256)
        elif kind == 1:
            changed[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            size = generator.choice(("<I", "<Q"))
            most = 2 ** (8 * struct.calcsize(size))
            number = generator.choice(
                (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, most - 1, most // 2)
            )
            changed[place : place + struct.calcsize(size)] = struct.pack(size, number)
        elif kind == 3:
            del changed[place : place + generator.choice((1, 4, 8, 1000))]
        else:
            changed[place:place] = changed[: generator.choice((1, 8, 500))]
    return bytes(changed)


def zipped(content: bytes, generator: random.Random) -> bytes:
    """A gzip file: of a mutated table, broken itself, or of very many equal bytes."""
    kind = generator.random()
    if kind < 0.5:
        return gzip.compress(csv(content, generator), 1)
    if kind < 0.95:
        return binary(gzip.compress(content, 1), generator)
    bomb = generator.choice((b"0" * 50_000_000, b"[" * 20_000_000, b"1,2,3\n" * 3_000_000))
    return gzip.compress(b"n,d,loss\n" + bomb, 1)


# --- tables --------------------------------------------------------------------------------------


def csv(content: bytes, generator: random.Random) -> bytes:
    """A CSV with cells, columns or rows changed, or made one that no fit is prepared for."""
    rows = [line.split(",") for line in content.decode().strip().split("\n")]
    for _ in range(generator.choice((1, 1, 2))):
        header, body = rows[0], rows[1:]
        if not body or not header or len(body[0]) < len(header):
            break
        column = generator.randrange(len(header))
        kind = generator.randrange(15)
        if kind <= 2:
            row = generator.choice(body)
            row[min(column, len(row) - 1)] = _cell(generator, row[min(column, len(row) - 1)])
        elif kind == 3:
            value = _cell(generator, body[0][column])
            for row in body:
                row[column] = value
        elif kind == 4:
            factor = generator.choice((1e-300, 1e-12, 1e-6, -1.0, 1e6, 1e12, 1e250, 1e300))
            for row in body:
                row[column] = _scaled(row[column], factor)
        elif kind == 5:
            body = body[: generator.choice((0, 1, 2, 3, 4))]
        elif kind == 6:
            body = [list(body[0]) for _ in range(generator.choice((2, 5, 40)))]
        elif kind == 7:
            name = generator.choice(
                (*TEXTS, header[(column + 1) % len(header)], header[column].upper())
            )
            header[column] = name
        elif kind == 8:
            for row in rows:
                del row[column]
            body = rows[1:]
        elif kind == 9:
            source = generator.randrange(len(header))
            for row in body:
                row[column] = row[source]
        elif kind == 10:
            for row in body:
                row[column] = f"{10 ** generator.uniform(-320, 308):.6g}"
        elif kind == 11:
            for row in body:
                row[column] = f"{generator.uniform(1, 9):.4f}"
        elif kind == 12:
            generator.choice(body).append(_cell(generator, "1"))
        elif kind == 13:
            mark = generator.choice((",", ";", "\t", "|", " ", ".", ":"))
            return "\n".join(mark.join(row) for row in [header, *body]).encode(
                "utf-8", "surrogatepass"
            )
        else:
            body = sorted(body, reverse=generator.random() < 0.5)
        rows = [header, *body]
    return ("\n".join(",".join(row) for row in rows) + "\n").encode("utf-8", "surrogatepass")


def _cell(generator: random.Random, old: str) -> str:
    kind = generator.random()
    if kind < 0.45:
        return _scaled(old, generator.choice((-1, 0, 1e-3, 1e3, 1e6, 1e-12, 1e200, 1e300)))
    if kind < 0.75:
        number = generator.choice(NUMBERS)
        return "1" + "0" * 400 if isinstance(number, int) and number > 10**300 else repr(number)
    text = generator.choice(TEXTS)
    return '"' + text.replace('"', '""') + '"' if generator.random() < 0.3 else text


def _scaled(cell: str, factor: float) -> str:
    try:
        return repr(float(cell) * factor)
    except ValueError:
        return cell


def parquet(content: bytes, generator: random.Random) -> bytes:
    """Parquet: of a mutated table in odd types, or with its bytes changed."""
    import pyarrow as arrow
    from pyarrow import parquet as files

    if generator.random() < 0.5:
        return binary(_parquet_of(content), generator)
    rows = [
        line.split(",") for line in csv(content, generator).decode("utf-8", "replace").split("\n")
    ]
    rows = [row for row in rows[:500] if len(row) == len(rows[0])]
    columns: dict[str, Any] = {}
    for index, name in enumerate(rows[0]):
        cells = [row[index] for row in rows[1:]]
        try:
            numbers: list[Any] = [float(cell) for cell in cells]
        except ValueError:
            columns[name] = cells
            continue
        kind = generator.randrange(9)
        if kind == 0:
            columns[name] = [[number] for number in numbers]
        elif kind == 1:
            columns[name] = [{"x": number} for number in numbers]
        elif kind == 2:
            columns[name] = [None if generator.random() < 0.5 else n for n in numbers]
        elif kind == 3:
            columns[name] = [str(number).encode() for number in numbers]
        elif kind == 4:
            columns[name] = arrow.array([True] * len(numbers))
        elif kind == 5:
            columns[name] = arrow.array(cells).dictionary_encode()
        elif kind == 6:
            columns[name] = arrow.nulls(len(numbers))
        else:
            columns[name] = numbers
    out = io.BytesIO()
    try:
        files.write_table(arrow.table(columns), out)
    except (arrow.ArrowException, ValueError):  # names or cells that Parquet does not hold
        return _parquet_of(content)
    return out.getvalue()


def _parquet_of(content: bytes) -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet as files

    header, *body = [line.split(",") for line in content.decode().strip().split("\n")]
    table = arrow.table({name: [float(row[i]) for row in body] for i, name in enumerate(header)})
    out = io.BytesIO()
    files.write_table(table, out)
    return out.getvalue()


GRAMMARS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": document,
    "jsonl": lines,
    "toml": toml,
    "csv": csv,
    "gzip": zipped,
    "parquet": parquet,
    "binary": binary,
    "text": raw,
}


def mutated(content: bytes, grammar: str, generator: random.Random) -> bytes:
    """A file of that grammar, changed as its grammar has it or, one time in five, as bytes."""
    if grammar in ("json", "jsonl", "toml", "csv") and generator.random() < 0.2:
        return raw(content, generator)
    return GRAMMARS[grammar](content, generator)
