"""Judge0's numbers and words: languages, statuses, limits, fields. Pure."""

from typing import Any

from msgspec import Struct

from sandboxd.model import LimitOverrides, Result, Status
from sandboxd.policy import Policies
from sandboxd.settings import Settings

VERSION = "1.13.1"
BATCH_MAX = 20
RUNS_MAX = 20
CALLBACK_TRIES, CALLBACK_TIMEOUT = 3, 5.0
BATCH_TOO_LARGE = f"number of submissions in a batch should be less than or equal to {BATCH_MAX}"
NOT_TEXT = (
    "some attributes for this submission cannot be converted to UTF-8, "
    "use base64_encoded=true query parameter"
)
IN_QUEUE, PROCESSING, ACCEPTED, WRONG_ANSWER = 1, 2, 3, 4
STATUSES = {
    1: "In Queue", 2: "Processing", 3: "Accepted", 4: "Wrong Answer", 5: "Time Limit Exceeded",
    6: "Compilation Error", 7: "Runtime Error (SIGSEGV)", 8: "Runtime Error (SIGXFSZ)",
    9: "Runtime Error (SIGFPE)", 10: "Runtime Error (SIGABRT)", 11: "Runtime Error (NZEC)",
    12: "Runtime Error (Other)", 13: "Internal Error", 14: "Exec Format Error",
}  # fmt: skip
SIGNALS = {"SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8, "SIGKILL": 9, "SIGSEGV": 11, "SIGPIPE": 13,
           "SIGTERM": 15, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 31}  # fmt: skip
_OF_SIGNAL = {"SIGSEGV": 7, "SIGXFSZ": 8, "SIGFPE": 9, "SIGABRT": 10}
_OF_STATUS = {
    Status.CPU_TIME_EXCEEDED: 5,
    Status.WALL_TIME_EXCEEDED: 5,
    Status.COMPILE_ERROR: 6,
    Status.OUTPUT_EXCEEDED: 8,
    Status.DISK_EXCEEDED: 8,
    Status.NONZERO_EXIT: 11,
    Status.MEMORY_EXCEEDED: 12,
    Status.SECURITY_VIOLATION: 12,
    Status.CANCELLED: 13,
    Status.INTERNAL_ERROR: 13,
}
_MESSAGES = {
    Status.CPU_TIME_EXCEEDED: "Time limit exceeded",
    Status.WALL_TIME_EXCEEDED: "Time limit exceeded (wall clock)",
    Status.MEMORY_EXCEEDED: "Memory limit exceeded",
    Status.OUTPUT_EXCEEDED: "Output limit exceeded",
    Status.DISK_EXCEEDED: "Disk limit exceeded",
    Status.SECURITY_VIOLATION: "Caught fatal signal 31",
    Status.INTERNAL_ERROR: "Internal error",
}
NAMES = {
    43: "Plain Text", 44: "Executable", 45: "Assembly (NASM 2.14.02)", 46: "Bash (5.0.0)",
    47: "Basic (FBC 1.07.1)", 48: "C (GCC 7.4.0)", 49: "C (GCC 8.3.0)", 50: "C (GCC 9.2.0)",
    51: "C# (Mono 6.6.0.161)", 52: "C++ (GCC 7.4.0)", 53: "C++ (GCC 8.3.0)", 54: "C++ (GCC 9.2.0)",
    55: "Common Lisp (SBCL 2.0.0)", 56: "D (DMD 2.089.1)", 57: "Elixir (1.9.4)",
    58: "Erlang (OTP 22.2)", 59: "Fortran (GFortran 9.2.0)", 60: "Go (1.13.5)",
    61: "Haskell (GHC 8.8.1)", 62: "Java (OpenJDK 13.0.1)", 63: "JavaScript (Node.js 12.14.0)",
    64: "Lua (5.3.5)", 65: "OCaml (4.09.0)", 66: "Octave (5.1.0)", 67: "Pascal (FPC 3.0.4)",
    68: "PHP (7.4.1)", 69: "Prolog (GNU Prolog 1.4.5)", 70: "Python (2.7.17)",
    71: "Python (3.8.1)", 72: "Ruby (2.7.0)", 73: "Rust (1.40.0)", 74: "TypeScript (3.7.4)",
    75: "C (Clang 7.0.1)", 76: "C++ (Clang 7.0.1)", 77: "COBOL (GnuCOBOL 2.2)",
    78: "Kotlin (1.3.70)", 79: "Objective-C (Clang 7.0.1)", 80: "R (4.0.0)", 81: "Scala (2.13.2)",
    82: "SQL (SQLite 3.27.2)", 83: "Swift (5.2.3)", 84: "Visual Basic.Net (vbnc 0.0.0.5943)",
    85: "Perl (5.28.1)", 86: "Clojure (1.10.1)", 87: "F# (.NET Core SDK 3.1.202)",
    88: "Groovy (3.0.3)", 89: "Multi-file program",
}  # fmt: skip
MULTI_FILE = 89
"""A program that is all in its additional files."""
_OURS = {
    46: "bash", 48: "c", 49: "c", 50: "c", 52: "cpp", 53: "cpp", 54: "cpp", 60: "go", 62: "java",
    63: "node", 64: "lua", 68: "php", 71: "python", 72: "ruby", 73: "rust", 85: "perl",
    MULTI_FILE: "multi-file",
}  # fmt: skip


