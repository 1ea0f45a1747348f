"""Threads, processes and signals."""

from tests.warm.script import ADDRESS, s

FAILED = "nonzero_exit"

POOL = """
import multiprocessing as m

def square(n):
    return n * n

if __name__ == "__main__":
    m.set_start_method(%r)
    with m.Pool(2) as pool:
        print(pool.map(square, range(5)))
    queue = m.Queue()
    child = m.Process(target=queue.put, args=((__name__, m.current_process().name),))
    child.start(); print(queue.get()); child.join(); print(child.exitcode)
"""

SCRIPTS = [
    s(
        "thread",
        "import threading\nt = threading.Thread(target=print, args=('in',)); t.start(); t.join()",
    ),
    s(
        "thread-unjoined",
        """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("main ends")
""",
    ),
    s(
        "thread-daemon",
        """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("main ends")
""",
    ),
    s(
        "thread-names",
        """
import threading as t
m = t.main_thread()
print(m.name, m is t.current_thread(), m.daemon, t.active_count(), t.Thread().name)
print(m.ident == t.get_ident(), t.get_native_id(), m.native_id, t.stack_size())
""",
    ),
    s(
        "thread-raises",
        """
import threading
t = threading.Thread(target=lambda: 1/0, name="worker"); t.start(); t.join(); print("on")
""",
    ),
    s(
        "thread-exits",
        "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,)); t.start(); "
        "t.join(); print('on')",
    ),
    s(
        "thread-hook",
        """
import threading
threading.excepthook = lambda a: print("hook", a.exc_type, a.thread.name)
t = threading.Thread(target=lambda: 1/0); t.start(); t.join()
""",
    ),
    s(
        "thread-main-raises",
        """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.05), print("still runs"))).start()
1/0
""",
        status=FAILED,
    ),
    s(
        "thread-low-level",
        "import _thread; print(_thread._count(), _thread.allocate_lock().locked())",
    ),
    s("thread-local", "import threading\nx = threading.local(); x.a = 1; print(x.__dict__)"),
    s(
        "thread-interrupt-main",
        """
import _thread, threading, time
threading.Timer(0.05, _thread.interrupt_main).start()
try:
    while True: time.sleep(0.01)
except KeyboardInterrupt: print("interrupted")
""",
    ),
    s(
        "futures",
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool: print(list(pool.map(str.upper, "abc")))
""",
    ),
    s(
        "futures-process",
        """
from concurrent.futures import ProcessPoolExecutor
def f(n): return n + 1
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool: print(list(pool.map(f, range(4))))
""",
    ),
    s("multiprocessing-fork", POOL % "fork"),
    s("multiprocessing-spawn", POOL % "spawn", limits={"memory": 512 << 20}),
    s("multiprocessing-forkserver", POOL % "forkserver", limits={"memory": 512 << 20}),
    s(
        "multiprocessing-spawn-main",
        """
import multiprocessing as m, sys
def show():
    print(__name__, sys.argv, sys.path, sys.modules["__main__"].__name__, flush=True)
if __name__ == "__main__":
    p = m.get_context("spawn").Process(target=show); p.start(); p.join(); print(p.exitcode)
""",
        args=("one",),
    ),
    s(
        "multiprocessing-spawn-unguarded",
        """
import multiprocessing as m
p = m.get_context("spawn").Process(target=print); p.start(); p.join(); print(p.exitcode)
""",
        status="*",
    ),
    s(
        "multiprocessing-raises",
        """
import multiprocessing as m
def f(): raise ValueError("child")
p = m.Process(target=f, name="child"); p.start(); p.join(); print(p.exitcode)
""",
    ),
    s(
        "multiprocessing-shared",
        """
from multiprocessing import shared_memory
m = shared_memory.SharedMemory(create=True, size=10); m.buf[0] = 7; print(m.buf[0]); m.close(); m.unlink()
""",
        status="*",
        normal=((r"psm_[0-9a-f]+", "psm_NAME"),),
        why="the name of the segment is random",
    ),
    s(
        "subprocess-python",
        """
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "import sys; print(sys.argv, sys.path, sys.flags)"],
    capture_output=True, text=True))
