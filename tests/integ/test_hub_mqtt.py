# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's MQTT port at the level of packets: what iothub-protocol 1 asks for, line by line."""
import json
import struct
from concurrent.futures import ThreadPoolExecutor
import time
from urllib.parse import quote

import judge
import mqttwire
import pytest
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_NAME
from mqttwire import API, PUBACK, Closed

pytestmark = pytest.mark.hub
LAB = {"children": 5, "modules": 1, "build": "asan"}
TWIN_RES, DESIRED, METHODS = "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    lab.gw("kill")


@pytest.fixture
def child(lab):
    return lab.children()[0]


@pytest.fixture
def device(lab, child):
    with lab.hub_login(child) as c:
        yield c


@pytest.fixture
def module(lab):
    return lab.json("modules.json")[0]


def module_login(lab, m, clean=True):
    c = lab.hub_client()
    token = sas_token(m["primaryKey"], f"{HUB_NAME}/devices/{m['deviceId']}/modules/{m['moduleId']}")
    assert c.login(HUB_NAME, f"{m['deviceId']}/{m['moduleId']}", token, clean)[1] == 0
    return c


def c2d_filter(child):
    return f"devices/{child['deviceId']}/messages/devicebound/#"


def events_topic(child, bag=""):
    return mqttwire.telemetry_topic(child["deviceId"], bag)


def next_seq(lab):
    return lab.hub_ctl("status")[0]["nextSequence"]


def last_event(lab):
    return lab.events(next_seq(lab) - 1)[0]


# --- CONNECT and CONNACK --------------------------------------------------------------------------------------------------------

USERS = {	# accepted, with D for the device's name
    "modern": f"{HUB_NAME}/D/?{API}&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)",
    "unknown and double names": f"{HUB_NAME}/D/?{API}&x=y&api-version=1999&&z",
    "host in another case": f"{HUB_NAME.upper()}/D/?{API}",
    "legacy": f"{HUB_NAME}/D/api-version=2016-11-14",
    "legacy with more": f"{HUB_NAME}/D/DeviceClientType=c%2F1&api-version=2016-11-14",
    "very old": f"{HUB_NAME}/D",
    "unknown version": f"{HUB_NAME}/D/?api-version=2099-01-01-preview",
}


@pytest.mark.parametrize("case", USERS)
def test_user_names(lab, child, case):
    d = child["deviceId"]
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, d, lab.token(child), username=USERS[case].replace("/D", f"/{d}", 1)) == (0, 0)


@pytest.mark.parametrize("user", ["H/edge1/mod0/?" + API, "H/edge1/mod0/api-version=2018-06-30", "H/edge1/mod0"])
def test_user_names_of_modules(lab, module, user):
    token = sas_token(module["primaryKey"], f"{HUB_NAME}/devices/edge1/modules/mod0")
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, "edge1/mod0", token, username=user.replace("H", HUB_NAME, 1)) == (0, 0)


CONNACKS = {	# code, client id, user, password; D, T: of the device
    "level 3": (1, "D", "U", "T"), "level 5": (1, "D", "U", "T"),
    "no client id": (2, "", "U", "T"), "another client id": (2, "dev1", "U", "T"), "client id in another case": (2, "DEV0", "U", "T"),
    "no user name": (4, "D", None, None), "empty user name": (4, "D", "", "T"), "no device in it": (4, "D", HUB_NAME, "T"),
    "another hub": (5, "D", f"other.test/dev0/?{API}", "T"), "unknown device": (5, "nobody", f"{HUB_NAME}/nobody/?{API}", "T"),
    "unknown module": (5, "dev0/nobody", f"{HUB_NAME}/dev0/nobody/?{API}", "T"), "no password": (5, "D", "U", None),
    "bad signature": (5, "D", "U", "BAD"), "expired": (5, "D", "U", "OLD"), "another device's token": (5, "D", "U", "OTHER"),
}


