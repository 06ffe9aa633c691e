# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's AMQP port as devices use it, link by link: what the SDKs of other languages do and Node does not."""
import hashlib
import json
import ssl
import subprocess
import time
import uuid

import amqpwire
import judge
import pytest
from amqpwire import Closed, Refused
from labctl import wait_for
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME
from proton import Delivery, Link, Message, symbol

pytestmark = pytest.mark.hub
LAB = {"children": 12, "modules": 1, "build": "asan"}
READER = HUB_NAME.split(".", maxsplit=1)[0] + "/ConsumerGroups/$Default/Partitions/0"
DAY_MS = 86400000	# what is to be looked at before it ends: nobody waits for that
EVENTS, DESIRED = "/devices/{}/messages/events", "/notifications/twin/properties/desired"


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    """It holds the modules' identities too."""
    lab.gw("kill")


@pytest.fixture
def connect(lab):
    made = []

    def start(**kw):
        with lab.inside("hub"):
            made.append(amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP, **kw)))
        return made[-1]
    yield start
    for c in made:
        c.sock.close()


def token(row, **kw):
    path = f"{HUB_NAME}/devices/{row['deviceId']}" + (f"/modules/{row['moduleId']}" if "moduleId" in row else "")
    return sas_token(row["primaryKey"], path, **kw)


def policy_token(lab, name, **kw):
    key = lab.hub_ctl("policy.show", name=name)[0]["primaryKey"]
    return sas_token(key, kw.pop("resource", HUB_NAME), policy=name, **kw)


def login(connect, row, **kw):
    c = connect().open()
    assert c.cbs(token(row, **kw))[0] == 200
    return c


def counter(lab, name):
    return {k: v for r in lab.hub_ctl("counters") for k, v in r.items()}[name]


def next_seq(lab):
    return lab.hub_ctl("status")[0]["nextSequence"]


def bodies(lab, start):
    return [judge.body_of(e).decode() for e in lab.events(start)]


class Early:
    """What takes its time goes on while other tests run, with devices of its own; judged it is at the end of this file."""

    def __init__(self, lab):
        self.lab, self.rows = lab, dict(zip(("plain", "ended", "renewed", "reader", "waiting", "cut"), lab.children()[6:12]))
        with lab.inside("hub"):
            self.plain, self.both, self.policy, self.waiting, self.cut = self.made = [
                amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)) for _ in range(5)]
        self.plain.sasl("PLAIN", plain(f"{self.ident('plain')}@sas.hub", token(self.rows["plain"], seconds=8)))
        for c in self.made:
            c.open()
        for name in ("ended", "renewed"):
            assert self.both.cbs(token(self.rows[name], seconds=8))[0] == 200
        self.ended, self.renewed = (self.both.sender(EVENTS.format(self.ident(name))) for name in ("ended", "renewed"))
        assert self.both.cbs(token(self.rows["renewed"], seconds=600))[0] == 200
        self._policy()
        self._waiting()
        self._cut()
        self.over = time.monotonic() + 15.5	# then both delays are

    def ident(self, name):
        return self.rows[name]["deviceId"]

    def _policy(self):
        c = self.policy
        assert c.cbs(policy_token(self.lab, "iothubowner", seconds=8))[0] == 200
        self.links = [c.receiver(READER), c.receiver("/messages/servicebound/feedback"), c.receiver("/messages/servicebound/filenotifications"),
                      c.sender("/messages/devicebound"), c.sender("$management"), c.receiver("$management"),
                      c.sender(EVENTS.format(self.ident("reader")))]

    def _waiting(self):
        """An attach that its rule lets wait for longer than the token lives."""
        self._rule("connect", "delay=15000", "waiting")
        assert self.waiting.cbs(policy_token(self.lab, "device", seconds=4))[0] == 200
        self.attach = self.waiting.sender(EVENTS.format(self.ident("waiting")), wait=False)
        self.waiting.pump(self._met)

    def _cut(self):
        """A delayed message of somebody whose link ends meanwhile."""
        assert self.cut.cbs(token(self.rows["cut"]))[0] == 200
        assert self.cut.cbs(token(self.rows["plain"]))[0] == 200	# or the connection would end with the link
        self._rule("telemetry", "delay=15000", "cut")
        self.link = self.cut.sender(EVENTS.format(self.ident("cut")))
        self.cut.start(self.link, Message(body=b"delayed", inferred=True))
        self.cut.pump(self._met)
        self.lab.hub_ctl("clients.disconnect", deviceId=self.ident("cut"))
        self.cut.pump(lambda: self.link.state & self.link.REMOTE_CLOSED)	# and no answer to it

    def _rule(self, on, action, name):
        self.lab.hub_ctl("fault.add", on=on, action=action, device=self.ident(name), count=1)

    def _met(self):
        return not self.lab.hub_ctl("fault.list")


@pytest.fixture(scope="module", autouse=True)
def early(lab, no_gateway):
    e = Early(lab)
    yield e
    for c in e.made:
        c.sock.close()


# --- how connections begin -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism,response", [("MSSBCBS", None), ("MSSBCBS", b""), ("ANONYMOUS", b"\0who"), (None, None)])
def test_a_token_comes_over_cbs_after_any_start(lab, connect, mechanism, response):
    c, row = connect(), lab.children()[0]
    if mechanism:
        offered = c.sasl(mechanism, response)
        assert all(m in offered for m in (b"MSSBCBS", b"PLAIN", b"ANONYMOUS", b"EXTERNAL"))
    c.open()
    for mid in ("text", uuid.uuid4()):
        status, _, reply = c.cbs(token(row), message_id=mid)
        assert (status, reply.correlation_id, type(reply.correlation_id)) == (200, mid, type(mid))
    start = next_seq(lab)
    assert c.send(c.sender(EVENTS.format("dev0")), Message(body=b"in", inferred=True)) == ("accepted", None)
    assert bodies(lab, start) == ["in"]
    c.close()


