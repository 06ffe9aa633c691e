# SPDX-License-Identifier: GPL-3.0-or-later
"""Services over AMQP: messages to devices, feedback, file notifications; by the Node and Python SDKs and by qpid-proton."""
import json
import os
import time
import urllib.parse

import hubrest
import mqttwire
import pytest
from labctl import PYTHON, REPO, wait_for
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 6}
SDK, LIB = os.path.join(REPO, "tests", "sdk"), os.path.join(REPO, "tests", "lib")
BOTH = pytest.mark.parametrize("transport", ["amqp", "amqp-ws"])


def start(lab, transport="amqp", connection_string=None):
    env = {"HOLDFAST_SERVICE": connection_string} if connection_string else None
    return lab.spawn("hub", "node", os.path.join(SDK, "messages.js"), transport, lab.path("hub.json"), env=env)


@pytest.fixture
def service(lab):
    s = start(lab)
    s.ask({"cmd": "open"}, "open")
    yield s
    assert s.end() == 0


def policy(lab, name):
    return lab.hub_ctl("policy.show", name=name)[0]


def plain(lab, name, **kw):
    """(user, password) of SASL PLAIN for a policy"""
    return f"{name}@sas.root.{HUB_NAME.split('.', maxsplit=1)[0]}", sas_token(policy(lab, name)["primaryKey"], HUB_NAME, policy=name, **kw)


def proton(lab, user, password, *command):
    r = lab.exec("hub", PYTHON, os.path.join(LIB, "amqppeer.py"), lab.ca, user, password, *command)
    return json.loads(r.stdout)


def device(lab, n):
    """A connected device that gets its messages."""
    row = lab.children()[n]
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    token = sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{row['deviceId']}")
    assert c.login(HUB_NAME, row["deviceId"], token)[1] == 0
    c.subscribe((f"devices/{row['deviceId']}/messages/devicebound/#", 1))
    return c


def take(client):
    """(properties, body) of the next message, completed."""
    m = client.message()
    return dict(urllib.parse.parse_qsl(m.topic.rsplit("/", 1)[1], keep_blank_values=True)), m.payload


def waiting(lab, name):
    return lab.hub_ctl("device.show", deviceId=name)[0]["cloudToDeviceMessageCount"]


def refusal(script, command):
    start = len(script.lines)
    script.tell(command)
    return script.wait_line(lambda o: o["event"] in ("failed", "sent"), 60, start)


# --- messages to devices ---------------------------------------------------------------------------------------------------

@BOTH
def test_send_with_everything(lab, transport):
    s, d = start(lab, transport), device(lab, 0)
    s.ask({"cmd": "open"}, "open")
    expiry = int(time.time() * 1000) + 600000
    s.ask({"cmd": "send", "device": "dev0", "body": "héllo", "messageId": "id 1", "correlationId": "c&d", "ack": "full",
           "contentType": "text/plain", "contentEncoding": "utf-8", "expiryTimeUtc": expiry, "properties": {"k 1": "v=&", "e": ""}}, "sent")
    bag, body = take(d)
    assert body == "héllo".encode()
    assert bag.pop("$.exp").startswith(time.strftime("%Y-%m-%dT%H:%M", time.gmtime(expiry / 1000)))
    assert bag == {"$.mid": "id 1", "$.cid": "c&d", "$.to": "/devices/dev0/messages/devicebound", "$.ct": "text/plain",
                   "$.ce": "utf-8", "iothub-ack": "full", "k 1": "v=&", "e": ""}
    d.close()
    assert s.end() == 0


def test_message_ids_that_are_uuids(lab, service):
    d, uuid = device(lab, 0), "0fe4b6b1-6a6a-4d7d-9c8a-0123456789ab"
    service.ask({"cmd": "send", "device": "dev0", "body": "x", "messageId": uuid, "correlationId": uuid}, "sent")
    bag, _ = take(d)
    assert bag["$.mid"] == bag["$.cid"] == uuid
    d.close()


def test_device_ids_are_decoded(lab, service):
    name = "a:b%25c@d"
    lab.hub_ctl("device.create", deviceId=name)
    service.ask({"cmd": "send", "device": name, "body": "x"}, "sent")
    assert waiting(lab, name) == 1


def test_what_is_refused(lab, service):
    assert refusal(service, {"cmd": "send", "device": "nobody", "body": "x"})["name"] == "DeviceNotFoundError"
    assert refusal(service, {"cmd": "send", "device": "dev1", "size": 65600})["name"] == "MessageTooLargeError"
    assert refusal(service, {"cmd": "send", "device": "dev1", "body": "x", "ack": "perhaps"})["name"] == "ArgumentError"
    for _ in range(50):
        service.ask({"cmd": "send", "device": "dev1", "body": "x"}, "sent")
    assert refusal(service, {"cmd": "send", "device": "dev1", "body": "x"})["name"] == "DeviceMaximumQueueDepthExceededError"


