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
    hub.p.wait(30)


@pytest.fixture(scope="module")
def service(lab, limited):
    with lab.inside("hub"):
        r = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    yield r
    r.close()


def throttled(lab):
    return lab.hub_ctl("counters")[0]["throttled_total"]


def at_most(n, amount, period, began):
    """Not more passed than a full bucket holds and what came into it since then."""
    assert n <= amount + (time.monotonic() - began) * amount / period + 1, n


def until_refused(lab, call, amount, period):
    """How many calls pass before the first 429, and its Retry-After; the limit is amount in period seconds."""
    before, began = throttled(lab), time.monotonic()
    for n in range(10 * amount):
        status, headers, doc = call()
        if status == 429:
            assert doc["Message"].startswith("ErrorCode:ThrottlingException;")
            assert headers["iothub-errorcode"] == "ThrottlingException"
            assert throttled(lab) == before + 1
            at_most(n, amount, period, began)
            return n, int(headers["Retry-After"])
        assert status in (200, 404), (status, doc)
    raise AssertionError(f"{10 * amount} calls and no 429")


def test_queries(lab, service):
    n, seconds = until_refused(lab, lambda: service.call("POST", "/devices/query", {"query": "SELECT * FROM devices"}), 20, 60)
    assert n >= 20 and 1 <= seconds <= 3
    time.sleep(seconds)	# the one thing this header promises
    assert service.call("POST", "/devices/query", {"query": "SELECT * FROM devices"})[0] == 200


def test_registry(lab, service):
    n, seconds = until_refused(lab, lambda: service.call("GET", "/devices/dev0"), 100, 60)
    assert n >= 100 and seconds == 1


def test_methods_by_size(lab, service):
    """All at once: between one call and the next there would be room again."""
    big = json.dumps({"methodName": "m", "payload": "x" * 120000})	# 30 of 40 meters
    with lab.inside("hub"):
        callers = [hubrest.Https(lab.ca, service.token) for _ in range(8)]
    began = time.monotonic()
    for c in callers:
        c.send("POST", "/twins/dev0/methods", big)
    statuses = [c.http.getresponse().status for c in callers]
    at_most(statuses.count(404), 40 / 30, 1, began)
    assert set(statuses) == {404, 429}
    for c in callers:
        c.close()
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
        again = time.monotonic() + int(headers["Retry-After"])
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 3
        for _ in range(299):
            c.recv()
    time.sleep(max(0, again - time.monotonic()))
    assert h.raw(*send)[0] == 204
    h.close()


def test_twin_requests(lab):
    n = 400
    with lab.hub_login(lab.children()[0]) as c:
        c.subscribe(("$iothub/twin/res/#", 0))
        began = time.monotonic()
        c.send(b"".join(mqttwire.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={i}", f'{{"n":{i}}}', 0) for i in range(n)))
        got = [c.message() for _ in range(n)]
    codes = [m.topic.split("/")[3] for m in got]
    at_most(codes.count("204"), 50, 1, began)
    assert set(codes) == {"204", "429"} and codes[:50] == ["204"] * 50
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
    clients = [lab.hub_client() for _ in range(250)]
    login = mqttwire.connect(child["deviceId"], f"{HUB_NAME}/{child['deviceId']}/?{mqttwire.API}", lab.token(child))
    began = time.monotonic()
    for c in clients:
        c.send(login)
    codes = []
    for c in clients:
        with c:
            try:
                codes.append(c.recv().body[1])
            except mqttwire.Closed:
                pass	# let in, and taken over before its CONNACK left
    at_most(len(clients) - codes.count(3), 100, 1, began)
    assert set(codes) == {0, 3}


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
    began = time.monotonic()
    for _ in range(500):
        c.start(out, m.encode())
    statuses = [c.receive(back)[0].annotations[symbol("status")] for _ in range(500)]
    at_most(statuses.count(200), 100, 1, began)
    assert set(statuses) == {200, 429} and statuses.count(200) >= 100
    policy = lab.hub_ctl("policy.show", name="device")[0]["primaryKey"]
    assert other.cbs(sas_token(policy, HUB_NAME, policy="device"))[0] == 200
    links, began = [], time.monotonic()
    for _ in range(400):		# each is a login that ends with it
        links.append(other.sender("/devices/dev1/messages/events", wait=False))
        other.pump(lambda: True)	# sent, not waited for
        links[-1].close()
        other.pump(lambda: True)
    other.pump(lambda: all(link.state & link.REMOTE_CLOSED for link in links))
    refused = [link.remote_condition.name for link in links if link.remote_condition]
    at_most(len(links) - len(refused), 100, 1, began)
    assert set(refused) == {"com.microsoft:device-container-throttled"}
    c.close()
    other.close()


def test_option(lab):
    def check(*args):
        return lab.exec("hub", "holdfast-hub", "serve", "-t", "-c", lab.path("hub.conf"), *args, check=False)

    assert check("--throttle", "off").returncode == 0
    assert check("--throttle", "s1").stdout == "configuration ok\n"
    wrong = check("--throttle", "s2")
    assert wrong.returncode == 2 and "s1 or off" in wrong.stderr
