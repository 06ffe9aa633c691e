# SPDX-License-Identifier: GPL-3.0-or-later
"""PyPI azure-iot-device over MQTT and MQTT over WebSocket, its only transports, unmodified, against the hub."""
import os

import hubrest
import pytest
import sdk
from labctl import LabFailed, wait_for
from labkit.identity import sas_token
from labkit.world import HUB_NAME
from sdk import call, desire, event_of, since, twin

pytestmark = [pytest.mark.hub, pytest.mark.sdk]
LAB = {"children": 4, "modules": 1}
MODEL = "dtmi:com:example:Thermostat;1"
TRANSPORTS = ["mqtt", "mqtt-ws"]


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    if not os.path.exists(sdk.VENV):
        pytest.skip("azure-iot-device is not installed")
    lab.gw("kill")


@pytest.fixture(scope="module", params=TRANSPORTS)
def client(request, lab):
    row = lab.children()[TRANSPORTS.index(request.param)]
    c = sdk.start(lab, "python", request.param, row, HOLDFAST_MODEL=MODEL)
    c.row, c.transport = row, request.param
    yield c
    assert c.end() == 0


@pytest.fixture(scope="module", params=TRANSPORTS)
def module(request, lab):
    c = sdk.start(lab, "python", request.param, lab.json("modules.json")[0])
    yield c
    assert c.end() == 0


def test_login_is_listed(lab, client):
    assert {c["id"]: c["protocol"] for c in lab.hub_ctl("clients.list")}[client.row["deviceId"]] == client.transport


def test_telemetry(lab, client):
    before = len(lab.events())
    client.ask({"cmd": "send", "body": '{"t":1}', "properties": {"k 1": "v&=/1", "é": "ü"}, "messageId": "id 1", "correlationId": "cid",
                "userId": "u1", "contentType": "application/json", "contentEncoding": "utf-8", "security": True}, "sent")
    event = event_of(lab, before, b'{"t":1}')
    assert (event["deviceId"], event["properties"]) == (client.row["deviceId"], {"k 1": "v&=/1", "é": "ü"})
    system = event["systemProperties"]
    assert {k: system.get(k) for k in ("messageId", "correlationId", "userId", "contentType", "contentEncoding", "iothub-interface-id",
                                       "dt-dataschema")} == {
        "messageId": "id 1", "correlationId": "cid", "userId": "u1", "contentType": "application/json", "contentEncoding": "utf-8",
        "iothub-interface-id": "urn:azureiot:Security:SecurityAgent:1", "dt-dataschema": MODEL}


def test_twin(service, client):
    ident = client.row["deviceId"]
    desire(service, ident, {"interval": 5})
    got = client.ask({"cmd": "twin"}, "twin")
    assert got["desired"]["interval"] == 5 and got["reported"]["$version"] >= 1
    start = len(client.lines)
    version = desire(service, ident, {"interval": 9})
    assert client.wait_line(lambda o: o.get("event") == "desired", start=start)["patch"] == {"interval": 9, "$version": version}
    client.ask({"cmd": "report", "patch": {"state": {"on": True}}}, "reported")
    doc = twin(service, ident)
    assert doc["properties"]["reported"]["state"] == {"on": True} and doc["modelId"] == MODEL


def test_twin_refused(client):
    with pytest.raises(LabFailed, match="ServiceError.*413|ServiceError.*400"):
        client.ask({"cmd": "report", "patch": {"big": "x" * 5000}}, "reported")


def test_method(lab, service, client):
    client.ask({"cmd": "method", "name": "reboot", "status": 207}, "method")
    assert call(service, client.row["deviceId"], "reboot", {"delay": 3}) == {"status": 207, "payload": {"echo": {"delay": 3}}}


def test_messages_to_the_device(lab, service, client):
    name = client.row["deviceId"]
    client.ask({"cmd": "listen"}, "listening")
    start = len(client.lines)
    assert service.raw("POST", "/messages/devicebound", b"to you", {
        "iothub-to": f"/devices/{name}/messages/devicebound", "iothub-messageid": "m1", "iothub-correlationid": "c", "iothub-ack": "full",
        "iothub-contenttype": "text/plain", "iothub-app-p": "v w"})[0] == 204
    got = client.wait_line(lambda o: o.get("event") == "c2d", start=start)
    assert {k: got[k] for k in ("body", "messageId", "correlationId", "ack", "contentType", "properties")} == {
        "body": "to you", "messageId": "m1", "correlationId": "c", "ack": "full", "contentType": "text/plain", "properties": [["p", "v w"]]}
    wait_for("the queue to be empty", 30, lambda: lab.hub_ctl("device.show", deviceId=name)[0]["cloudToDeviceMessageCount"] == 0)


def test_upload(lab, client, tmp_path):
    (tmp_path / "f").write_bytes(b"over HTTPS")
    assert client.ask({"cmd": "upload", "name": "f.txt", "file": str(tmp_path / "f")}, "uploaded")["status"] == 201
    assert lab.exec("hub", "holdfast-hub", "blob", "get", f"{client.row['deviceId']}/f.txt").stdout == "over HTTPS"


