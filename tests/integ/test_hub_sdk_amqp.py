# SPDX-License-Identifier: GPL-3.0-or-later
"""The unmodified Node device SDK over AMQP and AMQP over WebSocket, straight to the hub."""
import base64
import hashlib
import json
import os
import subprocess

import judge
import pytest
from labctl import REPO, LabFailed, wait_for
from labkit.identity import sas_token
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 9, "modules": 1}
DEVICE = os.path.join(REPO, "tests", "sdk", "device.js")
TRANSPORTS = pytest.mark.parametrize("transport", ["amqp", "amqp-ws"])


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    """It holds the modules' identities too."""
    lab.gw("kill")


def direct(row):
    """The connection string without the gateway."""
    return ";".join(p for p in row["connectionString"].split(";") if not p.startswith("GatewayHostName"))


@pytest.fixture
def start(lab):
    made = []

    def run(transport, connection_string, *args, **env):
        p = lab.spawn("hub", "node", DEVICE, transport, *args, env={"HOLDFAST_CHILD": connection_string, **env})
        made.append(p)
        return p

    def opened(*args, **env):
        p = run(*args, **env)
        p.wait_line(lambda o: o.get("event") == "open")
        return p
    opened.only = run
    yield opened
    for p in made:
        p.finish()


def token(row, seconds):
    return sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{row['deviceId']}", seconds)


@pytest.fixture(scope="module", autouse=True)
def ending(lab, no_gateway):
    """Clients with tokens that end while other tests run: two renew theirs, the last one does not."""
    rows = lab.children()[6:9]
    made = [lab.spawn("hub", "node", DEVICE, transport, env={"HOLDFAST_CHILD": ""}) for transport in ("amqp", "amqp-ws", "amqp")]
    for p, row in zip(made, rows):
        p.wait_line(lambda o: o.get("event") == "ready")
        p.tell(f"HostName={HUB_NAME};DeviceId={row['deviceId']};SharedAccessSignature={token(row, 5)}")
        p.wait_line(lambda o: o.get("event") == "open")
    for p in made:
        p.ask({"cmd": "send", "body": "early"}, "sent")
    for p, row in zip(made[:2], rows):
        p.ask({"cmd": "renew", "sas": token(row, 600)}, "renewed")
    yield made
    for p in made:
        p.finish()


def hub(lab, *args):
    return lab.exec("hub", "holdfast-hub", *args).stdout


def doc(lab, *args):
    return json.loads(hub(lab, *args, "--json"))


def clients(lab):
    return {c["id"]: c["protocol"] for c in lab.hub_ctl("clients.list")}


def next_seq(lab):
    return lab.hub_ctl("status")[0]["nextSequence"]


@TRANSPORTS
def test_telemetry_twin_and_methods(lab, start, transport):
    ident = "dev0" if transport == "amqp" else "dev1"
    d = start(transport, direct(lab.children()[int(ident[-1])]))
    assert clients(lab)[ident] == transport
    first = next_seq(lab)
    d.ask({"cmd": "send", "body": "hello", "messageId": "id 1", "correlationId": "c", "contentType": "application/json",
           "contentEncoding": "utf-8", "properties": {"k 1": "v&=/1", "$x": "ü"}}, "sent")
    e = lab.events(first)[0]
    assert judge.body_of(e) == b"hello" and e["properties"] == {"k 1": "v&=/1", "$x": "ü"}
    assert {k: e["systemProperties"][k] for k in ("messageId", "correlationId", "contentType", "contentEncoding")} == {
        "messageId": "id 1", "correlationId": "c", "contentType": "application/json", "contentEncoding": "utf-8"}
    with pytest.raises(LabFailed, match="does not support batching"):	# the SDK, before anything is sent
        d.ask({"cmd": "batch", "bodies": ["a", "b"]}, "sent")
    assert d.ask({"cmd": "twin"}, "twin")["desired"] == {"$version": 1}
    d.ask({"cmd": "report", "patch": {"fan": {"speed": 3}}}, "reported")
    with pytest.raises(LabFailed):
        d.ask({"cmd": "report", "patch": {"a" * 2000: 1}}, "reported")
    assert doc(lab, "twin", "show", "-d", ident)["properties"]["reported"]["fan"] == {"speed": 3}
    hub(lab, "twin", "update", "-d", ident, "--desired", '{"interval": 5}')
    d.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("interval") == 5)
    d.ask({"cmd": "method", "name": "doIt", "status": 201}, "method")
    answer = doc(lab, "method", "invoke", "-d", ident, "--mn", "doIt", "--mp", '{"a": [1]}')
    assert answer["status"] == 201 and answer["payload"] == {"echo": {"a": [1]}}
    assert d.wait_line(lambda o: o.get("event") == "called")["payload"] == {"a": [1]}
    assert d.end() == 0
    wait_for("the login to end", 30, lambda: ident not in clients(lab))


