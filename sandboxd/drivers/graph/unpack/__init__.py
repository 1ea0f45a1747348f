"""Unpacks the archives of layers; `parent` is its face to the rest, everything else runs in the child."""