class Special(Struct, frozen=True):
    """What is no language: the file that the source is, and what is done with it."""

    source: str
    command: tuple[str, ...]


SPECIAL = {
    43: Special("text.txt", ("/bin/cat", "text.txt")),
    44: Special("a.out", ("./a.out",)),
}
_DEFAULT_FIELDS = (
    "stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status",
)  # fmt: skip
_LIMIT_FIELDS: dict[str, float] = {
    "cpu_time_limit": 5.0,
    "cpu_extra_time": 1.0,
    "wall_time_limit": 10.0,
    "memory_limit": 128_000,
    "stack_limit": 64_000,
    "max_processes_and_or_threads": 60,
    "enable_per_process_and_thread_time_limit": False,
    "enable_per_process_and_thread_memory_limit": False,
    "max_file_size": 1_024,
}
_ALL_FIELDS = (
    "source_code", "language_id", "stdin", "expected_output", "stdout", "status_id", "created_at",
    "finished_at", "time", "memory", "stderr", "token", "number_of_runs", *_LIMIT_FIELDS,
    "redirect_stderr_to_stdout", "compile_output", "exit_code", "exit_signal", "message",
    "wall_time", "compiler_options", "command_line_arguments", "callback_url", "additional_files",
    "enable_network", "status", "language",
)  # fmt: skip
_BY_NAME = ("started_at", "queued_at", "updated_at", "queue_host", "execution_host")
"""Fields that `*` leaves out: the official SDK fails on a field that it does not know."""


class UnknownFields(ValueError):
    """Names in `fields` that no submission has."""


def fields(given: str | None) -> tuple[str, ...]:
    """Raises UnknownFields."""
    if given is None or not given.strip():
        return _DEFAULT_FIELDS
    names = [name.strip() for name in given.split(",")]
    if "*" in names:
        return _ALL_FIELDS
    unknown = [name for name in names if name not in (*_ALL_FIELDS, *_BY_NAME)]
    if unknown:
        raise UnknownFields(", ".join(unknown))
    return tuple(dict.fromkeys(names))


def language_name(policies: Policies, language_id: int) -> str | None:
    name = _OURS.get(language_id)
    return name if name in policies.languages else None


def is_known(policies: Policies, language_id: int) -> bool:
    return language_id in SPECIAL or language_name(policies, language_id) is not None


def languages(policies: Policies, offered: set[str]) -> list[dict[str, Any]]:
    """What is installed, under Judge0's ids; the names say what is really there."""
    special = [{"id": number, "name": NAMES[number]} for number in SPECIAL]
    return special + [
        {"id": number, "name": policies.languages[name].title}
        for number, name in _OURS.items()
        if name in offered and name in policies.languages
    ]


def all_languages(policies: Policies, offered: set[str]) -> list[dict[str, Any]]:
    here = {each["id"]: each for each in languages(policies, offered)}
    return [
        {**here.get(number, {"id": number, "name": name}), "is_archived": number not in here}
        for number, name in NAMES.items()
    ]


def language(policies: Policies, offered: set[str], number: int) -> dict[str, Any] | None:
    found = next((x for x in all_languages(policies, offered) if x["id"] == number), None)
    if found is not None and number in SPECIAL:
        special = SPECIAL[number]
        words = " ".join(special.command)
        return {**found, "source_file": special.source, "compile_cmd": None, "run_cmd": words}
    ours = policies.languages.get(_OURS.get(number, ""))
    if found is None or ours is None:
        return found
    compiler = " ".join(ours.compile.command) if ours.compile is not None else None
    return {
        **found,
        "source_file": ours.source,
        "compile_cmd": compiler,
        "run_cmd": " ".join(ours.run),
    }


