"""How things of the operator's are called."""

from typing import Annotated

from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+_.-]{0,63}\Z")]
