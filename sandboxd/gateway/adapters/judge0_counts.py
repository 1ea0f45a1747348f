"""Judge0's statistics: the submissions of a tenant, by day, by language and by how they ended."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.ids import timestamp
from sandboxd.queue.store import Store

_TOTAL, _DAY, _LANGUAGE = "judge0:total", "judge0:day:", "judge0:language:"
_STATUS = "judge0:status:"
_DAYS = 30


class Counts:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def submitted(self, tenant: str, language_id: int) -> None:
        day = _today().isoformat()
        await self._store.count(tenant, _TOTAL, _DAY + day, f"{_LANGUAGE}{language_id}")

    async def ended(self, tenant: str, status: int) -> None:
        await self._store.count(tenant, f"{_STATUS}{status}")

    async def statistics(self, tenant: str) -> dict[str, Any]:
        """Judge0's document; days that have left it are forgotten."""
        counts, today = await self._store.counts(tenant), _today()
        first = (today - timedelta(days=_DAYS - 1)).isoformat()
        days = {name[len(_DAY) :]: n for name, n in counts.items() if name.startswith(_DAY)}
        await self._store.forget_counts(tenant, [_DAY + day for day in days if day < first])
        now = timestamp()
        return {
            "created_at": now,
            "cached_until": now,
            "submissions": {
                "total": counts.get(_TOTAL, 0),
                "today": days.get(today.isoformat(), 0),
                "last_30_days": {day: n for day, n in sorted(days.items()) if day >= first},
            },
            "languages": [
                {"language": {"id": number, "name": tables.NAMES.get(number, "")}, "count": n}
                for number, n in _by_number(counts, _LANGUAGE)
            ],
            "statuses": [
                {"status": {"id": number, "name": tables.STATUSES.get(number, "")}, "count": n}
                for number, n in _by_number(counts, _STATUS)
            ],
            "database": {"size_pretty": "0 bytes", "size_in_bytes": 0},
        }


def _by_number(counts: dict[str, int], prefix: str) -> list[tuple[int, int]]:
    """What is counted by ids, the most frequent first."""
    found = [(int(name[len(prefix) :]), n) for name, n in counts.items() if name.startswith(prefix)]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _today() -> date:
    return datetime.now(UTC).date()
