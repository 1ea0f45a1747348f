"""Root of a session may become any uid of its range, init's own among them: that gives it nothing of
init."""

import pytest

from tests.native.box import Workshop
from tests.native.test_root import LAST, ROOTED, python

pytestmark = pytest.mark.root

PROBE = """
import errno, os, signal
os.setgroups([])
os.setresgid(UID, UID, UID)
os.setresuid(UID, UID, UID)
own = os.fork()
if own == 0:
    signal.pause()
def attempt(name, function, *args):
    try:
        function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
for pid in (1, own):
    print(
        attempt("priority", os.setpriority, os.PRIO_PROCESS, pid, 19),
        attempt("affinity", os.sched_setaffinity, pid, os.sched_getaffinity(0)),
        attempt("scheduler", os.sched_setscheduler, pid, os.SCHED_BATCH, os.sched_param(0)),
        attempt("descriptors", os.listdir, f"/proc/{pid}/fd"),
        attempt("status", open, f"/proc/{pid}/status"),
    )
for number in range(1, 65):
    if number not in (32, 33):
        os.kill(1, number)  # allowed, and heard by nobody: it is the first of its namespace
os.kill(own, 9)
"""


def test_root_with_the_uid_of_init_has_no_hold_on_it(workshop: Workshop) -> None:
    with workshop.sandbox(**ROOTED) as native:
        for number, uid in enumerate((0, LAST), 5):
            of_init, of_its_own = python(
                native, number, PROBE.replace("UID", str(uid))
            ).splitlines()
            assert of_init == "EPERM EPERM EPERM ENOENT ENOENT", uid
            assert of_its_own.startswith("done done done "), uid
        assert python(native, 9, "print('init serves as before')") == "init serves as before\n"
