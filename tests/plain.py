"""What programs that are not ours are started with."""

import os


def environment() -> dict[str, str]:
    """This process' own, but for the runtime of `make sanitize`, beside which several do not start:
    Debian's curl waits for itself for ever, rustup's proxies crash. The core is in none of them."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