@pytest.mark.parametrize("case", CONNACKS)
def test_connacks(lab, child, case):
    code, client_id, user, password = CONNACKS[case]
    d, token = child["deviceId"], lab.token(child)
    passwords = {"T": token, "BAD": token.replace("sig=", "sig=A"), "OLD": lab.token(child, seconds=-10),
                 "OTHER": lab.token(lab.children()[1]), None: None}
    with lab.hub_client() as c:
        c.send(mqttwire.connect(d if client_id == "D" else client_id, f"{HUB_NAME}/{d}/?{API}" if user == "U" else user,
                                passwords[password], level=int(case[-1]) if case.startswith("level") else 4))
        p = c.recv()
        assert (p.type, p.body) == (mqttwire.CONNACK, bytes([0, code]))
        assert c.ends() and c.seen == []


def test_a_disabled_device(lab):
    child = lab.children()[4]
    with lab.hub_login(child) as c:
        lab.hub_ctl("device.update", deviceId=child["deviceId"], status="disabled")
        assert c.ends()
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, child["deviceId"], lab.token(child))[1] == 5 and c.ends()
    lab.hub_ctl("device.update", deviceId=child["deviceId"], status="enabled")
    lab.hub_login(child).close()


def test_one_connection_at_a_time(lab, child, device):
    """The newer one wins; the older gets no packet."""
    with lab.hub_login(child) as newer:
        assert device.ends() and device.seen == []
        newer.publish(events_topic(child), "newer")


def test_a_second_connect(lab, child, device):
    device.send(mqttwire.connect(child["deviceId"], f"{HUB_NAME}/{child['deviceId']}/?{API}", lab.token(child)))
    assert device.ends() and device.seen == []


@pytest.mark.parametrize("model", ["dtmi:com:example:Thermostat;1", "dtmi%3Acom%3Aexample%3AThermostat%3B2"])
def test_model_id(lab, service, model):
    child = lab.children()[3]
    with lab.hub_login(child, username=f"{HUB_NAME}/{child['deviceId']}/?{API}&model-id={model}&DeviceClientType=x") as c:
        c.publish(events_topic(child), "typed")
    plain = f"dtmi:com:example:Thermostat;{model[-1]}"
    assert last_event(lab)["systemProperties"]["dt-dataschema"] == plain
    assert service.call("GET", f"/twins/{child['deviceId']}")[2]["modelId"] == plain


# --- telemetry --------------------------------------------------------------------------------------------------------------------

BAGS = {	# bag: (application properties, some system properties)
    "": ({}, {}), "/": ({}, {}),
    "a=b": ({"a": "b"}, {}), "a=b/": ({"a": "b"}, {}),
    "%24.mid=m1&%24.ct=text%2Fplain&k=1": ({"k": "1"}, {"messageId": "m1", "contentType": "text/plain"}),
    "$.mid=m2&$.ce=utf-8": ({}, {"messageId": "m2", "contentEncoding": "utf-8"}),
    "%24.cid=c&%24.uid=u&%24.to=t&%24.exp=2030-01-01T00:00:00Z": ({}, {"correlationId": "c", "userId": "u", "to": "t"}),
    "a%2Bb=c%2Bd": ({"a+b": "c+d"}, {}), "n": ({"n": None}, {}), "e=": ({"e": ""}, {}), "%24x=y": ({"$x": "y"}, {}),
    "%C3%BC=%E2%82%AC": ({"ü": "€"}, {}), "iothub-ack=full": ({"iothub-ack": "full"}, {}),
    "%24.sub=part&%24.ifid=urn%3Ax": ({}, {"dt-subject": "part", "iothub-interface-id": "urn:x"}),
}


def test_property_bags(lab, child, device):
    for bag, (props, system) in BAGS.items():
        try:
            device.publish(events_topic(child, bag), "x")
        except Closed:
            raise AssertionError(bag) from None
        e = last_event(lab)
        assert e["properties"] == props, bag
        assert system.items() <= e["systemProperties"].items(), bag
    device.publish(f"devices/{child['deviceId']}/messages/events", "no slash at all")
    assert last_event(lab)["properties"] == {}


