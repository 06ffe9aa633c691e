# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, addresses and paths of one lab, and what it remembers on disk."""
import fcntl
import json
import os
import re
from contextlib import contextmanager

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
HUB_NAME, GW_NAME, EDGE_ID = "hub.holdfast.test", "gw.holdfast.test", "edge1"
HUB_IP, GW_UP_IP, GW_LAN_IP, CHILD_IP = "10.77.1.1", "10.77.1.2", "10.77.2.1", "10.77.2.2"
# Interface names inside the namespaces.
HUB_IF, GW_UP_IF, GW_LAN_IF, CHILD_IF = "wan0", "up0", "lan0", "eth0"
ROLES = ("hub", "gw", "child")
RUN_ROOT = "/run/holdfast-lab"


class LabError(Exception):
    """A failure told to the user; log is a file whose tail belongs to the story."""

    def __init__(self, message, log=None):
        super().__init__(message)
        self.log = log


class Lab:
    def __init__(self, name):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name) or name in (".", ".."):
            raise LabError(f"lab name '{name}': 1 to 40 of A-Z a-z 0-9 _ . -")
        self.name = name
        self.dir = os.path.join(REPO, "build", "lab", name)
        # Socket paths are limited to 107 bytes; a checkout may lie deep.
        self.run = os.path.join(RUN_ROOT, name)
        self.sockets = {"hub": os.path.join(self.run, "hub.sock"), "gw": os.path.join(self.run, "gw.sock")}
        self.storage = {"hub": self.path("hub-data"), "gw": self.path("gw-data")}
        self.pin_dir = f"/sys/fs/bpf/holdfast-lab-{name}"

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def log(self, role):
        return self.path(f"{role}.log")

    def netns(self, role):
        return f"hf-{self.name}-{role}"

    def netns_file(self, role):
        return f"/run/netns/{self.netns(role)}"

    def exists(self):
        return os.path.exists(self.path("state.json")) or any(
            os.path.exists(self.netns_file(role)) for role in ROLES)

    def require(self):
        if not os.path.exists(self.path("state.json")):
            raise LabError(f"there is no lab '{self.name}'; start it with: scripts/lab up --name {self.name}")

    def state(self):
        try:
            with open(self.path("state.json"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    def update_state(self, **changes):
        state = self.state()
        state.update(changes)
        tmp = self.path("state.json.tmp")
        with open(tmp, "w", encoding="utf-8") as f:
            json.dump(state, f, indent=1)
        os.rename(tmp, self.path("state.json"))

    def build_dir(self):
        """The binaries this lab was started with; HOLDFAST_BUILD names a flavour at `up`."""
        flavour = self.state().get("build", os.environ.get("HOLDFAST_BUILD", ""))
        return os.path.join(REPO, "build", flavour) if flavour not in ("", "release") else os.path.join(REPO, "build")

    def program(self, name):
        path = os.path.join(self.build_dir(), name)
        if not os.access(path, os.X_OK):
            raise LabError(f"{path} is missing; build it with: make{self._make_hint()}")
        return path

    def _make_hint(self):
        flavour = os.path.basename(self.build_dir())
        return "" if flavour == "build" else f" BUILD={flavour}"

    @contextmanager
    def lock(self):
        """One changing command per lab at a time; labs do not wait for each other."""
        os.makedirs(RUN_ROOT, mode=0o755, exist_ok=True)
        with open(os.path.join(RUN_ROOT, f"{self.name}.lock"), "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def write_file(path, text, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as f:
        f.write(text)


def write_json(path, value, mode=0o600):
    write_file(path, json.dumps(value, indent=1) + "\n", mode)
