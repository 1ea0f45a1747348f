"""The official images, as `make images` has made them: each language's own proof in its image, by a
template of that image, and numpy and pandas by one of a tenant's. Run by `make images-test`: what is
built from Debian's packages takes minutes and a mirror."""

import shutil
from pathlib import Path

import pytest
from sandboxd_client import Client

from sandboxd import policy
from sandboxd.node.doctor import try_languages
from sandboxd.settings import Settings, load
from tests.service.instance import running
from tests.warm.cases import SCRIPTS
from tests.warm.compare import check_equal
from tests.warm.comparison import Pairs
from tests.warm.conftest import comparing
from tests.warm.script import Script
from tests.warm.scripts.node import NODE

pytestmark = [pytest.mark.root, pytest.mark.service]
LANGUAGES = {
    "python": ("python", "bash"), "gcc": ("c", "cpp"), "node": ("node",), "java": ("java",),
    "go": ("go",), "rust": ("rust",),
}  # fmt: skip
FRAME = """
import numpy, pandas
frame = pandas.DataFrame({"n": numpy.arange(5)})
print(int((frame.n ** 2).sum()), open("/etc/os-release").read().count("bookworm"))
"""


@pytest.fixture(scope="module")
def store() -> Path:
    path = load().graph_path
    if not (path / "graph.db").is_file():
        pytest.skip("there is no store: make images")
    return path


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The shipped ones, but each language is served by a template of its image."""
    shipped, own = Settings().policy_path, tmp_path / "policies"
    shutil.copytree(shipped, own)
    template = (shipped / "templates" / "default.toml").read_text()
    for image, languages in LANGUAGES.items():
        text = template.replace('image = "host"', f'image = "{image}"')
        text = text.replace('name = "default"', f'name = "{image}"')
        (own / "templates" / f"{image}.toml").write_text(
            text.replace("pool_size = 8", "pool_size = 1")
        )
        for language in languages:
            file = own / "languages" / f"{language}.toml"
            file.write_text(f'template = "{image}"\n' + file.read_text())
    return own


def test_there_is_an_image_of_each_recipe() -> None:
    assert set(policy.images(Settings().policy_path)) == set(LANGUAGES)


@pytest.mark.timeout(600)
def test_every_language_proves_itself_in_its_image(store: Path, policies: Path) -> None:
    settings = load(flags=[f"graph.path={store}", f"policies={policies}"])
    assert settings.graph_path == store
    tried = {each.language: each for each in try_languages(settings)}
    for languages in LANGUAGES.values():
        for language in languages:
            assert tried[language].right, tried[language].result


def test_python_has_numpy_and_pandas(store: Path) -> None:
    with running(f"graph.path={store}") as service, Client(service.url) as client:
        client.templates.put("numbers", "python", pool=(1, 2))
        result = client.run(template="numbers", command=["python3", "-c", FRAME])
        assert (result.stdout.split()[0], result.exit_code) == ("30", 0), result
        assert int(result.stdout.split()[1]) > 0, "Debian's files, not the host's"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("language", "scripts"), [("python", SCRIPTS[::4]), ("node", NODE)])
def test_a_warm_run_in_an_image_equals_a_cold_one(
    language: str, scripts: list[Script], store: Path, tmp_path: Path
) -> None:
    with comparing(tmp_path, 0, 8, language, store) as comparison:
        pairs = Pairs(comparison, scripts)
        for script in scripts:
            check_equal(script, *pairs.of(script))
        assert comparison.counted_cold() == comparison.cold
