"""How much longer everything takes here than on a common machine: deadlines are multiplied by it."""

import os

PATIENCE = 10.0 if "VM_LANE" in os.environ else 1.0
"""An emulated machine is ten to twenty times slower, and its tests wait for less."""
