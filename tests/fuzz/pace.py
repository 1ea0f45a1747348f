"""How long to fuzz: moments in CI, FUZZ_SECONDS of each kind by `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

SECONDS = int(os.environ.get("FUZZ_SECONDS", "4"))

fuzzed = settings(
    deadline=None,
    max_examples=25 * SECONDS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""For tests that are fuzzed by number of examples."""
