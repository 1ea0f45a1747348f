"""Policies of an interface: the settings say which there are, and who may be on them."""

from pathlib import Path

import pytest

from sandboxd import policy
from sandboxd.settings import MacvlanSettings, SettingsError

RULE = '[[allow]]\ncidr = "192.0.2.0/24"\n'


def tenants(directory: Path, text: str, of_settings: list[str]) -> list[str]:
    (directory / "lab.toml").write_text(f'name = "lab"\ninterface = "lan"\n{text}')
    lan = MacvlanSettings(interface="eth7", tenants=of_settings)
    return policy.egress(directory, {"lan": lan})["lab"].tenants


@pytest.mark.parametrize(
    ("of_policy", "of_settings", "both"),
    [
        ("", [], []),
        ("", ["acme"], ["acme"]),
        ("", ["*"], ["*"]),
        ('tenants = ["acme", "other"]\n', ["acme", "third"], ["acme"]),
        ('tenants = ["acme"]\n', ["*"], ["acme"]),
        ('tenants = ["acme"]\n', [], []),
    ],
)
def test_nobody_is_on_it_whom_the_settings_do_not_name(
    tmp_path: Path, of_policy: str, of_settings: list[str], both: list[str]
) -> None:
    assert tenants(tmp_path, of_policy + RULE, of_settings) == both


@pytest.mark.parametrize(
    "text",
    [
        "resolve = true\n",
        '[[allow]]\ndomain = "example.org"\n',
        '[[deny]]\ndomain = "example.org"\n',
    ],
)
def test_nothing_is_allowed_by_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"egress/lab\.toml: .* name"):
        tenants(tmp_path, text, ["*"])


def test_an_interface_that_the_settings_do_not_have_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('name = "lab"\ninterface = "wan"\n')
    with pytest.raises(SettingsError, match=r"network\.macvlan\.wan"):
        policy.egress(tmp_path, {})
