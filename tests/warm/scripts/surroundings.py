"""What a program finds around itself: variables, limits, descriptors, places, clocks, locale."""

from tests.warm.script import ADDRESS, s

SCRIPTS = [
    s("environ", "import os; print(dict(os.environ), list(os.environ))"),
    s("environ-bytes", "import os; print(dict(os.environb))"),
    s(
        "environ-own",
        "import os; print(dict(os.environ))",
        env={"A": "1", "EMPTY": "", "U": "é\U0001f600", "X_": "=x=\n", "lower": "2", "_": "/bin/x"},
    ),
    s(
        "environ-override",
        "import os; print(dict(os.environ))",
        env={"PATH": "/bin", "USER": "me", "TMPDIR": "/work"},
    ),
    s(
        "environ-many",
        "import os; print(len(os.environ), os.environ['V99'][:3])",
        env={f"V{n}": str(n) * 1000 for n in range(100)},
    ),
    s("environ-posix", "import os, posix; print(posix.environ is os.environ._data, posix.environ)"),
    s(
        "environ-libc",
        """
import ctypes
libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p
print([libc.getenv(n) for n in (b"PATH", b"HOME", b"PYTHONPATH", b"PYTHONDONTWRITEBYTECODE", b"A")])
environ, n = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ"), 0
while environ[n]: print(environ[n]); n += 1
""",
        env={"A": "1"},
    ),
    s(
        "environ-change",
        "import os; os.environ['X'] = '1'; del os.environ['HOME']; os.system('env | sort')",
    ),
    s("cwd", "import os; print(os.getcwd(), os.listdir(), os.path.realpath('.'))"),
    s(
        "cwd-files",
        "import os; print(sorted(os.walk('.')))",
        files={"a/b/c.txt": "", "d": "x", "ü/é": ""},
    ),
    s(
        "files-mode",
        "import os; print([(oct(os.stat(p).st_mode), os.stat(p).st_uid, os.stat(p).st_nlink) "
        "for p in ('.', 'a', 'a/b', 'main.py')])",
        files={"a/b": "x"},
    ),
    s(
        "files-root",
        "import os; print([(p, oct(os.stat(p).st_mode)) for p in ('/tmp', '/work', '/dev/shm')])",
    ),
    s(
        "umask",
        "import os; m = os.umask(0); print(oct(m)); open('x', 'w'); print(oct(os.stat('x').st_mode))",
    ),
    s(
        "home",
        "import os; print(os.path.expanduser('~'), os.path.expandvars('$USER'))",
    ),
    s("tempdir", "import tempfile; print(tempfile.gettempdir(), tempfile.gettempprefix())"),
    s(
        "rlimits",
        "import resource as r; print({n: r.getrlimit(getattr(r, n)) for n in dir(r) "
        "if n.startswith('RLIMIT')})",
    ),
    s("nice", "import os; print(os.nice(0), os.sched_getscheduler(0), os.cpu_count() > 0)"),
    s("affinity", "import os; print(os.sched_getaffinity(0))"),
    s("oom-score", "print(open('/proc/self/oom_score_adj').read())"),
    s(
        "fds",
        "import os\nfor fd in range(256):\n    try: os.fstat(fd)\n    except OSError: continue\n"
        "    print(fd, os.get_inheritable(fd))",
    ),
    s("fds-listed", "import os; print(os.listdir('/proc/self/fd'))"),
    s("fds-next", "import os; print(os.open('/dev/null', 0), os.pipe(), os.dup(0))"),
    s(
        "fds-sockets",
        "import os; print([os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(3)])",
    ),
    s(
        "fds-limit",
        "import os\ntry:\n    while True: n = os.dup(0)\nexcept OSError as e: print(n, e)",
    ),
    s("cmdline", "print(open('/proc/self/cmdline').read(), open('/proc/self/comm').read())"),
    s(
        "exe",
        "import os; print(os.readlink('/proc/self/exe'), os.readlink('/proc/self/cwd'))",
        normal=((r"^(/usr)?/bin/python", "/usr/bin/python"),),
        why="it is of the zygote's mounts, which go with it",
    ),
    s("proc-others", "import os; print(sorted(p for p in os.listdir('/proc') if p.isdigit()))"),
    s("proc-task", "import os; print(os.listdir('/proc/self/task'))"),
    s(
        "uname",
        "import platform; print(platform.node(), platform.python_implementation(), platform.machine())",
    ),
    s(
        "locale",
        "import locale; print(locale.getlocale(), locale.setlocale(locale.LC_ALL), "
        "locale.getpreferredencoding(), locale.getencoding(), locale.localeconv())",
    ),
    s(
        "locale-set",
        "import locale; print(locale.setlocale(locale.LC_ALL, ''), locale.strxfrm('é'))",
    ),
    s("locale-raw", "import _locale; print([_locale.setlocale(n) for n in range(7)])"),
    s(
        "encodings",
        "import sys; print(sys.getdefaultencoding(), sys.getfilesystemencoding(), "
        "sys.getfilesystemencodeerrors())",
    ),
    s("encoding-open", "print(open('x', 'w').encoding, open('x').errors, open('x').newlines)"),
    s(
        "encoding-fs",
        "import os; open(b'\\xff\\xfe', 'w'); print(ascii(os.listdir()), os.fsencode('\\udcff'))",
    ),
    s(
        "codecs",
        "import codecs; print(codecs.lookup('utf8'), codecs.lookup('latin-1').name, "
        "codecs.lookup_error('strict').__name__)",
        normal=(ADDRESS,),
        why="shown with its address",
    ),
    s(
        "time-zone",
        "import time; print(time.tzname, time.timezone, time.daylight, time.localtime(0))",
    ),
    s(
        "time-set",
        "import os, time; os.environ['TZ'] = 'EST5EDT'; time.tzset(); print(time.tzname)",
    ),
    s(
        "time-now",
        "import time; print(time.time() > 1.7e9, time.monotonic() > 0, time.get_clock_info('time'))",
    ),
    s(
        "time-process",
        "import time; print(0 < time.process_time() < 2, 0 < time.thread_time() < 2)",
    ),
    s(
        "time-datetime",
        "import datetime as d; print(d.datetime.fromtimestamp(0), d.datetime.now().tzinfo)",
    ),
    s(
        "gc",
        "import gc; print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage, gc.callbacks, "
        "gc.get_freeze_count())",
    ),
    s("gc-collections", "import gc; print([g['uncollectable'] for g in gc.get_stats()])"),
    s(
        "gc-cycle",
        "import gc\nclass A: pass\na = A(); a.a = a; del a; gc.collect(); print(gc.collect())",
    ),
    s("tracemalloc", "import tracemalloc; print(tracemalloc.is_tracing())"),
    s(
        "malloc",
        "import sys; print(sys._debugmallocstats is not None, sys.getallocatedblocks() > 1000)",
    ),
    s(
        "mounts",
        "print([l.split()[4] for l in open('/proc/self/mountinfo') if '/opt/sandboxd' not in l])",
    ),
    s("stack-address-space", "import resource; print(resource.getrlimit(resource.RLIMIT_AS))"),
    s(
        "context",
        "import contextvars, decimal; print(len(contextvars.copy_context()), decimal.getcontext())",
    ),
]
