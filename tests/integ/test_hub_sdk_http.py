# SPDX-License-Identifier: GPL-3.0-or-later
"""npm azure-iot-device with azure-iot-device-http, unmodified, against the hub."""
import os

import judge
import pytest
import sdk
from labctl import LabFailed, wait_for

pytestmark = [pytest.mark.hub, pytest.mark.sdk]
LAB = {"children": 3, "modules": 1}


@pytest.fixture(scope="module")
def client(lab):
    c = sdk.start(lab, "node", "http", lab.children()[0])
    yield c
    assert c.end() == 0


def feedback(service, queue="feedback"):
    """The next batch of it, as text; completed."""
    def step():
        status, headers, body = service.raw("GET", f"/messages/serviceBound/{queue}")
        if status != 200:
            return None
        assert service.raw("DELETE", f"/messages/serviceBound/{queue}/{headers['ETag'].strip(chr(34))}")[0] == 204
        return body.decode()
    return wait_for(f"a record in {queue}", 30, step)


def new_events(lab, before, n):
    return lab.wait_events(f"{n} messages", lambda events: new if len(new := events[before:]) >= n else None)


def test_telemetry(lab, client):
    before = len(lab.events())
    client.ask({"cmd": "send", "body": '{"t":1}', "properties": {"k1": "v&=/1", "dt-subject": "thermo"}, "messageId": "id 1",
                "correlationId": "c", "userId": "u", "contentType": "application/json", "contentEncoding": "utf-8"}, "sent")
    event = new_events(lab, before, 1)[0]
    assert judge.body_of(event) == b'{"t":1}' and event["properties"] == {"k1": "v&=/1"}
    system = event["systemProperties"]
    assert {k: system.get(k) for k in ("messageId", "correlationId", "userId", "contentType", "contentEncoding", "dt-subject")} == {
        "messageId": "id 1", "correlationId": "c", "userId": "u", "contentType": "application/json", "contentEncoding": "utf-8",
        "dt-subject": "thermo"}


def test_batch(lab, client):
    before = len(lab.events())
    client.ask({"cmd": "batch", "bodies": ["one", "zwei ü", "{}"], "properties": {"k": "v"}}, "sent")
    events = new_events(lab, before, 3)
    assert [judge.body_of(e).decode() for e in events] == ["one", "zwei ü", "{}"]
    assert all(e["properties"] == {"k": "v"} for e in events)


def test_too_large_is_an_error(client):
    with pytest.raises(LabFailed, match="MessageTooLargeError"):
        client.ask({"cmd": "send", "body": "x" * 262145}, "sent")
    with pytest.raises(LabFailed, match="MessageTooLargeError"):
        client.ask({"cmd": "batch", "bodies": ["x" * 150000] * 2}, "sent")


@pytest.mark.parametrize("how,outcome", [("complete", "Success"), ("reject", "Rejected")])
def test_messages_to_the_device(lab, client, service, how, outcome):
    client.ask({"cmd": "listen"}, "listening")
    start = len(client.lines)
    assert service.raw("POST", "/messages/devicebound", b"to you", {
        "iothub-to": "/devices/dev0/messages/devicebound", "iothub-messageid": how, "iothub-ack": "full", "iothub-app-p": "v"})[0] == 204
    got = client.wait_line(lambda o: o.get("event") == "c2d", start=start)
    assert (got["body"], got["messageId"], got["to"]) == ("to you", how, "/devices/dev0/messages/devicebound")
    assert got["properties"] == [["iothub-app-p", "v"]]	# this SDK keeps the prefix
    client.ask({"cmd": "settle", "how": how}, "settled")
    body = feedback(service)
    assert f'"statusCode":"{outcome}"' in body and f'"originalMessageId":"{how}"' in body
    client.ask({"cmd": "deaf"}, "deaf")


