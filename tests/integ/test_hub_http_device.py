# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's HTTPS device API at wire level: statuses, headers, locks; and the same queues from the service's side."""
import base64
import hashlib
import json
import os
import re

import hubrest
import judge
import pytest
from labctl import wait_for
from labkit.identity import sas_token
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 3, "modules": 1}
BATCH = {"Content-Type": "application/vnd.microsoft.iothub.json"}


def error_of(data):
    return json.loads(data)["Message"].partition(";")[0].removeprefix("ErrorCode:")


def connect(lab, token=None, **kw):
    with lab.inside("hub"):
        return hubrest.Https(lab.ca, token, **kw)


def device(lab, n):
    row = lab.children()[n]
    return row["deviceId"], connect(lab, lab.token(row))


def last_events(lab, before, n):
    return lab.wait_events(f"{n} messages", lambda events: new if len(new := events[before:]) >= n else None)


def counter(lab, name):
    return lab.hub_ctl("counters")[0][name]


# --- telemetry ----------------------------------------------------------------------------------------------------------

def test_one_message_with_every_header(lab):
    name, c = device(lab, 0)
    before = len(lab.events())
    status, headers, body = c.raw("POST", f"/devices/{name}/messages/events", b'{"t":1}', {
        "iothub-to": f"/devices/{name}/messages/events", "IoTHub-MessageId": "id 1", "IoTHub-CorrelationId": "cid",
        "IoTHub-UserId": "u1", "IoTHub-Expiry": "2030-01-01T00:00:00Z", "IoTHub-Ack": "full", "iothub-contenttype": "application/json",
        "iothub-contentencoding": "utf-8", "iothub-app-k1": "v&=/1", "iothub-creation-time-utc": "2026-01-31T10:00:00Z",
        "iothub-interface-id": "urn:x", "dt-subject": "thermostat1", "Content-Type": "text/anything"})
    assert (status, body) == (204, b"") and headers.get("Content-Length") is None
    event = last_events(lab, before, 1)[0]
    assert judge.body_of(event) == b'{"t":1}' and event["deviceId"] == name
    system = event["systemProperties"]
    assert {k: system.get(k) for k in ("messageId", "correlationId", "userId", "absoluteExpiryTime", "contentType", "contentEncoding",
                                       "creationTimeUtc", "iothub-interface-id", "dt-subject", "to")} == {
        "messageId": "id 1", "correlationId": "cid", "userId": "u1", "absoluteExpiryTime": "2030-01-01T00:00:00Z",
        "contentType": "application/json", "contentEncoding": "utf-8", "creationTimeUtc": "2026-01-31T10:00:00Z",
        "iothub-interface-id": "urn:x", "dt-subject": "thermostat1", "to": f"/devices/{name}/messages/events"}
    assert event["properties"] == {"k1": "v&=/1", "iothub-ack": "full"}
    c.close()


def test_a_batch_with_and_without_prefixes(lab):
    name, c = device(lab, 0)
    before = len(lab.events())
    status, _, body = c.raw("POST", f"/devices/{name}/messages/events", json.dumps([
        {"body": base64.b64encode(b"\x00\xffone").decode(), "properties": {"iothub-app-k": "v", "iothub-messageid": "m1", "plain": "p"}},
        {"body": "zwei ü", "base64Encoded": False, "properties": {"iothub-contenttype": "text/plain", "none": None}},
        {"body": base64.b64encode(b"three").decode(), "base64Encoded": True},
        {"body": ""}]), {"Content-Type": BATCH["Content-Type"] + "; charset=utf-8"})
    assert (status, body) == (204, b"")
    events = last_events(lab, before, 4)
    assert [judge.body_of(e) for e in events] == [b"\x00\xffone", "zwei ü".encode(), b"three", b""]
    assert events[0]["properties"] == {"k": "v", "plain": "p"} and events[0]["systemProperties"]["messageId"] == "m1"
    assert events[1]["properties"] == {"none": None} and events[1]["systemProperties"]["contentType"] == "text/plain"
    assert [e["sequence"] for e in events] == list(range(events[0]["sequence"], events[0]["sequence"] + 4))
    c.close()


