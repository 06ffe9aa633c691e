# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel steering: shown as active, counts every connection; without it everything behaves the same."""
import judge
import pytest
from labctl import start_publisher

CHILDREN = 20


def steer(lab):
    return next(item for item in lab.ctl("kern", "show") if item["layer"] == "steer")


def smoke(lab, tmp_path):
    """Publish, cut, publish, restart, mend: the main job in short."""
    acks = str(tmp_path / "acks")
    pub = start_publisher(lab, acks, window=4, rate=20)
    pub.wait_last(lambda s: s["connected"] == CHILDREN and s["acked"] > 200, 30)
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    target = pub.last["acked"] + 400
    pub.wait_last(lambda s: s["acked"] >= target, 30)
    lab.gw("restart")
    pub.wait_last(lambda s: s["connected"] == CHILDREN and s["acked"] >= target + 400, 30)
    lab.link("up")
    assert pub.end("quit", 30) == 0
    lab.wait_drained(30)
    verdict = judge.judge(judge.read_acks(acks), lab.events())
    assert verdict.accepted > 900 and verdict.lost == 0 and verdict.order_errors == 0, judge.format_verdict(verdict)


@pytest.mark.kern
def test_steering_is_active_and_counts_connections(labs, tmp_path):
    lab = labs(children=CHILDREN)
    assert lab.gw_status()["kern"]["steer"] == "active", "this kernel should let us steer"
    assert steer(lab)["state"] == "active"
    before = steer(lab)["counters"]
    clients = [lab.login(child) for child in lab.children()]
    after = steer(lab)["counters"]
    assert lab.gw_status()["childrenConnected"] == CHILDREN
    steered = [name for name in after if name.startswith("steer")]
    assert steered, after
    assert sum(after[n] - before.get(n, 0) for n in steered) == CHILDREN, (before, after)
    for c in clients:
        c.close()
    smoke(lab, tmp_path)


def test_without_steering_everything_works_the_same(labs, tmp_path):
    lab = labs(children=CHILDREN, conf={"kern.mode": "off"})
    assert lab.gw_status()["kern"]["steer"] == "off"
    smoke(lab, tmp_path)