""",
    ),
    s("subprocess-env", "import subprocess; print(subprocess.check_output(['env']).decode())"),
    s(
        "subprocess-shell",
        "import subprocess; print(subprocess.getstatusoutput('echo $HOME; exit 3'))",
    ),
    s(
        "subprocess-missing",
        "import subprocess; subprocess.run(['no-such-program'])",
        status=FAILED,
    ),
    s(
        "subprocess-fds",
        "import subprocess; subprocess.run(['ls', '/proc/self/fd'], close_fds=False)",
    ),
    s(
        "subprocess-pipe",
        "import subprocess; print(subprocess.run('cat', input=b'x' * 9, stdout=-1).stdout)",
    ),
    s(
        "subprocess-signal",
        "import subprocess; print(subprocess.run(['sh', '-c', 'kill -9 $$']).returncode)",
    ),
    s("os-system", "import os; print(os.system('echo from sh; exit 5'))"),
    s("os-popen", "import os; print(os.popen('cat main.py').read())"),
    s(
        "os-fork",
        """
import os
pid = os.fork()
if pid == 0:
    print("child", os.getppid(), flush=True); os._exit(4)
print(os.waitpid(pid, 0)[1] >> 8)
""",
    ),
    s(
        "os-fork-exit",
        "import os, sys\nif os.fork() == 0: sys.exit('child says')\nprint(os.wait()[1] >> 8)",
    ),
    s("os-exec", "import os; os.execvp('echo', ['echo', 'instead'])"),
    s(
        "os-exec-self",
        """
import os, sys
print(sys.argv, flush=True)
if len(sys.argv) < 3: os.execv(sys.executable, sys.orig_argv + ["again"])
""",
        args=("first",),
    ),
    s("os-spawn", "import os; print(os.spawnlp(os.P_WAIT, 'true', 'true'))"),
    s("pids", "import os; print(os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0))"),
    s("orphans", "import os, time\nif os.fork() == 0: time.sleep(50)\nprint('done')"),
    s(
        "ids",
        "import os; print(os.getuid(), os.geteuid(), os.getgid(), os.getgroups(), os.getresuid())",
    ),
    s(
        "signal-dispositions",
        "import signal\nfor n in signal.valid_signals():\n    print(n, signal.getsignal(n))",
        normal=(ADDRESS,),
        why="a handler is shown with its address",
    ),
    s(
        "signal-kernel",
        """
for line in open("/proc/self/status"):
    if line.startswith(("Sig", "Shd", "Cap", "NoNew", "Seccomp:", "Umask", "Threads", "State")):
        print(line, end="")
""",
    ),
    s(
        "signal-mask",
        "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), "
        "signal.sigpending(), signal.getitimer(0))",
    ),
    s(
        "signal-handler",
        """
import os, signal
signal.signal(signal.SIGUSR1, lambda n, f: print("handled", n, f.f_code.co_name))
os.kill(os.getpid(), signal.SIGUSR1)
""",
    ),
    s(
        "signal-alarm",
        """
import signal
def late(n, f): raise TimeoutError("alarm")
signal.signal(signal.SIGALRM, late); signal.setitimer(0, 0.05); signal.pause()
""",
        status=FAILED,
    ),
    s(
        "signal-alarm-default",
        "import signal; signal.setitimer(0, 0.05); signal.pause()",
        status="*",
    ),
    s("signal-wakeup", "import signal; print(signal.set_wakeup_fd(-1))"),
    s(
        "signal-int-ignored",
        "import os, signal; signal.signal(2, signal.SIG_IGN); os.kill(os.getpid(), 2); print('on')",
    ),
    s(
        "signal-child",
        """
import os, signal
signal.signal(signal.SIGCHLD, lambda *a: print("child ended"))
if os.fork() == 0: os._exit(0)
os.wait()
""",
    ),
    s(
        "signal-segfault-child",
        "import os\nif os.fork() == 0: os.kill(os.getpid(), 11)\nprint(os.wait()[1])",
    ),
    s(
        "socketpair",
        "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(9), a.fileno())",
    ),
    s(
        "loopback",
        """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    client = socket.create_connection(server.getsockname()); print(client.getpeername()[0])
""",
        status="*",
    ),
    s(
        "socket-module",
        "import socket; print(socket.getdefaulttimeout(), socket.socket.__mro__, "
        "socket.timeout, socket.CAPI)",
        normal=(ADDRESS,),
        why="the capsule's address",
    ),
    s(
        "thread-enumerate",
        "import threading; print(threading.enumerate())",
        normal=((r"started \d+", "started ID"),),
        why="a thread's identifier is an address",
    ),
]
