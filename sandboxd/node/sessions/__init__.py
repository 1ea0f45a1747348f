"""Sandboxes that live: the node's part of sessions.

`registry` has them all, `session` is one, `process` is one command in it, `files` its file service,
`server` speaks the protocol of `model/agent.py`. What is decided is apart and pure: `lifetime`, `ring`.
"""
