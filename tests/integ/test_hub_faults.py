# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on purpose: each operation with each of its actions, seen by a client, and the hub's record beside it."""
import http.client
import os
import socket
import struct
import threading
import time

import hubrest
import judge
import mqttwire
import pytest
from labctl import REPO, LabFailed
from labkit import control
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 5, "build": "asan"}
LATE_MS = 400
LATE = LATE_MS / 1000 - 0.002  # timers count whole milliseconds
DAY_MS = 86400000	# what is to be looked at before it ends: nobody waits for that
QUIET = 0.3		# how long nothing must come


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    """Its calls would be hit by the rules."""
    lab.gw("kill")


@pytest.fixture(scope="module", autouse=True)
def early(lab, no_gateway):
    """What takes its time goes on while other tests run: its rules are used up here, judged it is further below."""
    slow, retried = (row["deviceId"] for row in lab.children()[3:5])
    c = lab.hub_login(lab.children()[3], keep_alive=1)
    rules = [fault(lab, "telemetry", "delay=3500", device=slow, count=1), fault(lab, "c2d", "throttle", device=retried, count=1)]
    mid = send(c, lab.children()[3], "slow")
    sdk = messages(lab)
    sdk.tell({"cmd": "send", "device": retried, "body": "again"})
    for rule in rules:
        until_hit(lab, rule)
    yield c, mid, sdk
    sdk.kill()
    c.close()


@pytest.fixture(autouse=True)
def no_rules_left(lab):
    yield
    lab.hub_ctl("fault.clear")


@pytest.fixture
def child(lab):
    return lab.children()[0]


@pytest.fixture
def device(lab, child):
    with lab.hub_login(child) as c:
        yield c


def https(lab, ident, key):
    device, _, module = ident.partition("/")
    path = f"{HUB_NAME}/devices/{device}" + (f"/modules/{module.replace('$', '%24')}" if module else "")
    with lab.inside("hub"):
        return hubrest.Https(lab.ca, sas_token(key, path))


def fault(lab, on, action, **args):
    return lab.hub_ctl("fault.add", on=on, action=action, **args)[0]["id"]


def hits(lab, rule):
    return next(r["hits"] for r in lab.hub_ctl("fault.list") if r["id"] == rule)


def until_hit(lab, rule):
    """Waits until a rule with a count of 1 has met its operation, which ends it."""
    wait_for("the operation to meet its rule", 30, lambda: rule not in [r["id"] for r in lab.hub_ctl("fault.list")])


def send(c, child, body, qos=1):
    return c.publish(mqttwire.telemetry_topic(child["deviceId"]), body, qos, wait=False)


def bodies(lab, start):
    return [judge.body_of(e).decode() for e in lab.events(start)]


def next_seq(lab):
    return lab.hub_ctl("status")[0]["nextSequence"]


def acks(c, n):
    """The packet ids of the next n packets, which are PUBACKs."""
    got = [c.recv() for _ in range(n)]
    assert all(p.type == mqttwire.PUBACK for p in got), got
    return [struct.unpack(">H", p.body)[0] for p in got]


def silent(c):
    try:
        p = c.recv(QUIET)
    except TimeoutError:
        return True
    raise AssertionError(p)


def ping(c):
    c.send(mqttwire.packet(mqttwire.PINGREQ, 0))
    assert c.recv().type == mqttwire.PINGRESP


# --- telemetry over MQTT ------------------------------------------------------------------------------------------------------

