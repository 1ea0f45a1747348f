"""Templates with images of the store, in a whole running service."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import httpx
import pytest

from sandboxd.settings import Settings
from tests.drivers.graph.archives import Item, archive
from tests.service.instance import ROOT, Service, ServiceError

pytestmark = pytest.mark.service
BUSYBOX = Item("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
TEMPLATE = 'name = "box"\nimage = "box"\npool_size = 1\n'


def imported(service: Service, *items: Item) -> str:
    """Import a root file system as `box`. Its digest."""
    done = subprocess.run(
        [*service.argv, "image", "import", "-", "box"], cwd=ROOT, input=archive([BUSYBOX, *items]),
        capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.split()[1].decode()


def run(service: Service, *command: str, **fields: object) -> dict[str, object]:
    body = {"template": "box", "command": list(command), **fields}
    answer = httpx.post(f"{service.url}/v1/runs", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    result: dict[str, object] = answer.json()
    return result


@pytest.fixture
def service() -> Iterator[Service]:
    directory = Path(mkdtemp(prefix="sandboxd-test-"))
    directory.chmod(0o711)
    policies = directory / "policies"
    shutil.copytree(Settings().policy_path, policies)
    for path in [policies, *policies.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (policies / "templates" / "box.toml").write_text(TEMPLATE)
    service = Service(directory, f"policies={policies}", "graph.collect_every=0.3")
    imported(service, Item("version", b"one"))
    try:
        service.start()
        yield service
        left = service.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if left:
        raise ServiceError("\n".join(left))


def test_a_template_runs_in_its_image_and_follows_its_name(service: Service) -> None:
    result = run(service, "/bin/busybox", "cat", "/version")
    assert (result["status"], result["stdout"]) == ("ok", "one"), result
    imported(service, Item("version", b"two"))
    deadline = time.monotonic() + 20
    while (shown := run(service, "/bin/busybox", "cat", "/version")["stdout"]) == "one":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert shown == "two"


def test_what_the_pool_has_is_not_collected(service: Service) -> None:
    def image(*words: str) -> str:
        done = subprocess.run(
            [*service.argv, "image", *words], cwd=ROOT, capture_output=True, check=True, text=True
        )
        return done.stdout

    image("rm", "box")
    assert "removed 0 blobs" in image("gc")
    assert run(service, "/bin/busybox", "cat", "/version")["stdout"] == "one"
    assert "whole" in image("verify")


def test_what_nobody_needs_goes_by_itself(service: Service) -> None:
    imported(service, Item("version", b"two"))
    layers = service.state_dir / service.instance / "graph" / "layers"
    deadline = time.monotonic() + 20
    while len(list(layers.iterdir())) > 1:  # that of the former meaning, once the pool has changed
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert run(service, "/bin/busybox", "cat", "/version")["stdout"] == "two"
