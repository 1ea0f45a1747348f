"""`%pip` in a context: packages come from an index that the sandbox's policy opens, and from no other."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sandboxd_client import Client, Sandbox

from tests.network.serving import serving
from tests.network.world import PUBLIC4, World

pytestmark = [pytest.mark.root, pytest.mark.service]

PORT = 8650
INDEX = f"http://index.example.org:{PORT}/simple"
WHEEL = "hereabouts-1.2-py3-none-any.whl"
ENV = {"PIP_INDEX_URL": INDEX, "PIP_TRUSTED_HOST": "index.example.org", "PIP_RETRIES": "0"}
_OPENS = f"""
[[allow]]
domain = "index.example.org"
ports = [{PORT}]
"""
_ANOTHER = """
[[allow]]
domain = "another.example.org"
"""


def wheel() -> bytes:
    """The least that pip takes for a package."""
    made = io.BytesIO()
    about = "hereabouts-1.2.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("hereabouts.py", "WHERE = 'found'\n")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: hereabouts\nVersion: 1.2\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{about}/RECORD", f"hereabouts.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n"
        )
    return made.getvalue()


class Index(BaseHTTPRequestHandler):
    """Python's simple index, of one package."""

    package = wheel()

    def do_GET(self) -> None:
        found = {"/simple/hereabouts/": self._page(), f"/{WHEEL}": self.package}.get(self.path)
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def _page(self) -> bytes:
        digest = hashlib.sha256(self.package).hexdigest()
        return f'<a href="/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    server = world.inside(world.inet, lambda: ThreadingHTTPServer((PUBLIC4, PORT), Index))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    world.names["index.example.org", "A"] = [PUBLIC4]
    try:
        policies = {"index": _OPENS, "another": _ANOTHER}
        with serving(policies) as service, Client(service.url) as client:
            yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_package_is_installed_from_an_index_that_the_policy_opens(client: Client) -> None:
    with Sandbox.create(client=client, network="index", env=ENV) as sandbox:
        context = sandbox.context()
        done = context.run("%pip install hereabouts")
        assert done.status == "ok", done
        assert "Successfully installed hereabouts-1.2" in done.stdout
        assert context.run("import hereabouts; hereabouts.WHERE").text == "'found'"
        # It is there for the sandbox's other programs as well.
        argv = ["python3", "-c", "import hereabouts; print(hereabouts.WHERE)"]
        assert sandbox.run(argv).stdout == "found\n"


def test_what_the_policy_does_not_open_is_told(client: Client, world: World) -> None:
    with Sandbox.create(client=client, network="another", env=ENV) as sandbox:
        before = world.arrived(PUBLIC4, PORT)
        done = sandbox.context().run("%pip install hereabouts", timeout=60)
        assert done.status == "error" and done.error is not None
        assert "network policy" in done.error.value, done
        assert world.arrived(PUBLIC4, PORT) == before


def test_a_package_that_no_index_has_is_pips_own_error(client: Client) -> None:
    with Sandbox.create(client=client, network="index", env=ENV) as sandbox:
        done = sandbox.context().run("%pip install nowhere-to-be-found")
        assert done.status == "error"
        assert "No matching distribution" in done.stderr
