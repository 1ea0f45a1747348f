"""Load generators, and the bench that puts this service beside its peers.

`python -m loadtest bench` and `python -m loadtest run --scenario FILE`; not part of the wheel.
"""