def test_what_the_hub_stamps(lab, child, device, service):
    device.publish(events_topic(child, "%24.cdid=other&%24.cmid=other"), "x")
    e = last_event(lab)
    generation = service.call("GET", f"/devices/{child['deviceId']}")[2]["generationId"]
    system = dict(e["systemProperties"])
    assert system.pop("iothub-enqueuedtime") == e["enqueuedTime"]
    assert json.loads(system.pop("iothub-connection-auth-method")) == {
        "scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    assert system == {"iothub-connection-device-id": child["deviceId"], "iothub-connection-auth-generation-id": generation,
                      "iothub-message-source": "Telemetry"}


def test_retained_and_repeated(lab, child, device):
    """Not retained, but marked; DUP is no reason to drop a message."""
    start = next_seq(lab)
    device.publish(events_topic(child, "a=b"), "kept?", retain=True)
    device.publish(events_topic(child), "again", dup=True)
    one, two = lab.events(start)
    assert one["properties"] == {"a": "b", "mqtt-retain": "true"} and two["properties"] == {}


def test_pubacks_in_order(lab, child, device):
    start = next_seq(lab)
    mids = [device.publish(events_topic(child), str(i), wait=False) for i in range(200)]
    got = [device.recv() for _ in mids]
    assert [(p.type, struct.unpack(">H", p.body)[0]) for p in got] == [(PUBACK, m) for m in mids]
    assert [judge.body_of(e) for e in lab.events(start)] == [str(i).encode() for i in range(200)]


def test_module_output(lab, module):
    with module_login(lab, module) as c:
        c.publish("devices/edge1/modules/mod0/messages/events/%24.on=out1&a=b/", "x")
    e = last_event(lab)
    assert (e["deviceId"], e["moduleId"]) == ("edge1", "mod0") and e["properties"] == {"a": "b"}
    assert e["systemProperties"]["outputName"] == "out1" and e["systemProperties"]["iothub-connection-module-id"] == "mod0"


def test_qos_2_ends_the_connection(lab, child, device):
    device.send(mqttwire.publish(events_topic(child), "x", 2, 9))
    assert device.ends() and device.seen == []


def test_the_largest_message(lab, child, device):
    device.publish(events_topic(child), b"x" * 262144)
    assert len(judge.body_of(last_event(lab))) == 262144
    with pytest.raises(Closed):
        device.publish(events_topic(child, "a=b"), b"x" * 262144)


# --- subscriptions and sessions -----------------------------------------------------------------------------------------------------

def test_filters(lab, child, device):
    d = child["deviceId"]
    good = [c2d_filter(child), METHODS, "$iothub/methods/POST/only/#", TWIN_RES, DESIRED]
    bad = ["#", "+/x", "devices/dev1/messages/devicebound/#", f"devices/{d}/messages/events/#", f"devices/{d}/#",
           "$iothub/twin/GET/#", "$iothub/#", f"devices/{d}/modules/m/inputs/#"]
    # All in one packet, each with the answer of its place; QoS 2 becomes 1.
    assert device.subscribe(*[(f, 1) for f in good + bad]) == [1] * len(good) + [0x80] * len(bad)
    assert device.subscribe((TWIN_RES, 2), ("home/#", 0), (METHODS, 0)) == [1, 0x80, 0]
    device.send(mqttwire.packet(mqttwire.UNSUBSCRIBE, 2, b"\x00\x09" + b"".join(mqttwire._text(f) for f in ("home/#", METHODS))))
    p = device.recv()
    assert (p.type, p.body) == (mqttwire.UNSUBACK, b"\x00\x09")


def test_filters_of_modules(lab, module):
    with module_login(lab, module) as c:
        base = "devices/edge1/modules/mod0"
        assert c.subscribe((f"{base}/inputs/#", 1), (f"{base}/#", 1), (METHODS, 0), (TWIN_RES, 0), (DESIRED, 0),
                           ("devices/edge1/messages/devicebound/#", 1), (f"{base}x/#", 1)) == [1, 1, 0, 0, 0, 0x80, 0x80]