def plain(user, password):
    return b"\0" + user.encode() + b"\0" + password.encode()


def test_plain_carries_the_token_of_a_device_or_policy(lab, connect):
    row = lab.children()[0]
    c = connect()
    c.sasl("PLAIN", plain("dev0@sas.hub", token(row)))
    c.open()
    assert c.send(c.sender(EVENTS.format("dev0")), Message(body=b"plain", inferred=True))[0] == "accepted"
    with pytest.raises(Refused):
        c.sender(EVENTS.format("dev1"))
    s = connect()
    s.sasl("PLAIN", plain("service@sas.root.hub", policy_token(lab, "service")))
    s.open().receiver("/messages/servicebound/feedback")


@pytest.mark.parametrize("user,who", [("dev0@sas.other", "dev0"), ("dev1@sas.hub", "dev0"), ("dev0", "dev0"), ("dev0@sas.hub", None),
                                      ("service@sas.hub", "service"), ("device@sas.root.hub", "service")])
def test_plain_refuses_what_does_not_fit(lab, connect, user, who):
    rows = {r["deviceId"]: token(r) for r in lab.children()} | {"service": policy_token(lab, "service"), None: "nonsense"}
    before = counter(lab, "auth_refused_total")
    with pytest.raises(Closed):
        connect().sasl("PLAIN", plain(user, rows[who]))
    assert counter(lab, "auth_refused_total") == before + 1


def test_external_wants_a_certificate(lab, connect, tmp_path):
    with pytest.raises(Closed):
        connect().sasl("EXTERNAL", b"")
    key, cert = str(tmp_path / "x.key"), str(tmp_path / "x.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", cert, "-subj", "/CN=x"], check=True, capture_output=True)
    with open(cert, encoding="ascii") as f:
        thumb = hashlib.sha1(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()
    lab.exec("hub", "holdfast-hub", "device", "create", "-d", "x", "--am", "x509_thumbprint", "--ptp", thumb)
    c = connect(cert=cert, key=key)
    c.sasl("EXTERNAL", b"")
    assert c.open().send(c.sender(EVENTS.format("x")), Message(body=b"x", inferred=True))[0] == "accepted"
    with pytest.raises(Refused) as e:
        c.sender(EVENTS.format("dev0"))
    assert e.value.condition == "amqp:unauthorized-access"


def test_bad_tokens_are_answered_with_a_status(lab, connect):
    c, row = connect().open(), lab.children()[0]
    good = token(row)
    assert c.cbs(good.replace("sig=", "sig=AAAA"))[0] == 401
    assert c.cbs(token(row, expiry=1))[0] == 401
    assert c.cbs(sas_token(row["primaryKey"], f"{HUB_NAME}/devices/nobody"))[0] == 404
    assert c.cbs(sas_token(row["primaryKey"], "other.example/devices/dev0"))[0] == 401
    assert c.cbs("")[0] == 400
    assert c.cbs(good, kind="something")[0] == 400
    assert c.cbs("Bearer x", kind="jwt")[0] == 401
    assert c.cbs(good, operation="drop-token")[0] == 400
    with pytest.raises(Refused) as e:
        c.sender(EVENTS.format("dev0"))
    assert (e.value.condition, e.value.null) == ("amqp:unauthorized-access", True)
    assert c.cbs(good, kind="amqp:sastoken")[0] == 200
    c.sender(EVENTS.format("dev0"))


# --- addresses, links, identities ------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["amqps://{h}/devices/dev0/messages/events", "amqps://{h}:5671/devices/dev0/Messages/Events",
                                     "devices/dev0/messages/events", "/DEVICES/dev0/messages/events", "/devices/de%760/messages/events"])
def test_addresses_as_clients_write_them(lab, connect, address):
    c = login(connect, lab.children()[0])
    s = c.sender(address.format(h=HUB_NAME))
    assert s.remote_target.address == address.format(h=HUB_NAME)
    assert s.remote_max_message_size == 262144
    assert c.send(s, Message(body=b"x", inferred=True))[0] == "accepted"


@pytest.mark.parametrize("address,condition", [
    ("/devices/DEV0/messages/events", "amqp:unauthorized-access"), ("/devices/dev1/messages/events", "amqp:unauthorized-access"),
    ("/devices/dev0/modules/m/messages/events", "amqp:unauthorized-access"), ("/devices/dev0/nothing", "amqp:not-found"),
    ("/messages/nowhere", "amqp:not-found"), ("", "amqp:not-found"), ("/devices", "amqp:not-found"),
    ("/devices/" + "x" * 2000, "amqp:not-found"), ("/" * 50, "amqp:not-found"), ("/devices/dev0%2Fx/messages/events", "amqp:not-found")])
def test_refused_links_have_null_termini_and_harm_no_other(lab, connect, address, condition):
    c = login(connect, lab.children()[0])
    s = c.sender(EVENTS.format("dev0"))
    before = counter(lab, "amqp_links_refused_total")
    with pytest.raises(Refused) as e:
        c.sender(address)
    assert (e.value.condition, e.value.null) == (condition, True)
    assert counter(lab, "amqp_links_refused_total") == before + 1
    assert c.send(s, Message(body=b"still here", inferred=True))[0] == "accepted"


