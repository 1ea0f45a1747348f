"""YAML of problem packages: plain data, bounded, without aliases, which grow when they unfold."""

from typing import Any

import yaml

from sandboxd.judge.archive import PackageError

_SIZE_MAX = 64 << 10


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def mapping(data: bytes, name: str) -> dict[str, Any]:
    """The mapping that a file holds; empty for an empty file. Raises PackageError."""
    if len(data) > _SIZE_MAX:
        raise PackageError(f"{name}: larger than {_SIZE_MAX} bytes")
    try:
        found = yaml.load(data, _Plain)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError, UnicodeDecodeError) as error:
        raise PackageError(f"{name}: not YAML: {error}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise PackageError(f"{name}: not a mapping")
    return {str(key): value for key, value in found.items()}
