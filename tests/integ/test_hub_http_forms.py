# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP as other clients write it: request targets in absolute form (RFC 9112 section 3.2.2), a method named in a header,
and refused WebSocket upgrades, which are told. Raw requests; the hub is the ASan + UBSan build."""
import json

import hubrest
import mqttwire
import pytest
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}
API = hubrest.API
URL = f"https://{HUB_NAME}"
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
           "Sec-WebSocket-Protocol": "AMQPWSB10"}


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    lab.gw("kill")


@pytest.fixture(scope="module")
def tokens(lab):
    """Authorization of the service and of a device."""
    parts = dict(p.split("=", 1) for p in lab.json("hub.json")["serviceConnectionString"].split(";"))
    return {"service": sas_token(parts["SharedAccessKey"], HUB_NAME, policy=parts["SharedAccessKeyName"]),
            "device": lab.token(lab.children()[0]), None: None}


@pytest.fixture
def ask(lab, tokens):
    """One request on a connection of its own, byte for byte: (status, headers, body), body None after a 101."""
    def ask(method, target, who=None, body=b"", host=HUB_NAME, **headers):
        with lab.inside("hub"):
            sock = mqttwire.Client(HUB_NAME, lab.ca, port=443, address=HUB_IP).sock
        headers = {"Host": host, "Authorization": tokens[who], "Content-Length": len(body), **headers}
        head = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items() if v is not None)
        sock.settimeout(30)
        sock.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        got = sock.makefile("rb")
        status = int(got.readline().split()[1])
        answer = dict(line.decode().strip().lower().split(": ", 1) for line in iter(got.readline, b"\r\n"))
        text = None if status == 101 else got.read(int(answer.get("content-length", 0)))
        sock.close()
        return status, answer, text
    return ask


@pytest.fixture
def grows(lab):
    """By how much a counter grew since the last call."""
    seen = {}

    def grows(name):
        before, seen[name] = seen.get(name, 0), lab.hub_ctl("counters")[0][name]
        return seen[name] - before
    return grows


def message(body):
    return json.loads(body)["Message"]


# --- the target ------------------------------------------------------------------------------------------------------------

ENDPOINTS = {	# method, path, who, body, status
    "registry": ("GET", f"/devices/dev0?{API}", "service", b"", 200),
    "query": ("POST", f"/devices/query?{API}", "service", b'{"query":"SELECT deviceId FROM devices"}', 200),
    "telemetry": ("POST", f"/devices/dev0/messages/events?{API}", "device", b"x", 204),
    "no query": ("GET", "/devices/dev0", "service", b"", 200),
    "portal": ("GET", "/portal/", None, b"", 200),
    "portal API": ("GET", "/portal/api/hub", None, b"", 401),
    "nothing there": ("GET", f"/nowhere?{API}", "service", b"", 404),
    "no path": ("GET", f"?{API}", "service", b"", 404),
}


@pytest.mark.parametrize("case", ENDPOINTS)
@pytest.mark.parametrize("host", [HUB_NAME, "other.example"])
def test_absolute_form(lab, ask, case, host):
    method, path, who, body, status = ENDPOINTS[case]
    got = ask(method, URL + path, who, body, host=host)
    assert got[0] == status, got
    plain = ask(method, path if path[0] == "/" else "/" + path, who, body)
    assert plain[0] == status and plain[2][:60] == got[2][:60]


def test_scope_api(lab, ask, tokens):
    key = lab.hub_ctl("device.show", deviceId="edge1")[0]["authentication"]["symmetricKey"]["primaryKey"]
    tokens["edge"] = sas_token(key, f"{HUB_NAME}/devices/edge1")
    status, _, body = ask("GET", f"{URL}/devices/edge1/modules/%24edgeHub/devicesAndModulesInDeviceScope?deviceCount=10&"
                          "api-version=2018-08-30-preview", "edge")
    assert status == 200 and "dev0" in [d["deviceId"] for d in json.loads(body)["devices"]]


def test_blob_storage(ask):
    status, _, body = ask("POST", f"{URL}/devices/dev0/files?{API}", "device", b'{"blobName":"a"}')
    assert status == 200
    place = json.loads(body)
    target = f"{URL}/{place['containerName']}/{place['blobName']}{place['sasToken']}"
    # What names a method elsewhere means nothing to the storage.
    assert ask("PUT", target, None, b"content", x_ms_blob_type="BlockBlob", X_HTTP_Method_Override="DELETE")[0] == 201
    status, _, body = ask("GET", target)
    assert (status, body) in ((200, b"content"), (403, body))


@pytest.mark.parametrize("path", ["/$iothub/websocket", "/$servicebus/websocket"])
def test_websocket_upgrade(ask, grows, path):
    grows("websockets_total")
    status, headers, _ = ask("GET", URL + path + "?iothub-no-client-cert=true", host="other.example", **UPGRADE)
    assert (status, headers["sec-websocket-protocol"]) == (101, "amqpwsb10")
    assert grows("websockets_total") == 1


def test_the_host_of_the_target_counts(ask):
    """A page of another origin may not use the portal; the origin is compared with the host that is meant."""
    refused = ask("GET", f"{URL}/portal/api/hub", host="evil.example", Origin="https://evil.example")
    own = ask("GET", f"{URL}/portal/api/hub", host="evil.example", Origin=URL)
    assert (refused[0], own[0]) == (403, 401), (refused, own)


BAD = {	# request line before the version, status, text
    "http": (f"GET http://{HUB_NAME}/devices/dev0?{API}", 421, "scheme"),
    "another scheme": (f"GET ftp://{HUB_NAME}/", 400, "http or https"),
    "user information": (f"GET https://user:secret@{HUB_NAME}/", 400, "user information"),
    "no host": ("GET https:///devices/dev0", 400, "without a host"),
    "no slash": ("GET devices/dev0", 400, "malformed head"),
    "CONNECT": (f"CONNECT {HUB_NAME}:443", 501, "no proxy"),
    "CONNECT with a path": ("CONNECT /", 501, "no proxy"),
    "asterisk": ("GET *", 400, "without OPTIONS"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_targets_are_refused_clearly(ask, grows, case):
    line, status, text = BAD[case]
    grows("http_refused_total")
    got = ask(*line.split(" ", 1), "service")
    assert got[0] == status and text in message(got[2]), got
    assert grows("http_refused_total") == 1


def test_options_asterisk_is_answered(ask):
    assert ask("OPTIONS", "*", "service")[0] in (404, 405)


# --- the method ------------------------------------------------------------------------------------------------------------

def test_method_override(ask):
    twin, device = f"/twins/dev0?{API}", f"/devices/over?{API}"
    status, _, body = ask("POST", twin, "service", b'{"tags":{"a":{"b":1}}}', X_HTTP_Method_Override="PATCH")
    assert status == 200 and json.loads(body)["tags"] == {"a": {"b": 1}}
    status, _, body = ask("POST", twin, "service", b'{"tags":{"c":2}}', X_HTTP_Method_Override="PUT")
    assert status == 200 and json.loads(body)["tags"] == {"c": 2}
    assert ask("POST", device, "service", b'{"deviceId":"over"}', X_HTTP_Method_Override="PUT")[0] == 200
    assert ask("POST", device, "service", X_HTTP_Method_Override="DELETE", If_Match="*")[0] == 204
    assert ask("GET", device, "service")[0] == 404


@pytest.mark.parametrize("meant", ["GET", "POST", "patch", "TRACE", "", "PUT, DELETE"])
def test_other_overrides_are_refused(ask, meant):
    status, _, body = ask("POST", f"/devices/query?{API}", "service", b'{"query":"SELECT * FROM devices"}', X_HTTP_Method_Override=meant)
    assert status == 400 and "X-HTTP-Method-Override" in message(body)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
def test_override_counts_on_post_alone(ask, method):
    body = b"" if method == "GET" else b'{"tags":{"kept":1}}'
    assert ask(method, f"/twins/dev0?{API}", "service", body, X_HTTP_Method_Override="DELETE")[0] == 200
    assert ask("GET", f"/devices/dev0?{API}", "service")[0] == 200


# --- refused upgrades ----------------------------------------------------------------------------------------------------

REFUSED = {	# path, changed headers, status, reason
    "no such place": ("/elsewhere", {}, 404, "no WebSocket here"),
    "path that cannot be read": ("/$iothub/%zz", {}, 400, "the path cannot be read"),
    "too deep": ("/a" * 40, {}, 400, "the path cannot be read"),
    "version": ("/$iothub/websocket", {"Sec-WebSocket-Version": "8"}, 400, "Sec-WebSocket-Version must be 13"),
    "key": ("/$iothub/websocket", {"Sec-WebSocket-Key": "x"}, 400, "Sec-WebSocket-Key must be 16 bytes in base64"),
    "protocol": ("/$servicebus/websocket", {"Sec-WebSocket-Protocol": "mqtt"}, 400, "no sub-protocol that is served here"),
    "connection": ("/$iothub/websocket", {"Connection": "close"}, 400, "not a WebSocket upgrade"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_upgrade_is_told(lab, ask, grows, case):
    path, changed, status, reason = REFUSED[case]
    grows("websockets_refused_total")
    got = ask("GET", path, **{**UPGRADE, **changed})
    assert got[0] == status and reason in message(got[2]), got
    assert grows("websockets_refused_total") == 1


def test_a_refused_upgrade_is_logged(lab):
    lines = [line for line in lab.log("hub").splitlines() if "upgrade refused: " in line]
    assert lines and "hub.rest.websocket" in lines[0] and "no WebSocket here" in lines[0], lines


def test_no_sanitizer_report(lab):
    assert "ERROR: AddressSanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")
