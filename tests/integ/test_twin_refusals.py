# SPDX-License-Identifier: GPL-3.0-or-later
"""Twin requests that are refused: the same answer online, where the hub gives it, and offline, where the gateway does."""
import json

import mqttwire
import pytest

LAB = {"children": 2}
PATCH = "$iothub/twin/PATCH/properties/reported/?$rid="


def ask(child, topic, body):
    """(status, version or None, error code or None)"""
    child.send(mqttwire.publish(topic, body, 0))
    m = child.message()
    version = m.topic.partition("&$version=")[2]
    return (int(m.topic.split("/")[3]), int(version) if version else None,
            json.loads(m.payload).get("errorCode") if m.payload else None)


def refusals(child, stale):
    return [ask(child, f"{PATCH}1", json.dumps({f"k{n}": "v" * 4000 for n in range(9)})),
            ask(child, f"{PATCH}2", "[1]"),
            ask(child, f"{PATCH}3", json.dumps({"a": {"$b": 1}})),
            ask(child, f"{PATCH}4&$version={stale}", json.dumps({"a": "stale"}))]


@pytest.fixture(scope="module")
def child(lab):
    lab.wait_uplink("online")
    with lab.login(lab.children()[0]) as c:
        c.subscribe(("$iothub/twin/res/#", 0))
        yield c


def test_refusals_are_the_same_online_and_offline(lab, child):
    _, version, _ = ask(child, f"{PATCH}first", json.dumps({"a": 1}))
    assert ask(child, f"{PATCH}next&$version={version}", json.dumps({"a": 2})) == (204, version + 1, None)
    assert ask(child, "$iothub/twin/GET/?$rid=get", " ")[0] == 200   # the gateway has a copy
    online = refusals(child, version)
    assert [a[0] for a in online] == [413, 400, 400, 412], online
    lab.link("down")
    try:
        lab.wait_status("offline", lambda s: s["uplink"] != "online")
        assert refusals(child, version) == online
        assert ask(child, f"{PATCH}5&$version={version + 1}", json.dumps({"a": "in time"}))[0] == 204
    finally:
        lab.link("up")
    lab.wait_status("the patch at the hub", lambda _: lab.hub_ctl("twin.show", deviceId="dev0")[0][
        "properties"]["reported"].get("a") == "in time")
