"""What must be different in every run, in two warm ones too."""

from tests.warm.script import Script, s


def _random(id: str, source: str, why: str) -> Script:
    return s(f"random-{id}", source, random=True, why=why)


def _shared(id: str, source: str, why: str) -> Script:
    return s(f"shared-{id}", source, shared=True, why=why)


SCRIPTS = [
    _shared(
        "hash", "print(hash('x'), hash(b'x'))", "strings are hashed with a secret of the process"
    ),
    _shared("set-order", "print({str(n) for n in range(40)})", "its order comes from hashes"),
    _shared(
        "hash-datetime",
        "import datetime; print(hash(datetime.date(2020, 1, 1)))",
        "hashed as bytes",
    ),
    _random("random", "import random; print(random.random())", "seeded by the system"),
    _random(
        "system", "import random; print(random.SystemRandom().random())", "drawn from the system"
    ),
    _random(
        "urandom", "import os; print(os.urandom(16), os.getrandom(16))", "drawn from the system"
    ),
    _random("uuid4", "import uuid; print(uuid.uuid4())", "drawn from the system"),
    _random("uuid1", "import uuid; print(uuid.uuid1())", "time and a random clock sequence"),
    _random("secrets", "import secrets; print(secrets.token_hex(16))", "drawn from the system"),
    _random("ssl", "import ssl; print(ssl.RAND_bytes(16))", "OpenSSL's generator"),
    _random("tempfile", "import tempfile; print(tempfile.mkdtemp())", "the name is random"),
    _random(
        "authkey",
        "import multiprocessing as m; print(bytes(m.current_process().authkey))",
        "a secret",
    ),
    _shared("address", "print(id(print), id(len))", "address-space layout"),
    _random(
        "arc4",
        "import ctypes; print(ctypes.CDLL(None).arc4random(), ctypes.CDLL(None).arc4random())",
        "the C library's generator",
    ),
    _random(
        "child-hash",
        "import os, subprocess, sys; print(subprocess.check_output("
        "[sys.executable, '-c', 'print(hash(\"x\"))']))",
        "a child has a secret of its own",
    ),
    _shared(
        "stack-canary",
        "print([l for l in open('/proc/self/auxv', 'rb').read().hex(' ', 8).split()][:60])",
        "the kernel gives other addresses, and other random bytes, at an exec",
    ),
    s(
        "seeded",
        "import random; random.seed(5); print(random.random(), random.choices('abc', k=5))",
    ),
    s("hash-int", "print(hash(1), hash(1.5), hash((1, 2)), hash(None) == hash(None))"),
]
