# SPDX-License-Identifier: GPL-3.0-or-later
"""Time to live, set by the hub's twin of the gateway: too old is counted as expired and not delivered. And what the hub
removes from twins, which the gateway must not keep."""
import json

import hubrest
import judge
import pytest

LAB = {"children": 1}
TTL = 5
DEFAULT = 7200
MANY = [f"m{i:04}" for i in range(2700)]	# told as nulls, they are more than the 32 KiB that desired properties may be


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


def ttl(lab):
    return lab.ctl("upstream", "show")[0].get("timeToLiveSecs")


def manifest(lab, service, **hub):
    status, _, doc = service.call("POST", "/devices/edge1/applyConfigurationContent", {"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {}}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}, **hub}}}})
    assert status in (200, 204), doc


@pytest.fixture
def service(lab):
    with lab.inside("hub"):
        rest = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    yield rest
    rest.close()


@pytest.mark.parametrize("cut", [False, True], ids=["online", "across a cut"])
def test_a_time_to_live_that_a_manifest_drops_is_gone(lab, service, cut):
    manifest(lab, service, storeAndForwardConfiguration={"timeToLiveSecs": 4321})
    lab.wait_status("the manifest's time to live", lambda _: ttl(lab) == 4321)
    if cut:
        lab.link("down")
        lab.wait_status("offline", lambda s: s["uplink"] != "online")
    manifest(lab, service)
    if cut:
        lab.link("up")
    lab.wait_status("the configured time to live", lambda _: ttl(lab) == DEFAULT, 40)


def get_twin(c):
    c.publish("$iothub/twin/GET/?$rid=1", "", 0)
    while not (m := c.message()).topic.startswith("$iothub/twin/res/"):
        pass	# a change on its way
    assert m.topic.startswith("$iothub/twin/res/200/"), m
    return json.loads(m.payload)["desired"]


@pytest.mark.parametrize("cut", [False, True], ids=["online", "across a cut"])
def test_a_removed_member_is_told_and_forgotten(lab, service, cut):
    """The hub replaces desired properties; what went reaches the child as null, and the twin served offline has it no more."""
    def replace(desired):
        status, _, doc = service.call("PUT", "/twins/dev0", {"properties": {"desired": desired}})
        assert status == 200, doc
        return doc["properties"]["desired"]["$version"]

    replace({"keep": 1, "gone": {"deep": 2}, "part": {"stays": 3, "goes": {"x": 4}}, "many": dict.fromkeys(MANY, "")})
    with lab.login(lab.children()[0]) as c:
        c.subscribe(("$iothub/twin/res/#", 0), ("$iothub/twin/PATCH/properties/desired/#", 0))
        lab.wait_status("the twin", lambda _: "gone" in get_twin(c))
        if cut:
            lab.link("down")
            lab.wait_status("offline", lambda s: s["uplink"] != "online")
        version = replace({"keep": 1, "part": {"stays": 3}, "new": 5, "many": {}})
        if cut:
            lab.link("up")
        m = c.message(60)
        told = json.loads(m.payload)
        while told.get("$version") != version:	# a subscription that the hub took late may bring the first change again
            told = json.loads(c.message(60).payload)
        assert {k: told[k] for k in ("gone", "many", "new")} == {"gone": None, "many": dict.fromkeys(MANY), "new": 5}
        assert told["part"].get("stays", 3) == 3 and told["part"]["goes"] is None
        lab.link("down")
        lab.wait_status("offline", lambda s: s["uplink"] != "online")
        assert get_twin(c) == {"keep": 1, "part": {"stays": 3}, "new": 5, "many": {}, "$version": version}
    lab.link("up")
    lab.wait_drained()


def test_a_refused_pull_after_a_reconnect_is_asked_again(lab, service):
    """The hub has no time for the gateway's pull of a twin: what changed during the cut is told all the same."""
    def replace(desired):
        status, _, doc = service.call("PUT", "/twins/dev0", {"properties": {"desired": desired}})
        assert status == 200, doc

    replace({"stays": 1, "goes": 2})
    with lab.login(lab.children()[0]) as c:
        c.subscribe(("$iothub/twin/res/#", 0), ("$iothub/twin/PATCH/properties/desired/#", 0))
        lab.wait_status("the twin", lambda _: "goes" in get_twin(c))
        lab.link("down")
        lab.wait_status("offline", lambda s: s["uplink"] != "online")
        replace({"stays": 1})
        lab.hub_ctl("fault.add", on="twin", action="throttle", device="dev0", count=1)
        lab.link("up")
        while "goes" not in (told := json.loads(c.message(60).payload)):
            pass
        assert told["goes"] is None
        assert lab.hub_ctl("fault.list") == []
    lab.hub_ctl("fault.clear")