def test_abandoned_messages_come_again(lab, client, service):
    client.ask({"cmd": "listen"}, "listening")
    assert service.raw("POST", "/messages/devicebound", b"twice", {"iothub-to": "/devices/dev0/messages/devicebound"})[0] == 204
    for how in ("abandon", "complete"):
        start = len(client.lines)
        assert client.wait_line(lambda o: o.get("event") == "c2d", start=max(0, start - 1))["body"] == "twice"
        client.ask({"cmd": "settle", "how": how}, "settled")
    assert lab.hub_ctl("device.show", deviceId="dev0")[0]["cloudToDeviceMessageCount"] == 0
    client.ask({"cmd": "deaf"}, "deaf")


@pytest.mark.parametrize("size", [5, 9 << 20])
def test_upload(lab, client, service, tmp_path, size):
    """The SDK hands the file to @azure/storage-blob, which sends blocks of 4 MiB and then their list."""
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    client.ask({"cmd": "upload", "name": f"folder/{size}.bin", "file": str(tmp_path / "f")}, "uploaded", 60)
    target = str(tmp_path / "back")
    lab.exec("hub", "holdfast-hub", "blob", "get", f"dev0/folder/{size}.bin", "-f", target)
    with open(target, "rb") as f:
        assert f.read() == content
    assert f'"blobSizeInBytes":{size}' in feedback(service, "filenotifications")


def test_upload_refused(client, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(LabFailed, match="BlobSasError"):
        client.ask({"cmd": "upload", "name": "../f", "file": str(tmp_path / "f")}, "uploaded")


@pytest.mark.parametrize("ca", [False, True])
def test_certificates(lab, tmp_path, ca):
    row, cert = sdk.create_x509(lab, tmp_path, f"http-x509-{ca}", ca)
    c = sdk.start(lab, "node", "http", row, cert)
    before = len(lab.events())
    c.ask({"cmd": "send", "body": "signed"}, "sent")
    event = new_events(lab, before, 1)[0]
    assert event["deviceId"] == row["deviceId"] and '"type":"x509"' in event["systemProperties"]["iothub-connection-auth-method"]
    (tmp_path / "f").write_bytes(b"by certificate")
    c.ask({"cmd": "upload", "name": "f", "file": str(tmp_path / "f")}, "uploaded")
    assert c.end() == 0
    other, _ = sdk.certificate(lab, tmp_path, "stranger", ca)
    c = sdk.start(lab, "node", "http", row, other)	# this SDK opens without a word to the hub
    with pytest.raises(LabFailed, match="UnauthorizedError"):
        c.ask({"cmd": "send", "body": "forged"}, "sent")
    c.end()


def test_wrong_key(lab):
    c = sdk.start(lab, "node", "http", dict(lab.children()[1], primaryKey="d3Jvbmc="))
    with pytest.raises(LabFailed, match="UnauthorizedError"):
        c.ask({"cmd": "send", "body": "x"}, "sent")
    c.end()


def test_a_disabled_device(lab, service):
    """403; this SDK takes every 403 for a quota."""
    c = sdk.start(lab, "node", "http", lab.children()[2])
    lab.exec("hub", "holdfast-hub", "device", "update", "-d", "dev2", "--status", "disabled")
    with pytest.raises(LabFailed, match="Forbidden.*IotHubQuotaExceededError"):
        c.ask({"cmd": "send", "body": "x"}, "sent")
    lab.exec("hub", "holdfast-hub", "device", "update", "-d", "dev2", "--status", "enabled")
    c.ask({"cmd": "send", "body": "x"}, "sent")
    assert c.end() == 0


@pytest.mark.parametrize("command", [{"cmd": "twin"}, {"cmd": "method", "name": "m", "status": 200}])
def test_what_the_sdk_has_not_over_http(client, command):
    with pytest.raises(LabFailed, match="NotImplementedError"):
        client.ask(command, command["cmd"])


def test_modules_have_nothing_over_http(lab):
    """The SDK sends a module's messages as its device, with the module's token, which the hub refuses; outputs it does not have."""
    c = sdk.start(lab, "node", "http", lab.json("modules.json")[0])
    with pytest.raises(LabFailed, match="UnauthorizedError"):
        c.ask({"cmd": "send", "body": "x"}, "sent")
    with pytest.raises(LabFailed, match="NotImplementedError"):
        c.ask({"cmd": "output", "output": "out1", "body": "x"}, "sent")
    c.end()
