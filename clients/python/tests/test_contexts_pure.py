"""What the client makes of a context's documents."""

from sandboxd_client import CodeError, CodeValue, Output
from sandboxd_client.context_core import Collector
from sandboxd_client.context_model import code_result_of


def test_documents_become_a_result_and_are_heard_as_they_come() -> None:
    heard: list[str] = []
    values: list[CodeValue] = []
    collector = Collector(heard.append, None, values.append)
    pieces = [
        collector.feed(document)
        for document in (
            {"type": "started", "execution_count": 4},
            {"type": "stdout", "text": "é"},
            {"type": "result", "main": True, "text": "1", "png": "iVA=", "later": "unknown"},
            {"type": "something new"},
            {"type": "exception", "name": "E", "value": "v", "traceback": "t"},
            {"type": "end", "status": "error"},
        )
    ]
    assert [piece for piece in pieces if piece is not None] == [
        Output("stdout", "é".encode()), values[0], CodeError(name="E", value="v", traceback="t"),
    ]  # fmt: skip
    assert (heard, values[0].png, values[0].formats) == (["é"], b"\x89P", ("text", "png"))
    result = collector.result()
    assert (result.status, result.stdout, result.text, result.execution_count) == (
        "error", "é", "1", 4,
    )  # fmt: skip
    assert collector.over and not result.ok and not result.truncated


def test_much_output_leaves_the_newest() -> None:
    collector = Collector(None, None, None)
    for _ in range(40):
        collector.feed({"type": "stdout", "text": "x" * 99_999 + "\n"})
    collector.feed({"type": "end", "status": "ok"})
    result = collector.result()
    assert result.truncated and len(result.stdout) <= 2 << 20 and result.stdout.endswith("x\n")


def test_what_a_newer_service_adds_is_no_error() -> None:
    result = code_result_of({"status": "ok", "new": 1, "results": [{"type": "result", "new": 2}]})
    assert result.ok and result.values[0].formats == () and result.text is None