def test_upload_refused(client, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(LabFailed, match="ServiceError.*400"):
        client.ask({"cmd": "upload", "name": "../f", "file": str(tmp_path / "f")}, "uploaded")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_renewal_keeps_everything(lab, service, transport):
    """The SDK connects anew with the new token; filters stay."""
    name = f"py-renew-{transport}"
    key = lab.hub_ctl("device.create", deviceId=name)[0]["authentication"]["symmetricKey"]["primaryKey"]

    def token(seconds):
        return sas_token(key, f"{HUB_NAME}/devices/{name}", seconds=seconds)
    c = sdk.start(lab, "python", transport, {"deviceId": name, "sas": token(3600)})
    c.ask({"cmd": "twin"}, "twin")
    c.ask({"cmd": "method", "name": "m", "status": 200}, "method")
    c.ask({"cmd": "listen"}, "listening")
    before = since(lab, name)
    c.ask({"cmd": "renew", "sas": token(7200)}, "renewed")
    wait_for("a new login", 30, lambda: since(lab, name) not in (None, before))
    start = len(c.lines)
    desire(service, name, {"mark": 1})
    c.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("mark") == 1, start=start)
    c.ask({"cmd": "report", "patch": {"mark": 1}}, "reported")
    assert call(service, name, "m", None)["status"] == 200
    lab.hub_ctl("c2d.send", deviceId=name, data="still there")
    c.wait_line(lambda o: o.get("event") == "c2d" and o["body"] == "still there", start=start)
    assert c.end() == 0


def test_a_lost_connection_comes_back(lab, client):
    name = client.row["deviceId"]
    before = since(lab, name)
    lab.hub_ctl("clients.disconnect", deviceId=name)
    wait_for("the device to be back", 30, lambda: since(lab, name) not in (None, before))
    client.ask({"cmd": "send", "body": "back"}, "sent")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_who_is_refused(lab, transport):
    row = lab.children()[2]
    assert "CredentialError" in sdk.refused(lab, "python", transport, dict(row, primaryKey="d3Jvbmc="))
    assert "CredentialError" in sdk.refused(lab, "python", transport, dict(row, deviceId="nobody"))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("ca", [False, True], ids=["thumbprint", "ca"])
def test_certificates(lab, service, tmp_path, transport, ca):
    row, cert = sdk.create_x509(lab, tmp_path, f"py-x509-{transport}-{ca}", ca)
    c = sdk.start(lab, "python", transport, row, cert)
    before = len(lab.events())
    c.ask({"cmd": "send", "body": "signed"}, "sent")
    event = event_of(lab, before, b"signed")
    assert event["deviceId"] == row["deviceId"] and '"type":"x509"' in event["systemProperties"]["iothub-connection-auth-method"]
    c.ask({"cmd": "twin"}, "twin")
    c.ask({"cmd": "method", "name": "m", "status": 200}, "method")
    assert call(service, row["deviceId"], "m", 1) == {"status": 200, "payload": {"echo": 1}}
    (tmp_path / "f").write_bytes(b"x")
    assert c.ask({"cmd": "upload", "name": "f", "file": str(tmp_path / "f")}, "uploaded")["status"] == 201
    assert c.end() == 0
    other, _ = sdk.certificate(lab, tmp_path, "stranger", ca)
    assert "CredentialError" in sdk.refused(lab, "python", transport, row, other)


# --- modules ----------------------------------------------------------------------------------------------------------------

def test_module(lab, service, module):
    row = lab.json("modules.json")[0]
    ident, before = f"{row['deviceId']}/modules/{row['moduleId']}", len(lab.events())
    module.ask({"cmd": "send", "body": "plain"}, "sent")
    module.ask({"cmd": "output", "output": "out1", "body": "routed", "properties": {"a": "b"}}, "sent")
    event = event_of(lab, before, b"routed")
    assert (event["deviceId"], event["moduleId"], event["properties"]) == (row["deviceId"], row["moduleId"], {"a": "b"})
    assert event["systemProperties"]["outputName"] == "out1"
    assert "outputName" not in event_of(lab, before, b"plain")["systemProperties"]
    desire(service, ident, {"n": 1})
    assert module.ask({"cmd": "twin"}, "twin")["desired"]["n"] == 1
    start = len(module.lines)
    desire(service, ident, {"n": 2})
    module.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("n") == 2, start=start)
    module.ask({"cmd": "report", "patch": {"m": 1}}, "reported")
    assert twin(service, ident)["properties"]["reported"]["m"] == 1
    module.ask({"cmd": "method", "name": "flush", "status": 200}, "method")
    assert call(service, ident, "flush", None) == {"status": 200, "payload": {"echo": None}}
    module.ask({"cmd": "listen"}, "listening")	# inputs: granted, the hub itself sends none
    module.ask({"cmd": "send", "body": "after the inputs"}, "sent")


def test_module_certificates(lab, tmp_path):
    cert, thumb = sdk.certificate(lab, tmp_path, "py-module")
    lab.hub_ctl("device.create", deviceId="py-parent")
    with lab.inside("hub"):
        rest = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    status, _, doc = rest.call("PUT", "/devices/py-parent/modules/m", {"deviceId": "py-parent", "moduleId": "m", "authentication": {
        "type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumb, "secondaryThumbprint": thumb}}})
    rest.close()
    assert status in (200, 201), doc
    c = sdk.start(lab, "python", "mqtt", {"deviceId": "py-parent", "moduleId": "m"}, cert)
    before = len(lab.events())
    c.ask({"cmd": "send", "body": "signed"}, "sent")
    assert event_of(lab, before, b"signed")["moduleId"] == "m"
    assert c.end() == 0


def test_the_sdk_has_no_method_calls_without_an_edge_environment(module):
    with pytest.raises(LabFailed, match="only supported"):
        module.ask({"cmd": "invoke", "params": {"methodName": "x", "payload": None}, "device": "edge1"}, "invoked")
