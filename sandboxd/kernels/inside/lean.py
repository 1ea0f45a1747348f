"""IPython without what only a terminal needs of it: prompt_toolkit and Jedi are half of what it imports.

Whoever asks for them by name later gets them: nothing of this stays but `IPython.embed`.
"""

import sys
import types

_TERMINAL = "IPython.terminal.embed"


def embed(*arguments, **named):
    """`IPython.embed`, which IPython's package takes from its terminal as it is imported."""
    from IPython.terminal.embed import embed

    return embed(*arguments, **named)


stub = types.ModuleType(_TERMINAL)
stub.embed = embed
sys.modules[_TERMINAL] = stub
sys.modules["jedi"] = None  # as if it were not installed: completion goes without
try:
    import IPython.core.completer
    import IPython.core.interactiveshell  # noqa: F401
finally:
    del sys.modules[_TERMINAL], sys.modules["jedi"]