def failure(result: Result) -> int:
    if result.status is Status.SIGNALLED:
        return _OF_SIGNAL.get(result.signal or "", 12)
    return _OF_STATUS[result.status]


def message(result: Result) -> str:
    if result.status is Status.NONZERO_EXIT:
        return f"Exited with error status {result.exit_code}"
    if result.status is Status.SIGNALLED:
        return f"Caught fatal signal {SIGNALS.get(result.signal or '', 0)}"
    return _MESSAGES.get(result.status, "")


def bounds(policies: Policies) -> dict[str, tuple[float, float]]:
    """Least and most of each limit, in Judge0's units."""
    most = policies.limits.maximum
    return {
        "cpu_time_limit": (0, most.cpu_time),
        "cpu_extra_time": (0, most.cpu_time),
        "wall_time_limit": (1, most.wall_time),
        "memory_limit": (2_048, most.memory // 1024),
        "stack_limit": (0, most.stack // 1024),
        "max_processes_and_or_threads": (1, most.pids),
        "max_file_size": (0, most.disk // 1024),
    }


def limits(given: dict[str, float], own: LimitOverrides) -> LimitOverrides:
    """`own` is what the language's runtime needs where the client is silent."""
    values = {**_LIMIT_FIELDS, **given}
    memory = int(values["memory_limit"]) * 1024
    pids = int(values["max_processes_and_or_threads"])
    if "memory_limit" not in given:
        memory = max(memory, own.memory or 0)
    if "max_processes_and_or_threads" not in given:
        pids = max(pids, own.pids or 0)
    return LimitOverrides(
        cpu_time=values["cpu_time_limit"] or None,
        wall_time=values["wall_time_limit"],
        memory=memory,
        pids=pids,
        stack=max(int(values["stack_limit"]) * 1024, 65_536),
    )


def asked_limits(given: dict[str, float]) -> dict[str, Any]:
    whole = ("memory_limit", "stack_limit", "max_processes_and_or_threads", "max_file_size")
    values = {**_LIMIT_FIELDS, **given}
    return {
        name: int(value) if name in whole else f"{value}" if name.endswith(("limit", "time"))
        and isinstance(value, float) else value
        for name, value in values.items()
    }  # fmt: skip


def config(policies: Policies, settings: Settings) -> dict[str, Any]:
    most = policies.limits.maximum
    return {
        "maintenance_mode": False,
        "enable_wait_result": True,
        "enable_compiler_options": True,
        "allowed_languages_for_compile_options": [],
        "enable_command_line_arguments": True,
        "enable_submission_delete": True,
        "enable_callbacks": True,
        "callbacks_max_tries": CALLBACK_TRIES,
        "callbacks_timeout": CALLBACK_TIMEOUT,
        "enable_additional_files": True,
        "max_queue_size": settings.queue.max_length,
        **_LIMIT_FIELDS,
        "max_cpu_time_limit": most.cpu_time,
        "max_cpu_extra_time": most.cpu_time,
        "max_wall_time_limit": most.wall_time,
        "max_memory_limit": most.memory // 1024,
        "max_stack_limit": most.stack // 1024,
        "max_max_processes_and_or_threads": most.pids,
        "allow_enable_per_process_and_thread_time_limit": False,
        "allow_enable_per_process_and_thread_memory_limit": False,
        "max_max_file_size": most.disk // 1024,
        "number_of_runs": 1,
        "max_number_of_runs": RUNS_MAX,
        "redirect_stderr_to_stdout": False,
        "max_extract_size": 10_240,
        "enable_batched_submissions": True,
        "max_submission_batch_size": BATCH_MAX,
        "submission_cache_duration": 1.0,
        "use_docs_as_homepage": False,
        "allow_enable_network": False,
        "enable_network": False,
    }


def is_text(value: Any) -> bool:
    """No surrogate in it, which stands for a byte that was not UTF-8."""
    if isinstance(value, dict):
        return all(is_text(each) for each in value.values())
    if isinstance(value, list):
        return all(is_text(each) for each in value)
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)
