# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input on the hub's HTTPS and MQTT ports: a clear refusal, no harm to others, no sanitizer report.

The hub of this file is the ASan + UBSan build. Two witnesses stay connected the whole time and must work after each case.
"""
import json
import os
import re
import socket
import struct
import threading
import time

import hubrest
import mqttwire
import pytest
from labctl import REPO, wait_for
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 4, "build": "asan"}
MID = 77
H = f"Host: {HUB_NAME}\r\n"
API = "api-version=2021-04-12"


def connect(lab, port=8883):
    with lab.inside("hub"):
        return mqttwire.Client(HUB_NAME, lab.ca, port=port, address=HUB_IP)


def login(lab, child, **kw):
    c = connect(lab)
    assert c.login(HUB_NAME, child["deviceId"], kw.pop("password", lab.token(child)), **kw)[1] == 0
    return c


@pytest.fixture(scope="module")
def owner(lab):
    parts = dict(p.split("=", 1) for p in lab.json("hub.json")["serviceConnectionString"].split(";"))
    return sas_token(parts["SharedAccessKey"], HUB_NAME, policy=parts["SharedAccessKeyName"])


def place(lab, n, name):
    """Where that child may upload a file."""
    row = lab.children()[n]
    with lab.inside("hub"):
        c = hubrest.Https(lab.ca, lab.token(row))
    status, _, body = c.raw("POST", f"/devices/{row['deviceId']}/files", json.dumps({"blobName": name}))
    c.close()
    assert status == 200, body
    t = json.loads(body)
    return f"/{t['containerName']}/{t['blobName']}{t['sasToken']}"


class Slow:
    """Peers that never finish what they began; opened early, judged last, while everything else goes on."""

    def __init__(self, lab):
        with lab.inside("hub"):
            self.raw = [socket.create_connection((HUB_IP, port), 60) for port in (443, 8883)]
        self.silent = [connect(lab, port).sock for port in (443, 8883)]
        self.head, self.body, self.mqtt = connect(lab, 443).sock, connect(lab, 443).sock, connect(lab).sock
        self.head.sendall(b"GET /devices HTTP/1.1\r\nX-Slow: ")
        self.body.sendall(f"PUT /devices/x?{API} HTTP/1.1\r\n{H}Content-Length: 1000\r\n\r\n".encode() + b"{")
        self.mqtt.sendall(b"\x10\x7f\x00\x04MQTT")
        self.upload = connect(lab, 443).sock
        self.upload.sendall(f"PUT {place(lab, 0, 'slow')} HTTP/1.1\r\n{H}x-ms-blob-type: BlockBlob\r\nContent-Length: 900000\r\n\r\n".encode())


@pytest.fixture(scope="module")
def slow(lab):
    return Slow(lab)


@pytest.fixture(scope="module")
def witness(lab):
    """A device and a service that were there before the bad peers."""
    device = login(lab, lab.children()[3])
    with lab.inside("hub"):
        service = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    yield device, service
    device.close()
    service.close()


@pytest.fixture(autouse=True)
def undisturbed(lab, witness):
    pid = lab.hub_pid()
    yield
    device, service = witness
    device.publish(f"devices/{lab.children()[3]['deviceId']}/messages/events/", "still here")
    assert service.query("SELECT deviceId FROM devices WHERE deviceId = 'dev3'")[0] == [{"deviceId": "dev3"}]
    assert lab.hub_pid() == pid, lab.log("hub")[-3000:]
    assert "ERROR: AddressSanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")


def counter(lab, name):
    return lab.hub_ctl("counters")[0][name]


# --- HTTPS: framing ---------------------------------------------------------------------------------------------------------

def exchange(lab, data, end=False):
    """Everything the hub answers to these bytes, until it closes; the peer ends its half after the first answer, or at
    once: end."""
    s = connect(lab, 443).sock
    s.settimeout(20)
    got = b""
    try:
        s.sendall(data)
        if not end:
            got = s.recv(65536)
        s.shutdown(socket.SHUT_WR)
        while chunk := s.recv(65536):
            got += chunk
    except (ConnectionError, OSError) as e:
        assert "timed out" not in str(e), f"no end after {got[:200]}"
    finally:
        s.close()
    return got


SMUGGLED = f"GET /statistics/service HTTP/1.1\r\n{H}\r\n"
FRAMING = {	# bytes, the statuses that are right
    "length and chunked": (f"POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (f"POST / HTTP/1.1\r\n{H}Content-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
    "two lengths in one": (f"POST / HTTP/1.1\r\n{H}Content-Length: 0, 0\r\n\r\n", 400),
    "signed length": (f"POST / HTTP/1.1\r\n{H}Content-Length: +0\r\n\r\n", 400),
    "hex length": (f"POST / HTTP/1.1\r\n{H}Content-Length: 0x0\r\n\r\n", 400),
    "huge length number": (f"POST / HTTP/1.1\r\n{H}Content-Length: 18446744073709551616\r\n\r\n", 400),
    "gzip, chunked": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, identity": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "two encodings": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
    "blank before the colon": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "tab in the encoding": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (f"POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "folded header": (f"POST / HTTP/1.1\r\n{H}X: a\r\n Content-Length: 9\r\n\r\n", 400),
    "bare line feed": (f"POST / HTTP/1.1\nHost: {HUB_NAME}\nContent-Length: 0\n\n", 400),
    "no Host": ("GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (f"GET / HTTP/1.1\r\n{H}{H}\r\n", 400),
    "NUL in a header": (f"GET / HTTP/1.1\r\n{H}X: a\0b\r\n\r\n", 400),
    "header without a name": (f"GET / HTTP/1.1\r\n{H}: x\r\n\r\n", 400),
    "chunk size no number": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "negative chunk": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
    "chunk size overflow": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", (400, 413)),
    "chunk without its end": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
    "endless chunk extension": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n1;{'x' * 70000}", 400),
    "huge header": (f"GET / HTTP/1.1\r\n{H}X: {'x' * 70000}\r\n\r\n", 431),
    "huge target": (f"GET /{'x' * 70000} HTTP/1.1\r\n{H}\r\n", (414, 431)),
    "many headers": (f"GET / HTTP/1.1\r\n{H}{''.join(f'X{i}: y{chr(13)}{chr(10)}' for i in range(300))}\r\n", 431),
    "body over the limit": (f"POST / HTTP/1.1\r\n{H}Content-Length: 104857600\r\n\r\n", 413),
    "chunks over the limit": (f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n6400000\r\n", 413),
    "HTTP/2 preface": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "HTTP/9.9": (f"GET / HTTP/9.9\r\n{H}\r\n", (400, 505)),
    "no method": (f" / HTTP/1.1\r\n{H}\r\n", 400),
    "blank in the target": (f"GET /a b HTTP/1.1\r\n{H}\r\n", 400),
    "bytes over ASCII in the target": (f"GET /\xff HTTP/1.1\r\n{H}\r\n", 400),
    "no HTTP": ("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", FRAMING)
def test_framing_is_refused_and_the_connection_ends(lab, case):
    text, want = FRAMING[case]
    before = counter(lab, "http_refused_total")
    got = exchange(lab, (text + SMUGGLED).encode("latin-1"))
    statuses = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d\d\d) ", got)]
    assert len(statuses) == 1, f"not one answer: {got[:600]}"
    assert statuses[0] in (want if isinstance(want, tuple) else (want,)), got[:300]
    assert counter(lab, "http_refused_total") == before + 1


UPLOADS = {	# headers and body of a PUT to a place that was given, the statuses that are right
    "length and chunked": ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunk size no number": ("Transfer-Encoding: chunked\r\n\r\nxyz\r\n", (400,)),
    "chunk longer than its size": ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", (400,)),
    "chunk size overflow": ("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", (400,)),
    "the largest chunk": ("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc", ()),
    "the largest length": ("Content-Length: 9223372036854775807\r\n\r\nabc", (413,)),
    "cut": ("Content-Length: 500\r\n\r\nabc", ()),
    "endless trailer": ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + "X: y\r\n" * 2000, (400,)),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_framing_of_uploads(lab, case):
    """What goes to a file is framed as strictly; nothing of a broken body stays."""
    text, want = UPLOADS[case]
    target = place(lab, 1, "framing")
    before = len(os.listdir(lab.path("hub-data", "blobs")))
    got = exchange(lab, (f"PUT {target} HTTP/1.1\r\n{H}x-ms-blob-type: BlockBlob\r\n" + text + SMUGGLED).encode(), end=not want)
    statuses = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d\d\d) ", got)]
    assert tuple(statuses) == want, got[:300]
    wait_for("its file to go", 30, lambda: len(os.listdir(lab.path("hub-data", "blobs"))) == before)
    assert not [b for b in lab.hub_ctl("blob.list") if b["blobName"].endswith("framing")]


@pytest.mark.parametrize("part", ["GET /devi", f"GET /devices HTTP/1.1\r\n{H}X: ", f"POST /devices HTTP/1.1\r\n{H}Content-Length: 10\r\n\r\n{{",
                                  f"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n5\r\nab", ""])
def test_cut_requests_are_never_run(lab, slow, part):
    assert b" 200 " not in exchange(lab, part.encode(), end=True)


@pytest.mark.parametrize("port", [443, 8883])
def test_no_tls(lab, port):
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 3000, b"\x00" * 100, os.urandom(4000)):
        with lab.inside("hub"), socket.create_connection((HUB_IP, port), 10) as s:
            s.sendall(junk)
            s.shutdown(socket.SHUT_WR)
            try:
                while s.recv(4096):
                    pass
            except ConnectionError:
                pass


# --- HTTPS: what requests say -----------------------------------------------------------------------------------------------

def routes():
    """Every endpoint of userspace/hub/rest/rest.c."""
    with open(os.path.join(REPO, "userspace", "hub", "rest", "rest.c"), encoding="utf-8") as f:
        found = re.findall(r'^\t\{ "([A-Z]+)", "([^"]+)",', f.read(), re.M)
    assert len(found) > 25
    return found


BODIES = {
    "no JSON": b"{]", "empty text": b" ", "invalid UTF-8": b'{"a":"\xff\xfe"}', "cut UTF-8": '{"é":é'.encode()[:-1],
    "NUL": b'{"a\\u0000b":1}', "deep arrays": b"[" * 100000, "deep objects": b'{"a":' * 100000,
    "deep and closed": b"[" * 100000 + b"]" * 100000, "number too large": b"[1e99999]", "cut": b'{"deviceId":"x',
    "a word": b"nope", "text of many characters": '{"x" "'.encode() + "é".encode() * 5000,
}
SHAPES = [b"[]", b"{}", b"7", b"null", b'"x"', b"true", b"[null]", b"[[]]", b'[{"id":7}]', b'{"deviceId":[]}', b'{"query":7}',
          b'{"query":"' + b"(" * 60000 + b'"}', b'{"tags":7,"properties":[]}', b'{"properties":{"desired":7}}',
          b'{"properties":{"desired":' + b'{"a":' * 1500 + b"1" + b"}" * 1501 + b"}", b'{"methodName":{},"payload":1}',
          b'{"methodName":"x","responseTimeoutInSeconds":"soon"}', b'{"modulesContent":{"$edgeAgent":7}}',
          b'{"modulesContent":{"$edgeHub":{"properties.desired.' + b"a." * 100000 + b'a":1}}}',
          b'{"authentication":{"type":"sas","symmetricKey":{"primaryKey":"!"}}}', b'{"authentication":{"type":"x"}}',
          b'{"parentScopes":7,"deviceScope":{}}', b'{"devices":[7],"policyKey":"both"}', b'{"jobId":{},"type":7,"startTime":[]}']
EDGE = {"capabilities": {"iotEdge": True}}


def path_of(pattern):
    module = "$edgeHub" if "Scope" in pattern or "OnBehalf" in pattern else "m1"
    return "/" + re.sub(r"\{\w+\}", "x", pattern.replace("{D}", "bad1").replace("{M}", module))


def raw_request(service, method, path, body, token):
    service.http.request(method, f"{path}?{API}", body, {"Authorization": token, "Content-Type": "application/json"})
    r = service.http.getresponse()
    return r.status, r.read()


@pytest.mark.parametrize("method,pattern", routes())
def test_bodies(lab, owner, method, pattern):
    with lab.inside("hub"):
        service = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    path, json_only = path_of(pattern), method != "GET" and "messages" not in pattern and "OnBehalf" not in pattern
    service.call("PUT", "/devices/bad1", EDGE)
    service.call("PUT", "/devices/bad1/modules/m1", {"deviceId": "bad1", "moduleId": "m1"})
    ident = "$edgeHub" if "$edgeHub" in path else None
    shown = lab.hub_ctl("device.show", deviceId="bad1", **({"moduleId": ident} if ident else {}))[0]
    own = sas_token(shown["authentication"]["symmetricKey"]["primaryKey"],
                    f"{HUB_NAME}/devices/bad1" + (f"/modules/{ident}" if ident else ""))
    token = owner if raw_request(service, method, path, b"{]", owner)[0] != 401 else own
    if method != "GET":
        for name, body in BODIES.items():
            status, text = raw_request(service, method, path, body, token)
            assert status < 500, (name, status, text[:300])
            if json_only and token is owner:
                assert status == 400, (name, status, text[:300])
                assert b'"Message"' in text or b"errorCode" in text, text[:300]
    for body in SHAPES:
        if "/methods" in path and body.startswith(b'{"methodName":"x"'):
            continue	# waits for the device
        status, text = raw_request(service, method, path, body, token)
        assert status < 500 or (status == 504 and "methods" in path), (body[:80], status, text[:300])
    service.call("DELETE", "/devices/bad1", None, {"If-Match": "*"})
    service.close()


@pytest.mark.parametrize("path,status", [
    ("/devices/%zz", 400), ("/devices/%ff%fe", 400), ("/devices/%00", 400), ("/devices/" + "x" * 300, 404), ("/" + "a/" * 20, 400),
    ("/devices/%E2%82", 400), ("/devices/" + "%C3%A9" * 60, 404), ("/devices/a/modules/" + "%C3%A9" * 64, 404), ("/..%2f..%2fetc", 404),
    ("/devices/a%2Fb", 404), ("//", 404), ("/nothing", 404), ("/devices/*", 404), ("/devices?top=x", 400), ("/devices?top=-1", 400)])
def test_targets(witness, owner, path, status):
    service = witness[1]
    service.http.request("GET", path, headers={"Authorization": owner})
    r = service.http.getresponse()
    text = r.read()
    assert r.status in (status, 400), (r.status, text)
    assert text.decode()


@pytest.mark.parametrize("name", ["", "Bearer x", "SharedAccessSignature ", "SharedAccessSignature sr=&sig=&se=", "x" * 9000,
                                  "SharedAccessSignature sr=%zz&sig=%zz&se=1", "SharedAccessSignature sr=a&sig=AA&se=99999999999999999999",
                                  "SharedAccessSignature " + "sr=a&" * 800, f"SharedAccessSignature sr={HUB_NAME}&sig=AAAA&se=9999999999&skn=iothubowner",
                                  f"SharedAccessSignature sr={HUB_NAME}&sig=AAAA&se=9999999999&skn=\xff"])
def test_tokens(witness, name):
    service = witness[1]
    service.http.request("GET", f"/devices/dev0?{API}", headers={"Authorization": name})
    r = service.http.getresponse()
    text = r.read()
    assert r.status == 401 and b"IotHubUnauthorized" in text, (r.status, text)


@pytest.mark.parametrize("header,value,path", [
    ("x-ms-continuation", "no token", "/devices/query"), ("x-ms-continuation", "x" * 8000, "/devices/query"),
    ("x-ms-max-item-count", "many", "/devices/query"), ("x-ms-max-item-count", "9" * 30, "/devices/query")])
def test_query_headers(witness, header, value, path):
    status, _, doc = witness[1].call("POST", path, {"query": "SELECT * FROM devices"}, {header: value})
    assert status == 400 and "ArgumentInvalid" in doc["Message"]


def test_long_etag(witness):
    status, _, doc = witness[1].call("PUT", "/devices/dev0", {"deviceId": "dev0"}, {"If-Match": "x" * 5000})
    assert status == 400 and "If-Match" in doc["Message"]


# --- MQTT ---------------------------------------------------------------------------------------------------------------------

def own(child, bag=""):
    return f"devices/{child['deviceId']}/messages/events/{bag}"


AFTER_CONNECT = {
    "qos 3": ("mqtt_malformed_total", lambda c: mqttwire.packet(3, 0x06, struct.pack(">H", 3) + b"a/b" + struct.pack(">H", MID))),
    "reserved packet type": ("mqtt_malformed_total", lambda c: mqttwire.packet(15, 0)),
    "packet of a server": ("mqtt_malformed_total", lambda c: mqttwire.packet(13, 0)),
    "remaining length over 4 bytes": ("mqtt_malformed_total", lambda c: b"\x30\xff\xff\xff\xff\x7f"),
    "topic longer than the packet": ("mqtt_malformed_total", lambda c: mqttwire.packet(3, 2, b"\x10\x00devices")),
    "topic not UTF-8": ("mqtt_malformed_total", lambda c: mqttwire.packet(3, 0, b"\x00\x02\xff\xfe")),
    "NUL in a topic": ("mqtt_malformed_total", lambda c: mqttwire.publish("devices/a\0b/messages/events/", "x", 1, MID)),
    "subscribe without a filter": ("mqtt_malformed_total", lambda c: mqttwire.packet(8, 2, struct.pack(">H", MID))),
    "65 filters": ("mqtt_malformed_total", lambda c: mqttwire.subscribe(MID, *[(f"a{i}", 0) for i in range(65)])),
    "second CONNECT": ("mqtt_malformed_total", lambda c: mqttwire.connect(c["deviceId"], "x")),
    "packet id 0": ("mqtt_malformed_total", lambda c: mqttwire.publish(own(c), "x", 1, 0)),
    "wildcard in a topic": ("mqtt_malformed_total", lambda c: mqttwire.publish("devices/+/messages/events/", "x", 1, MID)),
    "another device's topic": ("mqtt_bad_topic_total", lambda c: mqttwire.publish("devices/dev3/messages/events/", "x", 1, MID)),
    "a topic nobody knows": ("mqtt_bad_topic_total", lambda c: mqttwire.publish("home/kitchen", "x", 1, MID)),
    "twin request without $rid": ("mqtt_bad_topic_total", lambda c: mqttwire.publish("$iothub/twin/GET/", "", 0)),
    "over 256 KiB": ("mqtt_oversize_total", lambda c: mqttwire.publish(own(c), b"x" * (256 * 1024 + 1), 1, MID)),
    "a packet of 256 MiB": ("mqtt_oversize_total", lambda c: b"\x32\xff\xff\xff\x7f" + b"x" * 1000),
    "bad escape in the bag": ("mqtt_bad_bag_total", lambda c: mqttwire.publish(own(c, "a=%zz"), "x", 1, MID)),
    "no UTF-8 in the bag": ("mqtt_bad_bag_total", lambda c: mqttwire.publish(own(c, "a=%ff"), "x", 1, MID)),
    "qos 2": ("mqtt_qos2_total", lambda c: mqttwire.publish(own(c), "x", 2, MID)),
}


@pytest.mark.parametrize("case", AFTER_CONNECT)
def test_packets(lab, case):
    name, build = AFTER_CONNECT[case]
    child, before, events = lab.children()[0], counter(lab, name), len(lab.events())
    with login(lab, child) as c:
        try:
            c.send(build(child))
        except mqttwire.Closed:
            pass	# it need not wait for the end of an oversized message
        assert c.ends(), "the connection stays open"
        assert not [p for p in c.seen if p.type in (mqttwire.PUBACK, 5)], c.seen
    assert counter(lab, name) == before + 1
    assert len(lab.events()) == events


CONNECTS = {	# CONNACK code, None: closed without one
    "another level": (1, lambda c, t: mqttwire.connect(c["deviceId"], f"{HUB_NAME}/{c['deviceId']}/?{API}", t, level=3)),
    "no user": (4, lambda c, t: mqttwire.connect(c["deviceId"], "", t)),
    "another hub": (None, lambda c, t: mqttwire.connect(c["deviceId"], f"other/{c['deviceId']}/?{API}", t)),
    "broken user": (4, lambda c, t: mqttwire.connect(c["deviceId"], f"{HUB_NAME}/{c['deviceId']}/?{API}&model-id=%zz", t)),
    "id of another": (None, lambda c, t: mqttwire.connect("dev3", f"{HUB_NAME}/{c['deviceId']}/?{API}", t)),
    "bad token": (5, lambda c, t: mqttwire.connect(c["deviceId"], f"{HUB_NAME}/{c['deviceId']}/?{API}", t[:-30])),
    "huge token": (5, lambda c, t: mqttwire.connect(c["deviceId"], f"{HUB_NAME}/{c['deviceId']}/?{API}", "SharedAccessSignature " + "x" * 60000)),
    "will for a foreign topic": (None, lambda c, t: mqttwire.connect(c["deviceId"], f"{HUB_NAME}/{c['deviceId']}/?{API}", t,
                                                                     will=("home/kitchen", b"x", 1, False))),
    "no MQTT": (None, lambda c, t: b"GET / HTTP/1.1\r\n\r\n"), "zeros": (None, lambda c, t: b"\0" * 64),
    "publish first": (None, lambda c, t: mqttwire.publish(own(c), "x", 1, MID)),
    "cut CONNECT": (None, lambda c, t: mqttwire.packet(1, 0, b"\x00\x04MQTT\x04\xc2")),
    "reserved flag": (None, lambda c, t: mqttwire.packet(1, 0, b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a")),
}


@pytest.mark.parametrize("case", CONNECTS)
def test_connects(lab, case):
    code, build = CONNECTS[case]
    child = lab.children()[1]
    with connect(lab) as c:
        c.send(build(child, lab.token(child)))
        assert c.ends(), "the connection stays open"
        codes = [p.body[1] for p in c.seen if p.type == mqttwire.CONNACK]
        assert 0 not in codes and (code is None or codes == [code]), codes


def test_twin_patches(lab):
    """Refused with an answer; the connection stays."""
    with login(lab, lab.children()[2]) as c:
        c.subscribe(("$iothub/twin/res/#", 0))
        for body in (b"", b"{]", b"[" * 100000, b'{"a":' * 40000, b"7", b"[]", b'{"a":"\xff"}', b'{"a":1,"a":2}', b'{"$x":1}',
                     b'{"a":' * 1500 + b"1" + b"}" * 1500, b'{"n":99999999999999999999}', b'{"t":"' + b"x" * 40000 + b'"}'):
            c.publish("$iothub/twin/PATCH/properties/reported/?$rid=9", body, 0)
            topic = c.message().topic
            assert re.match(r"\$iothub/twin/res/(400|413)/\?\$rid=9", topic), (body[:40], topic)
        c.publish("$iothub/twin/PATCH/properties/reported/?$rid=10", b'{"fine":true}', 0)
        assert c.message().topic.startswith("$iothub/twin/res/204/?$rid=10")


def test_method_answers(lab):
    """Nonsense instead of an answer: the caller is told, the next call works."""
    child = lab.children()[2]
    with login(lab, child) as c:
        c.subscribe(("$iothub/methods/POST/#", 0))
        for body in (b"{]", b"[" * 100000, b"\xff"):
            c.publish("$iothub/methods/res/200/?$rid=no-such-call", body, 0)
        call = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", child["deviceId"], "--mn", "x", "--to", "20", "--json")
        rid = c.message().topic.partition("?$rid=")[2]
        c.publish(f"$iothub/methods/res/200/?$rid={rid}", b"{]", 0)
        wait_for("the call's end", 30, lambda: call.p.poll() is not None)
        call = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", child["deviceId"], "--mn", "x", "--json")
        rid = c.message().topic.partition("?$rid=")[2]
        c.publish(f"$iothub/methods/res/200/?$rid={rid}", b'{"ok":1}', 0)
        assert call.wait_line(lambda o: o.get("status") == 200)["payload"] == {"ok": 1}


@pytest.mark.parametrize("status", ["x", "99999999999", ""])
def test_method_statuses(lab, status):
    with login(lab, lab.children()[2]) as c:
        c.publish(f"$iothub/methods/res/{status}/?$rid=1", b"{}", 0)
        assert c.ends()


def test_filters_without_end(lab):
    """A session keeps a bounded number of filters."""
    with login(lab, lab.children()[2], clean=False) as c:
        codes = [c.subscribe((f"$iothub/methods/POST/m{i}/#", 0))[0] for i in range(100)]
        assert codes.count(0x80) >= 30 and codes[0] == 0
        assert c.subscribe(("home/#", 0)) == [0x80]
    login(lab, lab.children()[2], clean=True).close()


# --- slow senders: last, they had the whole time --------------------------------------------------------------------------------

def rest_of(s, drip=None):
    """What comes until the hub ends the connection; drip: one more byte now and then, which must not help."""
    got, stop = b"", threading.Event()

    def send():
        while not stop.wait(0.5):
            try:
                s.sendall(drip)
            except OSError:
                return
    if drip:
        threading.Thread(target=send, daemon=True).start()
    s.settimeout(60)
    try:
        while chunk := s.recv(4096):
            got += chunk
    except (ConnectionError, OSError) as e:
        assert "timed out" not in str(e), "never ended"
    finally:
        stop.set()
        s.close()
    return got


def test_slow_senders_are_ended(slow):
    """Each is ended within the hub's limits, which are half a minute; pytest's own limit is the only clock here."""
    begin = time.monotonic()
    assert rest_of(slow.head, b"x").startswith(b"HTTP/1.1 408 ")
    assert rest_of(slow.body, b" ").startswith(b"HTTP/1.1 408 ")
    assert rest_of(slow.upload, b"x").startswith(b"HTTP/1.1 408 ")
    assert rest_of(slow.mqtt, b"x") == b""
    assert rest_of(slow.silent[1]) == b""
    for s in slow.raw:
        assert rest_of(s) == b""
    print(f"waited {time.monotonic() - begin:.0f} s")
    slow.silent[0].close()	# an idle HTTPS connection may stay for two minutes