def test_sessions(lab, service):
    """CleanSession=0 keeps every filter, those of the twin, too, and over a restart of the hub; 1 forgets them."""
    child = lab.children()[1]
    d = child["deviceId"]
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, d, lab.token(child), clean=True) == (0, 0)
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, d, lab.token(child), clean=False) == (0, 0)
        c.subscribe((c2d_filter(child), 1), (METHODS, 0), (TWIN_RES, 0), (DESIRED, 0))
    for restart in (False, True):
        if restart:
            lab.hub("kill")
            lab.hub("start")
            with lab.inside("hub"):
                service.connect()
        with lab.hub_client() as c:
            assert c.login(HUB_NAME, d, lab.token(child), clean=False) == (1, 0)
            c.publish("$iothub/twin/GET/?$rid=1", " ", 0)
            assert c.message().topic == "$iothub/twin/res/200/?$rid=1"
            service.call("PATCH", f"/twins/{d}", {"properties": {"desired": {"restart": restart}}})
            assert c.message().topic.startswith("$iothub/twin/PATCH/properties/desired/?$version=")
            lab.hub_ctl("c2d.send", deviceId=d, data="hello")
            assert c.message().payload == b"hello"
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, d, lab.token(child), clean=True) == (0, 0)
        lab.hub_ctl("c2d.send", deviceId=d, data="later")
        c.publish("$iothub/twin/GET/?$rid=1", " ", 0)
        c.send(mqttwire.packet(mqttwire.PINGREQ, 0))
        assert c.recv().type == mqttwire.PINGRESP
        c.subscribe((c2d_filter(child), 1))
        assert c.message().payload == b"later"
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, d, lab.token(child), clean=False) == (0, 0)


# --- messages to devices --------------------------------------------------------------------------------------------------------------

def test_c2d(lab, child, device):
    d = child["deviceId"]
    device.subscribe((c2d_filter(child), 1))
    lab.hub_ctl("c2d.send", deviceId=d, data="one", messageId="m 1", correlationId="c", userId="u", ack="full",
                expiryTimeUtc=int(time.time() * 1000) + 60000, properties={"k": "v/1", "n": None, "e": ""})
    m = device.message()
    head = f"devices/{d}/messages/devicebound/%24.mid=m%201&%24.to={quote(f'/devices/{d}/messages/devicebound', safe='')}&%24.exp="
    assert m.topic.startswith(head) and m.topic.endswith("&%24.cid=c&%24.uid=u&iothub-ack=full&k=v%2F1&n&e=")
    assert (m.qos, m.dup, m.payload) == (1, False, b"one")


def test_c2d_again_until_acknowledged(lab, child):
    d = child["deviceId"]
    with lab.hub_login(child, clean=False) as c:
        c.subscribe((c2d_filter(child), 1))
        lab.hub_ctl("c2d.send", deviceId=d, data="twice", messageId="twice")
        p = c.recv()
        assert mqttwire.parse_publish(p).dup is False	# and no PUBACK
    with lab.hub_login(child, clean=False) as c:
        m = c.message()
        assert (m.payload, m.dup) == (b"twice", True)
        wait_for("its completion", 30, lambda: lab.hub_ctl("twin.show", deviceId=d)[0]["cloudToDeviceMessageCount"] == 0)
    with lab.hub_login(child, clean=True) as c:
        c.subscribe((c2d_filter(child), 0))
        lab.hub_ctl("c2d.send", deviceId=d, data="once")
        assert c.message().qos == 0
        assert lab.hub_ctl("twin.show", deviceId=d)[0]["cloudToDeviceMessageCount"] == 0


