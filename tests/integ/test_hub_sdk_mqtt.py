# SPDX-License-Identifier: GPL-3.0-or-later
"""npm azure-iot-device over MQTT and MQTT over WebSocket, unmodified, against the hub: devices, modules, certificates."""
import itertools

import pytest
import sdk
from labctl import LabFailed, wait_for
from labkit.identity import sas_token
from labkit.world import HUB_NAME
from sdk import call, desire, event_of, since, twin

pytestmark = [pytest.mark.hub, pytest.mark.sdk]
LAB = {"children": 6, "modules": 1}
MODEL = "dtmi:com:example:Thermostat;1"
TRANSPORTS = ["mqtt", "mqtt-ws"]


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    lab.gw("kill")


@pytest.fixture(scope="module", params=TRANSPORTS)
def client(request, lab):
    """One device for each transport, with a model id; its row is in c.row."""
    row = lab.children()[TRANSPORTS.index(request.param)]
    c = sdk.start(lab, "node", request.param, row, HOLDFAST_MODEL=MODEL)
    c.row, c.transport = row, request.param
    yield c
    assert c.end() == 0


@pytest.fixture(scope="module", params=TRANSPORTS)
def module(request, lab):
    c = sdk.start(lab, "node", request.param, lab.json("modules.json")[0])
    yield c
    assert c.end() == 0


# --- devices ----------------------------------------------------------------------------------------------------------------

def test_login_is_listed(lab, client):
    logins = {c["id"]: c["protocol"] for c in lab.hub_ctl("clients.list")}
    assert logins[client.row["deviceId"]] == client.transport


def test_telemetry(lab, client):
    before = len(lab.events())
    client.ask({"cmd": "send", "body": '{"t":1}', "properties": {"k 1": "v&=/1", "é": "ü", "$x": "y"}, "messageId": "id 1",
                "correlationId": "cid", "userId": "u1", "contentType": "application/json", "contentEncoding": "utf-8"}, "sent")
    event = event_of(lab, before, b'{"t":1}')
    assert (event["deviceId"], event["moduleId"], event["properties"]) == (
        client.row["deviceId"], None, {"k 1": "v&=/1", "é": "ü", "$x": "y"})
    system = event["systemProperties"]
    assert {k: system.get(k) for k in ("messageId", "correlationId", "userId", "contentType", "contentEncoding", "dt-dataschema",
                                       "iothub-message-source")} == {
        "messageId": "id 1", "correlationId": "cid", "userId": "u1", "contentType": "application/json", "contentEncoding": "utf-8",
        "dt-dataschema": MODEL, "iothub-message-source": "Telemetry"}


def test_the_sdk_has_no_batches_over_mqtt(client):
    with pytest.raises(LabFailed, match="NotImplementedError"):
        client.ask({"cmd": "batch", "bodies": ["b1", "b2"]}, "sent")


def test_twin(service, client):
    ident = client.row["deviceId"]
    desire(service, ident, {"interval": 5, "gone": 1})
    got = client.ask({"cmd": "twin"}, "twin")
    assert got["desired"]["interval"] == 5 and got["desired"]["$version"] >= 2
    start = len(client.lines)
    version = desire(service, ident, {"interval": 9, "gone": None})
    patch = client.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("interval") == 9, start=start)["patch"]
    assert patch == {"interval": 9, "gone": None, "$version": version}
    client.ask({"cmd": "report", "patch": {"state": {"on": True}, "list": [1, 2]}}, "reported")
    client.ask({"cmd": "report", "patch": {"state": None}}, "reported")
    reported = twin(service, ident)["properties"]["reported"]
    assert reported["list"] == [1, 2] and "state" not in reported
    assert twin(service, ident)["modelId"] == MODEL


def test_twin_refused(client):
    client.ask({"cmd": "twin"}, "twin")
    with pytest.raises(LabFailed):
        client.ask({"cmd": "report", "patch": {"big": "x" * 5000}}, "reported")


def test_method(lab, service, client):
    client.ask({"cmd": "method", "name": "reboot", "status": 207}, "method")
    assert call(service, client.row["deviceId"], "reboot", {"delay": 3}) == {"status": 207, "payload": {"echo": {"delay": 3}}}
    assert client.wait_line(lambda o: o.get("event") == "called" and o["name"] == "reboot")["payload"] == {"delay": 3}


