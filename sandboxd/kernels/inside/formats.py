"""Results in many formats: from MIME types to the names that events have for them."""

from sandboxd_kernel.wire import bounded

FORMATS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "application/vnd.sandboxd.data": "data",
    "application/vnd.sandboxd.chart": "chart",
}
"""Formats with a name of their own; others are in `extra`."""


def result(formats, main):
    """The event of a value, by MIME type; `main`: it is the last expression's."""
    named = set(FORMATS.values())
    ours = sorted(formats, key=lambda kind: kind not in FORMATS)  # these first, if there is no room
    kept, dropped = bounded({FORMATS.get(kind, kind): formats[kind] for kind in ours})
    return {
        "type": "result",
        "main": main,
        **{name: value for name, value in kept.items() if name in named},
        "extra": {name: value for name, value in kept.items() if name not in named},
        "truncated": dropped,
    }