def test_messages_that_end_free_the_window(lab, service):
    """Never acknowledged: 50 that expire, 50 that are purged."""
    child = lab.children()[3]
    d = child["deviceId"]
    waiting = lambda: lab.hub_ctl("twin.show", deviceId=d)[0]["cloudToDeviceMessageCount"]	# noqa: E731
    with lab.hub_login(child) as c:
        c.subscribe((c2d_filter(child), 1))
        for i in range(50):
            lab.hub_ctl("c2d.send", deviceId=d, data=f"a{i}", expiryTimeUtc=int(time.time() * 1000) + 2500)
        seen = [mqttwire.parse_publish(c.recv()) for _ in range(50)]
        wait_for("their end", 30, lambda: waiting() == 0)
        for i in range(50):
            lab.hub_ctl("c2d.send", deviceId=d, data=f"b{i}")
        seen += [mqttwire.parse_publish(c.recv()) for _ in range(50)]
        assert [m.payload.decode() for m in seen] == [f"{k}{i}" for k in "ab" for i in range(50)]
        assert service.call("DELETE", f"/devices/{d}/commands")[0] == 200
        assert waiting() == 0
        lab.hub_ctl("c2d.send", deviceId=d, data="c")
        assert c.message().payload == b"c"
        wait_for("its completion", 30, lambda: waiting() == 0)


def test_a_full_queue_of_large_messages(lab):
    """50 of 64 KiB, more than a connection's buffer once held."""
    child = lab.children()[2]
    for i in range(50):
        lab.hub_ctl("c2d.send", deviceId=child["deviceId"], data=f"{i:05}" * 13000)
    with pytest.raises(Exception, match="403004"):
        lab.hub_ctl("c2d.send", deviceId=child["deviceId"], data="x")
    with lab.hub_login(child) as c:
        c.subscribe((c2d_filter(child), 1))
        assert [c.message().payload[:5] for _ in range(50)] == [f"{i:05}".encode() for i in range(50)]


# --- twins ------------------------------------------------------------------------------------------------------------------------------

REPORT = "$iothub/twin/PATCH/properties/reported/?$rid="


@pytest.fixture
def twin(device):
    device.subscribe((TWIN_RES, 0), (DESIRED, 0))
    return device


def report(c, body, query="7"):
    """(status, the rest of the topic, document)"""
    c.publish(REPORT + query, body if isinstance(body, (bytes, str)) else json.dumps(body), 0)
    m = c.message()
    _, _, _, status, rest = m.topic.split("/", 4)
    return int(status), rest, json.loads(m.payload) if m.payload else None


def test_twin_read(lab, child, twin, service):
    twin.publish("$iothub/twin/GET/?$rid=an%20opaque-id", "", 0)
    m = twin.message()
    doc = json.loads(m.payload)
    assert m.topic == "$iothub/twin/res/200/?$rid=an%20opaque-id"
    assert set(doc) == {"desired", "reported"} and "$version" in doc["desired"] and "$metadata" not in doc["reported"]


def test_twin_without_subscription(lab, child, device):
    device.publish("$iothub/twin/GET/?$rid=1", " ", 0)
    device.send(mqttwire.packet(mqttwire.PINGREQ, 0))
    assert device.recv().type == mqttwire.PINGRESP


def test_reported_and_its_version(lab, child, twin, service):
    status, rest, _ = report(twin, {"a": {"b": 1, "c": 2}})
    version = int(rest.rpartition("$version=")[2])
    assert status == 204 and rest == f"?$rid=7&$version={version}"
    assert report(twin, {"a": {"b": None}}, f"8&$version={version}") == (204, f"?$rid=8&$version={version + 1}", None)
    status, rest, doc = report(twin, {"a": 5}, f"9&$version={version}")
    assert (status, rest, doc["errorCode"]) == (412, "?$rid=9", 412001)
    reported = service.call("GET", f"/twins/{child['deviceId']}")[2]["properties"]["reported"]
    assert reported["a"] == {"c": 2} and reported["$version"] == version + 1


def deep(n):
    return {"a": deep(n - 1)} if n else 1


REFUSED = {	# reported patches: status, errorCode
    "no JSON": ("{", 400, 400004), "no object": ("[1]", 400, 400004), "nothing": ("", 400, 400004),
    "$ at the top": ({"$a": 1}, 400, 400004), "dot in a name": ({"a.b": 1}, 400, 400004), "too deep": (deep(12), 400, 400004),
    "long name": ({"k" * 1025: 1}, 400, 400004), "long text": ({"t": "x" * 4097}, 400, 400004),
    "large number": ({"n": 4503599627370496}, 400, 400004), "small number": ({"n": -4503599627370497}, 400, 400004),
    "over 32 KiB": ({f"k{i}": "x" * 4000 for i in range(9)}, 413, 413001),
}


