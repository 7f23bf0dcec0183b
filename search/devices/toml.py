"""Device profiles as TOML text: each figure on one line."""

from typing import Any

import tomlkit
from tomlkit.items import InlineTable


def write_toml(document: dict[str, Any]) -> str:
    """TOML text of nested dictionaries, lists and plain values.

    A dictionary of plain values is a figure, and goes on one line; its table's plain values come
    before its sub-tables, as TOML demands.
    """
    return tomlkit.dumps(_ordered(document))


def _ordered(table: dict[str, Any]) -> dict[str, Any]:
    prepared = {key: _prepared(value) for key, value in table.items()}
    return dict(sorted(prepared.items(), key=lambda item: _is_table(item[1])))


def _prepared(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_ordered(row) if isinstance(row, dict) else row for row in value]
    if not isinstance(value, dict):
        return value
    if value and not any(isinstance(item, dict | list | tuple) for item in value.values()):
        figure = tomlkit.inline_table()
        figure.update(value)
        return figure
    return _ordered(value)


def _is_table(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) and not isinstance(value, InlineTable)
