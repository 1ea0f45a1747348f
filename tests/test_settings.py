"""Settings: what a tenant may have, by the file alone."""

from pathlib import Path

import pytest

from sandboxd.settings import Settings, SettingsError, load


def _loaded(text: str, tmp_path: Path) -> Settings:
    file = tmp_path / "sandboxd.toml"
    file.write_text(text)
    return load(str(file), {}, ())


def test_a_tenants_own_quotas_take_the_place_of_those_of_all(tmp_path: Path) -> None:
    settings = _loaded(
        "[gateway]\ntenant_max_jobs = 10\n[tenants.acme]\njobs = 0\nimages = 1000\n", tmp_path
    )
    general, own = settings.quotas("other"), settings.quotas("acme")
    assert general == Settings(gateway=settings.gateway).quotas("acme")
    assert (general.jobs, own.jobs, own.images) == (10, 0, 1000)
    assert (own.sandboxes, own.files, own.problems, own.volumes) == (
        general.sandboxes, general.files, general.problems, general.volumes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "[tenants.acme]\njob = 1\n",
        "[tenants.acme]\njobs = -1\n",
        "[tenants.Acme]\njobs = 1\n",
        "[tenants]\nacme = 1\n",
    ],
)
def test_a_quota_that_cannot_be_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        _loaded(text, tmp_path)