@pytest.mark.parametrize("case", REFUSED)
def test_reported_refused(lab, child, twin, case):
    body, status, code = REFUSED[case]
    got, rest, doc = report(twin, body)
    assert (got, rest) == (status, "?$rid=7")
    assert doc["errorCode"] == code and doc["message"] and doc["trackingId"] and doc["timestampUtc"]


def test_reported_at_its_limits(lab, twin):
    for patch in (deep(10), {"k" * 1024: None}, {"t": "x" * 4096}, {"n": 4503599627370495, "m": -4503599627370496},
                  {f"k{i}": "x" * 4000 for i in range(4)}):
        assert report(twin, patch)[0] == 204, patch
    # What is there and what comes count together.
    assert report(twin, {f"m{i}": "x" * 4000 for i in range(4)})[0] == 413
    assert report(twin, {**{f"k{i}": None for i in range(4)}, "t": None, "a": None})[0] == 204


def test_desired_and_tags_at_their_limits(lab, service, child):
    path = f"/twins/{child['deviceId']}"
    assert service.call("PATCH", path, {"properties": {"desired": {f"k{i}": "x" * 4000 for i in range(8)}}})[0] == 200
    status, _, doc = service.call("PATCH", path, {"properties": {"desired": {"one": "x" * 1000}}})
    assert (status, doc["Message"].partition(";")[0]) == (413, "ErrorCode:MessageTooLarge")
    assert service.call("PATCH", path, {"tags": {"a": "x" * 4000, "b": "x" * 4000}})[0] == 200
    assert service.call("PATCH", path, {"tags": {"c": "x" * 300}})[0] == 413
    nulls = dict.fromkeys((f"none{i}" for i in range(9000)))	# nothing would change, but it would be a notification
    status, _, doc = service.call("PATCH", path, {"properties": {"desired": nulls}})
    assert (status, doc["Message"].partition(";")[0]) == (413, "ErrorCode:MessageTooLarge")
    assert service.call("PATCH", path, {"properties": {"desired": deep(12)}})[0] == 400
    assert service.call("PUT", path, {"tags": {}, "properties": {"desired": {}}})[0] == 200


def test_desired_notifications(lab, child, twin, service):
    path = f"/twins/{child['deviceId']}"

    def change(method, desired):
        return service.call(method, path, {"properties": {"desired": desired}})[2]["properties"]["desired"]["$version"]

    version = change("PATCH", {"a": 1, "b": None})
    m = twin.message()
    assert m.topic == f"$iothub/twin/PATCH/properties/desired/?$version={version}" and m.qos == 0
    assert json.loads(m.payload) == {"a": 1, "b": None, "$version": version}
    assert change("PUT", {"c": 2, "o": {"p": {"q": 1}, "r": 1}}) == version + 1	# the whole document: what went is null
    assert json.loads(twin.message().payload) == {"a": None, "c": 2, "o": {"p": {"q": 1}, "r": 1}, "$version": version + 1}
    assert change("PUT", {"c": 2, "o": {"p": {}}}) == version + 2
    assert json.loads(twin.message().payload) == {"c": 2, "o": {"p": {"q": None}, "r": None}, "$version": version + 2}
    assert service.call("PATCH", path, {"tags": {"x": 1}})[0] == 200	# no news for the device
    report(twin, {"after": "tags"})


def test_removals_of_a_whole_twin_in_one_notification(lab, child, twin, service):
    """Two full sections, one going, one coming: more than 32 KiB, and the most that a notification can be."""
    path = f"/twins/{child['deviceId']}"
    full = [{f"{c}{i:03x}": "" for i in range(3200)} for c in "xy"]
    for n, desired in enumerate(full + [{}]):
        status, _, doc = service.call("PUT", path, {"properties": {"desired": desired}})
        assert status == 200, doc
        m = twin.message()
        gone = dict.fromkeys(full[n - 1]) if n else {}
        told = json.loads(m.payload)
        assert {k: v for k, v in told.items() if k[0] in "xy"} == {**gone, **desired}
    report(twin, {"after": "them"})


