"""The guard: what reads the sandboxes' DNS questions and the first words of their connections.

It parses what strangers send, so it is a process of its own, under a user of its own, confined; it asks
the node to open what it has found to be allowed, and the node holds every request against the floor.
"""
