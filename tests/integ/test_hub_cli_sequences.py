# SPDX-License-Identifier: GPL-3.0-or-later
"""What `az iot hub device-identity` and its kin send, replayed byte for byte: whole documents with read-only members,
nulls gone, times with milliseconds; If-Match in every form; exact status codes.

Requests are written to the socket as text, so that nothing is added, reordered or repaired on the way."""
import base64
import hashlib
import hmac
import json
import socket
import ssl
import time
import urllib.parse

import pytest
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 0}
API = "api-version=2024-03-31"
AGENT = "python/3.11.8 (Linux) msrest/0.7.1 azure-iot/0.25.0"


def token(policy, key, resource=HUB_NAME):
    """As the command line makes it: quote_plus of everything, sr sig se skn in this order."""
    sr, se = urllib.parse.quote_plus(resource), int(time.time()) + 360
    mac = hmac.new(base64.b64decode(key), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    return "SharedAccessSignature " + urllib.parse.urlencode(
        {"sr": resource, "sig": base64.b64encode(mac).decode(), "se": se, "skn": policy})


class Wire:
    """One connection; call() writes the request as it stands and reads one answer."""

    def __init__(self, lab):
        parts = dict(p.split("=", 1) for p in lab.json("hub.json")["serviceConnectionString"].split(";"))
        self.policy, self.key = parts["SharedAccessKeyName"], parts["SharedAccessKey"]
        self.token = token(self.policy, self.key)
        with lab.inside("hub"):
            raw = socket.create_connection((HUB_IP, 443), 30)
        context = ssl.create_default_context(cafile=lab.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.sock = context.wrap_socket(raw, server_hostname=HUB_NAME)
        self.file = self.sock.makefile("rb")

    def raw(self, method, target, body=None, if_match=None, auth=None, extra=()):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HUB_NAME}", f"User-Agent: {AGENT}", "Accept-Encoding: gzip, deflate",
                 "Accept: application/json", "Connection: keep-alive",
                 "x-ms-client-request-id: 5a3cbb44-0000-11ef-8d21-001122334455",
                 "Content-Type: application/json; charset=utf-8", f"Authorization: {auth or self.token}", *extra]
        if if_match is not None:
            lines.append(f"If-Match: {if_match}")
        data = b"" if body is None else body.encode()
        if body is not None or method in ("PUT", "PATCH", "POST"):
            lines.append(f"Content-Length: {len(data)}")
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        status = int(self.file.readline().split()[1])
        headers = {}
        for line in iter(self.file.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        payload = self.file.read(int(headers.get("content-length", 0)))
        return status, headers, json.loads(payload) if payload else None

    def call(self, method, path, doc=None, if_match=None, want=200, query=API, **kw):
        """The document of an answer whose status must be exactly `want`."""
        body = None if doc is None else json.dumps(doc)
        status, headers, answer = self.raw(method, f"{path}?{query}", body, if_match, **kw)
        assert status == want, (method, path, status, answer)
        if status == 200:
            assert headers["content-type"].startswith("application/json"), headers
        return answer


@pytest.fixture(scope="module")
def wire(lab):
    w = Wire(lab)
    yield w
    w.sock.close()


def through_models(doc):
    """What the tool's models make of a document that was read: nulls are gone, times have milliseconds."""
    if isinstance(doc, dict):
        return {k: through_models(v) for k, v in doc.items() if v is not None}
    if isinstance(doc, list):
        return [through_models(v) for v in doc]
    if isinstance(doc, str) and doc.startswith("0001-01-01T") and doc.endswith("Z"):
        return "0001-01-01T00:00:00.000Z"
    return doc


def create(wire, device, edge=False, **members):
    return wire.call("PUT", f"/devices/{device}", {
        "deviceId": device, "status": "enabled", "authentication": {"symmetricKey": {}, "type": "sas"},
        "capabilities": {"iotEdge": edge}, **members})


def parent_of(doc):
    """As the tool finds the parent's id: the prefix off, and what comes after the last '-'."""
    (scope,) = doc["parentScopes"]
    prefix = "ms-azure-iot-edge://"
    assert scope.startswith(prefix)
    return scope[len(prefix):scope.rindex("-")]


def scope_of(wire, device):
    return wire.call("GET", f"/devices/{device}")["deviceScope"]


# --- create, update, list, delete -----------------------------------------------------------------------------------


def test_create(wire):
    gw = create(wire, "c-gw", edge=True, parentScopes=[])
    assert gw["capabilities"] == {"iotEdge": True} and gw["deviceScope"].startswith("ms-azure-iot-edge://c-gw-")
    leaf = create(wire, "c-leaf", deviceScope=gw["deviceScope"])
    assert parent_of(leaf) == "c-gw" and leaf["deviceScope"] == gw["deviceScope"]
    low = create(wire, "c-low", edge=True, parentScopes=[gw["deviceScope"]])
    assert parent_of(low) == "c-gw" and low["deviceScope"] != gw["deviceScope"]
    for doc in (gw, leaf, low):
        keys = doc["authentication"]["symmetricKey"]
        assert len(keys["primaryKey"]) == len(keys["secondaryKey"]) == 44 and keys["primaryKey"] != keys["secondaryKey"]
    status, headers, doc = wire.raw("PUT", f"/devices/c-leaf?{API}", '{"deviceId": "c-leaf"}')
    assert (status, headers["iothub-errorcode"]) == (409, "DeviceAlreadyExists")
    assert doc["Message"].startswith("ErrorCode:DeviceAlreadyExists;")


def test_create_with_certificates(wire):
    print_a, print_b = "A" * 40, "b" * 64
    doc = create(wire, "c-x509", authentication={"type": "selfSigned", "x509Thumbprint": {
        "primaryThumbprint": print_a, "secondaryThumbprint": print_b}})
    assert doc["authentication"] == {"type": "selfSigned", "symmetricKey": {"primaryKey": None, "secondaryKey": None},
                                     "x509Thumbprint": {"primaryThumbprint": print_a, "secondaryThumbprint": print_b}}
    sent = through_models(doc)
    assert sent["authentication"]["symmetricKey"] == {}
    assert wire.call("PUT", "/devices/c-x509", sent, '"*"')["authentication"] == doc["authentication"]
    doc = create(wire, "c-ca", authentication={"type": "certificateAuthority"})
    assert wire.call("PUT", "/devices/c-ca", through_models(doc), f'"{doc["etag"]}"')["authentication"] == doc["authentication"]


@pytest.mark.parametrize("form", ['"{}"', "{}", '"*"', "*"])
def test_update_is_the_whole_document(wire, form):
    name = f"u-{hashlib.sha1(form.encode()).hexdigest()[:6]}"
    gw = create(wire, f"{name}-gw", edge=True)
    create(wire, name, deviceScope=gw["deviceScope"])
    before = wire.call("GET", f"/devices/{name}")
    sent = through_models(before)
    assert sent["authentication"]["x509Thumbprint"] == {} and "statusReason" not in sent
    assert sent["lastActivityTime"] == "0001-01-01T00:00:00.000Z"
    del sent["parentScopes"]		# update never sends it: a leaf's parent survives
    sent.update(status="disabled", statusReason="being moved", hub=HUB_NAME, configurations={}, nobodyKnows=[1, {"x": None}],
                generationId="1", connectionState="Connected", cloudToDeviceMessageCount=77)
    after = wire.call("PUT", f"/devices/{name}", sent, form.format(before["etag"]))
    assert after["etag"] != before["etag"] and after["statusUpdatedTime"] > before["statusUpdatedTime"]
    for doc in (before, after):
        for member in ("etag", "status", "statusReason", "statusUpdatedTime"):
            doc.pop(member)
    assert after == before, "read-only members are the hub's, everything else stays"
    now = wire.call("GET", f"/devices/{name}")
    assert now["status"] == "disabled" and now["statusReason"] == "being moved" and parent_of(now) == f"{name}-gw"
    assert not {"hub", "nobodyKnows", "configurations"} & set(now)


@pytest.mark.parametrize("form", ['"bm9uZQ=="', "bm9uZQ==", ""])
def test_a_stale_etag(wire, form):
    if wire.raw("GET", f"/devices/stale?{API}")[0] == 404:
        create(wire, "stale")
    doc = wire.call("GET", "/devices/stale")
    for method, body in (("PUT", json.dumps(through_models(doc))), ("DELETE", None)):
        status, headers, answer = wire.raw(method, f"/devices/stale?{API}", body, form)
        assert (status, headers["iothub-errorcode"]) == (412, "PreconditionFailed"), (method, answer)
    assert wire.call("GET", "/devices/stale") == doc


def test_update_of_an_edge_device_keeps_parent_and_scope(wire):
    top = create(wire, "ue-top", edge=True)
    create(wire, "ue-low", edge=True, parentScopes=[top["deviceScope"]])
    before = wire.call("GET", "/devices/ue-low")
    sent = through_models(before)
    del sent["parentScopes"]
    after = wire.call("PUT", "/devices/ue-low", {**sent, "statusReason": "x"}, '"*"')
    assert (after["parentScopes"], after["deviceScope"]) == ([top["deviceScope"]], before["deviceScope"])


def test_update_of_one_that_is_missing(wire):
    status, headers, doc = wire.raw("PUT", f"/devices/nobody?{API}", '{"deviceId":"nobody"}', '"*"')
    assert (status, headers["iothub-errorcode"]) == (404, "DeviceNotFound") and doc["Message"].startswith("ErrorCode:DeviceNotFound;")


def test_list_and_show(wire):
    create(wire, "ls-edge", edge=True)
    create(wire, "ls-leaf")
    for text, want, reject in (("select * from devices where capabilities.iotEdge = true", "ls-edge", "ls-leaf"),
                               ("select * from devices where capabilities.iotEdge=false", "ls-leaf", "ls-edge"),
                               ("select * from devices", "ls-leaf", None)):
        found, link, extra = [], None, ("x-ms-max-item-count: 1",)
        while True:			# until the header is absent
            status, headers, rows = wire.raw("POST", f"/devices/query?{API}", json.dumps({"query": text}),
                                             extra=(*extra, f"x-ms-continuation: {link}") if link else extra)
            assert status == 200 and len(rows) <= 1 and headers["x-ms-item-type"] == "Twin"
            found += [r["deviceId"] for r in rows]
            link = headers.get("x-ms-continuation")
            if not link:
                break
        assert want in found and reject not in found and len(found) == len(set(found))


def test_delete(wire):
    doc = create(wire, "del-1")
    assert wire.call("DELETE", "/devices/del-1", if_match=f'"{doc["etag"]}"', want=204) is None
    create(wire, "del-2")
    assert wire.call("DELETE", "/devices/del-2", if_match='"*"', want=204) is None
    for d in ("del-1", "del-2"):
        assert wire.raw("GET", f"/devices/{d}?{API}")[0] == wire.raw("DELETE", f"/devices/{d}?{API}", if_match="*")[0] == 404


# --- parents and children ----------------------------------------------------------------------------------------------


def test_parent_set_and_show(wire):
    create(wire, "ps-gw", edge=True)
    create(wire, "ps-leaf")
    create(wire, "ps-low", edge=True)
    scope = scope_of(wire, "ps-gw")
    for child, member, value in (("ps-leaf", "deviceScope", scope), ("ps-low", "parentScopes", [scope])):
        doc = wire.call("GET", f"/devices/{child}")
        assert doc["parentScopes"] == []
        after = wire.call("PUT", f"/devices/{child}", {**through_models(doc), member: value}, f'"{doc["etag"]}"')
        assert after["parentScopes"] == [scope]
        shown = wire.call("GET", f"/devices/{child}")
        assert wire.call("GET", f"/devices/{parent_of(shown)}")["deviceId"] == "ps-gw"
    assert scope_of(wire, "ps-low").startswith("ms-azure-iot-edge://ps-low-") and scope_of(wire, "ps-leaf") == scope


def test_an_id_with_dashes_is_found_again(wire):
    create(wire, "a-b-c-1-2", edge=True)
    leaf = create(wire, "dash-leaf", deviceScope=scope_of(wire, "a-b-c-1-2"))
    assert parent_of(leaf) == "a-b-c-1-2"


def test_force_sends_the_new_scope_beside_the_old_parents(wire):
    old, new = (create(wire, f"f-{n}", edge=True)["deviceScope"] for n in ("old", "new"))
    create(wire, "f-leaf", deviceScope=old)
    create(wire, "f-low", edge=True, parentScopes=[old])
    doc = through_models(wire.call("GET", "/devices/f-leaf"))
    assert doc["parentScopes"] == [old]
    after = wire.call("PUT", "/devices/f-leaf", {**doc, "deviceScope": new}, f'"{doc["etag"]}"')
    assert (after["deviceScope"], after["parentScopes"]) == (new, [new])
    doc = through_models(wire.call("GET", "/devices/f-low"))
    after = wire.call("PUT", "/devices/f-low", {**doc, "parentScopes": [new]}, f'"{doc["etag"]}"')
    assert (after["deviceScope"], after["parentScopes"]) == (doc["deviceScope"], [new])


def test_children_add_list_remove(wire):
    scope = create(wire, "ch-gw", edge=True)["deviceScope"]
    names = ["ch-1", "ch-2"]
    for n in names:
        create(wire, n)
    create(wire, "ch-low", edge=True)
    wire.call("GET", "/devices/ch-gw")
    docs = [wire.call("GET", f"/devices/{n}") for n in names]		# all are read, then all are written
    for doc in docs:
        after = wire.call("PUT", f"/devices/{doc['deviceId']}", {**through_models(doc), "deviceScope": scope}, f'"{doc["etag"]}"')
        assert after["parentScopes"] == [scope]
    low = wire.call("GET", "/devices/ch-low")
    wire.call("PUT", "/devices/ch-low", {**through_models(low), "parentScopes": [scope]}, f'"{low["etag"]}"')

    listed = wire.call("POST", "/devices/query", {
        "query": f"select deviceId from devices where array_contains(parentScopes, '{scope}')"})
    assert listed == [{"deviceId": n} for n in (*names, "ch-low")]

    for name, clear in (("ch-1", {"deviceScope": ""}), ("ch-low", {"parentScopes": []})):
        doc = wire.call("GET", f"/devices/{name}")
        assert doc["parentScopes"] == [scope]
        after = wire.call("PUT", f"/devices/{name}", {**through_models(doc), **clear}, f'"{doc["etag"]}"')
        assert after["parentScopes"] == []
    assert "deviceScope" not in wire.call("GET", "/devices/ch-1")
    assert wire.call("GET", "/devices/ch-low")["deviceScope"] == low["deviceScope"]
    assert parent_of(wire.call("GET", "/devices/ch-2")) == "ch-gw"


# --- keys ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["primaryKey", "secondaryKey", "both"])
def test_renew_key(wire, which):
    name = f"rk-{which}"
    old = create(wire, name)["authentication"]["symmetricKey"]
    answer = wire.call("POST", "/devices/keys/regenerate", {"policyKey": which, "devices": [{"id": name}]})
    new = wire.call("GET", f"/devices/{name}")["authentication"]["symmetricKey"]
    assert {k for k in old if old[k] != new[k]} == ({"primaryKey", "secondaryKey"} if which == "both" else {which})
    (rotated,) = answer["rotatedKeys"]
    assert answer["errors"] == [] and rotated["id"] == name and {k: rotated[k] for k in new} == {k: new[k] if old[k] != new[k] else None for k in new}


def test_renew_key_of_modules_and_of_one_that_is_missing(wire):
    create(wire, "rk-mod", edge=True)
    answer = wire.call("POST", "/devices/keys/regenerate", {"policyKey": "both", "devices": [
        {"id": "rk-mod", "moduleId": "$edgeHub"}, {"id": "nobody"}]}, want=207)
    (rotated,), (error,) = answer["rotatedKeys"], answer["errors"]
    assert (rotated["moduleId"], error["id"], error["errorCode"]) == ("$edgeHub", "nobody", 404001)
    module = wire.call("GET", "/devices/rk-mod/modules/%24edgeHub")
    assert module["authentication"]["symmetricKey"]["primaryKey"] == rotated["primaryKey"]


def test_swapped_keys(wire):
    create(wire, "rk-swap")
    doc = through_models(wire.call("GET", "/devices/rk-swap"))
    keys = doc["authentication"]["symmetricKey"]
    keys["primaryKey"], keys["secondaryKey"] = keys["secondaryKey"], keys["primaryKey"]
    assert wire.call("PUT", "/devices/rk-swap", doc, '"*"')["authentication"]["symmetricKey"] == keys
    assert wire.call("GET", "/devices/rk-swap")["authentication"]["symmetricKey"] == keys


# --- modules, twins, methods, content ----------------------------------------------------------------------------------


def test_modules(wire):
    create(wire, "m-gw", edge=True)
    made = wire.call("PUT", "/devices/m-gw/modules/m%241", {
        "deviceId": "m-gw", "moduleId": "m$1", "authentication": {"symmetricKey": {}, "type": "sas"}})
    doc = through_models(wire.call("GET", "/devices/m-gw/modules/m%241"))
    after = wire.call("PUT", "/devices/m-gw/modules/m%241", {**doc, "managedBy": "someone", "hub": HUB_NAME}, f'"{made["etag"]}"')
    assert after["managedBy"] == "someone" and after["authentication"] == made["authentication"]
    assert [m["moduleId"] for m in wire.call("GET", "/devices/m-gw/modules")] == ["$edgeAgent", "$edgeHub", "m$1"]
    assert wire.call("DELETE", "/devices/m-gw/modules/m%241", if_match=f'"{after["etag"]}"', want=204) is None
    status, headers, _ = wire.raw("GET", f"/devices/m-gw/modules/m%241?{API}")
    assert (status, headers["iothub-errorcode"]) == (404, "ModuleNotFound")


def test_twin_update_sends_the_whole_twin(wire):
    create(wire, "tw")
    twin = through_models(wire.call("GET", "/twins/tw"))
    assert {"$metadata", "$version"} <= set(twin["properties"]["desired"])
    twin["tags"] = {"site": {"floor": 2}}
    twin["properties"]["desired"]["rate"] = 5
    twin["properties"]["reported"]["invented"] = True
    after = wire.call("PATCH", "/twins/tw", twin, '"*"')
    desired = after["properties"]["desired"]
    assert desired["rate"] == 5 and desired["$version"] == 2 and set(desired) == {"rate", "$metadata", "$version"}
    assert desired["$metadata"]["rate"]["$lastUpdatedVersion"] == 2
    assert "invented" not in after["properties"]["reported"] and after["tags"] == {"site": {"floor": 2}}
    # A removal is a null inside; the etag of the twin guards.
    again = {**through_models(after), "tags": {"site": None}}
    again["properties"]["desired"]["rate"] = None
    after = wire.call("PATCH", "/twins/tw", again, f'"{after["etag"]}"')
    assert "rate" not in after["properties"]["desired"] and "tags" not in after
    status, headers, _ = wire.raw("PATCH", f"/twins/tw?{API}", '{"tags":{"x":1}}', '"AAAAAAAAAAA="')
    assert (status, headers["iothub-errorcode"]) == (412, "PreconditionFailed")
    replaced = wire.call("PUT", "/twins/tw", {**through_models(after), "tags": {"only": 1}}, '"*"')
    assert replaced["tags"] == {"only": 1}


@pytest.mark.parametrize("seconds", ["30", 30, None])
def test_method_timeouts_as_text(wire, seconds):
    if wire.raw("GET", f"/devices/meth?{API}")[0] == 404:
        create(wire, "meth")
    body = {"methodName": "reboot", "payload": {"x": 1}, "responseTimeoutInSeconds": seconds,
            "connectTimeoutInSeconds": "0" if seconds == "30" else 0}
    status, _, doc = wire.raw("POST", f"/twins/meth/methods?{API}", json.dumps(body))
    assert status == 404 and json.loads(doc["Message"])["errorCode"] == 404103		# understood: nobody is connected
    body["responseTimeoutInSeconds"] = "soon"
    status, headers, _ = wire.raw("POST", f"/twins/meth/methods?{API}", json.dumps(body))
    assert (status, headers["iothub-errorcode"]) == (400, "ArgumentInvalid")


def test_set_modules_and_export_modules(wire):
    create(wire, "sm-gw", edge=True)
    content = {"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {"filter": {"type": "docker", "settings": {"image": "f:1"}}}, "systemModules": {}}},
        "$edgeHub": {"properties.desired": {"routes": {}, "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}}}}
    status, _, _ = wire.raw("POST", f"/devices/sm-gw/applyConfigurationContent?{API}", json.dumps(content))
    assert status in (200, 204)
    modules = [m["moduleId"] for m in wire.call("GET", "/devices/sm-gw/modules")]
    assert modules == ["$edgeAgent", "$edgeHub", "filter"]
    exported = {}
    for m in modules:		# the export deletes both members of every desired section, so both must be there
        desired = wire.call("GET", f"/twins/sm-gw/modules/{urllib.parse.quote(m, safe='')}")["properties"]["desired"]
        del desired["$metadata"]
        del desired["$version"]
        exported[m] = {"properties.desired": desired}
    assert exported == {**content["modulesContent"], "filter": {"properties.desired": {}}}


# --- tokens, query parameters, empty bodies ----------------------------------------------------------------------------


def test_query_parameters_in_any_order(wire):
    create(wire, "qp")
    for query in (f"top=2&{API}", f"{API}&top=2", f"x=&top=2&&{API}"):
        assert len(wire.call("GET", "/devices", query=query)) == 2
    assert len(wire.call("GET", "/devices/", query=f"{API}&top=1")) == 1


def test_content_type_without_a_body(wire):
    """Every GET and DELETE above had one; here with a length of zero as well."""
    create(wire, "nobody-body")
    status, _, doc = wire.raw("GET", f"/devices/nobody-body?{API}", "")
    assert status == 200 and doc["deviceId"] == "nobody-body"
    assert wire.raw("DELETE", f"/devices/nobody-body?{API}", "", '"*"')[0] == 204


def test_device_side_calls_with_a_policy_token(lab, wire):
    """The simulator of the tool signs with the hub's policy for one device only."""
    create(wire, "sim")
    create(wire, "sim-other")
    for resource in (f"{HUB_NAME}/devices/sim", HUB_NAME):
        auth = token(wire.policy, wire.key, resource)
        status, _, _ = wire.raw("POST", "/devices/sim/messages/events?api-version=2019-10-01", "sent by the tool", auth=auth)
        assert status in (200, 204)
    auth = token(wire.policy, wire.key, f"{HUB_NAME}/devices/sim")
    for method, path in (("POST", "/devices/sim-other/messages/events"), ("GET", "/devices/sim-other"), ("GET", "/devices")):
        status, headers, _ = wire.raw(method, f"{path}?api-version=2019-10-01", "x" if method == "POST" else None, auth=auth)
        assert (status, headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess"), path
    assert [e["deviceId"] for e in lab.events()] == ["sim", "sim"]


@pytest.mark.parametrize("order", ["sr sig se skn", "skn se sig sr", "se skn sr sig"])
def test_the_parts_of_a_token_in_any_order(wire, order):
    parts = dict(p.split("=", 1) for p in wire.token.partition(" ")[2].split("&"))
    auth = "SharedAccessSignature " + "&".join(f"{name}={parts[name]}" for name in order.split())
    assert wire.raw("GET", f"/devices?top=1&{API}", auth=auth)[0] == 200
