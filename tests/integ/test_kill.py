# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 amid 100 clients: every PUBACKed message arrives, in each child's order of first delivery."""
import random

import judge
import pytest
from conftest import LONG
from labctl import start_publisher

CHILDREN, WINDOW, UPSTREAM_WINDOW = 100, 4, 64
ROUNDS = 10 if LONG else 3
# A hub that is killed again and again lets the back-off grow; the rounds need not wait a minute each.
LAB = {"children": CHILDREN, "conf": {"upstream.backoff_max_secs": 4}}
pytestmark = [pytest.mark.timeout(1500 if LONG else 240), pytest.mark.accept]


def rounds(lab, pub, count):
    for number in range(count):
        # Let traffic flow before the next blow, a different amount each time.
        target = pub.last["acked"] + random.randint(200, 1500)
        pub.wait_last(lambda s, target=target: s["acked"] >= target, 60)
        lab.gw("kill")
        lab.gw("start")
        pub.wait_last(lambda s: s["connected"] == CHILDREN, 60)


def test_kill_online_and_offline_loses_nothing(lab, tmp_path):
    acks = str(tmp_path / "acks")
    pub = start_publisher(lab, acks, window=WINDOW, rate=8)
    pub.wait_last(lambda s: s["connected"] == CHILDREN, 60)
    rounds(lab, pub, ROUNDS)
    lab.link("down")
    lab.wait_status("the cut to be noticed", lambda s: s["uplink"] != "online")
    rounds(lab, pub, ROUNDS)
    offline = lab.gw_status()
    assert offline["uplink"] != "online" and offline["pending"] > 0
    lab.link("up")
    assert pub.end("quit", 60) == 0, pub.errors
    lab.wait_drained(60)
    verdict = judge.judge(judge.read_acks(acks), lab.events())
    print(judge.format_verdict(verdict))
    assert verdict.accepted > 2 * ROUNDS * 200
    assert verdict.lost == 0, judge.format_verdict(verdict)
    assert verdict.order_errors == 0, judge.format_verdict(verdict)
    # Twice may arrive only what was in flight at a cut: towards the gateway, and from it to the hub.
    cuts = 2 * ROUNDS + 1
    assert verdict.duplicates <= cuts * CHILDREN * (WINDOW + UPSTREAM_WINDOW)
    assert pub.last["badAcks"] == 0


def test_kill_of_the_hub_loses_nothing(lab, tmp_path):
    acks = str(tmp_path / "acks")
    start = len(lab.events())
    pub = start_publisher(lab, acks, count=20, window=WINDOW, rate=20)
    pub.wait_last(lambda s: s["acked"] >= 300, 60)
    for _ in range(ROUNDS):
        lab.hub("kill")
        target = pub.last["acked"] + 200
        pub.wait_last(lambda s, target=target: s["acked"] >= target, 60)
        lab.hub("start")
        lab.wait_uplink("online", 60)
    assert pub.end("quit", 60) == 0, pub.errors
    lab.wait_drained(60)
    verdict = judge.judge(judge.read_acks(acks), lab.events()[start:])
    assert verdict.lost == 0 and verdict.order_errors == 0, judge.format_verdict(verdict)