def big(n, size):
    return json.dumps([{"body": "x" * size, "base64Encoded": False}] * n)


BROKEN = {	# text, status, code
    "nothing": ("[]", 400), "an object": ("{}", 400), "a number": ("[7]", 400), "no body": ("[{}]", 400), "a number as body": ('[{"body":7}]', 400),
    "no base64": ('[{"body":"eA=="},{"body":"!"}]', 400), "base64Encoded no boolean": ('[{"body":"eA==","base64Encoded":"no"}]', 400),
    "property no text": ('[{"body":"eA==","properties":{"a":7}}]', 400), "cut": ('[{"body":"eA=="}', 400),
    "one megabyte of depth": ("[" * 1000000, 400), "no UTF-8": (b'[{"body":"\xff","base64Encoded":false}]', 400),
    "too large": (big(3, 90000), 413), "too many": (big(9000, 0), 413),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_batch_leaves_nothing(lab, case):
    text, status = BROKEN[case]
    code = "MessageTooLarge" if status == 413 else "IotHubFormatError"
    name, c = device(lab, 0)
    before, refused = len(lab.events()), counter(lab, "rest_device_refused_total")
    got, headers, body = c.raw("POST", f"/devices/{name}/messages/events", text, BATCH)
    assert (got, error_of(body), headers["iothub-errorcode"]) == (status, code, code)
    assert len(lab.events()) == before and counter(lab, "rest_device_refused_total") == refused + 1
    assert c.raw("POST", f"/devices/{name}/messages/events", big(2, 100000), BATCH)[0] == 204	# the connection goes on
    c.close()


def test_module_message_and_chunked_body(lab):
    row = lab.json("modules.json")[0]
    token = sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{row['deviceId']}/modules/{row['moduleId']}")
    before, c = len(lab.events()), connect(lab, token)
    path = f"/devices/{row['deviceId']}/modules/{row['moduleId']}/messages/events"
    assert c.raw("POST", path, iter([b"in ", b"pieces"]))[0] == 204
    event = last_events(lab, before, 1)[0]
    assert judge.body_of(event) == b"in pieces" and event["moduleId"] == row["moduleId"]
    # A module's token is for its own path only, and a device's for the device.
    assert c.raw("POST", f"/devices/{row['deviceId']}/messages/events", b"x")[0] == 401
    assert c.raw("POST", f"/devices/{row['deviceId']}/modules/other/messages/events", b"x")[0] == 401
    c.close()


def test_who_is_refused_and_how(lab, service):
    name, c = device(lab, 1)
    row = lab.children()[1]
    path = f"/devices/{name}/messages/events"
    for token in (lab.token(row, expiry=1), lab.token(row)[:-1] + "x", lab.token(lab.children()[0]), "nonsense", None):
        c.token = token
        status, headers, body = c.raw("POST", path, b"x")
        assert (status, error_of(body), headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess", "IotHubUnauthorizedAccess")
    c.token = service.token	# of a policy with DeviceConnect: the device decides
    assert c.raw("POST", "/devices/nobody/messages/events", b"x")[0] == 404
    service.call("PUT", f"/devices/{name}", {"deviceId": name, "status": "disabled"}, {"If-Match": "*"})
    for token in (service.token, lab.token(row)):
        c.token = token
        status, _, body = c.raw("POST", path, b"x")
        assert (status, error_of(body)) == (403, "DeviceDisabled")
    service.call("PUT", f"/devices/{name}", {"deviceId": name, "status": "enabled"}, {"If-Match": "*"})
    c.token = lab.token(row)
    assert c.raw("POST", path, b"x")[0] == 204
    assert c.raw("GET", path)[0] == 405
    c.close()


# --- messages to the device -------------------------------------------------------------------------------------------------

def send(service, name, body, **headers):
    return service.raw("POST", "/messages/devicebound", body, {
        "iothub-to": f"/devices/{name}/messages/deviceBound", **{k.replace("_", "-"): v for k, v in headers.items()}})[0]


def receive(c, name):
    status, headers, body = c.raw("GET", f"/devices/{name}/messages/deviceBound", headers={"Content-Type": "application/json"})
    return status, headers, body


def test_receive_and_complete(lab, service):
    name, c = device(lab, 0)
    assert receive(c, name)[::2] == (204, b"")
    assert send(service, name, b"hello", iothub_messageid="m1", iothub_correlationid="c", iothub_userid="u", iothub_ack="full",
                iothub_contenttype="application/json", iothub_contentencoding="utf-8", iothub_app_p="v", iothub_app_q="a&b") == 204
    status, headers, body = receive(c, name)
    assert (status, body) == (200, b"hello")
    lower = {"iothub-messageid": "m1", "iothub-correlationid": "c", "iothub-to": f"/devices/{name}/messages/devicebound",
             "iothub-userid": "u", "iothub-ack": "full", "iothub-app-p": "v", "iothub-app-q": "a&b", "iothub-deliverycount": "0",
             "ContentType": "application/json", "ContentEncoding": "utf-8"}
    assert {k: v for k, v in headers.items() if k in lower} == lower	# letter by letter: items() keeps the case
    assert int(headers["iothub-sequencenumber"]) > 0 and headers["iothub-enqueuedtime"]
    lock = headers["ETag"].strip('"')
    assert headers["ETag"] == f'"{lock}"'
    assert receive(c, name)[0] == 204	# locked
    path = f"/devices/{name}/messages/devicebound/{lock}"
    assert c.raw("DELETE", path, headers={"If-Match": lock})[::2] == (204, b"")
    status, headers, body = c.raw("DELETE", path)
    assert (status, error_of(body), headers["iothub-errorcode"]) == (412, "DeviceMessageLockLost", "DeviceMessageLockLost")
    assert c.raw("POST", f"/devices/{name}/messages/devicebound/no-such-lock/abandon")[0] == 412
    c.close()


@pytest.mark.parametrize("query,outcome", [("&reject", "Rejected"), ("&reject=", "Rejected"), ("&reject=true", "Rejected"), ("", "Success")])
def test_outcomes_reach_the_service(lab, service, query, outcome):
    name, c = device(lab, 0)
    assert send(service, name, b"x", iothub_messageid=f"m{query}", iothub_ack="full") == 204
    lock = receive(c, name)[1]["ETag"].strip('"')
    assert c.raw("DELETE", f"/devices/{name}/messages/devicebound/{lock}?{hubrest.API}{query}")[0] == 204
    records = drain(service, "feedback", lambda r: r["originalMessageId"] == f"m{query}")
    assert records["description"] == ("Message rejected" if outcome == "Rejected" else outcome)
    assert records["statusCode"] == outcome and records["deviceId"] == name and records["deviceGenerationId"]
    c.close()


def drain(service, queue, wanted):
    """Takes and completes batches until a record fits."""
    def step():
        status, headers, body = service.raw("GET", f"/messages/serviceBound/{queue}")
        assert status in (200, 204), body
        if status == 204:
            return None
        assert service.raw("GET", f"/messages/serviceBound/{queue}")[0] in (200, 204)
        lock = headers["ETag"].strip('"')
        assert service.raw("DELETE", f"/messages/serviceBound/{queue}/{lock}")[0] == 204
        assert service.raw("DELETE", f"/messages/serviceBound/{queue}/{lock}")[0] == 412
        batch = json.loads(body)
        return next((r for r in (batch if isinstance(batch, list) else [batch]) if wanted(r)), None)
    return wait_for(f"a record in {queue}", 30, step)


def test_abandon_counts_and_the_tenth_ends_it(lab, service):
    name, c = device(lab, 1)
    assert send(service, name, b"again", iothub_messageid="dead", iothub_ack="negative") == 204
    for n in range(10):
        status, headers, body = receive(c, name)
        assert (status, body, headers["iothub-deliverycount"]) == (200, b"again", str(n))
        lock = headers["ETag"].strip('"')
        assert c.raw("POST", f"/devices/{name}/messages/devicebound/{lock}/abandon")[0] == 204
    assert receive(c, name)[0] == 204
    assert drain(service, "feedback", lambda r: r["originalMessageId"] == "dead")["statusCode"] == "DeliveryCountExceeded"
    c.close()


def test_a_lock_is_held_as_long_as_asked(lab, service):
    name, c = device(lab, 1)
    path, timeout = f"/devices/{name}/messages/devicebound", "IotHub-MessageLockTimeout"
    assert send(service, name, b"x") == 204
    for bad in ("9", "301", "ten"):
        status, headers, body = c.raw("GET", path, headers={timeout: bad})
        assert (status, headers["iothub-errorcode"]) == (400, "ArgumentInvalid") and timeout in json.loads(body)["Message"]
    status, headers, _ = c.raw("GET", path, headers={timeout: "300"})
    assert status == 200 and c.raw("DELETE", f"{path}/{headers['ETag'].strip(chr(34))}")[0] == 204
    c.close()


def test_abandoned_feedback_comes_again(lab, service):
    name, c = device(lab, 1)
    assert send(service, name, b"x", iothub_messageid="fb", iothub_ack="full") == 204
    lock = receive(c, name)[1]["ETag"].strip('"')
    assert c.raw("DELETE", f"/devices/{name}/messages/devicebound/{lock}")[0] == 204
    status, headers, body = service.raw("GET", "/messages/servicebound/feedback")
    assert status == 200 and headers["Content-Type"] == "application/vnd.microsoft.iothub.feedback.json"
    assert service.raw("GET", "/messages/servicebound/feedback")[0] == 204
    lock = headers["ETag"].strip('"')
    assert service.raw("POST", f"/messages/servicebound/feedback/{lock}/abandon")[0] == 204
    status, headers, again = service.raw("GET", "/messages/servicebound/feedback")
    assert (status, again, headers["iothub-deliverycount"]) == (200, body, "1")
    assert service.raw("DELETE", f"/messages/servicebound/feedback/{headers['ETag'].strip(chr(34))}")[0] == 204
    c.close()


def test_what_a_header_cannot_carry_is_encoded(lab):
    name, c = device(lab, 2)
    lab.hub_ctl("c2d.send", deviceId=name, data="x", properties={"a b": "1\r\nX-Evil: 2", "ü": "ö", "null": None})
    headers = receive(c, name)[1]
    assert headers["iothub-app-a%20b"] == "1%0D%0AX-Evil: 2" and headers.get("X-Evil") is None
    assert headers["iothub-app-%C3%BC"].encode("latin-1").decode() == "ö" and headers["iothub-app-null"] == ""
    c.close()


def test_a_policy_token_for_one_device_serves_it(lab, service):
    """As the command line of the cloud does: sr names the device, skn the policy."""
    names = [row["deviceId"] for row in lab.children()]
    policy = lab.hub_ctl("policy.show", name="device")[0]
    token = sas_token(policy["primaryKey"], f"{HUB_NAME}/devices/{names[2]}", policy="device")
    c = connect(lab, token)
    while receive(c, names[2])[0] == 200:
        pass
    assert send(service, names[2], b"by policy") == 204
    status, headers, body = receive(c, names[2])
    assert (status, body) == (200, b"by policy")
    assert c.raw("DELETE", f"/devices/{names[2]}/messages/devicebound/{headers['ETag'].strip(chr(34))}")[0] == 204
    assert receive(c, names[0])[0] == 401
    assert c.raw("POST", "/messages/devicebound", b"x", {"iothub-to": f"/devices/{names[2]}/messages/devicebound"})[0] == 401
    c.close()


@pytest.mark.parametrize("to", [None, "", "/devices/dev0", "/devices//messages/devicebound", "/devices/dev0/messages/devicebound/x",
                                "/devices/%zz/messages/devicebound", "/devices/%ff/messages/devicebound"])
def test_send_needs_a_target(service, to):
    status, _, body = service.raw("POST", "/messages/devicebound", b"x", {} if to is None else {"iothub-to": to})
    assert (status, error_of(body)) == (400, "ArgumentInvalid")


def test_send_is_refused_as_the_hub_does(lab, service):
    name = lab.children()[1]["deviceId"]
    assert send(service, "nobody", b"x") == 404
    assert send(service, name, b"x", iothub_ack="sometimes") == 400
    assert send(service, name, b"x" * 65537) == 413
    for _ in range(50):
        assert send(service, name, b"x") == 204
    assert send(service, name, b"x") == 403
    assert service.raw("DELETE", f"/devices/{name}/commands")[0] == 200


# --- large files ------------------------------------------------------------------------------------------------------------

def memory(lab, what):
    with open(f"/proc/{lab.hub_pid()}/status", encoding="ascii") as f:
        return int(re.search(rf"{what}:\s+(\d+) kB", f.read())[1])


def test_large_files_pass_in_little_memory(lab):
    """Up and down again; the peak is the kernel's own figure."""
    name, c = device(lab, 2)
    status, _, body = c.raw("POST", f"/devices/{name}/files", json.dumps({"blobName": "large"}))
    ticket = json.loads(body)
    path = f"/{ticket['containerName']}/{ticket['blobName']}{ticket['sasToken']}"
    part, n = os.urandom(1 << 20), 96
    with open(f"/proc/{lab.hub_pid()}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")	# the peak begins anew
    before = memory(lab, "VmRSS")
    assert c.raw("PUT", path, (part for _ in range(n)), {"x-ms-blob-type": "BlockBlob"})[0] == 201
    c.http.request("GET", path)
    r, size, digest = c.http.getresponse(), 0, hashlib.sha256()
    while chunk := r.read(1 << 20):
        size += len(chunk)
        digest.update(chunk)
    assert size == n << 20 and digest.digest() == hashlib.sha256(part * n).digest()
    assert memory(lab, "VmHWM") - before < 8192
    lab.hub_ctl("blob.delete", blobName=ticket["blobName"])
    c.close()


# --- what only gateways serve ------------------------------------------------------------------------------------------------

def test_a_module_cannot_call_methods_in_the_cloud(lab):
    """Method calls with x-ms-edge-moduleId are for gateways; the cloud hub takes a service's token there and no other."""
    row = lab.json("modules.json")[0]
    ident = f"{row['deviceId']}/{row['moduleId']}"
    c = connect(lab, sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{row['deviceId']}/modules/{row['moduleId']}"))
    for path in (f"/twins/{row['deviceId']}/methods", f"/twins/{row['deviceId']}/modules/{row['moduleId']}/methods"):
        status, _, body = c.raw("POST", path, json.dumps({"methodName": "x", "payload": None}),
                                {"Content-Type": "application/json", "x-ms-edge-moduleId": ident})
        assert (status, error_of(body)) == (401, "IotHubUnauthorizedAccess")
    c.close()


# --- faults on purpose: device requests follow rules on connect, sends those on c2d ------------------------------------------

@pytest.mark.parametrize("action,status", [("reject=5", 401), ("reject=3", 503), ("throttle", 429)])
def test_connect_rules_hit_device_requests(lab, action, status):
    name, c = device(lab, 2)
    lab.hub_ctl("fault.add", on="connect", action=action, device=name, count=1)
    assert receive(c, name)[0] == status
    assert receive(c, name)[0] in (200, 204)
    c.close()


def test_c2d_rules_hit_sends(lab, service):
    name = lab.children()[2]["deviceId"]
    service.raw("DELETE", f"/devices/{name}/commands")
    lab.hub_ctl("fault.add", on="c2d", action="reject=503", device=name, count=1)
    assert send(service, name, b"refused") == 503
    assert send(service, lab.children()[1]["deviceId"], b"other") == 204
    assert send(service, name, b"taken") == 204
    assert lab.hub_ctl("device.show", deviceId=name)[0]["cloudToDeviceMessageCount"] == 1
    service.raw("DELETE", f"/devices/{name}/commands")
