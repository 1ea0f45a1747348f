"""Every case of the matrix through the HTTP API of a real service.

All the chosen cases are in flight together, as far as the service admits them; each test then looks
at its own answer.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.matrix.case import Case
from tests.matrix.cases import CASES
from tests.matrix.compare import differences
from tests.patience import PATIENCE
from tests.service.instance import Service

ANSWER_WITHIN = 170.0 + 30.0 * PATIENCE
"""Seconds for the slowest compiler beside all the other cases, on a busy machine."""
AT_ONCE = 12

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(ANSWER_WITHIN + 40)]

Answers = dict[str, "Future[httpx.Response]"]


@pytest.fixture(scope="session")
def offered(service: Service) -> set[str]:
    """Names of the languages that the service can run."""
    listed = httpx.get(f"{service.url}/v1/languages", timeout=30).raise_for_status().json()
    return {language["name"] for language in listed["languages"] if language.get("available", True)}


@pytest.fixture(scope="session")
def answers(
    request: pytest.FixtureRequest, service: Service, offered: set[str]
) -> Iterator[Answers]:
    chosen = _chosen(request.session)
    with (
        httpx.Client(base_url=service.url, timeout=ANSWER_WITHIN) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        yield {
            case.id: pool.submit(client.post, "/v1/runs", json=case.request)
            for case in chosen
            if case.language is None or case.language in offered
        }
        pool.shutdown(cancel_futures=True)


def _chosen(session: pytest.Session) -> list[Case]:
    """The cases that this session will look at, in their order."""
    specs = [getattr(item, "callspec", None) for item in session.items]
    found = [spec.params.get("case") for spec in specs if spec is not None]
    return [case for case in found if isinstance(case, Case)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_program_ends_as_promised(case: Case, answers: Answers, offered: set[str]) -> None:
    if case.language is not None and case.language not in offered:
        pytest.skip(f"this machine offers no {case.language}")
    response = answers[case.id].result(ANSWER_WITHIN)
    answer: dict[str, Any] = response.json()
    assert response.status_code == 200, answer
    wrong = differences(case.expect, answer)
    assert not wrong, f"{case.promise}\n" + "\n".join(wrong) + f"\n{_brief(answer)}"
    assert answer["isolation"], "no layer of isolation is named"


def _brief(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without its bulk."""
    return {
        name: value[:2_000] if isinstance(value, str) else value
        for name, value in answer.items()
        if name != "files"
    }
