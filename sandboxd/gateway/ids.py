"""Names and times of runs, submissions and problems."""

import base64
import re
import secrets
from datetime import UTC, datetime

RUN_ID = r"^run_[a-z2-7]{26}$"
_RUN_ID = re.compile(r"run_[a-z2-7]{26}")


SUBMISSION_ID = r"^sub_[a-z2-7]{26}$"
_SUBMISSION_ID = re.compile(r"sub_[a-z2-7]{26}")
PROBLEM_ID = r"^prob_[a-z2-7]{26}$"
_PROBLEM_ID = re.compile(r"prob_[a-z2-7]{26}")


def new_run_id() -> str:
    """An unguessable id: `run_` and 130 random bits in lower-case base32."""
    return "run_" + _random()


def new_submission_id() -> str:
    return "sub_" + _random()


def new_problem_id() -> str:
    return "prob_" + _random()


def is_submission_id(text: str) -> bool:
    return _SUBMISSION_ID.fullmatch(text) is not None


def is_problem_id(text: str) -> bool:
    return _PROBLEM_ID.fullmatch(text) is not None


def _random() -> str:
    return base64.b32encode(secrets.token_bytes(17))[:26].decode().lower()


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
