"""Two jobs: none learns a bit of the other, beside it or after it."""

from tests.attack.judging import Channel

_BESIDE = {
    "abstract": "abstract sockets",
    "named": "sockets in /tmp",
    "tmp": "files in /tmp",
    "work": "files in /work",
    "shm_directory": "files in /dev/shm",
    "sysv_shm": "System V shared memory",
    "sysv_queue": "System V queues",
    "sysv_semaphore": "System V semaphores",
    "posix_queue": "POSIX queues",
    "keyring": "keyrings",
    "whole_file_lock": "flock on a file that both can read",
    "record_lock": "record locks on a file that both can read",
    "lease": "leases on a file that both can read",
    "watch": "inotify on a file that both can read",
    "watch_directory": "inotify on a directory that both can read",
    "directory_notify": "dnotify on a directory that both can read",
    "shared_futex": "futexes in a file that both can map",
    "tcp": "TCP ports on loopback",
    "udp": "UDP ports on loopback",
    "process": "processes in /proc",
    "host_name": "host names",
    "netlink_group": "addresses of netlink",
}
_AFTER = (
    "named", "tmp", "work", "shm_directory", "var_tmp", "sysv_shm", "sysv_queue", "sysv_semaphore",
    "posix_queue", "keyring", "host_name",
)  # fmt: skip
_OPEN = {
    "shared_futex": "a futex is found by the page, and pages of the image are shared: two who agree on "
    "a file of it can wake one another"
}

CASES = (
    *(
        Channel(name, f"nothing passes by {what}", open_because=_OPEN.get(name, ""))
        for name, what in _BESIDE.items()
    ),
    *(
        Channel(name, f"nothing is left in {name.replace('_', ' ')}", used_up=True)
        for name in _AFTER
    ),
)
