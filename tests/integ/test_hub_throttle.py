# SPDX-License-Identifier: GPL-3.0-or-later
"""`serve --throttle s1`: what clients see of the limits of one S1 unit."""
import json
import os
import struct
import time

import amqpwire
import hubrest
import judge
import mqttwire
import pytest
from labkit import control
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME
from proton import Message, symbol

pytestmark = pytest.mark.hub
LAB = {"children": 2}
FLOOD = 1200


@pytest.fixture(scope="module", autouse=True)
def limited(lab):
    """The lab's hub, started again with the limits; without the gateway, which would use some of them up."""
    lab.gw("kill")
    lab.hub("kill")
    hub = lab.spawn("hub", "holdfast-hub", "serve", "-c", lab.path("hub.conf"), "--throttle", "s1")
    sock = os.path.join("/run/holdfast-lab", lab.name, "hub.sock")
    wait_for("the hub", 30, lambda: hub.p.poll() is not None or control.answers(sock))
    assert hub.p.poll() is None, hub.errors
    yield
    hub.p.terminate()
    hub.p.wait(10)


@pytest.fixture(scope="module")
def service(lab, limited):
    with lab.inside("hub"):
        r = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    yield r
    r.close()


def throttled(lab):
    return lab.hub_ctl("counters")[0]["throttled_total"]


def until_refused(lab, call, most):
    """How many calls pass before the first 429; its headers and document."""
    before = throttled(lab)
    for n in range(most + 1):
        status, headers, doc = call()
        if status == 429:
            assert doc["Message"].startswith("ErrorCode:ThrottlingException;")
            assert headers["iothub-errorcode"] == "ThrottlingException"
            assert throttled(lab) == before + 1
            return n, int(headers["Retry-After"])
        assert status in (200, 404), (status, doc)
    raise AssertionError(f"{most} calls and no 429")


def test_queries(lab, service):
    n, seconds = until_refused(lab, lambda: service.call("POST", "/devices/query", {"query": "SELECT * FROM devices"}), 30)
    assert 20 <= n <= 22 and 1 <= seconds <= 3
    time.sleep(seconds)	# the one thing this header promises
    assert service.call("POST", "/devices/query", {"query": "SELECT * FROM devices"})[0] == 200


def test_registry(lab, service):
    n, seconds = until_refused(lab, lambda: service.call("GET", "/devices/dev0"), 120)
    assert 100 <= n <= 110 and seconds == 1


def test_methods_by_size(lab, service):
    big = {"methodName": "m", "payload": "x" * 120000}	# 30 of 40 meters
    n, _ = until_refused(lab, lambda: service.call("POST", "/twins/dev0/methods", big), 5)
    assert n == 1
    assert service.call("POST", "/twins/dev0/methods", {"methodName": "m"})[0] == 404	# which is small enough


def test_https_telemetry(lab):
    """There is no late answer here: refused while another connection has promised what the bucket will hold."""
    child, other = lab.children()
    topic = mqttwire.telemetry_topic(other["deviceId"])
    with lab.inside("hub"):
        h = hubrest.Https(lab.ca, lab.token(child))
    send = ("POST", f"/devices/{child['deviceId']}/messages/events", "x")
    assert h.raw(*send)[0] == 204
    with lab.hub_login(other) as c:
        c.send(b"".join(mqttwire.publish(topic, "x", 1, i) for i in range(1, 301)))
        c.recv()
        status, headers, _ = h.raw(*send)
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 3
        for _ in range(299):
            c.recv()
    time.sleep(int(headers["Retry-After"]))
    assert h.raw(*send)[0] == 204
    h.close()


