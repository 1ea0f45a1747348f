"""Where volumes and data may be mounted. Pure."""

from collections.abc import Sequence

from sandboxd.errors import InvalidRequest
from sandboxd.model.mounts import DataMount, VolumeMount


def check_mounts(volumes: Sequence[VolumeMount], data: Sequence[DataMount]) -> None:
    """What is mounted hides what is below it, and /work itself is the program's own. Raises
    InvalidRequest."""
    taken: list[str] = []
    wanted: dict[str, Sequence[VolumeMount | DataMount]] = {"volumes": volumes, "data": data}
    for field, mounts in wanted.items():
        for index, mount in enumerate(mounts):
            name = f"{field}.{index}.path"
            if mount.path == "/work" or "/.." in mount.path or "/./" in mount.path + "/":
                raise InvalidRequest("is no place for a mount", field=name)
            for other in taken:
                if _hides(mount.path, other) or _hides(other, mount.path):
                    raise InvalidRequest(f"{mount.path} and {other} hide each other", field=name)
            taken.append(mount.path)


def _hides(path: str, other: str) -> bool:
    return f"{other}/".startswith(f"{path}/")
