"""What becomes of a request that no server inside has answered."""

from sandboxd.errors import RequestError


class NobodyListens(RequestError):
    code, status, title = "port_closed", 502, "Nobody listens on this port of the sandbox"


class BadAnswer(RequestError):
    code, status, title = "bad_answer", 502, "The server in the sandbox gave no valid answer"


class NoAnswer(RequestError):
    code, status, title = "no_answer", 504, "The server in the sandbox did not answer in time"