def test_telemetry_delay(lab, child, device):
    """Everything behind the delayed message waits, too."""
    start, begin = next_seq(lab), time.monotonic()
    fault(lab, "telemetry", f"delay={LATE_MS}", device=child["deviceId"], count=1)
    mids = [send(device, child, text) for text in ("one", "two", "three")]
    device.send(mqttwire.packet(mqttwire.PINGREQ, 0))
    # PINGRESP does not wait for a commit, PUBACKs do.
    got = [device.recv() for _ in range(4)]
    assert time.monotonic() - begin >= LATE
    assert [struct.unpack(">H", p.body)[0] for p in got if p.type == mqttwire.PUBACK] == mids
    assert sum(p.type == mqttwire.PINGRESP for p in got) == 1
    assert bodies(lab, start) == ["one", "two", "three"]
    rule = fault(lab, "telemetry", f"delay={DAY_MS}", device=child["deviceId"], count=1)
    for text in ("four", "five"):
        send(device, child, text)
    device.send(mqttwire.packet(mqttwire.PINGREQ, 0))
    until_hit(lab, rule)
    assert silent(device) and next_seq(lab) == start + 3


def test_telemetry_delay_outlives_the_keep_alive(early):
    c, mid, _ = early
    c.wait_puback(mid)


def test_telemetry_hang(lab, child, device):
    start = next_seq(lab)
    fault(lab, "telemetry", "hang", device=child["deviceId"], count=1)
    send(device, child, "never")
    mid = send(device, child, "after")
    assert acks(device, 1) == [mid]
    ping(device)
    assert bodies(lab, start) == ["after"]


@pytest.mark.parametrize("action", ["drop-connection", "reject=503", "throttle"])
def test_telemetry_refused(lab, child, device, action):
    """MQTT 3.1.1 has no other refusal than the end of the connection."""
    start = next_seq(lab)
    fault(lab, "telemetry", action, device=child["deviceId"], count=1)
    send(device, child, "refused")
    assert device.ends() and device.seen == []
    assert bodies(lab, start) == []


def test_telemetry_ack_late(lab, child, device):
    """Stored at once; PUBACKs keep the order of their messages."""
    start, begin = next_seq(lab), time.monotonic()
    fault(lab, "telemetry", f"ack-late={LATE_MS}", device=child["deviceId"], count=1)
    mids = [send(device, child, text) for text in ("one", "two")]
    assert acks(device, 2) == mids and time.monotonic() - begin >= LATE
    mid = send(device, child, "three")
    assert acks(device, 1) == [mid]
    fault(lab, "telemetry", f"ack-late={DAY_MS}", device=child["deviceId"], count=1)
    for text in ("four", "five"):
        send(device, child, text)
    wait_for("both to be stored", 30, lambda: next_seq(lab) == start + 5)
    ping(device)	# the connection itself does not wait
    assert bodies(lab, start) == ["one", "two", "three", "four", "five"]


def test_telemetry_ack_twice(lab, child, device):
    start = next_seq(lab)
    fault(lab, "telemetry", "ack-twice", device=child["deviceId"], count=1)
    one, two = send(device, child, "one"), send(device, child, "two")
    assert acks(device, 3) == [one, one, two]
    assert bodies(lab, start) == ["one", "two"]


def test_telemetry_ack_never_is_taken_twice(lab, child, device):
    start = next_seq(lab)
    fault(lab, "telemetry", "ack-never", device=child["deviceId"], count=1)
    mid = send(device, child, "again")
    wait_for("the message", 30, lambda: next_seq(lab) == start + 1)
    assert silent(device)
    device.send(mqttwire.publish(mqttwire.telemetry_topic(child["deviceId"]), "again", 1, mid, dup=True))
    assert acks(device, 1) == [mid]
    assert bodies(lab, start) == ["again", "again"]


def test_telemetry_of_qos_0(lab, child, device):
    """Without an acknowledgement only what comes before it can fail."""
    start = next_seq(lab)
    fault(lab, "telemetry", "ack-never", device=child["deviceId"], count=1)
    fault(lab, "telemetry", "hang", device=child["deviceId"], count=1)
    for text in ("taken", "hung", "free"):
        send(device, child, text, 0)
    ping(device)
    assert bodies(lab, start) == ["taken", "free"]


# --- connect --------------------------------------------------------------------------------------------------------------------

def connect(lab, child):
    c = lab.hub_client()
    c.send(mqttwire.connect(child["deviceId"], f"{HUB_NAME}/{child['deviceId']}/?{mqttwire.API}", lab.token(child)))
    return c


