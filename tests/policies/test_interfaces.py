"""Policies of an interface: the settings say which there are, and who may be on them."""

from pathlib import Path

import pytest

from sandboxd import policy
from sandboxd.model.egress import Attachment, EgressPolicy, EgressRule, by_address, on_node
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


def test_each_rule_is_of_the_interface_or_of_the_node() -> None:
    whole = EgressPolicy(
        name="lab",
        interface="lan",
        allow=[EgressRule(cidr="192.0.2.0/24"), EgressRule(domain="example.org")],
        deny=[EgressRule(cidr="192.0.2.1/32"), EgressRule(domain="not.example.org")],
        attach=[Attachment(domain="example.org", secret="word")],
        resolve=True,
        connections=7,
    )
    here, there = by_address(whole), on_node(whole, "")
    assert on_node(there, "") == there, "once is enough"
    assert on_node(here, "") == EgressPolicy(name="none")
    assert on_node(here, "red").allow == []
    assert not here.named and not here.attach
    assert (here.allow, here.deny) == (whole.allow[:1], whole.deny[:1])
    assert there.interface is None and there.attach == whole.attach and there.resolve
    assert (there.allow, there.deny) == (whole.allow[1:], whole.deny)
    assert here.connections == there.connections == 7


def test_a_secret_is_attached_only_to_what_is_allowed_by_its_name(tmp_path: Path) -> None:
    attach = '[[attach]]\ndomain = "example.org"\nsecret = "word"\n'
    named = '[[allow]]\ndomain = "example.org"\n'
    assert tenants(tmp_path, RULE + named + attach, ["*"]) == ["*"]
    with pytest.raises(SettingsError, match=r"egress/lab\.toml: attach: .* example\.org"):
        tenants(tmp_path, RULE + attach, ["*"])


def test_an_interface_that_the_settings_do_not_have_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('name = "lab"\ninterface = "wan"\n')
    with pytest.raises(SettingsError, match=r"network\.macvlan\.wan"):
        policy.egress(tmp_path, {})