def test_ids_are_decoded_or_taken_as_they_are(lab, connect, service):
    for ident in ("sp!(1)", "100%", "a%41"):
        status, _, doc = service.call("PUT", "/devices/" + "".join(f"%{b:02x}" for b in ident.encode()), {"deviceId": ident})
        assert status == 200, doc
        row = {"deviceId": ident, "primaryKey": doc["authentication"]["symmetricKey"]["primaryKey"]}
        c, start = login(connect, row), next_seq(lab)
        for form in (ident, ident.replace("%", "%25").replace("!", "%21")):
            assert c.send(c.sender(EVENTS.format(form)), Message(body=b"x", inferred=True))[0] == "accepted"
        assert [e["deviceId"] for e in lab.events(start)] == [ident] * 2


def test_many_identities_share_a_connection_and_fail_alone(lab, connect, service):
    rows = lab.children()[:3]
    c = connect().open()
    for row in rows:
        assert c.cbs(token(row))[0] == 200
    senders = [c.sender(EVENTS.format(r["deviceId"]), session=c.session()) for r in rows]
    listed = [x["id"] for x in lab.hub_ctl("clients.list") if x["protocol"] == "amqp" and x["id"] in ("dev0", "dev1", "dev2")]
    assert sorted(listed) == ["dev0", "dev1", "dev2"]
    doc = service.call("GET", "/devices/dev1")[2]
    try:
        assert service.call("PUT", "/devices/dev1", {**doc, "status": "disabled"}, {"If-Match": "*"})[0] == 200
        assert c.detached(senders[1]) == "amqp:link:detach-forced"
        start = next_seq(lab)
        for i in (0, 2):
            assert c.send(senders[i], Message(body=f"from {i}".encode(), inferred=True))[0] == "accepted"
        assert bodies(lab, start) == ["from 0", "from 2"]
        assert c.cbs(token(rows[1]))[0] == 401
        with pytest.raises(Refused):
            c.sender(EVENTS.format("dev1"))
    finally:
        assert service.call("PUT", "/devices/dev1", {**doc, "status": "enabled"}, {"If-Match": "*"})[0] == 200
    assert c.cbs(token(rows[1]))[0] == 200
    c.sender(EVENTS.format("dev1"))


def test_one_policy_token_serves_all_devices(lab, connect):
    c = connect().open()
    assert c.cbs(policy_token(lab, "device", resource=f"{HUB_NAME}/devices"))[0] == 200
    start = next_seq(lab)
    for ident in ("dev0", "dev1"):
        assert c.send(c.sender(EVENTS.format(ident)), Message(body=ident.encode(), inferred=True))[0] == "accepted"
    assert bodies(lab, start) == ["dev0", "dev1"]
    with pytest.raises(Refused) as e:
        c.receiver("/messages/servicebound/feedback")
    assert e.value.condition == "amqp:unauthorized-access"
    with pytest.raises(Refused) as e:
        c.sender(EVENTS.format("nobody"))
    assert e.value.condition == "amqp:not-found"


def test_a_gateway_acts_for_its_children(lab, connect):
    """By the chain on their links, as long as they are its children."""
    with open(lab.path("gw.connection-string"), encoding="ascii") as f:
        key = dict(p.split("=", 1) for p in f.read().strip().split(";"))["SharedAccessKey"]
    c = connect().open()
    assert c.cbs(sas_token(key, f"{HUB_NAME}/devices/edge1/modules/%24edgeHub"))[0] == 200
    chain = {"com.microsoft:auth-chain": "dev0;edge1"}
    s = c.sender(EVENTS.format("dev0"), properties=chain)
    assert c.send(s, Message(body=b"for the child", inferred=True))[0] == "accepted"
    for address, props in ((EVENTS.format("dev0"), None), (EVENTS.format("dev1"), chain)):
        with pytest.raises(Refused) as e:
            c.sender(address, properties=props)
        assert e.value.condition == "amqp:unauthorized-access"
    lab.exec("hub", "holdfast-hub", "device", "remove-children", "-d", "edge1", "--child-list", "dev0")
    try:
        assert c.detached(s) == "amqp:link:detach-forced"
        with pytest.raises(Refused):
            c.sender(EVENTS.format("dev0"), properties=chain)
    finally:
        lab.exec("hub", "holdfast-hub", "device", "set-parent", "-d", "dev0", "--parent-device-id", "edge1")


def test_the_only_identity_of_a_connection_takes_it_along(lab, connect):
    c = login(connect, lab.children()[3])
    c.sender(EVENTS.format("dev3"))
    lab.exec("hub", "holdfast-hub", "clients", "disconnect", "-d", "dev3")
    assert c.closed() is None and c.eof


def test_a_newer_link_steals(lab, connect):
    old, new = login(connect, lab.children()[0]), login(connect, lab.children()[0])
    a, twin = old.receiver("/devices/dev0/messages/devicebound"), old.receiver("/devices/dev0/twin")
    b = new.receiver("/devices/dev0/messages/devicebound")
    assert old.detached(a) == "amqp:link:stolen"
    lab.exec("hub", "holdfast-hub", "c2d", "send", "-d", "dev0", "--data", "for the new one")
    m, d = new.receive(b)
    assert bytes(m.body) == b"for the new one"
    new.settle(d)
    twin.flow(1)
    old.idle(0.2)		# no other kind of link was touched
    assert not twin.state & twin.REMOTE_CLOSED


def test_management_requests_name_their_receiver(lab, connect):
    c, before = connect().open(), counter(lab, "amqp_rejected_total")
    assert c.cbs(policy_token(lab, "service"))[0] == 200
    request = Message(body=b"[]", inferred=True, id="1", reply_to="nobody", properties={"operation": "READ"})
    assert c.send(c.sender("$management"), request) == ("rejected", "amqp:not-found")
    assert counter(lab, "amqp_rejected_total") == before + 1


# --- telemetry ----------------------------------------------------------------------------------------------------