def connack(c, timeout=None):
    p = c.recv(timeout)
    assert p.type == mqttwire.CONNACK, p
    return p.body[1]


def test_connect_delay(lab, child, device):
    """The older connection stays until the newer one is let in."""
    rule = fault(lab, "connect", f"delay={DAY_MS}", device=child["deviceId"], count=1)
    with connect(lab, child):
        until_hit(lab, rule)
        ping(device)
    begin = time.monotonic()
    fault(lab, "connect", f"delay={LATE_MS}", device=child["deviceId"], count=1)
    with connect(lab, child) as c:
        mid = send(c, child, "early")
        assert connack(c) == 0 and time.monotonic() - begin >= LATE
        assert acks(c, 1) == [mid]
        assert device.ends() and device.seen == []


def test_connect_delay_behind_a_gateway(lab, service):
    """The CONNECT is judged twice; what the first time kept is given back (the sanitizer looks at the end)."""
    def put(device, doc):
        status, _, got = service.call("PUT", f"/devices/{device}", {"deviceId": device, **doc})
        assert status == 200
        return got
    scope = put("slow-gw", {"capabilities": {"iotEdge": True}})["deviceScope"]
    put("slow-leaf", {"deviceScope": scope})
    key = service.call("GET", "/devices/slow-gw/modules/$edgeHub")[2]["authentication"]["symmetricKey"]["primaryKey"]
    fault(lab, "connect", f"delay={LATE_MS}", device="slow-leaf", count=1)
    begin = time.monotonic()
    with lab.hub_client() as c:
        user = f"{HUB_NAME}/slow-leaf/?api-version=2021-04-12&auth-chain=slow-leaf%3Bslow-gw"
        _, code = c.login(HUB_NAME, "slow-leaf", sas_token(key, f"{HUB_NAME}/devices/slow-gw/modules/$edgeHub"), True, username=user)
        assert code == 0 and time.monotonic() - begin >= LATE
    for device in ("slow-leaf", "slow-gw"):
        service.call("DELETE", f"/devices/{device}", None, {"If-Match": "*"})


def test_connect_hang(lab, child, device):
    rule = fault(lab, "connect", "hang", device=child["deviceId"], count=1)
    with connect(lab, child) as c:
        until_hit(lab, rule)
        assert silent(c)
        ping(device)
        c.send(b"whatever comes is ignored")
        assert silent(c)


def test_connect_drop(lab, child):
    fault(lab, "connect", "drop-connection", device=child["deviceId"], count=1)
    with connect(lab, child) as c:
        assert c.ends() and c.seen == []


@pytest.mark.parametrize("action,code", [("throttle", 3), *((f"reject={n}", n) for n in range(1, 6))])
def test_connect_refused(lab, child, action, code):
    fault(lab, "connect", action, device=child["deviceId"], count=1)
    with connect(lab, child) as c:
        assert connack(c) == code and c.ends()
    with connect(lab, child) as c:
        assert connack(c) == 0


def test_connect_rules_are_for_those_who_may(lab, child):
    """A wrong password is refused as ever, and uses no rule up."""
    rule = fault(lab, "connect", "reject=3", device=child["deviceId"], count=1)
    with lab.hub_client() as c:
        assert c.login(HUB_NAME, child["deviceId"], lab.token(child)[:-30])[1] == 5
    assert hits(lab, rule) == 0


# --- twin -----------------------------------------------------------------------------------------------------------------------

GET, PATCH = "$iothub/twin/GET/?$rid=", "$iothub/twin/PATCH/properties/reported/?$rid="


@pytest.fixture
def twin(device):
    device.subscribe(("$iothub/twin/res/#", 0))
    return device


def ask(c, rid, topic=GET, body=" "):
    c.publish(topic + rid, body, 0)


def answer(c, timeout=None):
    """(status, rid)"""
    m = c.message(timeout)
    _, _, _, status, rid = m.topic.split("/", 4)
    return int(status), rid.partition("=")[2].partition("&")[0]


