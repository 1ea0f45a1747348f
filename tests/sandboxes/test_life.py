"""From creation to end, as clients see it."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandboxes.conftest import WAIT, Box, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]


def until(box: Box, state: str) -> Any:
    deadline = time.monotonic() + WAIT
    while (found := box.ok("GET"))["state"] != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_a_new_sandbox_says_what_it_is(ann: Tenant) -> None:
    answer = ann.http.post("/v1/sandboxes", json={"metadata": {"job": "7"}, "timeout": 60})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/sandboxes/{made['id']}"
    assert (made["state"], made["metadata"], made["timeout"]) == ("running", {"job": "7"}, 60)
    assert {"userns", "seccomp", "cgroup_memory"} <= set(made["isolation"])
    assert all(made["limits"].values())
    assert ann.http.get(f"/v1/sandboxes/{made['id']}").json() == made
    ann.box(made["id"]).kill()


def test_a_repeated_request_gets_the_first_ones_sandbox(ann: Tenant, bob: Tenant) -> None:
    key = {"Idempotency-Key": "once"}

    def create(who: Tenant) -> httpx.Response:
        return who.http.post("/v1/sandboxes", json={}, headers=key)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(create, [ann] * 4))
    (name,) = {answer.json()["id"] for answer in answers}
    box = ann.box(name)
    box.kill()
    assert create(ann).json()["state"] == "ended", "a repetition never makes a second one"
    other = create(bob)
    assert other.status_code == 201 and other.json()["id"] != name
    bob.box(other.json()["id"]).kill()


def test_get_or_create_by_key(ann: Tenant, bob: Tenant) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: ann.create(key="notebook"), range(4)))
    assert len({box.id for box in made}) == 1
    foreign = bob.create(key="notebook")
    assert foreign.id != made[0].id
    foreign.kill()
    made[0].kill()
    later = ann.create(key="notebook")
    assert later.id != made[0].id, "the key is free when its sandbox has ended"
    later.kill()


def test_a_list_filters_and_pages(ann: Tenant) -> None:
    boxes = [ann.create(metadata={"suite": "list", "n": str(n)}) for n in range(3)]

    def page(**query: str) -> Any:
        return ann.http.get("/v1/sandboxes", params={"metadata.suite": "list", **query}).json()

    assert [each["id"] for each in page()["sandboxes"]] == [box.id for box in reversed(boxes)]
    first = page(limit="2")
    second = page(limit="2", cursor=first["next_cursor"])
    assert [e["id"] for e in first["sandboxes"] + second["sandboxes"]] == [
        box.id for box in reversed(boxes)
    ]
    (one,) = page(**{"metadata.n": "1"})["sandboxes"]
    assert one["id"] == boxes[1].id
    boxes[0].kill()
    assert [e["id"] for e in page(state="ended")["sandboxes"]] == [boxes[0].id]
    for box in boxes:
        box.kill()


def test_an_end_says_why_and_when(fresh: Box) -> None:
    ended = fresh.ok("DELETE")
    assert (ended["state"], ended["end"]["reason"]) == ("ended", "killed")
    assert fresh.ok("GET") == fresh.ok("DELETE") == ended
    answer = fresh.ask("POST", "/exec", json={"command": ["true"]})
    assert answer.status_code == 410 and "killed" in answer.json()["detail"]
    assert ended["end"]["at"] in answer.json()["detail"]


def test_time_to_live_idle_time_and_fate(ann: Tenant) -> None:
    short, idle, kept = (
        ann.create(timeout=1.0),
        ann.create(idle_timeout=1.0),
        ann.create(timeout=1.0, on_timeout="pause"),
    )
    longer = ann.create(timeout=1.0)
    assert longer.ok("POST", "/extend", json={"timeout": 300})["timeout"] == 300
    assert until(short, "ended")["end"]["reason"] == "timeout"
    assert until(idle, "ended")["end"]["reason"] == "idle_timeout"
    until(kept, "paused")
    assert kept.sh("echo awake") == "awake\n", "a request that needs it wakes it"
    assert longer.ok("GET")["state"] == "running"
    kept.kill()
    longer.kill()


def test_limits_change_while_it_lives(fresh: Box) -> None:
    found = fresh.ok("PATCH", json={"limits": {"memory": 96 << 20}, "metadata": {"a": "b"}})
    assert (found["limits"]["memory"], found["metadata"]) == (96 << 20, {"a": "b"})
    assert fresh.ok("GET", "/metrics")["memory_limit"] == 96 << 20
    process = fresh.run("python3", "-c", "x = bytearray(200 << 20)")["process"]
    assert process["signal"] == "SIGKILL"
    assert fresh.ok("GET", "/metrics")["oom_kills"] > 0


def test_a_limit_on_processes_changes_while_it_lives(fresh: Box) -> None:
    crowd = (
        "from subprocess import Popen\nfound = []\n"
        "try:\n while len(found) < 20: found.append(Popen(['sleep', '9']))\n"
        "except OSError: pass\nprint(len(found))\nfor each in found: each.kill(); each.wait()"
    )

    def gathered() -> int:
        return int(fresh.run("python3", "-c", crowd)["stdout"])

    assert gathered() == 20
    fresh.ok("PATCH", json={"limits": {"pids": 12}})
    assert 10 <= gathered() <= 14, "what of our own is not there leaves its room"
    assert fresh.ok("GET", "/metrics")["pids_limit"] == 12
    fresh.ok("PATCH", json={"limits": {"pids": 64}})
    assert gathered() == 20


def test_a_limit_on_cores_changes_while_it_lives(fresh: Box) -> None:
    def quotas() -> set[str]:
        """Of all the service's groups, as the kernel has them: microseconds of a tenth of a second."""
        mine = f"sandboxd-{fresh.tenant.service.instance}"
        v1 = Path("/sys/fs/cgroup").glob(f"cpu*/{mine}/*/cpu.cfs_quota_us")
        v2 = Path("/sys/fs/cgroup").glob(f"{mine}/*/cpu.max")
        return {file.read_text().split()[0] for file in {*v1, *v2}}

    fresh.ok("PATCH", json={"limits": {"cpus": 0.1}})
    assert "10000" in quotas()
    spin = "import time\nend = time.monotonic() + 1.2\nwhile time.monotonic() < end: pass"
    held = fresh.run("python3", "-c", spin)["process"]
    assert held["cpu_time"] < 0.4, "a tenth of a core for a second or so, and the start"
    assert fresh.ok("PATCH", json={"limits": {"cpus": 0.7}})["limits"]["cpus"] == 0.7
    assert "70000" in quotas() and "10000" not in quotas()


