# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes by pid and start time (a pid alone may be somebody else's by now), and bounded waits."""
import os
import signal
import subprocess
import time

from .world import LabError


def run(*cmd, check=True, **kw):
    r = subprocess.run(cmd, capture_output=True, text=True, check=False, **kw)
    if check and r.returncode != 0:
        raise LabError(f"{' '.join(cmd)}: {(r.stderr or r.stdout).strip() or 'exit status %d' % r.returncode}")
    return r


def _stat(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def identify(pid):
    """What to remember of a process: pid and start time."""
    fields = _stat(pid)
    return {"pid": pid, "start": int(fields[19])} if fields else None


def alive(proc):
    if not proc:
        return False
    fields = _stat(proc["pid"])
    return bool(fields) and fields[0] not in "ZX" and int(fields[19]) == proc["start"]


def wait_for(what, seconds, test, log=None, give_up=None):
    """Polls until test() is true. give_up() may return a reason to stop early."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        value = test()
        if value:
            return value
        reason = give_up() if give_up else None
        if reason:
            raise LabError(f"{what}: {reason}", log)
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} s", log)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def end(proc, sig, what, seconds, log=None):
    """Signals a process and waits until it is gone."""
    if not alive(proc):
        return
    try:
        os.kill(proc["pid"], sig)
    except ProcessLookupError:
        return
    name = signal.Signals(sig).name
    wait_for(f"{what} (pid {proc['pid']}) after {name}", seconds, lambda: _reap(proc) or not alive(proc), log)


def _reap(proc):
    try:
        os.waitpid(proc["pid"], os.WNOHANG)
    except ChildProcessError:
        pass
    return False


def tail(path, lines=25):
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 16384))
            return b"\n".join(f.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError:
        return ""