def reported(lab, child):
    return lab.hub_ctl("twin.show", deviceId=child["deviceId"])[0]["properties"]["reported"]


@pytest.mark.parametrize("topic", [GET, PATCH])
def test_twin_delay(lab, child, twin, topic):
    begin = time.monotonic()
    fault(lab, "twin", f"delay={LATE_MS}", device=child["deviceId"], count=1)
    ask(twin, "1", topic, '{"a":1}')
    ask(twin, "2", topic, '{"a":2}')
    assert [answer(twin)[1], answer(twin)[1]] == ["1", "2"] and time.monotonic() - begin >= LATE
    if topic == PATCH:
        assert reported(lab, child)["a"] == 2


@pytest.mark.parametrize("action", ["hang", "ack-never"])
def test_twin_without_answer(lab, child, twin, action):
    version = reported(lab, child)["$version"]
    fault(lab, "twin", action, device=child["deviceId"], count=1)
    ask(twin, "1", PATCH, '{"b":1}')
    ask(twin, "2")
    assert answer(twin) == (200, "2")
    assert silent(twin)
    assert reported(lab, child)["$version"] == version + (action == "ack-never")


def test_twin_drop(lab, child, twin):
    version = reported(lab, child)["$version"]
    fault(lab, "twin", "drop-connection", device=child["deviceId"], count=1)
    ask(twin, "1", PATCH, '{"c":1}')
    assert twin.ends() and twin.seen == []
    assert reported(lab, child)["$version"] == version


@pytest.mark.parametrize("action,status,code", [("throttle", 429, 429001), ("reject=503", 503, 503001), ("reject=412", 412, 412001)])
def test_twin_refused(lab, child, twin, action, status, code):
    version = reported(lab, child)["$version"]
    fault(lab, "twin", action, device=child["deviceId"], count=2)
    for topic in (GET, PATCH):
        twin.publish(topic + "7", '{"d":1}', 0)
        m = twin.message()
        assert m.topic == f"$iothub/twin/res/{status}/?$rid=7"
        assert f'"errorCode":{code}'.encode() in m.payload
    assert reported(lab, child)["$version"] == version


def test_twin_ack_late(lab, child, twin):
    """Done at once; other answers do not wait for this one."""
    begin, version = time.monotonic(), reported(lab, child)["$version"]
    fault(lab, "twin", f"ack-late={LATE_MS}", device=child["deviceId"], count=1)
    ask(twin, "1", PATCH, '{"e":1}')
    ask(twin, "2")
    assert answer(twin) == (200, "2") and reported(lab, child)["$version"] == version + 1
    assert answer(twin) == (204, "1") and time.monotonic() - begin >= LATE


# --- HTTPS: telemetry, scope, methods ---------------------------------------------------------------------------------------------

def answer_of(h, method, path, body=None, headers=None):
    """(status, seconds, headers); status None: the connection was closed without an answer."""
    begin = time.monotonic()
    try:
        status, got, _ = h.raw(method, path, body, headers)
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return None, time.monotonic() - begin, {}
    return status, time.monotonic() - begin, got


def unanswered(lab, op, rule):
    """The request meets its rule and gets no answer."""
    op.h.send(*op.request)
    until_hit(lab, rule)
    op.h.http.sock.settimeout(QUIET)
    with pytest.raises(TimeoutError):
        op.h.http.sock.recv(1)


class Telemetry:
    def __init__(self, lab):
        self.lab, self.child = lab, lab.children()[1]
        self.on, self.device, self.ok, self.start = "telemetry", self.child["deviceId"], 204, next_seq(lab)
        self.h = https(lab, self.device, self.child["primaryKey"])
        self.request = ("POST", f"/devices/{self.device}/messages/events", "x")

    def done(self):
        return len(self.lab.events(self.start))

    def close(self):
        self.h.close()