def test_twin_requests(lab):
    with lab.hub_login(lab.children()[0]) as c:
        c.subscribe(("$iothub/twin/res/#", 0))
        c.send(b"".join(mqttwire.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={i}", f'{{"n":{i}}}', 0) for i in range(150)))
        got = [c.message() for _ in range(150)]
    codes = [m.topic.split("/")[3] for m in got]
    assert set(codes) == {"204", "429"} and codes[:50] == ["204"] * 50 and codes.count("204") < 120
    refused = json.loads(got[codes.index("429")].payload)
    assert refused["errorCode"] == 429001 and refused["message"]


def test_telemetry_is_shaped_then_cut(lab):
    """PUBACKs come late, in order; who goes on regardless is disconnected. What was acknowledged is there."""
    child = lab.children()[0]
    topic, start = mqttwire.telemetry_topic(child["deviceId"]), lab.hub_ctl("status")[0]["nextSequence"]
    begin = time.monotonic()
    with lab.hub_login(child) as c:
        c.send(b"".join(mqttwire.publish(topic, str(i), 1, i) for i in range(1, 251)))
        got = [struct.unpack(">H", c.recv().body)[0] for _ in range(250)]
        assert got == list(range(1, 251)) and time.monotonic() - begin >= 1.4
        try:
            c.send(b"".join(mqttwire.publish(topic, str(i), 1, i) for i in range(251, 251 + FLOOD)))
        except mqttwire.Closed:
            pass
        assert c.ends()
        got += [struct.unpack(">H", p.body)[0] for p in c.seen]
    bodies = [int(judge.body_of(e)) for e in lab.events(start)]
    assert got == list(range(1, len(got) + 1))
    assert bodies == list(range(1, len(bodies) + 1)) and len(got) <= len(bodies) < 250 + FLOOD


def test_connections(lab):
    """All TLS first, then every CONNECT at once."""
    child = lab.children()[1]
    clients = [lab.hub_client() for _ in range(150)]
    login = mqttwire.connect(child["deviceId"], f"{HUB_NAME}/{child['deviceId']}/?{mqttwire.API}", lab.token(child))
    for c in clients:
        c.send(login)
    codes = []
    for c in clients:
        with c:
            try:
                codes.append(c.recv().body[1])
            except mqttwire.Closed:
                pass	# let in, and taken over before its CONNACK left
    assert set(codes) == {0, 3} and codes.count(3) >= 10


def test_amqp(lab):
    """Telemetry is accepted late, twin requests and tokens get the status of throttling."""
    row = lab.children()[0]
    with lab.inside("hub"):
        clients = [amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)) for _ in range(2)]
    c, other = (x.open() for x in clients)
    wait_for("room for a login", 30, lambda: c.cbs(lab.token(row))[0] == 200)
    s = c.sender(f"/devices/{row['deviceId']}/messages/events")
    begin = time.monotonic()
    sent = [c.start(s, Message(body=b"x", inferred=True)) for _ in range(250)]
    outcomes = [c.outcome(d) for d in sent]
    accepted = outcomes.count(("accepted", None))
    assert accepted and time.monotonic() - begin >= (accepted - 100) / 100 - 0.1	# what is left of a full bucket, then 100/s
    assert set(outcomes) <= {("accepted", None), ("rejected", "com.microsoft:device-container-throttled")}	# after the flood above
    out, back = (make(f"/devices/{row['deviceId']}/twin") for make in (c.sender, lambda a: c.receiver(a, credit=500)))
    m = Message(body=b" ", inferred=True, correlation_id="c")
    m.annotations = {symbol("operation"): "GET"}
    for _ in range(150):
        c.start(out, m)
    statuses = [c.receive(back)[0].annotations[symbol("status")] for _ in range(150)]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 100
    policy = lab.hub_ctl("policy.show", name="device")[0]["primaryKey"]
    assert other.cbs(sas_token(policy, HUB_NAME, policy="device"))[0] == 200
    with pytest.raises(amqpwire.Refused) as e:
        for _ in range(1000):		# each link is a login that ends with it
            link = other.sender("/devices/dev1/messages/events")
            link.close()
            other.pump(lambda link=link: link.state & link.REMOTE_CLOSED)
    assert e.value.condition == "com.microsoft:device-container-throttled"
    c.close()
    other.close()


def test_option(lab):
    def check(*args):
        return lab.exec("hub", "holdfast-hub", "serve", "-t", "-c", lab.path("hub.conf"), *args, check=False)

    assert check("--throttle", "off").returncode == 0
    assert check("--throttle", "s1").stdout == "configuration ok\n"
    wrong = check("--throttle", "s2")
    assert wrong.returncode == 2 and "s1 or off" in wrong.stderr