@TRANSPORTS
def test_c2d_is_abandoned_rejected_completed(lab, start, transport):
    d = start(transport, direct(lab.children()[2]))
    d.ask({"cmd": "listen"}, "listening")
    seen = 0

    def receive():
        nonlocal seen
        m = d.wait_line(lambda o: o.get("event") == "c2d", start=seen)
        seen = d.lines.index(m, seen) + 1
        return m

    def left():
        return doc(lab, "device", "show", "-d", "dev2")["cloudToDeviceMessageCount"]
    hub(lab, "c2d", "send", "-d", "dev2", "--data", "one", "--props", '{"a b": "c/d"}')
    m = receive()
    assert m["body"] == "one" and m["properties"] == [["a b", "c/d"]] and m["to"] == "/devices/dev2/messages/devicebound"
    d.ask({"cmd": "settle", "how": "abandon"}, "settled")
    assert receive()["body"] == "one"
    d.ask({"cmd": "settle", "how": "complete"}, "settled")
    wait_for("an empty queue", 30, lambda: left() == 0)
    hub(lab, "c2d", "send", "-d", "dev2", "--data", "two")
    assert receive()["body"] == "two"
    d.ask({"cmd": "settle", "how": "reject"}, "settled")
    wait_for("an empty queue", 30, lambda: left() == 0)
    assert d.end() == 0


@TRANSPORTS
def test_a_module_sends_to_outputs(lab, start, transport):
    row = lab.json("modules.json")[0]
    m = start(transport, direct(row), "module")
    first = next_seq(lab)
    m.ask({"cmd": "output", "output": "o1", "body": "out"}, "sent")
    e = lab.events(first)[0]
    assert (e["deviceId"], e["moduleId"]) == (row["deviceId"], row["moduleId"])
    m.ask({"cmd": "twin"}, "twin")
    m.ask({"cmd": "report", "patch": {"module": True}}, "reported")
    m.ask({"cmd": "method", "name": "go", "status": 200}, "method")
    answer = doc(lab, "method", "invoke", "-d", row["deviceId"], "-m", row["moduleId"], "--mn", "go", "--mp", "{}")
    assert answer["status"] == 200
    assert m.end() == 0


# --- certificates ------------------------------------------------------------------------------------------------


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(lab, tmp_path_factory):
    """(certificate, key) of a device with a thumbprint, of one below the hub's CA, of a stranger."""
    folder = tmp_path_factory.mktemp("pki")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def path(name):
        return str(folder / name)
    for name in ("thumb", "stranger"):
        openssl("req", "-x509", *new, "-days", "2", "-keyout", path(f"{name}.key"), "-out", path(f"{name}.pem"), "-subj", f"/CN={name}")
    openssl("req", "-new", *new, "-keyout", path("signed.key"), "-out", path("signed.csr"), "-subj", "/CN=signed")
    openssl("x509", "-req", "-in", path("signed.csr"), "-CA", lab.path("ca.pem"), "-CAkey", lab.path("ca.key"), "-days", "2",
            "-set_serial", "77", "-out", path("signed.pem"))
    with open(path("thumb.pem"), encoding="ascii") as f:
        der = base64.b64decode("".join(f.read().split("-----")[2].split()))
    hub(lab, "device", "create", "-d", "thumb", "--am", "x509_thumbprint", "--ptp", hashlib.sha256(der).hexdigest())
    hub(lab, "device", "create", "-d", "signed", "--am", "x509_ca")
    return {name: {"HOLDFAST_CERT": path(f"{name}.pem"), "HOLDFAST_KEY": path(f"{name}.key")} for name in ("thumb", "signed", "stranger")}


