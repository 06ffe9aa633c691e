# SPDX-License-Identifier: GPL-3.0-or-later
"""What was stored leaves, whatever stands beside it: large backlogs, disabled children, records that the hub refuses."""
import pytest
from falsehub import FalseHub
from labctl import wait_for

LAB = {"children": 3}
LARGE, COUNT = 100 * 1024, 300


def topic(child):
    return f"devices/{child['deviceId']}/messages/events/"


def store(lab, child, bodies):
    with lab.login(child) as c:
        mids = [c.publish(topic(child), body, wait=False) for body in bodies]
        c.wait_puback(mids[-1])


def ledger(lab, child):
    none = {"delivered": 0, "refused": 0, "pending": 0}
    return next((row for row in lab.ctl("queue", "show") if row["child"] == child["deviceId"]), none)


@pytest.fixture
def apart(lab):
    """One child has a backlog beyond the pump's memory, another one small message; the uplink is down."""
    hog, small, _ = lab.children()
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    store(lab, hog, [b"%06d" % n + b"x" * LARGE for n in range(COUNT)])
    store(lab, small, [b"small"])
    yield hog, small
    lab.hub_ctl("device.update", deviceId=hog["deviceId"], status="enabled")
    lab.link("up")
    lab.wait_drained()


def test_a_hog_drains_with_the_others(lab, apart):
    hog, small = apart
    before = ledger(lab, hog)["delivered"]
    lab.link("up")
    lab.wait_drained()
    assert ledger(lab, hog)["delivered"] == before + COUNT
    shown = lab.ctl("upstream", "show")[0]["pump"]
    assert shown["heldBytes"] == 0 and shown["stalledMs"] < 30000, shown


def test_a_disabled_hog_stops_nobody(lab, apart):
    hog, small = apart
    lab.hub_ctl("device.update", deviceId=hog["deviceId"], status="disabled")
    before = ledger(lab, small)["delivered"]
    lab.link("up")
    wait_for("the small one's message", 30, lambda: ledger(lab, small)["delivered"] == before + 1)
    assert ledger(lab, hog)["pending"] == COUNT


def test_a_reset_is_a_refusal_too(lab):
    """The hub resets the session on one record: that one is given up, those behind it leave; other children never wait."""
    _, other, child = lab.children()
    lab.wait_uplink("online")
    before, others = ledger(lab, child), ledger(lab, other)
    lab.hub("kill")
    with FalseHub(lab, b"poison") as hub:
        lab.ctl("upstream", "reconnect")
        lab.wait_uplink("online")
        store(lab, child, [b"first", b"poison", b"second"])
        store(lab, other, [b"other"])
        wait_for("what stands behind the poison", 30, lambda: b"second" in hub.bodies())
        wait_for("the other child's", 30, lambda: b"other" in hub.bodies())
        assert hub.resets >= 5	# one beside a change of the uplink does not count
        wait_for("an empty queue", 10, lambda: lab.gw_status()["pending"] == 0)
    after = ledger(lab, child)
    assert after["refused"] == before["refused"] + 1 and after["delivered"] == before["delivered"] + 2
    assert ledger(lab, other)["delivered"] == others["delivered"] + 1
    lab.hub("start")
    lab.ctl("upstream", "reconnect")
    lab.wait_uplink("online", 90)
