"""Reads the operator's policy files: languages, templates, limits.

Both the gateway (to validate) and the node (to run) read them; each file is one object, and its
name without suffix is the object's name.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sandboxd.model import Language, Limits, Template, above_maximum
from sandboxd.model.egress import EgressPolicy, loose_attachment
from sandboxd.model.image import Recipe
from sandboxd.settings import MacvlanSettings, NetworkSettings, SettingsError

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


def load(directory: Path, networks: NetworkSettings | None = None) -> Policies:
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
        egress=egress(directory / "egress", networks.macvlan)
        if networks is not None and networks.enabled
        else {},
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


def egress(directory: Path, lans: Mapping[str, MacvlanSettings]) -> dict[str, EgressPolicy]:
    """The policies of networks that `directory` has, by name; those of an interface are for no tenant
    that `lans` does not let on it. Raises SettingsError."""
    found = {name: _within(policy, lans) for name, policy in _all(directory, EgressPolicy).items()}
    if "none" in found:
        raise SettingsError("egress/none.toml: none is the name of no network")
    for policy in found.values():
        domain = loose_attachment(policy)
        if domain is not None:
            raise SettingsError(
                f"egress/{policy.name}.toml: attach: no rule lets the proxy see {domain}"
            )
    return found


def _within(policy: EgressPolicy, lans: Mapping[str, MacvlanSettings]) -> EgressPolicy:
    if policy.interface is None:
        return policy
    lan = lans.get(policy.interface)
    if lan is None:
        raise SettingsError(f"egress/{policy.name}.toml: no network.macvlan.{policy.interface}")
    everybody = "*" in policy.tenants
    tenants = lan.tenants if everybody else [name for name in policy.tenants if _lets(lan, name)]
    return replace(policy, tenants=list(tenants))


def _lets(lan: MacvlanSettings, tenant: str) -> bool:
    return "*" in lan.tenants or tenant in lan.tenants


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
