"""What a service manager is told: that the node is ready, that it lives, that it stops. The protocol is sd_notify(3).

A datagram of `NAME=VALUE` lines to the socket that $NOTIFY_SOCKET names; nothing where there is none. systemd's own
library needs a C compiler and headers where it is installed, for these few lines.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notifier:
    """`watchdog_s`: how often `alive` is to be called, at least twice as often as the manager expects it; 0: never."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit_us = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(limit_us) / 2e6 if self._address and ours and limit_us.isdecimal() else 0.0

    def ready(self) -> None:
        self._tell("READY=1")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, word: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            with contextlib.suppress(OSError):  # a manager that does not listen is no reason not to serve
                sender.sendto(word.encode(), address)
