"""`filesystem.Filesystem`: directories and what is in them, and changes as they happen."""

import posixpath
from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.errors import InvalidRequest, PathExists, PathNotFound, RequestError, WrongFileType
from sandboxd.gateway.adapters.e2b import paths
from sandboxd.gateway.adapters.e2b.changes import changes
from sandboxd.gateway.adapters.e2b.rpc import Call, Method, ServerStream, Unary
from sandboxd.gateway.adapters.e2b.watchers import Watchers
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.line import decoded
from sandboxd.model import agent
from sandboxd.model.session import FileInfo, FileList, FileType

_LONG = 600.0
"""Seconds for what a large tree may take."""
_PAGE, _ENTRIES_MAX = 10_000, 100_000
_ALIVE: dict[str, Any] = {"keepalive": {}}


class Path(Struct, frozen=True):
    path: str = ""


class Move(Struct, frozen=True):
    source: str = ""
    destination: str = ""


class ListDir(Struct, frozen=True):
    path: str = ""
    depth: int = 1


class Watch(Struct, frozen=True, rename="camel"):
    path: str = ""
    recursive: bool = False
    include_entry: bool = False
    allow_network_mounts: bool = False


class Watcher(Struct, frozen=True, rename="camel"):
    watcher_id: str = ""


class Filesystem:
    def __init__(self, gateway: Gateway) -> None:
        self._sandboxes = gateway.sandboxes
        self._watchers = Watchers(gateway.sandboxes)

    def methods(self) -> dict[str, Method]:
        service = "/filesystem.Filesystem"
        return {
            f"{service}/Stat": Unary(Path, self.stat),
            f"{service}/MakeDir": Unary(Path, self.make_dir),
            f"{service}/Move": Unary(Move, self.move),
            f"{service}/ListDir": Unary(ListDir, self.list_dir),
            f"{service}/Remove": Unary(Path, self.remove),
            f"{service}/WatchDir": ServerStream(Watch, self.watch_dir, _ALIVE),
            f"{service}/CreateWatcher": Unary(Watch, self.create_watcher),
            f"{service}/GetWatcherEvents": Unary(Watcher, self.watcher_events),
            f"{service}/RemoveWatcher": Unary(Watcher, self.remove_watcher),
        }

    async def stat(self, call: Call, wanted: Path) -> dict[str, Any]:
        return {"entry": await self._entry(call, await self._stat(call, wanted.path))}

    async def make_dir(self, call: Call, wanted: Path) -> dict[str, Any]:
        """With its parents. Raises PathExists for one that is there."""
        try:
            there = await self._stat(call, wanted.path, follow=True)
        except PathNotFound:
            path = paths.encoded(wanted.path, call.user)
            make = agent.MakeDirectory(
                tenant=call.tenant, sandbox=call.sandbox, root=call.root, path=path
            )
            made = await self._sandboxes.ask(make, FileInfo)
            return {"entry": await self._entry(call, made)}
        if there.type is FileType.DIRECTORY:
            raise PathExists(f"directory already exists: {there.path}")
        raise InvalidRequest(f"path already exists, and is no directory: {there.path}")

    async def move(self, call: Call, wanted: Move) -> dict[str, Any]:
        """Directories that are missing on the way to the new place are made."""
        source, target = (
            paths.encoded(path, call.user) for path in (wanted.source, wanted.destination)
        )
        move = agent.Move(
            tenant=call.tenant, sandbox=call.sandbox, root=call.root, source=source, target=target
        )
        try:
            await self._sandboxes.ask(move, FileInfo)
        except PathNotFound:
            await self._stat(call, wanted.source)
            parents = agent.MakeDirectory(
                tenant=call.tenant,
                sandbox=call.sandbox,
                root=call.root,
                path=posixpath.dirname(target),
            )
            await self._sandboxes.ask(parents, FileInfo)
            await self._sandboxes.ask(move, FileInfo)
        return {"entry": await self._entry(call, await self._stat(call, wanted.destination))}

    async def list_dir(self, call: Call, wanted: ListDir) -> dict[str, Any]:
        there = await self._stat(call, wanted.path, follow=True)
        if there.type is not FileType.DIRECTORY:
            raise WrongFileType(f"path is not a directory: {there.path}")
        request = agent.ListFiles(
            attributes=True, tenant=call.tenant, sandbox=call.sandbox, root=call.root,
            path=paths.encoded(wanted.path, call.user),
            depth=min(max(wanted.depth, 1), 64), limit=_PAGE,
        )  # fmt: skip
        entries: list[Any] = []
        while True:
            page = await self._sandboxes.ask(request, FileList, _LONG)
            entries += [await self._entry(call, info) for info in page.entries]
            if page.next_cursor is None:
                return {"entries": entries}
            if len(entries) >= _ENTRIES_MAX:
                raise InvalidRequest(f"the directory has more than {_ENTRIES_MAX} entries")
            request = replace(request, cursor=page.next_cursor)

    async def remove(self, call: Call, wanted: Path) -> dict[str, Any]:
        """All of it; what is not there need not be removed."""
        path = paths.encoded(wanted.path, call.user)
        remove = agent.Remove(
            tenant=call.tenant, sandbox=call.sandbox, root=call.root, path=path, recursive=True
        )
        try:
            await self._sandboxes.ask(remove, agent.Removed, _LONG)
        except PathNotFound:
            return {}
        return {}

    async def watch_dir(self, call: Call, wanted: Watch) -> AsyncIterator[object]:
        watch = await self._watch(call, wanted)
        async with self._sandboxes.open(watch) as (line, first):
            decoded(first[1], agent.Watching)
            yield {"start": {}}
            while True:
                _, payload = await line.next()
                found = decoded(payload, agent.Changes)
                for event in changes(found.events, watch.path):
                    yield {"filesystem": await self._told(call, event, wanted.include_entry)}

    async def create_watcher(self, call: Call, wanted: Watch) -> dict[str, Any]:
        watch = await self._watch(call, wanted)
        name = await self._watchers.create(watch, include_entry=wanted.include_entry)
        return {"watcherId": name}

    async def watcher_events(self, call: Call, wanted: Watcher) -> dict[str, Any]:
        """Since they were asked for last."""
        events, include_entry = self._watchers.take(call.tenant, call.sandbox, wanted.watcher_id)
        return {"events": [await self._told(call, event, include_entry) for event in events]}

    async def remove_watcher(self, call: Call, wanted: Watcher) -> dict[str, Any]:
        await self._watchers.remove(call.tenant, call.sandbox, wanted.watcher_id)
        return {}

    async def _watch(self, call: Call, wanted: Watch) -> agent.Watch:
        """Raises PathNotFound, WrongFileType."""
        there = await self._stat(call, wanted.path, follow=True)
        if there.type is not FileType.DIRECTORY:
            raise WrongFileType(f"path is not a directory: {there.path}")
        return agent.Watch(
            tenant=call.tenant, sandbox=call.sandbox, root=call.root,
            path=paths.encoded(wanted.path, call.user),
            recursive=wanted.recursive,
        )  # fmt: skip

    async def _told(self, call: Call, event: dict[str, Any], include_entry: bool) -> dict[str, Any]:
        """With what is there now, where that is wanted and something is."""
        path = event["path"]
        told = {"name": event["name"], "type": event["type"]}
        if include_entry:
            try:
                told["entry"] = await self._entry(call, await self._stat(call, path))
            except RequestError:
                return told
        return told

    async def _stat(self, call: Call, path: str, *, follow: bool = False) -> FileInfo:
        """Raises PathNotFound, in words that name the path."""
        stat = agent.Stat(
            attributes=True,
            tenant=call.tenant,
            sandbox=call.sandbox,
            root=call.root,
            path=paths.encoded(path, call.user),
            follow=follow,
        )
        try:
            return await self._sandboxes.ask(stat, FileInfo)
        except PathNotFound:
            raise PathNotFound(f"path not found: {paths.absolute(path, call.user)}") from None

    async def _entry(self, call: Call, info: FileInfo) -> dict[str, Any]:
        target = None
        if info.type is FileType.SYMLINK:
            try:
                target = await self._stat(call, info.path, follow=True)
            except RequestError:
                target = None  # it leads nowhere
        return paths.entry(info, target)
