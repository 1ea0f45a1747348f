"""Judge0's statistics: how many submissions a tenant has made, by day and language."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.ids import timestamp
from sandboxd.queue.store import Store

_TOTAL, _DAY, _LANGUAGE = "judge0:total", "judge0:day:", "judge0:language:"
_DAYS = 30


class Counts:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def submitted(self, tenant: str, language_id: int) -> None:
        day = _today().isoformat()
        await self._store.count(tenant, _TOTAL, _DAY + day, f"{_LANGUAGE}{language_id}")

    async def statistics(self, tenant: str) -> dict[str, Any]:
        """Judge0's document; days that have left it are forgotten."""
        counts, today = await self._store.counts(tenant), _today()
        first = (today - timedelta(days=_DAYS - 1)).isoformat()
        days = {name[len(_DAY) :]: n for name, n in counts.items() if name.startswith(_DAY)}
        await self._store.forget_counts(tenant, [_DAY + day for day in days if day < first])
        languages = {
            int(name[len(_LANGUAGE) :]): n
            for name, n in counts.items()
            if name.startswith(_LANGUAGE)
        }
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
                for number, n in sorted(languages.items(), key=lambda each: (-each[1], each[0]))
            ],
            "statuses": [],
            "database": {"size_pretty": "0 bytes", "size_in_bytes": 0},
        }


def _today() -> date:
    return datetime.now(UTC).date()