class Scope:
    """Reading changes nothing, so what was done cannot be told from the hub's record."""

    def __init__(self, lab):
        self.on, self.device, self.ok = "scope", "edge1", 200
        key = lab.hub_ctl("device.show", deviceId="edge1")[0]["authentication"]["symmetricKey"]["primaryKey"]
        self.h = https(lab, "edge1", key)
        self.request = ("GET", "/devices/edge1/modules/%24edgeHub/devicesAndModulesInDeviceScope?api-version=2018-08-30-preview", None)

    def done(self):
        return None

    def close(self):
        self.h.close()


class Method:
    """A device that answers each call and counts them."""

    def __init__(self, lab):
        self.child = lab.children()[2]
        self.on, self.device, self.ok, self.calls = "method", self.child["deviceId"], 200, 0
        self.c = lab.hub_login(self.child)
        self.c.subscribe(("$iothub/methods/POST/#", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        with lab.inside("hub"):
            self.h = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
        self.request = ("POST", f"/twins/{self.device}/methods", '{"methodName":"m","payload":1}')

    def _serve(self):
        try:
            while True:
                rid = self.c.message(60).topic.partition("?$rid=")[2]
                self.calls += 1
                self.c.publish(f"$iothub/methods/res/200/?$rid={rid}", "{}", 0)
        except (mqttwire.Closed, TimeoutError, OSError):
            pass

    def done(self):
        return self.calls

    def close(self):
        self.c.sock.shutdown(socket.SHUT_RDWR)	# wakes the thread; only then may the descriptor go
        self.thread.join(10)
        self.c.close()
        self.h.close()


@pytest.fixture(params=[Telemetry, Scope, Method])
def op(lab, request):
    o = request.param(lab)
    assert answer_of(o.h, *o.request)[0] == o.ok
    o.before = o.done()
    yield o
    o.close()


def was_done(op, times=1):
    return op.before is None or op.done() == op.before + times


def until_done(op):
    wait_for("the operation", 30, lambda: was_done(op))


def test_https_delay(lab, op):
    fault(lab, op.on, f"delay={LATE_MS}", device=op.device, count=1)
    status, seconds, _ = answer_of(op.h, *op.request)
    assert status == op.ok and seconds >= LATE and was_done(op)
    assert answer_of(op.h, *op.request)[0] == op.ok


def test_https_hang(lab, op):
    unanswered(lab, op, fault(lab, op.on, "hang", device=op.device, count=1))
    assert was_done(op, 0)


def test_https_drop(lab, op):
    fault(lab, op.on, "drop-connection", device=op.device, count=1)
    assert answer_of(op.h, *op.request)[0] is None
    assert was_done(op, 0)


@pytest.mark.parametrize("action,status,name", [("reject=503", 503, "ServiceUnavailable"), ("reject=404", 404, "DeviceNotFound"),
                                                ("throttle", 429, "ThrottlingException")])
def test_https_refused(lab, op, action, status, name):
    fault(lab, op.on, action, device=op.device, count=1)
    got, _, headers = answer_of(op.h, *op.request)
    assert got == status and headers["iothub-errorcode"] == name
    assert (headers.get("Retry-After") is not None) == (status == 429)
    assert was_done(op, 0)
    assert answer_of(op.h, *op.request)[0] == op.ok


@pytest.mark.parametrize("op", [Telemetry, Method], indirect=True)
def test_https_ack_late(lab, op):
    fault(lab, op.on, f"ack-late={LATE_MS}", device=op.device, count=1)
    status, seconds, _ = answer_of(op.h, *op.request)
    assert status == op.ok and seconds >= LATE and was_done(op)
    unanswered(lab, op, fault(lab, op.on, f"ack-late={DAY_MS}", device=op.device, count=1))
    wait_for("the operation, which does not wait", 30, lambda: was_done(op, 2))


@pytest.mark.parametrize("op", [Telemetry, Method], indirect=True)
def test_https_ack_never(lab, op):
    unanswered(lab, op, fault(lab, op.on, "ack-never", device=op.device, count=1))
    until_done(op)


def test_https_ack_twice(lab):
    o = Telemetry(lab)
    fault(lab, "telemetry", "ack-twice", device=o.device, count=1)
    sock = o.h.http.sock
    sock.sendall(f"POST {o.request[1]} HTTP/1.1\r\nHost: {HUB_NAME}\r\nAuthorization: {o.h.token}\r\n"
                 "Content-Length: 1\r\n\r\nx".encode())
    got = b""
    while got.count(b"HTTP/1.1 204") < 2:
        got += sock.recv(4096)
    o.h.close()
    assert o.done() == 1


# --- c2d and methods over the control socket ----------------------------------------------------------------------------------------

@pytest.fixture
def queue(lab, service):
    """(send, count) for one device's messages"""
    d = lab.children()[1]["deviceId"]
    service.call("DELETE", f"/devices/{d}/commands")
    path = f"/run/holdfast-lab/{lab.name}/hub.sock"

    def send_c2d(timeout=30):
        begin = time.monotonic()
        control.call(path, "c2d.send", {"deviceId": d, "data": "x"}, timeout)
        return time.monotonic() - begin

    return d, send_c2d, lambda: service.call("GET", f"/twins/{d}")[2]["cloudToDeviceMessageCount"]


def test_c2d_delay_and_late(lab, queue):
    d, send_c2d, count = queue
    for n, action in ((1, "delay"), (2, "ack-late")):
        fault(lab, "c2d", f"{action}={LATE_MS}", device=d, count=1)
        assert send_c2d() >= LATE and count() == n
    send_c2d()
    assert count() == 3


@pytest.mark.parametrize("action,n", [("hang", 0), ("ack-never", 1)])
def test_c2d_without_answer(lab, queue, action, n):
    d, send_c2d, count = queue
    rule = fault(lab, "c2d", action, device=d, count=1)
    with pytest.raises(TimeoutError):
        send_c2d(QUIET)
    until_hit(lab, rule)
    wait_for("its effect", 30, lambda: count() == n)


def test_c2d_refused(lab, queue):
    d, send_c2d, count = queue
    for action, error in (("drop-connection", ConnectionResetError), ("reject=403", control.Refused), ("throttle", control.Refused)):
        fault(lab, "c2d", action, device=d, count=1)
        with pytest.raises(error):
            send_c2d()
    assert count() == 0


def messages(lab):
    """The service SDK over AMQP."""
    s = lab.spawn("hub", "node", os.path.join(REPO, "tests", "sdk", "messages.js"), "amqp", lab.path("hub.json"))
    s.ask({"cmd": "open"}, "open", 60)
    return s


def test_c2d_from_the_service_sdk(lab, queue):
    """Over AMQP: an outcome that is late, bad or missing."""
    d, _, count = queue
    s = messages(lab)

    def send_c2d(event):
        start, begin = len(s.lines), time.monotonic()
        s.tell({"cmd": "send", "device": d, "body": "x"})
        line = s.wait_line(lambda o: o["event"] in ("sent", "failed"), 60, start)
        assert line["event"] == event, line
        return line, time.monotonic() - begin

    for n, action in ((1, "delay"), (2, "ack-late")):
        fault(lab, "c2d", f"{action}={LATE_MS}", device=d, count=1)
        assert send_c2d("sent")[1] >= LATE and count() == n
    rule = fault(lab, "c2d", "reject=404", device=d)
    assert send_c2d("failed")[0]["name"] == "DeviceNotFoundError" and count() == 2
    lab.hub_ctl("fault.clear", id=rule)
    for action, n in (("hang", 2), ("ack-never", 3)):
        rule = fault(lab, "c2d", action, device=d, count=1)
        start = len(s.lines)
        s.tell({"cmd": "send", "device": d, "body": "x"})
        until_hit(lab, rule)
        with pytest.raises(LabFailed):
            s.wait_line(lambda o: True, QUIET, start)
        wait_for("its effect", 30, lambda n=n: count() == n)
    rule = fault(lab, "c2d", "drop-connection", device=d, count=1)
    s.tell({"cmd": "send", "device": d, "body": "x"})
    until_hit(lab, rule)
    s.kill()


def test_the_service_sdk_sends_again_what_was_throttled(lab, early):
    """By itself, after ten seconds."""
    early[2].wait_line(lambda o: o["event"] == "sent", 60)
    assert lab.hub_ctl("twin.show", deviceId=lab.children()[4]["deviceId"])[0]["cloudToDeviceMessageCount"] == 1


def test_method_over_the_control_socket(lab):
    m = Method(lab)
    fault(lab, "method", f"delay={LATE_MS}", device=m.device, count=1)
    fault(lab, "method", "reject=504", device=m.device, count=1)
    begin = time.monotonic()
    assert lab.hub_ctl("method.invoke", deviceId=m.device, methodName="m")[0]["status"] == 200
    assert time.monotonic() - begin >= LATE and m.calls == 1
    with pytest.raises(control.Refused):
        lab.hub_ctl("method.invoke", deviceId=m.device, methodName="m")
    assert m.calls == 1
    m.close()


# --- rules ------------------------------------------------------------------------------------------------------------------------

def test_rate_count_and_device(lab, child, device):
    start = next_seq(lab)
    rule = fault(lab, "telemetry", "ack-never", device=child["deviceId"], rate=50)
    other = lab.children()[1]
    with lab.hub_login(other) as c:
        for text in "wxyz":
            c.wait_puback(send(c, other, text))
    mids = [send(device, child, text) for text in "abcdef"]
    assert acks(device, 3) == mids[::2]	# every second one is hit
    assert hits(lab, rule) == 3
    lab.hub_ctl("fault.clear", id=rule)
    assert bodies(lab, start) == list("wxyz") + list("abcdef")


def test_the_command_line(lab, child, device):
    def cli(*args):
        return lab.exec("hub", "holdfast-hub", "fault", *args).stdout

    cli("add", "--on", "telemetry", "--action", "ack-late=200", "--device", child["deviceId"], "--rate", "100", "--count", "2")
    cli("add", "--on", "scope", "--action", "throttle")
    device.wait_puback(send(device, child, "one"))
    rules = lab.hub_ctl("fault.list")
    assert [(r["on"], r["action"], r["device"], r["rate"], r["count"], r["hits"]) for r in rules] == [
        ("telemetry", "ack-late=200", child["deviceId"], 100, 1, 1), ("scope", "throttle", None, 100, None, 0)]
    assert "ack-late=200" in cli("list")
    cli("clear", str(rules[0]["id"]))
    assert [r["on"] for r in lab.hub_ctl("fault.list")] == ["scope"]
    cli("clear")
    assert lab.hub_ctl("fault.list") == []
    wrong = lab.exec("hub", "holdfast-hub", "fault", "add", "--on", "scope", "--action", "ack-late=5", check=False)
    assert wrong.returncode == 1 and "valid there" in wrong.stderr
    assert lab.hub_ctl("counters")[0]["faults_total"] > 0


def test_waiting_connections_may_leave(lab, child):
    """Nothing is left behind by clients that do not wait."""
    start = next_seq(lab)
    fault(lab, "telemetry", "delay=86400000", device=child["deviceId"])
    fault(lab, "twin", "ack-late=86400000", device=child["deviceId"])
    for _ in range(5):
        c = lab.hub_login(child)
        c.subscribe(("$iothub/twin/res/#", 0))
        ask(c, "1")
        send(c, child, "x")
        c.close()
    lab.hub_ctl("fault.clear")
    with lab.hub_login(child) as c:	# takes the last one's place
        c.wait_puback(send(c, child, "y"))
    assert bodies(lab, start) == ["y"]


def test_no_sanitizer_report(lab):
    lab.hub("restart")
    assert "ERROR: " not in lab.log("hub") and "runtime error" not in lab.log("hub"), lab.log("hub")[-3000:]
