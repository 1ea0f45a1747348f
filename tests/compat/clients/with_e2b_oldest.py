"""An `e2b` client of a year ago, which asks by older routes and says other things by default."""

import os
import sys
import time
from importlib.metadata import version

from e2b import CommandExitException, NotFoundException, Sandbox, SandboxQuery
from table import Table

say = Table(f"e2b {version('e2b')}, blocking")


def main() -> int:
    say.area = "an older client"
    box = say("Sandbox.create", lambda: Sandbox.create(timeout=60, metadata={"old": "yes"}))
    run, files = box.commands.run, box.files
    say("commands.run", lambda: run("echo hi; pwd").stdout, "hi\n/home/user\n")
    say.raises("commands.run exit 3", lambda: run("exit 3"), CommandExitException)
    reader = say("commands.run background", lambda: run("cat", background=True, stdin=True))
    say("commands.send_stdin", lambda: box.commands.send_stdin(reader.pid, "one\n"))
    say("commands.list", box.commands.list, lambda x: [p.pid for p in x] == [reader.pid])
    say("commands.kill", lambda: box.commands.kill(reader.pid), True)
    say("files.write", lambda: files.write("a.txt", "old").path, "/home/user/a.txt")
    say("files.read", lambda: files.read("a.txt"), "old")
    say("files.list", lambda: [entry.name for entry in files.list(".")], ["a.txt"])
    say("files.make_dir", lambda: (files.make_dir("d"), files.make_dir("d")), (True, False))
    say("files.exists", lambda: files.exists("none"), False)
    say.raises("files.read missing", lambda: files.read("none"), NotFoundException)
    watch = say("files.watch_dir", lambda: files.watch_dir("d"))
    files.write("d/x", "1")
    time.sleep(0.5)
    say("watch.get_new_events", watch.get_new_events, lambda x: x[0].name == "x")
    say("watch.stop", watch.stop)
    mine = SandboxQuery(metadata={"old": "yes"})
    say(
        "Sandbox.list",
        lambda: [i.sandbox_id for i in Sandbox.list(query=mine).next_items()],
        [box.sandbox_id],
    )
    say("get_info", lambda: box.get_info().metadata, {"old": "yes"})
    say("set_timeout", lambda: box.set_timeout(90))
    say("beta_pause", box.beta_pause)
    say("Sandbox.connect", lambda: Sandbox.connect(box.sandbox_id).files.read("a.txt"), "old")
    say("is_running", box.is_running, True)
    say("kill", box.kill, True)
    say("is_running killed", box.is_running, False)
    return say.finish(os.environ.get("COMPAT_TABLE"))


if __name__ == "__main__":
    sys.exit(main())
