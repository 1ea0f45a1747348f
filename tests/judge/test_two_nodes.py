"""Two nodes at one queue: submissions of one problem spread over both, data and programs by digest."""

import concurrent.futures
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.drivers.graph.archives import archive
from tests.drivers.graph.test_rootfs import BUSYBOX
from tests.judge.packages import DIFFERENT, packed
from tests.patience import PATIENCE
from tests.service import host
from tests.service.instance import ROOT, Service, running

SOURCE = """
#include <cstdio>
#include <cstdlib>
#include <ctime>
int main() {
    long a, b;
    timespec pause{0, 200000000};
    while (std::scanf("%ld %ld", &a, &b) == 2) std::printf("%ld\\n", std::labs(a - b));
    nanosleep(&pause, nullptr);
}
"""


@contextmanager
def second_node(first: Service, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node with a name, a directory and uids of its own, at the queue of `first`."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as directory:
        Path(directory).chmod(0o711)
        other = Service(
            Path(directory),
            f"queue.name={first.instance}",
            f"redis.url=unix://{first.run_dir}/{first.instance}/redis/redis.sock",
            "node.cpu_capacity=2",
            "judge.data_max=64",
        )
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*other.argv, "node"], cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            ended = process.wait(60 * PATIENCE)
        assert ended == 0
        assert host.cgroups(other.instance) == [] and host.mounts(other.instance) == []


def wait_for_nodes(api: httpx.Client, count: int) -> None:
    deadline = time.monotonic() + 60 * PATIENCE
    while f"sandboxd_nodes {count}.0" not in api.get("/metrics").text:
        assert time.monotonic() < deadline, f"there are not {count} nodes"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("node") / "log"
    with (
        running("node.cpu_capacity=2") as service,
        second_node(service, log),
        httpx.Client(base_url=service.url, timeout=120) as api,
    ):
        wait_for_nodes(api, 2)
        yield api


def submit_all(api: httpx.Client, bodies: list[dict]) -> list[dict]:
    """All at once."""
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as threads:
        answers = list(threads.map(lambda body: api.post("/v1/submissions", json=body), bodies))
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    return [answer.json() for answer in answers]


def test_submissions_of_a_problem_spread_and_agree(nodes):
    """The second node keeps 64 bytes of cases, so it asks for most of them again: nothing changes."""
    answer = nodes.post(
        "/v1/problems", content=packed(DIFFERENT), headers={"Content-Type": "application/zip"}
    )
    problem = answer.json()["id"]
    body = {"language": "cpp", "source": SOURCE, "problem": problem, "parallel": 1}
    results = submit_all(nodes, [body] * 8)
    assert {result["verdict"] for result in results} == {"AC"}
    assert len({result["node"] for result in results}) == 2
    # Compiled by whoever came first, on each node at most: what the compiler used tells them apart.
    compilers = {result["node"]: result["compile"] for result in results}
    assert len({str(result["compile"]) for result in results}) <= len(compilers)
    wrong = submit_all(
        nodes, [{**body, "source": SOURCE.replace("labs(a - b)", "labs(a + b)")}] * 4
    )
    assert {result["verdict"] for result in wrong} == {"WA"}


def test_what_one_node_compiled_the_other_runs(nodes):
    """One after the other first, so that it is in the store; then on both, without a compiler."""
    body = {"language": "c", "source": "int main(){return 0;}\n// here first", "cases": [{}]}
    [first] = submit_all(nodes, [body])
    slow = [{"input": "1"}] * 2
    spun = "#include <unistd.h>\nint main(){usleep(300000);return 0;}"
    [compiled] = submit_all(nodes, [{**body, "source": spun}])
    results = submit_all(nodes, [{**body, "source": spun, "cases": slow, "parallel": 1}] * 8)
    assert {result["verdict"] for result in [first, compiled, *results]} == {"AC"}
    assert len({result["node"] for result in results}) == 2
    # To the microsecond what the compiler used the first time: it did not run a second time.
    assert {str(result["compile"]) for result in results} == {str(compiled["compile"])}


def test_uploaded_cases_reach_both(nodes):
    digests = [
        nodes.post("/v1/files", content=data * 40).json()["digest"] for data in (b"1 2\n", b"5 9\n")
    ]
    cases = [{"input": {"digest": digest}} for digest in digests] * 2
    source = "import time\ntime.sleep(0.2)\nprint(len(open(0).read()))"
    body = {"language": "python", "source": source, "cases": cases, "outputs": "all", "parallel": 1}
    results = submit_all(nodes, [body] * 6)
    assert len({result["node"] for result in results}) == 2
    for result in results:
        assert [case["stdout"] for case in result["cases"]] == ["160\n"] * 4


def test_what_names_an_image_or_a_volume_stays_with_the_node_that_has_it(nodes):
    """Of as many runs at once, those that name nothing go to both."""
    told = nodes.post("/v1/images/import", params={"name": "box"}, content=archive([BUSYBOX]))
    assert '"done"' in told.text
    mount = {"name": "kept", "path": "/data"}
    assert nodes.post("/v1/volumes", json={"name": "kept", "size": 8 << 20}).status_code == 201
    command = ["/bin/busybox", "sh", "-c", "busybox sleep 0.2; busybox ls -d /data"]
    plain = {"template": "default", "command": ["/bin/sh", "-c", "sleep 0.2; ls -d /data"]}
    for body, where, out in (
        (plain, 2, ""),
        ({"image": "box", "command": [*command[:3], "busybox sleep 0.2"]}, 1, ""),
        ({"image": "box", "command": command, "volumes": [mount]}, 1, "/data\n"),
        ({**plain, "volumes": [mount]}, 1, "/data\n"),
    ):
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            results = list(
                threads.map(lambda _, b=body: nodes.post("/v1/runs", json=b).json(), range(8))
            )
        assert {result["stdout"] for result in results} == {out}, results
        assert len({result["node"] for result in results}) == where
