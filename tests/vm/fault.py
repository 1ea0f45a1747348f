"""What can go wrong with the lane itself, as opposed to the command that runs in it."""


class LaneFault(Exception):
    """The machine could not be built, did not boot, or ended without an exit code."""


class LaneTimeout(LaneFault):
    """The command did not end in its time; the machine was killed."""
