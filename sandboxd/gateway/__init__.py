"""The gateway: takes requests from strangers, unprivileged, and knows only Redis and the agents.

`main` is the process. `app` puts `api/` (the handlers) behind `middleware/` (what surrounds them);
`admission` decides, `replies` and `waiting` bring results back, `problems` says what went wrong.
`server`, `connection`, `websocket` and `stall` bound what a client can cost.
"""