def test_properties_of_a_message(lab, connect):
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    m = Message(body=b"{}", inferred=True)
    m.id, m.correlation_id = uuid.UUID("c9b1f2ae-1111-4222-8333-444455556666"), "cid"
    m.content_type, m.content_encoding, m.user_id = symbol("application/json"), symbol("utf-8"), b"me"
    m.properties = {"text": "a b", "int": 5, "bool": True, "iothub-creation-time-utc": "2026-01-31T10:00:00Z"}
    m.annotations = {symbol("dt-subject"): "thermostat", symbol("iothub-connection-device-id"): "forged"}
    assert c.send(c.sender(EVENTS.format("dev0")), m) == ("accepted", None)
    e = lab.events(start)[0]
    system = e["systemProperties"]
    assert system["messageId"] == "c9b1f2ae-1111-4222-8333-444455556666" and system["correlationId"] == "cid"
    assert system["contentType"] == "application/json" and system["contentEncoding"] == "utf-8"
    assert system["iothub-connection-device-id"] == "dev0" and system["dt-subject"] == "thermostat"
    assert e["properties"] == {"text": "a b", "int": "5", "bool": "true"}
    assert json.loads(system["iothub-connection-auth-method"])["type"] == "sas"


def test_bodies_of_every_kind(lab, connect):
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    s = c.sender(EVENTS.format("dev0"))
    two = b"\x00\x53\x75\xa0\x02ab\x00\x53\x75\xa0\x02cd"
    for message in (Message(body="text"), Message(body=b"binary"), two, Message(body=b"", inferred=True)):
        assert c.send(s, message) == ("accepted", None)
    assert bodies(lab, start) == ["text", "binary", "abcd", ""]
    assert c.send(s, Message(body={"a": 1})) == ("rejected", "com.microsoft:argument-error")


def test_a_batch_is_taken_as_a_whole_or_not_at_all(lab, connect):
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    s = c.sender(EVENTS.format("dev0"))
    good = [Message(body=f"part {i}".encode(), inferred=True, properties={"n": i}) for i in range(5)]
    assert c.send_batch(s, good) == ("accepted", None)
    events = lab.events(start)
    assert [judge.body_of(e).decode() for e in events] == [f"part {i}" for i in range(5)]
    assert [e["properties"]["n"] for e in events] == ["0", "1", "2", "3", "4"]
    assert c.send_batch(s, good + [b"\x00\x53\x75"]) == ("rejected", "com.microsoft:argument-error")
    assert c.send_batch(s, good + [Message(body={"no": "map"})])[0] == "rejected"
    large = [Message(body=b"x" * 100000, inferred=True)] * 3
    assert c.send_batch(s, large) == ("rejected", "amqp:link:message-size-exceeded")
    assert c.send(s, good[0]) == ("accepted", None)	# a message like any other again
    assert len(lab.events(start)) == 6


def test_batches_have_a_limit(lab, connect):
    """Also those of messages without bytes that count."""
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    s = c.sender(EVENTS.format("dev0"))
    empty = b"\x00\x53\x75\xa0\x00"
    assert c.send_batch(s, [empty] * 8193) == ("rejected", "amqp:link:message-size-exceeded")
    assert next_seq(lab) == start
    assert c.send_batch(s, [empty] * 8192) == ("accepted", None)
    assert next_seq(lab) == start + 8192


def test_sizes(lab, connect):
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    s = c.sender(EVENTS.format("dev0"))
    assert c.send(s, Message(body=b"x" * 262144, inferred=True)) == ("accepted", None)
    assert c.send(s, Message(body=b"x" * 262145, inferred=True)) == ("rejected", "amqp:link:message-size-exceeded")
    assert c.send(s, Message(body=b"x" * 262140, inferred=True, properties={"k": "v"})) == ("accepted", None)
    assert c.send(s, Message(body=b"x" * 262140, inferred=True, properties={"k": "vvvv"}))[0] == "rejected"
    before = counter(lab, "amqp_limit_total")
    c.start(s, Message(body=b"x" * (2 << 20), inferred=True))
    assert c.detached(s) == "amqp:link:message-size-exceeded"
    assert counter(lab, "amqp_limit_total") == before + 1
    assert len(lab.events(start)) == 2


def test_presettled_messages_and_a_sender_that_wants_to_settle_second(lab, connect):
    c, start = login(connect, lab.children()[0]), next_seq(lab)
    s = c.sender(EVENTS.format("dev0"), snd=Link.SND_SETTLED)
    c.start(s, Message(body=b"fire", inferred=True), settled=True)
    second = c.sender("/devices/dev0/messages/events", rcv=Link.RCV_SECOND)
    assert c.send(second, Message(body=b"answered", inferred=True))[0] == "accepted"
    assert bodies(lab, start) == ["fire", "answered"]


def test_modules_send_to_outputs_and_listen_to_inputs(lab, connect):
    row = lab.json("modules.json")[0]
    c, start = login(connect, row), next_seq(lab)
    base = f"/devices/{row['deviceId']}/modules/{row['moduleId']}"
    s = c.sender(f"{base}/messages/events")
    c.receiver(f"{base}/messages/events")
    assert c.send(s, Message(body=b"out", inferred=True, properties={"iothub-outputname": "o1"}))[0] == "accepted"
    e = lab.events(start)[0]
    assert (e["deviceId"], e["moduleId"]) == (row["deviceId"], row["moduleId"])
    silent = c.receiver(f"{base}/messages/devicebound")		# Java's ModuleClient opens it; nothing ever comes
    assert c.receiver(f"{base}/twin").state & silent.REMOTE_ACTIVE and silent.state & silent.REMOTE_ACTIVE
    d = login(connect, lab.children()[0])
    with pytest.raises(Refused) as e:
        d.receiver(EVENTS.format("dev0"))
    assert e.value.condition == "amqp:not-allowed"


