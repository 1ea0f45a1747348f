"""How tables of operations are written."""

from sandboxd.errors import Conflict, NotFound
from sandboxd.gateway.operations import BODY, GUARDED, JSON, Operations
from sandboxd.model import Result, RunRequest

things = Operations(errors=(*GUARDED, NotFound), with_body=BODY)


def test_a_path_names_its_parameters_by_key() -> None:
    read = things("GET /v1/things/{id:thing}/{part}", "read", "Read", Result, parameters=("wait",))
    assert (read.method, read.path) == ("get", "/v1/things/{id}/{part}")
    assert read.parameters == ("thing", "part", "wait")


def test_what_takes_a_body_fails_in_its_ways_too() -> None:
    assert things("GET /x", "a", "A", Result, Conflict).errors == (*GUARDED, NotFound, Conflict)
    assert things("POST /x", "b", "B", Result, Conflict, request=RunRequest).errors == (
        *BODY,
        Conflict,
    )
    assert things("PUT /x", "c", "C", also=("text/plain",)).errors == BODY


def test_an_answer_has_a_body_where_it_has_a_schema_or_a_type() -> None:
    assert things("GET /x", "a", "A", {200: Result, 202: Result}).answers == {
        200: (JSON, Result),
        202: (JSON, Result),
    }
    assert things("DELETE /x", "b", "B", status=204).answers == {204: ("", None)}
    assert things("GET /x", "c", "C", media="text/plain").answers == {200: ("text/plain", None)}
