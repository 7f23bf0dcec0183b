"""Writing TOML: the small subset device profiles need, and files that are whole or absent.

The standard library reads TOML but does not write it.
"""

import json
from typing import Any


def write_toml(document: dict[str, Any]) -> str:
    """TOML text of nested dictionaries, lists and plain values; figures go on one line."""
    return "\n".join([*_table(document, ""), ""])


def _table(table: dict[str, Any], prefix: str) -> list[str]:
    """Plain values first, then sub-tables, as TOML demands."""
    lines = []
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if _is_inline(value):
            lines.append(f"{_key(key)} = {_value(value)}")
        else:
            later.append((key, value))
    for key, value in later:
        name = f"{prefix}{_key(key)}"
        rows = value if isinstance(value, list) else [value]
        header = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
        for row in rows:
            lines += ["", header, *_table(row, f"{name}.")]
    return lines


def _is_inline(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and not any(isinstance(item, (dict, list)) for item in value.values())
    return not (isinstance(value, list) and value and isinstance(value[0], dict))


def _key(key: str) -> str:
    return key if key and all(c.isalnum() or c in "-_" for c in key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