# --- what other families of clients need ---------------------------------------------------------------------------------

FIELDS = {0x10: 10, 0x11: 8, 0x12: 14, 0x13: 11, 0x14: 11, 0x15: 6, 0x16: 3, 0x17: 1, 0x18: 1}
TRANSFER, DISPOSITION = 0x14, 0x15


def test_performatives_have_all_their_fields(lab, connect):
    """azure-eventhub reads them by position."""
    c = login(connect, lab.children()[0])
    s = c.sender(EVENTS.format("dev0"))
    assert c.send(s, Message(body=b"x", inferred=True))[0] == "accepted"
    s.close()
    c.detached(s)
    c.close()
    assert {code for code, _ in c.frames} >= {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x18}
    assert [(f"{code:#x}", n) for code, n in c.frames if n != FIELDS[code]] == []


def test_a_request_is_settled_before_its_answer(lab, connect):
    """The C SDK takes an answer that comes before for a failure (iothub-protocol 9.6)."""
    row = lab.children()[0]
    c = connect().open()

    def order():
        seen = [code for code, _ in c.frames if code in (TRANSFER, DISPOSITION)]
        c.frames.clear()
        return seen
    for _ in range(20):
        assert c.cbs(token(row))[0] == 200
        assert order() == [DISPOSITION, TRANSFER]
    requests, replies = c.sender("/devices/dev0/twin"), c.receiver("/devices/dev0/twin", credit=40)
    desired, reported = "/notifications/twin/properties/desired", "/properties/reported"
    for n, (operation, resource, body) in enumerate([("GET", "", b""), ("PATCH", reported, b'{"order":1}'), ("PUT", desired, b""),
                                                     ("DELETE", desired, b""), ("GET", "", b"")] * 5):
        m = Message(body=body, inferred=True, correlation_id=f"twin{n}")
        m.annotations = {symbol("operation"): operation, symbol("resource"): resource}
        assert c.send(requests, m)[0] == "accepted"
        c.receive(replies)
        assert order() == [DISPOSITION, TRANSFER]
    service = connect().open()
    c = service
    assert c.cbs(policy_token(lab, "service"))[0] == 200
    requests, replies = c.sender("$management"), c.receiver("$management")
    order()
    for n in range(20):
        m = Message(reply_to=replies.target.address or "", id=f"m{n}",
                    properties={"operation": "READ", "type": "com.microsoft:eventhub", "name": HUB_NAME.split(".", maxsplit=1)[0]})
        assert c.send(requests, m)[0] == "accepted"
        c.receive(replies)
        assert order() == [DISPOSITION, TRANSFER]


def test_texts_and_addresses_of_event_hub_clients(lab, connect):
    """They match on the texts; JavaScript's event-hubs 2 attaches a sender to the old address first."""
    c, short = connect().open(), HUB_NAME.split(".", maxsplit=1)[0]
    assert c.cbs(policy_token(lab, "service"))[0] == 200
    for address, text in (("other/ConsumerGroups/$Default/Partitions/0", "The messaging entity 'other' could not be found"),
                          (f"{short}/ConsumerGroups/$Default/Partitions/9",
                           "The specified partition is invalid for an EventHub partition sender or receiver")):
        with pytest.raises(Refused) as e:
            c.receiver(address)
        assert e.value.text.startswith(text)
    with pytest.raises(Refused) as e:
        c.sender("messages/events/$management")
    assert e.value.condition == "amqp:link:redirect"
    requests, replies = c.sender("$management"), c.receiver("$management")
    assert c.send(requests, Message(id="m", properties={"operation": "READ", "type": "com.microsoft:eventhub", "name": "other"}))[0] == "accepted"
    assert c.receive(replies)[0].properties["status-description"] == "The messaging entity 'other' could not be found"


def test_a_token_for_the_events_alone(lab, connect):
    c = connect().open()
    assert c.cbs(policy_token(lab, "service", resource=f"{HUB_NAME}/messages/events"))[0] == 200
    c.receiver(READER)


def test_messages_have_no_empty_sections(lab, connect):
    c = connect().open()
    assert c.cbs(token(lab.children()[0]))[0] == 200
    raw = []
    c.on_encoded = raw.append
    requests, replies = c.sender("/devices/dev0/twin"), c.receiver("/devices/dev0/twin")
    m = Message(body=b"", inferred=True, correlation_id="get")
    m.annotations = {symbol("operation"): "GET"}
    assert c.send(requests, m)[0] == "accepted"
    c.receive(replies)
    assert raw and all(b"\x00\x53\x70\x45" not in r and b"\x00\x53\x73\x45" not in r for r in raw)


# --- C2D -----------------------------------------------------------------------------------------------------------


def queued(lab, ident):
    return lab.hub_ctl("device.show", deviceId=ident)[0]["cloudToDeviceMessageCount"]


def c2d(lab, text, ident="dev4"):
    lab.exec("hub", "holdfast-hub", "c2d", "send", "-d", ident, "--data", text)


