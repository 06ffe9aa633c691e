# SPDX-License-Identifier: GPL-3.0-or-later
"""Appliances without a battery-backed clock, and with an absurd one: who is let in, and that the uplink comes back."""
import os
import subprocess
import time

import judge
import pytest
from labctl import HUB_NAME, REPO

LAB = {"children": 3}
EXPIRED = 1_700_000_000
YEAR = 365 * 86400
# Seconds by which the wall clock is wrong.
CLOCKS = {"1970": 3600 - int(time.time()), "2099": 73 * YEAR}


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("shim") / "clockshim.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", path, os.path.join(REPO, "tests", "lib", "clockshim.c"), "-ldl"], check=True)
    return path


def restart(lab, role, program, shim, seconds):
    """The daemon again, with a wall clock that is wrong by so many seconds."""
    os.environ.update(LD_PRELOAD=shim, HOLDFAST_TEST_CLOCK=f"{program}:{seconds}")
    try:
        getattr(lab, role)("restart")
    finally:
        del os.environ["LD_PRELOAD"], os.environ["HOLDFAST_TEST_CLOCK"]


def code_of(lab, child, **kw):
    with lab.client() as c:
        return c.login(HUB_NAME, child["deviceId"], lab.token(child, **kw))[1]


@pytest.mark.parametrize("clock", CLOCKS)
def test_cold_boot_with_a_wrong_clock(lab, shim, clock):
    known = lab.children()[0]
    lab.wait_uplink("online", 60)
    lab.link("down")
    restart(lab, "gw", "holdfastd", shim, CLOCKS[clock])
    status = lab.wait_status("offline", lambda s: s["uplink"] != "online")
    assert status["clock"]["rule"] == "floor" and "clock" in " ".join(status["alarms"]), status
    assert code_of(lab, known, expiry=EXPIRED) == 5, "an expired token is let in"
    with lab.login(known) as c:
        c.publish(f"devices/{known['deviceId']}/messages/events/", f"stored in {clock}")
    lab.link("up")
    lab.wait_uplink("online", 60)
    lab.wait_events("the message", lambda events: f"stored in {clock}".encode() in {judge.body_of(e) for e in events})
    status = lab.wait_status("the hub's time", lambda s: s["clock"]["floorFrom"] == "hub")
    assert status["clock"]["rule"] == "floor"
    lab.gw("restart")
    assert lab.wait_uplink("online", 60)["clock"]["rule"] == "wall"


def test_a_refused_token_asks_for_the_time(lab, shim):
    """The hub is three hours ahead, so that our tokens are expired before they are made: its refusal tells the time."""
    lab.wait_uplink("online", 60)
    restart(lab, "hub", "holdfast-hub", shim, 3 * 3600)
    lab.ctl("upstream", "reconnect")
    lab.wait_status("the hub's time", lambda s: s["clock"]["floorFrom"] == "hub" and s["clock"]["rule"] == "floor", 60)
    lab.ctl("upstream", "reconnect")
    lab.wait_uplink("online", 60)