def test_messages_to_the_device(lab, service, client):
    name = client.row["deviceId"]
    client.ask({"cmd": "listen"}, "listening")
    start = len(client.lines)
    assert service.raw("POST", "/messages/devicebound", b"to you", {
        "iothub-to": f"/devices/{name}/messages/devicebound", "iothub-messageid": "m1", "iothub-correlationid": "c",
        "iothub-ack": "full", "iothub-app-p": "v w"})[0] == 204
    got = client.wait_line(lambda o: o.get("event") == "c2d", start=start)
    assert (got["body"], got["messageId"], got["correlationId"], got["to"]) == (
        "to you", "m1", "c", f"/devices/{name}/messages/devicebound")
    assert ["p", "v w"] in got["properties"]
    client.ask({"cmd": "settle", "how": "complete"}, "settled")
    wait_for("the queue to be empty", 30, lambda: lab.hub_ctl("device.show", deviceId=name)[0]["cloudToDeviceMessageCount"] == 0)


def test_upload(lab, client, tmp_path):
    (tmp_path / "f").write_bytes(b"over HTTPS")
    client.ask({"cmd": "upload", "name": "f.txt", "file": str(tmp_path / "f")}, "uploaded")
    assert lab.exec("hub", "holdfast-hub", "blob", "get", f"{client.row['deviceId']}/f.txt").stdout == "over HTTPS"


def notified(service, c, name, mark):
    """A notification comes. One sent while the SDK makes its connection anew may be lost to it: QoS 0."""
    start, n = len(c.lines), itertools.count()

    def step():
        desire(service, name, {"mark": [mark, next(n)]})
        try:
            return c.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("mark", [0])[0] == mark, 2, start)
        except LabFailed:
            return None
    wait_for("a notification of desired properties", 30, step)


def use_everything(lab, service, c, name, mark):
    start = len(c.lines)
    notified(service, c, name, mark)
    c.ask({"cmd": "report", "patch": {"mark": mark}}, "reported")
    assert twin(service, name)["properties"]["reported"]["mark"] == mark
    assert call(service, name, "m", {})["status"] == 200
    lab.hub_ctl("c2d.send", deviceId=name, data=f"c2d {mark}")
    c.wait_line(lambda o: o.get("event") == "c2d" and o["body"] == f"c2d {mark}", start=start)
    c.ask({"cmd": "settle", "how": "complete"}, "settled")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_renewal_keeps_everything(lab, service, transport):
    """The SDK connects anew with the new token and subscribes to nothing: the hub remembers the filters."""
    name = f"renew-{transport}"
    key = lab.hub_ctl("device.create", deviceId=name)[0]["authentication"]["symmetricKey"]["primaryKey"]

    def token(seconds):
        return sas_token(key, f"{HUB_NAME}/devices/{name}", seconds=seconds)
    c = sdk.start(lab, "node", transport, {"deviceId": name, "sas": token(3600)})
    c.ask({"cmd": "twin"}, "twin")
    c.ask({"cmd": "method", "name": "m", "status": 200}, "method")
    c.ask({"cmd": "listen"}, "listening")
    use_everything(lab, service, c, name, 1)
    before = since(lab, name)
    c.ask({"cmd": "renew", "sas": token(7200)}, "renewed")
    wait_for("a new login", 30, lambda: since(lab, name) not in (None, before))
    use_everything(lab, service, c, name, 2)
    assert c.end() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_sdk_renews_by_itself(lab, service, transport):
    row = lab.children()[2 + TRANSPORTS.index(transport)]
    name = row["deviceId"]
    c = sdk.start(lab, "node", transport, row)
    c.ask({"cmd": "twin"}, "twin")
    c.ask({"cmd": "method", "name": "m", "status": 200}, "method")
    c.ask({"cmd": "listen"}, "listening")
    before = since(lab, name)
    # New values make the SDK renew at once, and from then on by them.
    c.ask({"cmd": "option", "options": {"tokenRenewal": {"tokenValidTimeInSeconds": 3600, "tokenRenewalMarginInSeconds": 900}}}, "option")
    wait_for("a login with a new token", 30, lambda: since(lab, name) not in (None, before))
    use_everything(lab, service, c, name, 3)
    assert c.end() == 0


def test_a_lost_connection_comes_back(lab, service, client):
    name = client.row["deviceId"]
    client.ask({"cmd": "method", "name": "back", "status": 200}, "method")
    before = since(lab, name)
    lab.hub_ctl("clients.disconnect", deviceId=name)
    wait_for("the device to be back", 30, lambda: since(lab, name) not in (None, before))
    assert call(service, name, "back", {})["status"] == 200
    client.ask({"cmd": "send", "body": "back"}, "sent")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_takeover(lab, transport):
    """The newest connection of an identity is the one: a telemetry-only client comes back only to send."""
    row = lab.children()[2 + TRANSPORTS.index(transport)]
    first = sdk.start(lab, "node", transport, row)
    second = sdk.start(lab, "node", transport, row)
    before = len(lab.events())
    second.ask({"cmd": "send", "body": "second"}, "sent")
    event_of(lab, before, b"second")
    assert len([c for c in lab.hub_ctl("clients.list") if c["id"] == row["deviceId"]]) == 1
    first.ask({"cmd": "send", "body": "first again"}, "sent")
    event_of(lab, before, b"first again")
    first.end()
    second.end()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_wrong_key(lab, transport):
    assert "UnauthorizedError" in sdk.refused(lab, "node", transport, dict(lab.children()[4], primaryKey="d3Jvbmc="))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_unknown_device(lab, transport):
    assert "UnauthorizedError" in sdk.refused(lab, "node", transport, dict(lab.children()[4], deviceId="nobody"))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_disabled_device(lab, transport):
    lab.exec("hub", "holdfast-hub", "device", "update", "-d", "dev5", "--status", "disabled")
    try:
        assert "UnauthorizedError" in sdk.refused(lab, "node", transport, lab.children()[5])
    finally:
        lab.exec("hub", "holdfast-hub", "device", "update", "-d", "dev5", "--status", "enabled")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("ca", [False, True], ids=["thumbprint", "ca"])