def test_outcomes_of_c2d(lab, connect):
    c = login(connect, lab.children()[4])
    r = c.receiver("/devices/dev4/messages/devicebound")
    c2d(lab, "one")
    m, d = c.receive(r)
    assert (bytes(m.body), m.address) == (b"one", "/devices/dev4/messages/devicebound")
    assert m.annotations[symbol("iothub-deliverycount")] == 0
    assert len(d.tag.encode("utf-8", "surrogateescape") if isinstance(d.tag, str) else d.tag) >= 16
    lock = m.annotations[symbol("x-opt-lock-token")]
    c.settle(d, Delivery.RELEASED)
    m, d = c.receive(r)
    assert bytes(m.body) == b"one" and m.annotations[symbol("iothub-deliverycount")] == 1
    assert m.annotations[symbol("x-opt-lock-token")] != lock
    d.local.failed = True
    c.settle(d, Delivery.MODIFIED)
    m, d = c.receive(r)
    assert m.annotations[symbol("iothub-deliverycount")] == 2
    c.settle(d, Delivery.ACCEPTED)
    wait_for("the queue to be empty", 30, lambda: queued(lab, "dev4") == 0)
    c2d(lab, "two")
    dead = counter(lab, "c2d_dead_total")
    c.settle(c.receive(r)[1], Delivery.REJECTED)
    wait_for("the message to be dead", 30, lambda: counter(lab, "c2d_dead_total") == dead + 1)


def test_a_receiver_that_settles_second_gets_an_answer(lab, connect):
    c = login(connect, lab.children()[4])
    r = c.receiver("/devices/dev4/messages/devicebound", rcv=Link.RCV_SECOND)
    c2d(lab, "second")
    _, d = c.receive(r)
    d.update(Delivery.ACCEPTED)
    c.pump(lambda: d.settled)
    assert d.remote_state == Delivery.ACCEPTED and queued(lab, "dev4") == 0


def test_detach_gives_back_what_is_locked(lab, connect):
    c = login(connect, lab.children()[4])
    r = c.receiver("/devices/dev4/messages/devicebound", credit=1)
    c2d(lab, "first")
    c2d(lab, "behind")
    c.receive(r)
    r.close()
    again = c.receiver("/devices/dev4/messages/devicebound")
    got = [c.receive(again) for _ in range(2)]
    assert [bytes(m.body) for m, _ in got] == [b"first", b"behind"]
    assert got[0][0].annotations[symbol("iothub-deliverycount")] == 0
    for _, d in got:
        c.settle(d)
    wait_for("the queue to be empty", 30, lambda: queued(lab, "dev4") == 0)


def test_a_receiver_of_settled_messages_completes_them_at_once(lab, connect):
    c = login(connect, lab.children()[4])
    r = c.receiver("/devices/dev4/messages/devicebound", snd=Link.SND_SETTLED)
    c2d(lab, "gone")
    assert bytes(c.receive(r)[0].body) == b"gone"
    assert queued(lab, "dev4") == 0


# --- twins and methods ----------------------------------------------------------------------------------------------


class Twin:
    def __init__(self, c, ident, **kw):
        props = {"com.microsoft:api-version": "2021-04-12", "com.microsoft:channel-correlation-id": "twin:1"}
        self.c = c
        self.out = c.sender(f"/devices/{ident}/twin", properties=props, snd=Link.SND_SETTLED)
        self.back = c.receiver(f"/devices/{ident}/twin", properties=props, snd=Link.SND_SETTLED, **kw)

    def request(self, operation, resource=None, body=b" ", cid="cid-1"):
        m = Message(body=body, inferred=True, correlation_id=cid)
        m.annotations = {symbol("operation"): operation} | ({symbol("resource"): resource} if resource else {})
        self.c.start(self.out, m, settled=True)

    def ask(self, *args, **kw):
        self.request(*args, **kw)
        m, _ = self.c.receive(self.back)
        assert m.correlation_id == kw.get("cid", "cid-1")
        return m.annotations[symbol("status")], m.annotations.get(symbol("version")), bytes(m.body)


def test_twin_over_a_pair_of_links(lab, connect):
    t = Twin(login(connect, lab.children()[5]), "dev5")
    status, _, body = t.ask("GET")
    assert status == 200 and json.loads(body)["desired"]["$version"] == 1
    status, version, body = t.ask("PATCH", "/properties/reported", b'{"a":{"b":1}}', cid="with version")
    assert (status, version, body) == (200, 2, b"")
    assert t.ask("PUT", DESIRED)[0] == 200
    lab.exec("hub", "holdfast-hub", "twin", "update", "-d", "dev5", "--desired", '{"x":5}')
    m, _ = t.c.receive(t.back)
    assert m.correlation_id is None and m.annotations == {symbol("resource"): DESIRED, symbol("version"): 2}
    assert json.loads(bytes(m.body)) == {"x": 5, "$version": 2}
    lab.hub_ctl("twin.update", deviceId="dev5", desired={"y": {"z": 1}}, replace=True)
    m, _ = t.c.receive(t.back)
    assert json.loads(bytes(m.body)) == {"x": None, "y": {"z": 1}, "$version": 3}
    full = [{f"{c}{i:03x}": "" for i in range(3200)} for c in "pq"]
    for n, desired in enumerate(full):	# two full sections, one going, one coming: the largest notification
        lab.hub_ctl("twin.update", deviceId="dev5", desired=desired, replace=True)
        m, _ = t.c.receive(t.back)
        gone = dict.fromkeys(full[0]) if n else {"y": None}
        assert json.loads(bytes(m.body)) == {**gone, **desired, "$version": 4 + n}
    lab.hub_ctl("twin.update", deviceId="dev5", desired={"y": {"z": 1}}, replace=True)
    t.c.receive(t.back)
    assert t.ask("DELETE", DESIRED)[0] == 200
    lab.exec("hub", "holdfast-hub", "twin", "update", "-d", "dev5", "--desired", '{"x":6}')
    status, _, body = t.ask("GET")		# no patch came in between
    assert json.loads(body)["desired"] == {"x": 6, "y": {"z": 1}, "$version": 7}


