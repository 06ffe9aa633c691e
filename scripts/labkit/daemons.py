# SPDX-License-Identifier: GPL-3.0-or-later
"""The two daemons of a lab: start, kill, restart, and what 'ready' means."""
import signal
import subprocess

from . import control, netns, procs
from .world import LabError

START_S, STOP_S, SYNC_S = 30, 30, 90
PROGRAM = {"hub": "holdfast-hub", "gw": "holdfastd"}
ARGS = {"hub": ("serve",), "gw": ()}
PORTS = {"hub": (8883, 5671, 443), "gw": (8883,)}


def proc(lab, role):
    return lab.state().get("procs", {}).get(role)


def running(lab, role):
    return procs.alive(proc(lab, role))


def _listening(pid, ports):
    """Are these TCP ports listened on in the process's namespace?"""
    seen = set()
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as f:
                for line in f.readlines()[1:]:
                    words = line.split()
                    if words[3] == "0A":
                        seen.add(int(words[1].rpartition(":")[2], 16))
        except OSError:
            pass
    return set(ports) <= seen


def start(lab, role):
    """Starts a daemon; returns when it listens and its control socket answers."""
    if running(lab, role):
        raise LabError(f"{PROGRAM[role]} of lab '{lab.name}' runs already (pid {proc(lab, role)['pid']})")
    conf, log_path = lab.path(f"{role}.conf"), lab.log(role)
    cmd = netns.enter(lab, role, [lab.program(PROGRAM[role]), *ARGS[role], "-c", conf], cwd=lab.dir)
    with open(log_path, "ab") as log:
        child = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=lab.dir,
                                 env=netns.environment(lab), start_new_session=True)
    me = procs.identify(child.pid)
    all_procs = lab.state().get("procs", {})
    all_procs[role] = me
    lab.update_state(procs=all_procs)

    def died():
        status = child.poll()
        return None if status is None else f"it ended with status {status}"

    procs.wait_for(f"{PROGRAM[role]} to start", START_S,
                   lambda: _listening(child.pid, PORTS[role]) and control.answers(lab.sockets[role]) is not None,
                   log_path, died)


def kill(lab, role):
    """SIGKILL, as a crash would."""
    if not running(lab, role):
        raise LabError(f"{PROGRAM[role]} of lab '{lab.name}' does not run")
    procs.end(proc(lab, role), signal.SIGKILL, PROGRAM[role], 10, lab.log(role))


def restart(lab, role):
    procs.end(proc(lab, role), signal.SIGTERM, PROGRAM[role], STOP_S, lab.log(role))
    start(lab, role)


def wait_synced(lab, identities):
    """The gateway is online and knows every identity it should."""
    def ready():
        status = control.answers(lab.sockets["gw"])
        if not status or status.get("uplink") != "online":
            return False
        shown = control.answers(lab.sockets["gw"], "upstream.show") or {}
        return shown.get("scopeIdentities", 0) >= identities

    def died():
        return None if running(lab, "gw") else "the gateway ended"

    procs.wait_for(f"the gateway to be online with {identities} identities", SYNC_S, ready, lab.log("gw"), died)


def connection_strings(lab):
    """The hub owner's: (for service SDKs, for Event Hubs clients)"""
    policy = control.one(lab.sockets["hub"], "policy.show", {"name": "iothubowner"})
    return policy["connectionString"], policy["eventHubConnectionString"]
