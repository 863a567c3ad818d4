"""Frames of JSON on a socket: bounded in length, numbered, and marked with the run's token.

A frame is the token (16 bytes), its number and its length (4 bytes each, the high byte first), and
the message as JSON. What bears another token or another number is no frame.
"""

import json
import socket
import struct
import time
from typing import Any

HEAD = struct.Struct(">16sII")
LONGEST = 2**20
"""Bytes of one message; 1 MiB."""


class WireError(ValueError):
    """What came over the wire is no frame that was to come."""


class Wire:
    """One end of the socket; both ends count the frames of each direction."""

    def __init__(self, end: socket.socket, token: bytes) -> None:
        self.end = end
        self.token = token
        self.sent = self.received = 0

    def send(self, message: Any, seconds: float | None = None) -> None:
        """Send a message; raises `TimeoutError` where the other end takes longer to read it.

        Raises `WireError` where it is too long for a frame.
        """
        body = json.dumps(message).encode()
        if len(body) > LONGEST:
            raise WireError(f"a message of {len(body)} bytes; at most {LONGEST} are sent")
        self.end.settimeout(seconds)
        self.end.sendall(HEAD.pack(self.token, self.sent, len(body)) + body)
        self.sent += 1

    def receive(self, seconds: float | None = None) -> Any:
        """Return the next message.

        Raises `TimeoutError` when it is not whole after `seconds`, `EOFError` when the other end
        has hung up, and `WireError` for anything that is no frame.
        """
        until = None if seconds is None else time.monotonic() + seconds
        token, number, length = HEAD.unpack(self._take(HEAD.size, until))
        if token != self.token or number != self.received or length > LONGEST:
            raise WireError("what came is no frame of this run")
        body = self._take(length, until)
        self.received += 1
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise WireError(f"the frame holds no JSON: {error}") from None

    def _take(self, count: int, until: float | None) -> bytes:
        got = bytearray()
        while len(got) < count:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("the other end is silent")
            self.end.settimeout(left)
            part = self.end.recv(min(count - len(got), 65536))
            if not part:
                raise EOFError("the other end hung up")
            got += part
        return bytes(got)