@pytest.mark.parametrize("operation,resource,body", [
    ("PATCH", "/properties/reported", b"not json"), ("PATCH", "/properties/reported", b"[1]"), ("PATCH", "/properties/reported", b""),
    ("PATCH", "/properties/desired", b"{}"), ("PATCH", None, b"{}"), ("POST", None, b""), ("PUT", "/elsewhere", b""),
    ("PATCH", "/properties/reported", b'{"a":' * 12 + b"1" + b"}" * 12), ("PATCH", "/properties/reported", b'{"a":"' + b"x" * 40000 + b'"}')])
def test_twin_errors_are_json(lab, connect, operation, resource, body):
    t = Twin(login(connect, lab.children()[5]), "dev5")
    status, _, answer = t.ask(operation, resource, body)
    assert status in (400, 413) and json.loads(answer)["errorCode"] // 1000 == status
    assert t.ask("GET")[0] == 200


def test_replies_wait_for_credit(lab, connect):
    t = Twin(login(connect, lab.children()[5]), "dev5", credit=0)
    t.request("GET")
    t.c.idle(0.3)
    assert not t.c.inbox.get(t.back.name)
    t.back.flow(1)
    assert t.c.receive(t.back)[0].annotations[symbol("status")] == 200


def test_method_correlation_ids_are_uuids(lab, connect):
    c = login(connect, lab.children()[5])
    out, back = c.receiver("/devices/dev5/methods/devicebound"), c.sender("/devices/dev5/methods/devicebound")
    for as_text in (False, True):
        call = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", "dev5", "--mn", "doIt", "--mp", '{"a":1}', "--json")
        m, d = c.receive(out)
        c.settle(d)
        assert isinstance(m.correlation_id, uuid.UUID) and m.properties["IoThub-methodname"] == "doIt"
        assert json.loads(bytes(m.body)) == {"a": 1}
        cid = str(m.correlation_id) if as_text else m.correlation_id
        bad = Message(body=b"{}", inferred=True, correlation_id=uuid.uuid4(), properties={"IoThub-status": 200})
        assert c.send(back, bad) == ("rejected", "com.microsoft:argument-error")
        assert c.send(back, Message(body=b'{"ok":1}', inferred=True, correlation_id=cid, properties={"IoThub-status": 201}))[0] == "accepted"
        assert call.wait_line(lambda o: o.get("status") == 201)["payload"] == {"ok": 1}


def test_model_ids(lab, connect):
    c = login(connect, lab.children()[5])
    c.sender(EVENTS.format("dev5"), properties={"com.microsoft:model-id": "dtmi:com:example:Thermostat;1"})
    twin = json.loads(lab.exec("hub", "holdfast-hub", "twin", "show", "-d", "dev5", "--json").stdout)
    assert twin["modelId"] == "dtmi:com:example:Thermostat;1"


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fault(lab):
    yield lambda on, action, **kw: lab.hub_ctl("fault.add", on=on, action=action, device="dev0", **kw)
    lab.hub_ctl("fault.clear")


def test_faults_on_telemetry(lab, connect, fault):
    row, start = lab.children()[0], next_seq(lab)

    def telemetry():
        c = login(connect, row)
        s = c.sender(EVENTS.format("dev0"))
        return c, lambda text: c.start(s, Message(body=text.encode(), inferred=True))

    c, say = telemetry()
    fault("telemetry", f"delay={DAY_MS}", count=1)
    waiting = [say("delayed for ever"), say("behind it")]
    wait_for("the first to meet the rule", 30, lambda: lab.hub_ctl("fault.list") == [])
    c.idle(0.2)
    assert next_seq(lab) == start and [d.remote_state for d in waiting] == [0, 0]
    c, say = telemetry()
    fault("telemetry", f"ack-late={DAY_MS}", count=1)
    late = say("answered some day")
    wait_for("it to be stored before it is answered", 30, lambda: bodies(lab, start) == ["answered some day"])
    c.idle(0.2)
    assert late.remote_state == 0
    c, say = telemetry()
    fault("telemetry", "reject=503", count=1)
    assert c.outcome(say("rejected")) == ("rejected", "com.microsoft:timeout")
    fault("telemetry", "throttle", count=1)
    assert c.outcome(say("throttled")) == ("rejected", "com.microsoft:device-container-throttled")
    began = time.monotonic()
    fault("telemetry", "delay=400", count=1)
    first, second = say("delayed"), say("behind")
    assert c.outcome(first)[0] == "accepted" and time.monotonic() - began >= 0.4
    assert c.outcome(second)[0] == "accepted"
    began = time.monotonic()
    fault("telemetry", "ack-late=400", count=1)
    assert c.outcome(say("late"))[0] == "accepted" and time.monotonic() - began >= 0.4
    fault("telemetry", "ack-twice", count=1)
    seen, twice = c.dispositions, say("twice")
    c.pump(lambda: twice.settled)
    assert twice.remote_state == Delivery.ACCEPTED and c.dispositions == seen + 2
    fault("telemetry", "ack-never", count=1)
    never = say("never")
    fault("telemetry", "hang", count=1)
    wait_for("the one before to be stored", 30, lambda: bodies(lab, start)[-1] == "never")
    hung = say("hung")
    assert c.outcome(say("after"))[0] == "accepted"
    assert never.remote_state == hung.remote_state == 0
    fault("telemetry", "drop-connection", count=1)
    say("dropped")
    assert c.closed() is None and c.eof
    assert bodies(lab, start) == ["answered some day", "delayed", "behind", "late", "twice", "never", "after"]