def test_a_manifest_tells_what_it_drops(lab, service):
    assert service.call("PUT", "/devices/edge9", {"deviceId": "edge9", "capabilities": {"iotEdge": True}})[0] == 200
    status, _, module = service.call("PUT", "/devices/edge9/modules/m", {"deviceId": "edge9", "moduleId": "m"})
    assert status == 200
    row = {"deviceId": "edge9/m", "primaryKey": module["authentication"]["symmetricKey"]["primaryKey"]}
    with lab.hub_login(row, password=sas_token(row["primaryKey"], f"{HUB_NAME}/devices/edge9/modules/m")) as c:
        c.subscribe((DESIRED, 0))
        for n, (content, told) in enumerate([({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 2}, "d": 3}),
                                             ({"a": {"b": 1}}, {"a": {"b": 1, "c": None}, "d": None})]):
            status, _, doc = service.call("POST", "/devices/edge9/applyConfigurationContent", {"modulesContent": {
                "$edgeAgent": {"properties.desired": {"modules": {"m": {}}}}, "m": {"properties.desired": content}}})
            assert status in (200, 204), doc
            assert json.loads(c.message().payload) == {**told, "$version": n + 2}


# --- methods ------------------------------------------------------------------------------------------------------------------------------

def call_method(service, d, name="m", **more):
    return service.call("POST", f"/twins/{d}/methods", {"methodName": name, "payload": {"p": 1}, **more})


def error_code(doc):
    return json.loads(doc["Message"])["errorCode"]


def test_methods_only_while_subscribed(lab, child, device, service):
    d = child["deviceId"]
    status, _, doc = call_method(service, d)
    assert (status, error_code(doc)) == (404, 404103)
    device.subscribe((METHODS, 0))
    pending = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", d, "--mn", "get_Max-1.x", "--mp", '{"p":[1]}', "--json")
    m = device.message()
    name, rid = m.topic.removeprefix("$iothub/methods/POST/").split("/?$rid=")
    assert (name, json.loads(m.payload), m.qos) == ("get_Max-1.x", {"p": [1]}, 0)
    device.publish("$iothub/methods/res/200/?$rid=ffffff", "{}", 0)	# nobody asked
    device.publish(f"$iothub/methods/res/-3/?$rid={rid}", '{"r":true}', 1)
    assert pending.wait_line(lambda o: "status" in o) == {"status": -3, "payload": {"r": True}}
    device.send(mqttwire.packet(mqttwire.UNSUBSCRIBE, 2, b"\x00\x09" + mqttwire._text(METHODS)))
    assert device.recv().type == mqttwire.UNSUBACK
    assert call_method(service, d)[0] == 404


def test_a_device_that_leaves_during_a_call(lab, child, device):
    device.subscribe((METHODS, 0))
    pending = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", child["deviceId"], "--mn", "m", "--json")
    device.message()
    device.close()
    assert pending.p.wait(30) == 1
    wait_for("the reason", 30, lambda: any("404104" in line for line in pending.errors))


def test_a_filter_for_one_method(lab, child, device, service):
    device.subscribe(("$iothub/methods/POST/only/#", 0))
    pending = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", child["deviceId"], "--mn", "other", "--to", "5", "--json")
    other = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", child["deviceId"], "--mn", "only", "--json")
    m = device.message()
    assert m.topic.startswith("$iothub/methods/POST/only/?$rid=")
    device.publish(f"$iothub/methods/res/200/?$rid={m.topic.partition('?$rid=')[2]}", "", 0)
    assert other.wait_line(lambda o: "status" in o) == {"status": 200, "payload": None}
    pending.kill()


# --- the last will ------------------------------------------------------------------------------------------------------------------------

