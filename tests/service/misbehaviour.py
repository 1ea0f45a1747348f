"""Small bodies of `POST /v1/runs` that misbehave cheaply, and the status that each ends with.

None needs a compiler and none takes long: they are run by the thousand.
"""

import random
from collections.abc import Iterator
from typing import Any

MiB = 1 << 20

Body = dict[str, Any]


def _shell(script: str, **request: Any) -> Body:
    return {"template": "default", "command": ["sh", "-c", script], **request}


BODIES: tuple[tuple[Body, str], ...] = (
    (_shell("echo fine"), "ok"),
    (_shell("cat", stdin="x" * 100_000), "ok"),
    (_shell("exit 3"), "nonzero_exit"),
    (_shell("no-such-command"), "nonzero_exit"),
    (_shell("kill -SEGV $$"), "signalled"),
    (_shell("kill -KILL $$"), "signalled"),
    (_shell("kill -SYS $$"), "security_violation"),
    (_shell("sleep 60 & sleep 60 & setsid sleep 60 & echo left"), "ok"),
    (_shell("sleep 60", limits={"wall_time": 0.05}), "wall_time_exceeded"),
    (_shell("kill -STOP $$", limits={"wall_time": 0.05}), "wall_time_exceeded"),
    (_shell("while :; do :; done", limits={"cpu_time": 0.05}), "cpu_time_exceeded"),
    (_shell("yes", limits={"output": 1000}), "output_exceeded"),
    (_shell("yes >&2", limits={"output": 1000}), "output_exceeded"),
    (
        _shell("head -c 2M /dev/zero > file", limits={"disk": MiB}),
        "disk_exceeded",
    ),
    (
        _shell("head -c 64M /dev/zero > /tmp/file", limits={"memory": 16 * MiB}),
        "memory_exceeded",
    ),
    (_shell("mkfifo a; ln -s /etc/passwd b", collect=["a", "b", "c"]), "ok"),
    (_shell("echo x > out", collect=["out"], files={"in/a": {"text": "b"}}), "ok"),
    (_shell("exec 0<&- 1>&- 2>&-; exit 0"), "ok"),
)


def mixed(count: int, seed: int) -> Iterator[tuple[Body, str]]:
    """`count` of them in a random order that the seed repeats."""
    order = random.Random(seed)
    return (order.choice(BODIES) for _ in range(count))