def test_certificates(lab, service, tmp_path, transport, ca):
    row, cert = sdk.create_x509(lab, tmp_path, f"x509-{transport}-{ca}", ca)
    c = sdk.start(lab, "node", transport, row, cert)
    before = len(lab.events())
    c.ask({"cmd": "send", "body": "signed"}, "sent")
    event = event_of(lab, before, b"signed")
    assert event["deviceId"] == row["deviceId"] and '"type":"x509"' in event["systemProperties"]["iothub-connection-auth-method"]
    c.ask({"cmd": "twin"}, "twin")
    c.ask({"cmd": "report", "patch": {"by": "certificate"}}, "reported")
    c.ask({"cmd": "method", "name": "m", "status": 200}, "method")
    assert call(service, row["deviceId"], "m", 1) == {"status": 200, "payload": {"echo": 1}}
    assert c.end() == 0
    other, _ = sdk.certificate(lab, tmp_path, "stranger", ca)
    assert "UnauthorizedError" in sdk.refused(lab, "node", transport, row, other)


# --- modules ----------------------------------------------------------------------------------------------------------------

def test_module_telemetry_and_outputs(lab, module):
    row = lab.json("modules.json")[0]
    before = len(lab.events())
    module.ask({"cmd": "send", "body": "plain", "properties": {"a": "b"}}, "sent")
    module.ask({"cmd": "output", "output": "out1", "body": "routed", "properties": {"$x": "y"}, "messageId": "m"}, "sent")
    with pytest.raises(LabFailed, match="NotImplementedError"):	# this SDK has no batches over MQTT
        module.ask({"cmd": "outputs", "output": "out2", "bodies": ["r1", "r2"]}, "sent")
    event = event_of(lab, before, b"routed")
    assert (event["deviceId"], event["moduleId"], event["properties"]) == (row["deviceId"], row["moduleId"], {"$x": "y"})
    assert event["systemProperties"]["outputName"] == "out1" and event["systemProperties"]["messageId"] == "m"
    assert "outputName" not in event_of(lab, before, b"plain")["systemProperties"]


def test_module_twin(lab, service, module):
    row = lab.json("modules.json")[0]
    ident = f"{row['deviceId']}/modules/{row['moduleId']}"
    desire(service, ident, {"n": 1})
    assert module.ask({"cmd": "twin"}, "twin")["desired"]["n"] == 1
    start = len(module.lines)
    desire(service, ident, {"n": 2})
    module.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("n") == 2, start=start)
    module.ask({"cmd": "report", "patch": {"m": {"x": 1}}}, "reported")
    assert twin(service, ident)["properties"]["reported"]["m"] == {"x": 1}


def test_module_method(lab, service, module):
    row = lab.json("modules.json")[0]
    module.ask({"cmd": "method", "name": "flush", "status": 200}, "method")
    ident = f"{row['deviceId']}/modules/{row['moduleId']}"
    assert call(service, ident, "flush", [1]) == {"status": 200, "payload": {"echo": [1]}}
    # A payload null reaches the device as no bytes, which this library takes for broken JSON and refuses by itself.
    assert call(service, ident, "flush", None)["status"] == 400


def test_module_inputs_can_be_subscribed(lab, module):
    """The hub itself sends none; a gateway does. Subscribing is granted and the connection goes on."""
    module.ask({"cmd": "inputs"}, "listening")
    module.ask({"cmd": "send", "body": "after the inputs"}, "sent")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_module_cannot_call_methods_in_the_cloud(lab, transport):
    """Method calls of modules are for gateways; asked as if it were one, the hub takes a service's token there and no other."""
    c = sdk.start(lab, "node", transport, dict(lab.json("modules.json")[0], gateway=HUB_NAME))
    with pytest.raises(LabFailed, match="Unauthorized"):
        c.ask({"cmd": "invoke", "device": "edge1", "params": {"methodName": "x", "payload": None, "responseTimeoutInSeconds": 5}}, "invoked")
    assert c.end() == 0
