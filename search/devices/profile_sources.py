"""Sources of a profile's figures: text that several figures give stands once, under `[sources]`."""

from typing import Any

from shapelaw.scaling.errors import BadInput


def with_sources(node: Any, sources: Any, where: str) -> Any:
    """The document with every source `@key` replaced by what stands under that key.

    Raises:
        BadInput: a key that is not there.
    """
    if isinstance(node, list):
        return [with_sources(item, sources, where) for item in node]
    if not isinstance(node, dict):
        return node
    found = {name: with_sources(item, sources, where) for name, item in node.items()}
    said = found.get("source")
    if isinstance(said, str) and said.startswith("@"):
        if not isinstance(sources, dict) or said[1:] not in sources:
            raise BadInput(f"{where}: source = {said[:60]!r}: no such key under [sources]")
        found["source"] = sources[said[1:]]
    return found


def shared_sources(document: dict[str, Any]) -> dict[str, Any]:
    """The document with sources that several figures give moved to `[sources]`, once each."""
    counts: dict[str, int] = {}

    def count(node: Any) -> None:
        for item in node.values() if isinstance(node, dict) else node:
            if isinstance(item, dict | list):
                count(item)
        if isinstance(node, dict) and isinstance(node.get("source"), str):
            counts[node["source"]] = counts.get(node["source"], 0) + 1

    count(document)
    keys = {text: f"s{i + 1}" for i, text in enumerate(t for t, n in counts.items() if n > 1)}

    def replaced(node: Any) -> Any:
        if isinstance(node, list):
            return [replaced(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = {name: replaced(item) for name, item in node.items()}
        if found.get("source") in keys:
            found["source"] = f"@{keys[found['source']]}"
        return found

    found = dict(replaced(document).items())
    return {**found, "sources": {key: text for text, key in keys.items()}} if keys else found
