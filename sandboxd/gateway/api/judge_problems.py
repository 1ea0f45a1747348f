"""`/v1/problems` and `/v1/files`: what submissions refer to instead of sending it each time.

A problem comes as a package (`application/zip`, the ICPC/Kattis format) or as JSON with its cases inline.
"""

import asyncio

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import InvalidRequest, NotFound, UnsupportedMediaType
from sandboxd.gateway.bodies import Budget, decode, read_bytes, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import is_problem_id, new_problem_id, timestamp
from sandboxd.gateway.judging import admit_submission
from sandboxd.judge import package
from sandboxd.judge.archive import PackageError, Rules, from_zip
from sandboxd.model.problem import JudgeProblem, ProblemInfo, ProblemList, StoredFile
from sandboxd.model.submission import Case, CaseData, Content, SubmissionRequest
from sandboxd.queue.store import digest

_JSON, _ZIP = "application/json", ("application/zip", "application/x-zip-compressed")
_BODIES = 4
_PAGE, _PAGE_MAX = 50, 200
_CURSOR_MAX = 1_000_000


class Problems:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.settings.judge
        self._decoder = msgspec.json.Decoder(JudgeProblem)
        self._budget = Budget(_BODIES * self._limits.package_max)

    async def create(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        settings = self._gateway.settings.gateway
        with self._budget.share() as share:
            if kind in _ZIP:
                body = await read_bytes(
                    request, share, self._limits.package_max, settings.body_timeout
                )
                problem, data = await asyncio.to_thread(self._unpack, body)
            elif kind == _JSON:
                body = await read_json(request, share, settings.max_body, settings.body_timeout)
                problem, data = await asyncio.to_thread(self._separate, decode(self._decoder, body))
            else:
                raise UnsupportedMediaType("send application/zip or application/json")
            tenant = request.scope["tenant"]
            problem = _referring(replace(problem, created_at=timestamp()), new_problem_id())
            await asyncio.to_thread(self._check, problem)
            await self._gateway.store.keep_problem(tenant, problem, data)
        return _json(_info(problem), 201, {"location": f"/v1/problems/{problem.id}"})

    def _unpack(self, body: bytes) -> tuple[JudgeProblem, dict[str, bytes]]:
        limits = self._limits
        try:
            tree = from_zip(body, Rules(total=limits.problem_max, file=limits.file_max))
            found = package.load(tree)
        except PackageError as error:
            raise InvalidRequest(str(error)) from None
        return found.problem, found.data

    def _separate(self, problem: JudgeProblem) -> tuple[JudgeProblem, dict[str, bytes]]:
        """Inline content becomes data under its digest."""
        data: dict[str, bytes] = {}

        def stored(content: Content | None, field: str) -> Content | None:
            if content is None:
                return None
            if isinstance(content, CaseData) and content.digest is not None:
                raise InvalidRequest("a problem has its data with it", field=field)
            try:
                found = content.encode() if isinstance(content, str) else content.data()
            except ValueError as error:  # UnicodeEncodeError is one
                raise InvalidRequest(str(error), field=field) from None
            if len(found) > self._limits.file_max:
                raise InvalidRequest(f"more than {self._limits.file_max} bytes", field=field)
            data[digest(found)] = found
            return CaseData(digest=digest(found))

        cases = [
            replace(
                case,
                input=stored(case.input, f"cases.{index}.input") or "",
                answer=stored(case.answer, f"cases.{index}.answer"),
            )
            for index, case in enumerate(problem.cases)
        ]
        size = sum(map(len, data.values()))
        return replace(problem, cases=cases, size=size, format="cases"), data

    def _check(self, problem: JudgeProblem) -> None:
        """Whether a submission could be judged by it. Raises InvalidRequest."""
        some_language = next(iter(self._gateway.policies.languages.values()))
        admit_submission(
            SubmissionRequest(language=some_language.name, source=""), problem,
            self._gateway.policies, self._limits,
            room=[], tenant="", submission_id="", created_at="",
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        query = request.query_params
        count = _number(query.get("limit", str(_PAGE)), "limit", _PAGE_MAX)
        first = _number(query.get("cursor", "0"), "cursor", _CURSOR_MAX)
        found = await self._gateway.store.problems(request.scope["tenant"], first, count + 1)
        more = str(first + count) if len(found) > count else None
        body = ProblemList(problems=[_info(each) for each in found[:count]], cursor=more)
        return _json(body)

    async def read(self, request: Request) -> Response:
        return _json(_info(await self._owned(request)))

    async def delete(self, request: Request) -> Response:
        problem = await self._owned(request)
        await self._gateway.store.drop_problem(request.scope["tenant"], problem.id)
        return Response(status_code=204)

    async def keep_file(self, request: Request) -> Response:
        """Any type is taken: the bytes are the file."""
        timeout = self._gateway.settings.gateway.body_timeout
        with self._budget.share() as share:
            data = await read_bytes(request, share, self._limits.file_max, timeout)
            name = await self._gateway.store.keep_file(request.scope["tenant"], data)
        return _json(StoredFile(digest=name, size=len(data)), 201)

    async def _owned(self, request: Request) -> JudgeProblem:
        problem_id: str = request.path_params["id"]
        found = None
        if is_problem_id(problem_id):
            found = await self._gateway.store.problem(request.scope["tenant"], problem_id)
        if found is None:
            raise NotFound("there is no such problem")
        return found


def _referring(problem: JudgeProblem, problem_id: str) -> JudgeProblem:
    """The problem under its id, its cases' data belonging to it."""

    def owned(content: Content | None) -> Content | None:
        return replace(content, problem=problem_id) if isinstance(content, CaseData) else content

    def referring(case: Case) -> Case:
        return replace(case, input=owned(case.input) or "", answer=owned(case.answer))

    return replace(problem, id=problem_id, cases=[referring(case) for case in problem.cases])


def _info(problem: JudgeProblem) -> ProblemInfo:
    kind = problem.checker.__struct_config__.tag
    return ProblemInfo(
        id=problem.id,
        title=problem.title,
        format=problem.format,
        cases=len(problem.cases),
        groups=problem.groups,
        checker=str(kind),
        interactive=problem.interactor is not None,
        limits=problem.limits,
        stop_on_failure=problem.stop_on_failure,
        size=problem.size,
        created_at=problem.created_at,
    )


def _number(text: str, field: str, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) > most:
        raise InvalidRequest(f"give a number up to {most}", field=field)
    return int(text)


def _json(
    body: ProblemInfo | ProblemList | StoredFile,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(msgspec.json.encode(body), status, headers, _JSON)