def test_faults_on_twins(lab, connect, fault):
    t = Twin(login(connect, lab.children()[0]), "dev0")
    fault("twin", "reject=403", count=1)
    status, _, body = t.ask("GET")
    assert status == 403 and json.loads(body)["errorCode"] // 1000 == 403
    fault("twin", "throttle", count=1)
    assert t.ask("GET")[0] == 429
    for action in ("delay=300", "ack-late=300"):
        fault("twin", action, count=1)
        began = time.monotonic()
        assert t.ask("PATCH", "/properties/reported", b'{"n":1}')[0] == 200
        assert time.monotonic() - began >= 0.3
    fault("twin", "ack-late=300", count=1)
    began, unsettled = time.monotonic(), t.c.sender("/devices/dev0/twin")
    get = Message(body=b" ", inferred=True, correlation_id="g")
    get.annotations = {symbol("operation"): "GET"}
    assert t.c.send(unsettled, get) == ("accepted", None) and time.monotonic() - began >= 0.3
    assert t.c.receive(t.back)[0].correlation_id == "g"
    t = Twin(t.c, "dev0")
    fault("twin", "ack-never", count=1)
    t.request("PATCH", "/properties/reported", b'{"never":1}', cid="never")
    fault("twin", "hang", count=1)
    t.request("PATCH", "/properties/reported", b'{"hung":1}', cid="hung")
    reported = json.loads(t.ask("GET")[2])["reported"]
    assert reported["never"] == 1 and "hung" not in reported
    fault("twin", "drop-connection", count=1)
    t.request("GET")
    assert t.c.closed() is None and t.c.eof


def test_faults_on_logins(lab, connect, fault):
    row = lab.children()[0]
    c = connect().open()
    for code, status in ((1, 400), (3, 503), (5, 401)):
        fault("connect", f"reject={code}", count=1)
        assert c.cbs(token(row))[0] == status
    fault("connect", "throttle", count=1)
    assert c.cbs(token(row))[0] == 429
    fault("connect", "delay=300", count=1)
    began = time.monotonic()
    assert c.cbs(token(row))[0] == 200 and time.monotonic() - began >= 0.3
    fault("connect", "reject=5")
    assert c.cbs(token(row))[0] == 200		# renewal is no login
    c.sender(EVENTS.format("dev0"))
    lab.hub_ctl("fault.clear")
    other = connect().open()
    assert other.cbs(policy_token(lab, "device"))[0] == 200
    fault("connect", "reject=3", count=1)
    with pytest.raises(Refused) as e:
        other.sender(EVENTS.format("dev0"))
    assert e.value.condition == "com.microsoft:timeout"
    fault("connect", "delay=300", count=1)
    began = time.monotonic()
    s = other.sender(EVENTS.format("dev0"))
    assert time.monotonic() - began >= 0.3
    assert other.send(s, Message(body=b"x", inferred=True))[0] == "accepted"
    third = connect().open()
    assert third.cbs(policy_token(lab, "device"))[0] == 200
    fault("connect", "hang", count=1)
    hung = third.sender(EVENTS.format("dev0"), wait=False)
    third.sender(EVENTS.format("dev1"))		# the others go on
    with pytest.raises(TimeoutError):
        third.opened(hung, 0.3)
    fault("connect", "drop-connection", count=1)
    third.sender(EVENTS.format("dev0"), wait=False)
    assert third.closed() is None and third.eof


# --- what began early -----------------------------------------------------------------------------------------------------


def test_plain_ends_with_its_token(early):
    assert early.plain.closed(30) == "amqp:unauthorized-access"


def test_expiry_detaches_the_identity_and_renewal_prevents_it(lab, early):
    c, idents = early.both, [early.ident("ended"), early.ident("renewed")]
    assert c.detached(early.ended, 30) == "amqp:unauthorized-access"
    assert c.send(early.renewed, Message(body=b"renewed", inferred=True))[0] == "accepted"
    wait_for("the login to end", 30, lambda: [x["id"] for x in lab.hub_ctl("clients.list") if x["id"] in idents] == idents[1:])
    assert c.cbs(token(early.rows["ended"]))[0] == 200
    c.sender(EVENTS.format(idents[0]))


def test_expiry_detaches_the_links_of_a_policy(lab, early):
    """Also those of the service and of readers of events; $cbs stays, for the next token."""
    c = early.policy
    assert [c.detached(link, 30) for link in early.links] == ["amqp:unauthorized-access"] * len(early.links)
    with pytest.raises(Refused) as e:
        c.receiver(READER)
    assert e.value.condition == "amqp:unauthorized-access"
    assert c.cbs(policy_token(lab, "iothubowner"))[0] == 200
    c.receiver(READER)


def test_an_attach_that_waits_ends_with_its_token(lab, connect, early):
    c, ident = early.waiting, early.ident("waiting")
    c.pump(lambda: early.attach.state & early.attach.REMOTE_CLOSED, 30)
    assert early.attach.remote_condition.name == "amqp:unauthorized-access"
    assert c.cbs(policy_token(lab, "device"))[0] == 200
    c.idle(early.over - time.monotonic())
    c.sock.close()
    wait_for("the connection to end", 30, lambda: ident not in [x["id"] for x in lab.hub_ctl("clients.list")])
    c = login(connect, early.rows["waiting"])
    assert c.send(c.sender(EVENTS.format(ident)), Message(body=b"x", inferred=True))[0] == "accepted"


def test_what_waits_on_a_link_ends_with_the_link(lab, early):
    """The peer need not answer the detach for that."""
    early.cut.idle(early.over - time.monotonic())
    assert [e for e in lab.events() if e["deviceId"] == early.ident("cut")] == []


def test_ends_by_token_are_counted(lab, early):
    """Each once: the connection of PLAIN, the link of an identity, those of a policy, the attach."""
    assert counter(lab, "token_expired_total") == 1 + 1 + len(early.links) + 1


def test_the_hub_has_no_sanitizer_report(lab):
    lab.hub("restart")		# what leaks is told at the end
    assert "Sanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")
