# SPDX-License-Identifier: GPL-3.0-or-later
"""Time to live, set by the hub's twin of the gateway: too old is counted as expired and not delivered."""
import json

import judge

LAB = {"children": 1}
TTL = 5


def send(c, first, count):
    for n in range(first, first + count):
        c.publish("devices/dev0/messages/events/", json.dumps({"c": "dev0", "n": n}))


def test_twin_sets_the_time_to_live(lab):
    lab.hub_ctl("twin.update", deviceId="edge1", moduleId="$edgeHub", desired={
        "schemaVersion": "1.1", "routes": {"up": "FROM /messages/* INTO $upstream"},
        "storeAndForwardConfiguration": {"timeToLiveSecs": TTL}})
    lab.wait_status("the time to live to arrive", lambda s: lab.ctl("upstream", "show")[0].get("timeToLiveSecs") == TTL)
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    before = lab.gw_status()
    with lab.login(lab.children()[0]) as c:
        send(c, 0, 10)
        assert lab.gw_status()["pending"] == before["pending"] + 10
        # Nothing is sent meanwhile: the gateway's own clock must find them too old.
        expired = lab.wait_status("the messages to expire",
                                  lambda s: s["expired"] == before["expired"] + 10, TTL + 15)
        assert expired["pending"] == before["pending"]
        send(c, 100, 10)
    lab.link("up")
    lab.wait_drained(TTL)
    status = lab.gw_status()
    assert [n for _, n in judge.numbered(lab.events())] == list(range(100, 110))
    assert status["expired"] == before["expired"] + 10
    assert status["accepted"] == before["accepted"] + 20
    assert status["accepted"] == status["delivered"] + status["expired"]