@TRANSPORTS
@pytest.mark.parametrize("ident", ["thumb", "signed"])
def test_a_certificate_lets_in_without_a_token(lab, start, certificates, transport, ident):
    d = start(transport, f"HostName={HUB_NAME};DeviceId={ident};x509=true", **certificates[ident])
    first = next_seq(lab)
    d.ask({"cmd": "send", "body": "signed"}, "sent")
    e = lab.events(first)[0]
    assert e["deviceId"] == ident and '"x509' in e["systemProperties"]["iothub-connection-auth-method"]
    d.ask({"cmd": "twin"}, "twin")
    assert clients(lab)[ident] == transport
    assert d.end() == 0


@TRANSPORTS
def test_a_foreign_certificate_does_not(lab, start, certificates, transport):
    d = start(transport, f"HostName={HUB_NAME};DeviceId=thumb;x509=true", **certificates["stranger"])
    with pytest.raises(LabFailed, match="UnauthorizedError"):
        d.ask({"cmd": "send", "body": "forged"}, "sent")


# --- tokens --------------------------------------------------------------------------------------------------------


@TRANSPORTS
def test_wrong_keys_and_unknown_devices_are_told_why(lab, start, transport):
    row = lab.children()[5]
    wrong = base64.b64encode(b"no such key").decode()
    for string, why in ((f"HostName={HUB_NAME};DeviceId=dev5;SharedAccessKey={wrong}", "signature does not match"),
                        (f"HostName={HUB_NAME};DeviceId=nobody;SharedAccessKey={row['primaryKey']}", "no registered identity")):
        p = start.only(transport, string)
        failed = p.wait_line(lambda o: o.get("event") == "failed", 30)
        assert failed["name"] == "UnauthorizedError" and why in failed["message"]	# it calls every refusal so
        assert p.p.wait(30) == 1


def test_a_cut_client_comes_back(lab, start):
    """It notices by itself, because it listens; a disabled one is told why it may not."""
    d = start("amqp", direct(lab.children()[5]))
    d.ask({"cmd": "listen"}, "listening")
    d.ask({"cmd": "method", "name": "doIt", "status": 200}, "method")
    hub(lab, "clients", "disconnect", "-d", "dev5")
    answer = doc(lab, "method", "invoke", "-d", "dev5", "--mn", "doIt", "--mp", "{}", "--connect-timeout", "30")
    assert answer["status"] == 200
    hub(lab, "device", "update", "-d", "dev5", "--status", "disabled")
    try:
        d.wait_line(lambda o: o.get("event") in ("disconnect", "error"), 20)
        with pytest.raises(LabFailed, match="Unauthorized"):
            d.ask({"cmd": "send", "body": "no"}, "sent")
    finally:
        hub(lab, "device", "update", "-d", "dev5", "--status", "enabled")


def test_a_model_id_does_no_harm(lab, start):
    """This SDK sends it over MQTT only."""
    d = start("amqp", direct(lab.children()[0]), HOLDFAST_MODEL="dtmi:com:example:Thermostat;1")
    d.ask({"cmd": "send", "body": "x"}, "sent")
    assert d.end() == 0


def test_tokens_end_unless_they_are_renewed(lab, ending):
    """Last, they had the whole time. The old tokens of those who renewed ended before the one of who did not."""
    *renewed, ended = ending
    wait_for("the end of the one", 30, lambda: lab.hub_ctl("counters")[0]["token_expired_total"] == 1)
    ident = lab.children()[8]["deviceId"]
    wait_for("its login to end", 30, lambda: ident not in clients(lab))
    for d in renewed:
        d.ask({"cmd": "send", "body": "late"}, "sent")
    with pytest.raises(LabFailed, match="UnauthorizedError"):
        ended.ask({"cmd": "send", "body": "late"}, "sent")
    assert lab.hub_ctl("counters")[0]["token_expired_total"] == 1
