# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the control sockets: JSON lines, one command per connection."""
import json
import socket

from .world import LabError


class Refused(LabError):
    def __init__(self, cmd, error):
        self.code = error.get("code")
        super().__init__(f"{cmd}: {error.get('message') or self.code}")


def call(path, cmd, args=None, timeout=30):
    """Runs one command; returns its items. Refused when it says no, OSError when nobody answers."""
    items = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        s.connect(path)
        s.sendall(json.dumps({"id": 1, "cmd": cmd, "args": args or {}}).encode() + b"\n")
        with s.makefile("rb") as f:
            for line in f:
                reply = json.loads(line)
                if "item" in reply:
                    items.append(reply["item"])
                elif reply.get("ok"):
                    return items
                else:
                    raise Refused(cmd, reply.get("error", {}))
    raise ConnectionResetError(f"{cmd}: the connection ended before the answer")


def one(path, cmd, args=None, timeout=30):
    items = call(path, cmd, args, timeout)
    if not items:
        raise LabError(f"{cmd}: an empty answer")
    return items[0]


def answers(path, cmd="status"):
    """The first item of a command, or None while nobody answers."""
    try:
        items = call(path, cmd, timeout=5)
    except (OSError, ValueError, Refused):
        return None
    return items[0] if items else {}