@BOTH
def test_who_may_not_send(lab, transport):
    good = policy(lab, "service")["connectionString"]
    wrong = good.rsplit("=", 2)[0] + "=" + policy(lab, "device")["primaryKey"]
    for connection_string in (wrong, policy(lab, "registryReadWrite")["connectionString"], policy(lab, "device")["connectionString"]):
        s = start(lab, transport, connection_string)
        assert refusal(s, {"cmd": "send", "device": "dev0", "body": "x"})["name"] == "UnauthorizedError"
        s.kill()
    s = start(lab, transport, good)
    s.ask({"cmd": "send", "device": "dev2", "body": "x"}, "sent")
    assert s.end() == 0


def test_accepted_messages_survive_a_kill(lab):
    s = start(lab)
    for n in range(5):
        s.ask({"cmd": "send", "device": "dev3", "body": str(n)}, "sent")
    lab.hub("kill")
    lab.hub("start")
    d = device(lab, 3)
    assert [take(d)[1] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    d.close()
    s.kill()


@pytest.mark.parametrize("action, outcome, condition, taken", [
    ("delay=400", "ACCEPTED", None, 1),
    ("ack-late=400", "ACCEPTED", None, 1),
    ("ack-never", None, None, 1),
    ("hang", None, None, 0),
    ("drop-connection", "closed", None, 0),
    ("reject=404", "REJECTED", "amqp:not-found", 0),
    ("reject=403", "REJECTED", "amqp:resource-limit-exceeded", 0),
    ("throttle", "REJECTED", "com.microsoft:device-container-throttled", 0),
])
def test_fault_rules(lab, action, outcome, condition, taken):
    to, before = "/devices/dev3/messages/devicebound", waiting(lab, "dev3")
    lab.hub_ctl("fault.add", on="c2d", action=action, device="dev3", count=1)
    answer = proton(lab, *plain(lab, "service"), "send" if outcome else "start", to)
    assert (answer["outcome"], answer.get("condition")) == (outcome, condition)
    wait_for("the rule to be met", 30, lambda: not lab.hub_ctl("fault.list"))
    wait_for("its effect", 30, lambda: waiting(lab, "dev3") == before + taken)
    if outcome == "ACCEPTED":
        assert answer["seconds"] >= 0.4
    assert proton(lab, *plain(lab, "service"), "send", to)["outcome"] == "ACCEPTED"
    lab.hub_ctl("fault.clear")


# --- feedback ------------------------------------------------------------------------------------------------------------------

def batch(script, test, start_at=0):
    """The next batch with a record that passes."""
    line = script.wait_line(lambda o: o["event"] == "received" and any(test(r) for r in o["body"]), 30, start_at)
    return line


@BOTH
def test_feedback(lab, transport):
    s, d = start(lab, transport), device(lab, 4)
    s.ask({"cmd": "receive", "kind": "feedback"}, "receiving")
    for ack in ("full", "positive", "negative", "none"):
        s.ask({"cmd": "send", "device": "dev4", "body": "x", "messageId": f"{transport}-{ack}", "ack": ack}, "sent")
        take(d)
    s.ask({"cmd": "send", "device": "dev4", "body": "x", "messageId": f"{transport}-late", "ack": "negative",
           "expiryTimeUtc": int(time.time() * 1000) - 1000}, "sent")
    seen = {}

    def complete():
        for line in [x for x in list(s.lines) if x["event"] == "received"]:
            seen.update({r["originalMessageId"]: (r, line) for r in line["body"]})
        return f"{transport}-late" in seen and f"{transport}-positive" in seen

    wait_for("the feedback", 30, complete)
    status = {mid: r["statusCode"] for mid, (r, _) in seen.items() if mid.startswith(transport)}
    assert status == {f"{transport}-full": "Success", f"{transport}-positive": "Success", f"{transport}-late": "Expired"}
    record, line = seen[f"{transport}-full"]
    assert set(record) == {"originalMessageId", "enqueuedTimeUtc", "statusCode", "description", "deviceId", "deviceGenerationId"}
    assert record["deviceId"] == "dev4" and line["contentType"] == "application/vnd.microsoft.iothub.feedback.json"
    for _ in range(sum(x["event"] == "received" for x in s.lines)):
        s.ask({"cmd": "settle", "kind": "feedback", "how": "complete"}, "settled")
    d.close()
    assert s.end() == 0


def test_feedback_is_kept_until_it_is_completed(lab):
    """A receiver that ends without a verdict gives its batch back; an abandoned one comes again."""
    s, d = start(lab), device(lab, 5)
    s.ask({"cmd": "send", "device": "dev5", "body": "x", "messageId": "kept", "ack": "positive"}, "sent")
    take(d)
    for how, deliveries in (("none", 0), ("release", 0), ("modify", 1), ("accept", 2)):
        answer = proton(lab, *plain(lab, "service"), how, "/messages/serviceBound/feedback")
        assert [x["originalMessageId"] for x in answer["body"]] == ["kept"], how
        assert answer["deliveries"] == deliveries and answer["userId"] == HUB_NAME.split(".", maxsplit=1)[0]
    assert proton(lab, *plain(lab, "service"), "drain", "/messages/serviceBound/feedback") == {"body": None}
    d.close()
    assert s.end() == 0


# --- file notifications ----------------------------------------------------------------------------------------------------------

def upload(lab, n, name, body):
    row = lab.children()[n]
    with lab.inside("hub"):
        c = hubrest.Https(lab.ca, lab.token(row))
    path = f"/devices/{row['deviceId']}/files"
    ticket = json.loads(c.raw("POST", path, json.dumps({"blobName": name}))[2])
    blob = f"/{ticket['containerName']}/{ticket['blobName']}{ticket['sasToken']}"
    assert c.raw("PUT", blob, body, {"x-ms-blob-type": "BlockBlob"})[0] == 201
    done = {"correlationId": ticket["correlationId"], "isSuccess": True, "statusCode": 200, "statusDescription": "ok"}
    assert c.raw("POST", f"{path}/notifications", json.dumps(done))[0] == 204
    c.close()
    return ticket


@BOTH
def test_file_notifications(lab, transport):
    s = start(lab, transport)
    s.ask({"cmd": "receive", "kind": "files"}, "receiving")
    ticket = upload(lab, 0, f"{transport}.txt", b"12345")
    line = s.wait_line(lambda o: o["event"] == "received")
    assert line["contentType"] == "application/vnd.microsoft.iothub.filenotification.json"
    record = line["body"]
    assert set(record) == {"deviceId", "blobUri", "blobName", "lastUpdatedTime", "blobSizeInBytes", "enqueuedTimeUtc"}
    assert (record["deviceId"], record["blobName"], record["blobSizeInBytes"]) == ("dev0", ticket["blobName"], 5)
    # This SDK accepts whatever it gets before anybody is asked: abandoning comes too late, on the real service as well.
    s.ask({"cmd": "settle", "kind": "files", "how": "abandon"}, "settled")
    assert s.end() == 0
    assert proton(lab, *plain(lab, "service"), "drain", "/messages/serviceBound/filenotifications") == {"body": None}


def test_file_notifications_are_kept_until_completed(lab):
    ticket = upload(lab, 1, "kept.txt", b"x")
    for address in ("/messages/serviceBound/filenotifications", "/messages/servicebound/fileUploadNotifications"):
        for how in ("none", "release"):
            assert proton(lab, *plain(lab, "service"), how, address)["body"]["blobName"] == ticket["blobName"]
    assert proton(lab, *plain(lab, "service"), "reject", address)["body"]["blobName"] == ticket["blobName"]
    assert proton(lab, *plain(lab, "service"), "drain", address) == {"body": None}


# --- other clients ---------------------------------------------------------------------------------------------------------------

def test_sasl_plain(lab):
    """As the CLI and older service SDKs log in."""
    to, before = "/devices/dev2/messages/devicebound", waiting(lab, "dev2")
    user, token = plain(lab, "iothubowner")
    assert proton(lab, user, token, "send", to)["outcome"] == "ACCEPTED"
    assert waiting(lab, "dev2") == before + 1
    for bad in ((user, token.replace("sig=", "sig=x")), (plain(lab, "service")[0], token), plain(lab, "iothubowner", seconds=-10)):
        assert "refused" in proton(lab, *bad, "send", to)
    assert waiting(lab, "dev2") == before + 1


def test_redirection_to_the_event_hub(lab):
    """What the CLI's monitor-events starts with; and the address forms of older readers."""
    short = HUB_NAME.split(".", maxsplit=1)[0]
    rows = {
        f"amqps://{HUB_NAME}/messages/events/$management": "amqp:link:redirect",
        "messages/events/ConsumerGroups/$Default/Partitions/0": "amqp:link:redirect",
        "/messages/events/consumergroups/any/partitions/3": "amqp:link:redirect",
        f"amqps://{HUB_NAME}:5671/{short}/ConsumerGroups/$Default/Partitions/1": "attached",
        "other/ConsumerGroups/$Default/Partitions/0": "amqp:not-found",
        f"{short}/ConsumerGroups/$Default/Partitions/4": "com.microsoft:argument-out-of-range",
    }
    answers = proton(lab, *plain(lab, "iothubowner"), "attach", json.dumps(list(rows)))
    assert [a[0] for a in answers] == list(rows.values())
    info = answers[0][1]
    assert info["hostname"] == HUB_NAME and info["address"] == f"amqps://{HUB_NAME}:5671/{short}/$management"
    assert answers[1][1]["address"] == f"amqps://{HUB_NAME}:5671/{short}/ConsumerGroups/$Default/Partitions/0"
    for login in (("", ""), plain(lab, "device")):
        assert {a[0] for a in proton(lab, *login, "attach", json.dumps(list(rows)))} == {"amqp:unauthorized-access"}


def test_new_events_come_at_once(lab):
    """Without a word of the reader."""
    d = device(lab, 2)
    peer = lab.spawn("hub", PYTHON, os.path.join(LIB, "amqppeer.py"), lab.ca, *plain(lab, "service"), "watch",
                     HUB_NAME.split(".", maxsplit=1)[0] + "/ConsumerGroups/$Default/Partitions/2")
    peer.wait_line(lambda o: o.get("watching"))
    for n in range(3):
        d.publish(mqttwire.telemetry_topic("dev2"), f"new {n}".encode())
        peer.wait_line(lambda o, n=n: o.get("body") == f"new {n}")
    peer.wait_line(lambda o: o.get("watching") is False)
    d.close()


def test_management_requests(lab):
    short = HUB_NAME.split(".", maxsplit=1)[0]
    of_partition = {"type": "com.microsoft:partition"}
    rows = [
        ({}, 200, None, ["created_at", "georeplication_factor", "name", "partition_count", "partition_ids", "type"]),
        ({"name": "messages/events", "partition": "1", **of_partition}, 200, None, [
            "begin_sequence_number", "is_partition_empty", "last_enqueued_offset", "last_enqueued_sequence_number",
            "last_enqueued_time_utc", "name", "partition", "type"]),
        ({"name": "other"}, 404, "amqp:not-found", []),
        ({"operation": "DELETE"}, 501, "amqp:not-implemented", []),
        ({"type": "com.microsoft:queue"}, 400, "com.microsoft:argument-error", []),
        ({"partition": "4", **of_partition}, 400, "com.microsoft:argument-out-of-range", []),
        (of_partition, 400, "com.microsoft:argument-out-of-range", []),
    ]
    requests = [{"operation": "READ", "type": "com.microsoft:eventhub", "name": short, **row[0]} for row in rows]
    assert proton(lab, *plain(lab, "service"), "manage", json.dumps(requests)) == [list(row[1:]) for row in rows]


@pytest.fixture(scope="module")
def python(lab):
    """The interpreter that has azure-iot-hub."""
    path = os.path.join(REPO, "build", "venv", "bin", "python")
    if lab.exec("hub", path, "-c", "import azure.iot.hub, uamqp", check=False).returncode != 0:
        pytest.skip("azure-iot-hub is not installed: it needs uamqp, for which there may be no wheel")
    return path


@BOTH
def test_python_service_sdk(lab, python, transport):
    d = device(lab, 0)
    calls = [["send", "dev0", "from python", {"contentType": "text/plain", "correlationId": "c1", "room": "kitchen"}],
             ["create", "py1"], ["get", "py1"], ["twin", "py1"], ["delete", "py1"], ["send", "nobody", "x"]]
    r = lab.exec("hub", python, os.path.join(SDK, "service.py"), transport, lab.json("hub.json")["serviceConnectionString"], lab.ca,
                 input=json.dumps(calls))
    answers = [json.loads(line) for line in r.stdout.splitlines()]
    assert [a["ok"] for a in answers] == [True, True, True, True, True, False], answers
    bag, body = take(d)
    assert body == b"from python" and bag["room"] == "kitchen" and bag["$.ct"] == "text/plain" and bag["$.cid"] == "c1"
    d.close()


def test_steps_of_monitor_events(lab, python):
    """The CLI's: from the hub's connection string alone to the events of a partition."""
    d, since = device(lab, 1), int(time.time() * 1000) - 1
    for n in range(3):
        d.publish(mqttwire.telemetry_topic("dev1"), f"event {n}".encode())
    owner = policy(lab, "iothubowner")
    r = lab.exec("hub", python, os.path.join(SDK, "monitor.py"), owner["connectionString"], plain(lab, "iothubowner")[1], lab.ca, "3",
                 str(since))
    assert json.loads(r.stdout) == {
        "host": HUB_NAME, "entity": HUB_NAME.split(".", maxsplit=1)[0], "partitions": ["0", "1", "2", "3"], "count": 4,
        "messages": [["dev1", f"event {n}"] for n in range(3)]}
    d.close()
