"""A line to a Jupyter kernel: its sockets are files in a directory of the context's own.

Messages are made, signed and checked by the image's `jupyter_client`.
"""

import os
import time

READY = 50.0
"""Seconds for a kernel to answer for the first time."""
_SUBSCRIBED = 0.2
"""Seconds after which one that has answered is asked again: its broadcasts were not heard yet."""


class Line:
    """Of one kernel, which is started with `connection_file`; it may be there later than this."""

    def __init__(self, place):
        import zmq
        from jupyter_client.connect import write_connection_file
        from jupyter_client.session import Session

        key = os.urandom(32).hex().encode()
        self.connection_file, there = write_connection_file(
            os.path.join(place, "connection.json"), transport="ipc",
            ip=os.path.join(place, "kernel"), key=key,
        )  # fmt: skip
        self._session = Session(key=key, signature_scheme=there["signature_scheme"])
        self._poller, context = zmq.Poller(), zmq.Context()

        def connected(kind, port):
            socket = context.socket(kind)
            socket.linger = 0
            if kind == zmq.DEALER:
                socket.identity = self._session.bsession
            else:
                socket.subscribe(b"")
            socket.connect(f"ipc://{there['ip']}-{there[port]}")
            return socket

        self._shell = connected(zmq.DEALER, "shell_port")
        self._control = connected(zmq.DEALER, "control_port")
        self._questions = connected(zmq.DEALER, "stdin_port")
        self._broadcasts = connected(zmq.SUB, "iopub_port")
        self._poller.register(self._shell, zmq.POLLIN)
        self._poller.register(self._broadcasts, zmq.POLLIN)
        self._poller.register(self._questions, zmq.POLLIN)

    def begin(self):
        """Until it answers and its broadcasts arrive. False: it was not ready in time."""
        late = time.monotonic() + READY
        while (left := late - time.monotonic()) > 0:
            asked, answered, wait = self.ask("kernel_info_request", {}), False, left
            while (heard := self.hear(wait)) is not None:
                broadcast, message = heard
                answered |= not broadcast and message["parent_header"].get("msg_id") == asked
                if broadcast and answered:
                    return True
                wait = _SUBSCRIBED if answered else max(0.0, late - time.monotonic())
        return False

    def ask(self, kind, content):
        """Send a request; its id."""
        return self._session.send(self._shell, kind, content)["header"]["msg_id"]

    def interrupt(self):
        """For kernels that want a message, from any one thread."""
        self._session.send(self._control, "interrupt_request", {})

    def hear(self, wait):
        """Whether it is a broadcast, and the next message. None: none came in so many seconds."""
        while ready := dict(self._poller.poll(None if wait is None else wait * 1000)):
            if self._questions in ready:
                # It was told not to ask, and waits nevertheless, as IRkernel does.
                self._received(self._questions)
                self._session.send(self._questions, "input_reply", {"value": ""})
                continue
            broadcast = self._broadcasts in ready
            return broadcast, self._received(self._broadcasts if broadcast else self._shell)
        return None

    def _received(self, socket):
        _, parts = self._session.feed_identities(socket.recv_multipart())
        return self._session.deserialize(parts)
