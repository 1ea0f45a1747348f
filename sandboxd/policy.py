"""Reads the operator's policy files: languages, templates, limits.

Both the gateway (to validate) and the node (to run) read them; each file is one object, and its
name without suffix is the object's name.
"""

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from sandboxd.model import Language, Limits, Template, above_maximum
from sandboxd.model.egress import EgressPolicy, loose_attachment
from sandboxd.model.image import Recipe
from sandboxd.settings import SettingsError

T = TypeVar("T", bound=Struct)


class LimitPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policies/limits/default.toml`."""

    defaults: Limits
    maximum: Limits
    compile_defaults: Limits


class Policies(Struct, frozen=True, kw_only=True):
    limits: LimitPolicy
    languages: dict[str, Language]
    """By name; see `language()` for aliases."""
    templates: dict[str, Template]
    egress: dict[str, EgressPolicy] = {}
    """What a run or sandbox may name as its network; empty where networks are not enabled."""

    def language(self, name: str) -> Language | None:
        """The language of that name or alias."""
        found = self.languages.get(name)
        if found is None:
            found = next((x for x in self.languages.values() if name in x.aliases), None)
        return found


def load(directory: Path, *, networks: bool = False) -> Policies:
    """Every policy below `directory`; those of networks only if they are enabled.

    Raises SettingsError, naming the file and the field.
    """
    limits = _read(directory / "limits" / "default.toml", LimitPolicy)
    name = above_maximum(limits.defaults, limits.maximum)
    if name is not None:
        raise SettingsError(f"limits/default.toml: defaults.{name} is above maximum.{name}")
    policies = Policies(
        limits=limits,
        languages=_all(directory / "languages", Language),
        templates=_all(directory / "templates", Template),
        egress=egress(directory / "egress") if networks else {},
    )
    taken: dict[str, str] = {}
    for language in policies.languages.values():
        if language.template not in policies.templates:
            raise SettingsError(
                f"languages/{language.name}.toml: no template named {language.template}"
            )
        for name in (language.name, *language.aliases):
            if name in taken:
                raise SettingsError(
                    f"languages/{language.name}.toml: {name} already names {taken[name]}"
                )
            taken[name] = language.name
    return policies


def egress(directory: Path) -> dict[str, EgressPolicy]:
    """The policies of networks that `directory` has, by name. Raises SettingsError."""
    found = _all(directory, EgressPolicy)
    if "none" in found:
        raise SettingsError("egress/none.toml: none is the name of no network")
    for policy in found.values():
        domain = loose_attachment(policy)
        if domain is not None:
            raise SettingsError(
                f"egress/{policy.name}.toml: attach: no rule lets the proxy see {domain}"
            )
    return found


def images(directory: Path) -> dict[str, Recipe]:
    """The recipes of images below `directory`, by name. Raises SettingsError."""
    return _all(directory / "images", Recipe)


def _all(directory: Path, kind: type[T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for path in sorted(directory.glob("*.toml")):
        item = _read(path, kind)
        if item.name != path.stem:  # type: ignore[attr-defined]
            raise SettingsError(f"{path}: name must be {path.stem!r}, the file's name")
        found[path.stem] = item
    return found


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), kind)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{path}: {error}") from error