def test_wills(lab, child):
    topic, start = events_topic(child, "a=b"), next_seq(lab)
    lab.hub_login(child, will=(topic, "crash", 1, True)).close()
    wait_for("the will", 30, lambda: next_seq(lab) == start + 1)
    assert last_event(lab)["properties"] == {"a": "b", "mqtt-retain": "true", "iothub-MessageType": "Will"}
    with lab.hub_login(child, will=(topic, "goodbye", 0)) as c:	# an orderly end leaves none
        c.send(mqttwire.packet(mqttwire.DISCONNECT, 0))
        assert c.ends()
    with lab.hub_login(child, will=(topic, "taken over", 1)):
        with lab.hub_login(child):
            wait_for("the will", 30, lambda: next_seq(lab) == start + 2)
    assert judge.body_of(last_event(lab)) == b"taken over"


def test_no_will_for_the_next_identity(lab, service, child):
    """Deleted and made anew in one request: the will was another device's."""
    key = child["primaryKey"]
    auth = {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}
    new = {"id": "anew", "importMode": "create", "authentication": auth}
    assert service.call("POST", "/devices", [new])[0] == 200
    with lab.hub_login({"deviceId": "anew", "primaryKey": key}, will=("devices/anew/messages/events/", "crash", 1)) as c:
        start = next_seq(lab)
        assert service.call("POST", "/devices", [{"id": "anew", "importMode": "delete"}, new])[0] == 200
        assert c.ends()
    with lab.hub_login(child) as c:
        c.publish(events_topic(child), b"after", 1)
    assert next_seq(lab) == start + 1 and judge.body_of(last_event(lab)) == b"after"
    service.call("DELETE", "/devices/anew")


@pytest.mark.parametrize("will", [("home/kitchen", "x", 1), ("devices/dev1/messages/events/", "x", 1),
                                  ("devices/dev0/messages/events/", "x", 2), ("devices/dev0/messages/devicebound/", "x", 0)])
def test_wills_refused(lab, child, will):
    start = next_seq(lab)
    with lab.hub_client() as c:
        c.send(mqttwire.connect(child["deviceId"], f"{HUB_NAME}/{child['deviceId']}/?{API}", lab.token(child), will=will))
        assert c.ends() and c.seen == []
    assert next_seq(lab) == start


# --- logins that end ----------------------------------------------------------------------------------------------------------------------

def life(c, ping_after=None):
    """How long the hub keeps this login, with one PINGREQ after so many seconds."""
    began = time.monotonic()
    with c:
        if ping_after:
            with pytest.raises(TimeoutError):
                c.recv(ping_after)
            c.send(mqttwire.packet(mqttwire.PINGREQ, 0))
            assert c.recv().type == mqttwire.PINGRESP
        assert c.ends() and c.seen == []
        return time.monotonic() - began


@pytest.fixture(scope="module")
def lives(lab):
    """All at once: logins that end by a token of 3 s, by a keep-alive of 3 s (one with a sign of life) and of 8 s."""
    rows, ends = lab.children(), {}
    with ThreadPoolExecutor(4) as pool:
        c = lab.hub_client()
        assert c.login(HUB_NAME, rows[0]["deviceId"], lab.token(rows[0], seconds=3))[1] == 0
        ends["token"] = pool.submit(life, c)
        ends["silent"] = pool.submit(life, lab.hub_login(rows[1], keep_alive=3))
        ends["pinging"] = pool.submit(life, lab.hub_login(rows[2], keep_alive=3), 2)
        ends["longer"] = pool.submit(life, lab.hub_login(rows[3], keep_alive=8))
        yield {name: end.result() for name, end in ends.items()}


def test_the_token_ends(lab, lives):
    assert 2 <= lives["token"] < lives["longer"]	# a whole second; and five of grace
    assert lab.hub_ctl("counters")[0]["token_expired_total"] == 1


def test_keep_alive(lab, lives):
    """1.5 times of it in silence; a PINGREQ is life enough."""
    assert 4.5 <= lives["silent"] < lives["pinging"] < lives["longer"] and lives["pinging"] >= 6.5 and lives["longer"] >= 12
    assert lab.hub_ctl("counters")[0]["keepalive_timeout_total"] == 3


def test_no_sanitizer_report(lab):
    lab.hub("restart")
    assert "ERROR: " not in lab.log("hub") and "runtime error" not in lab.log("hub"), lab.log("hub")[-3000:]