def test_limits_on_disk_and_descriptors_change_while_it_lives(fresh: Box) -> None:
    fresh.put("some", bytes(6 << 20))
    answer = fresh.ask("PATCH", json={"limits": {"disk": 4 << 20}})
    assert (answer.status_code, answer.json()["field"]) == (409, "limits.disk"), "it is in use"
    fresh.ok("PATCH", json={"limits": {"disk": 8 << 20, "open_files": 64}})
    assert fresh.ask("PUT", "/files/content?path=more", content=bytes(6 << 20)).status_code == 507
    assert fresh.sh("ulimit -n") == "64\n"
    fresh.ok("PATCH", json={"limits": {"disk": 32 << 20}})
    fresh.put("more", bytes(6 << 20))
    assert fresh.ok("GET", "/metrics")["disk_limit"] == 32 << 20


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limits": {"memory": 1 << 40}}, "limits.memory"),
        ({"limits": {"cpus": 1000}}, "limits.cpus"),
        ({"timeout": 30 * 86_400}, "timeout"),
        ({"template": "default"}, "template"),
        ({"template": "nothing"}, "template"),
        ({"network": "everything"}, "network"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"env": {"A": "\0"}}, "env.A"),
        ({"on_timeout": "explode"}, "on_timeout"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(
    ann: Tenant, body: dict[str, Any], field: str
) -> None:
    answer = ann.http.post("/v1/sandboxes", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field


def test_events_tell_its_life_in_order(fresh: Box) -> None:
    fresh.ok("POST", "/pause")
    fresh.ok("POST", "/resume")
    fresh.kill()
    with fresh.tenant.http.stream(
        "GET", f"{fresh.path}/events", headers={"Accept": "application/x-ndjson"}
    ) as answer:
        events = [json.loads(line) for line in answer.iter_lines() if line]
    assert [each["type"] for each in events] == ["created", "paused", "resumed", "ended"]
    assert events[-1]["data"]["reason"] == "killed"
    rest = fresh.ask("GET", "/events", headers={"Last-Event-ID": events[1]["id"]}).text
    assert rest.count("event: ") == 2 and "event: resumed" in rest


def test_children_have_the_files_of_one_instant(fresh: Box) -> None:
    fresh.put("seed", b"42")
    made = fresh.ok("POST", "/fork", json={"count": 2})["sandboxes"]
    children = [fresh.tenant.box(each["id"]) for each in made]
    assert [each["forked_from"] for each in made] == [fresh.id, fresh.id]
    children[0].put("seed", b"43")
    assert [box.get("seed").content for box in (fresh, *children)] == [b"42", b"43", b"42"]
    for child in children:
        child.kill()


def test_a_snapshot_is_an_image_of_the_tenant_alone(fresh: Box, ann: Tenant, bob: Tenant) -> None:
    fresh.put("seed", b"42")
    image = fresh.ok("POST", "/snapshot", json={"name": "seeded"})["image"]
    again = ann.create(image=image)
    assert again.get("seed").content == b"42"
    again.kill()
    refused = bob.http.post("/v1/sandboxes", json={"image": image})
    assert refused.status_code in (404, 422), refused.text
    assert refused.json()["code"] == "unknown_image"


def test_what_it_has_used_is_remembered_for_a_while(fresh: Box) -> None:
    def history(**query: str) -> Any:
        return fresh.ok("GET", "/metrics/history", params=query)

    fresh.sh("head -c 9000000 /dev/zero > zeros; i=0; while [ $i -lt 99999 ]; do i=$((i+1)); done")
    deadline = time.monotonic() + WAIT
    while len(found := history()["samples"]) < 3 or found[-1]["disk"] < 9_000_000:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert history()["interval"] == 0.5
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)
    first, last = found[0], found[-1]
    assert last["cpu_time"] > first["cpu_time"] or last["cpu_time"] > 0.05
    assert last["memory"] >= last["disk"], "the disk is a tmpfs"
    later = history(after=found[1]["at"])["samples"]
    assert later[0] == found[2]
    assert fresh.code("GET", "/metrics/history?after=yesterday") == "invalid_request"

    fresh.ok("POST", "/pause")
    count = len(history()["samples"])
    time.sleep(1.2)
    assert len(history()["samples"]) == count, "a paused sandbox uses nothing"
    assert fresh.ok("GET")["state"] == "paused", "nor is it woken by being looked at"


def test_metrics_are_streamed(box: Box) -> None:
    with box.tenant.http.stream(
        "GET", f"{box.path}/metrics/stream?interval=1", headers={"Accept": "application/x-ndjson"}
    ) as answer:
        lines = answer.iter_lines()
        first, second = (json.loads(next(lines)) for _ in range(2))
    assert first["type"] == "metrics" and 0 < first["memory"] <= first["memory_limit"]
    assert second["at"] > first["at"]
