"""Submissions to a whole service of this test session."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.service.instance import Service

Judge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def api(service: Service) -> httpx.Client:
    with httpx.Client(base_url=service.url, timeout=90) as client:
        yield client


@pytest.fixture(scope="session")
def judge(api: httpx.Client) -> Judge:
    """The result of a submission, whose fields are given."""

    def submit(**fields: Any) -> dict[str, Any]:
        answer = api.post("/v1/submissions", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return submit
