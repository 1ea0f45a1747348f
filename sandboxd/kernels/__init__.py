"""Interpreters that keep their state: the programs that run inside a sandbox, and what they say.

`inside/` has the programs; they are sent to a plain interpreter of the image over its stdin, so that
an image needs nothing of ours and a sandbox can change nothing of it for another. `protocol` has the
documents that go over stdin and stdout from then on. Both gateway and node use this package; neither
trusts what a kernel says.
"""
