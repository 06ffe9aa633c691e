# SPDX-License-Identifier: GPL-3.0-or-later
"""The official Node SDKs, unmodified: azure-iot-device over MQTT as a child, azure-iothub against the emulator."""
import json
import os

import judge
import pytest
from labctl import REPO, LabFailed

pytestmark = [pytest.mark.sdk, pytest.mark.accept]
LAB = {"children": 4, "modules": 1}
SDK = os.path.join(REPO, "tests", "sdk")


def start_child(lab, row):
    child = lab.spawn("child", "node", os.path.join(SDK, "child.js"), "device",
                      env={"HOLDFAST_CHILD": row["connectionString"]})
    child.wait_line(lambda o: o.get("event") == "open", 30)
    return child


def service(lab, *calls):
    """Runs calls of the service SDK; each result or the error."""
    r = lab.exec("hub", "node", os.path.join(SDK, "service.js"), lab.path("hub.json"), input=json.dumps(calls))
    return [json.loads(line) for line in r.stdout.splitlines()]


def good(lab, *calls):
    answers = service(lab, *calls)
    assert len(answers) == len(calls), answers
    for call, answer in zip(calls, answers):
        if not answer["ok"]:
            raise LabFailed(f"{call}: {answer}")
    return [a["result"] for a in answers]


def test_telemetry_with_properties(lab):
    child = start_child(lab, lab.children()[0])
    child.ask({"cmd": "send", "id": 1, "body": "hello from node", "properties": {"room": "a b", "é": "ü&="},
               "contentType": "application/json", "messageId": "m-1"}, "sent")
    event = lab.wait_events("the SDK's message", lambda events: next(
        (e for e in events if judge.body_of(e) == b"hello from node"), None))
    assert event["deviceId"] == "dev0" and not event["moduleId"]
    assert event["properties"] == {"room": "a b", "é": "ü&="}
    system = json.dumps(event["systemProperties"])
    assert "m-1" in system and "application/json" in system
    assert child.end() == 0


def test_twin_both_ways(lab):
    good(lab, ["desired", "dev1", {"interval": 5}])
    child = start_child(lab, lab.children()[1])
    twin = child.ask({"cmd": "twin"}, "twin")
    assert twin["desired"]["interval"] == 5
    child.ask({"cmd": "report", "patch": {"state": {"on": True}, "list": [1, 2]}}, "reported")
    (seen,) = good(lab, ["twin", "dev1"])
    assert seen["properties"]["reported"]["state"] == {"on": True}
    good(lab, ["desired", "dev1", {"interval": 9, "gone": None}])
    patch = child.wait_line(lambda o: o.get("event") == "desired" and o["patch"].get("interval") == 9)
    assert patch["patch"]["$version"] > twin["desired"]["$version"]
    assert child.end() == 0


def test_twin_offline_and_after(lab):
    """Offline the local copy answers, a reported patch is kept and reaches the hub once the link is back."""
    child = start_child(lab, lab.children()[2])
    child.ask({"cmd": "twin"}, "twin")
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    try:
        child.ask({"cmd": "report", "patch": {"kept": 42}}, "reported")
        assert child.ask({"cmd": "twin"}, "twin")["reported"].get("kept") == 42
    finally:
        lab.link("up")
    lab.wait_uplink("online")
    lab.wait_status("the patch to reach the hub", lambda s: good(lab, ["twin", "dev2"])[0][
        "properties"]["reported"].get("kept") == 42)
    assert child.end() == 0


def test_direct_method(lab):
    child = start_child(lab, lab.children()[3])
    child.ask({"cmd": "method", "name": "reboot", "status": 207}, "method")
    (result,) = good(lab, ["method", "dev3", {"methodName": "reboot", "payload": {"delay": 3},
                                              "responseTimeoutInSeconds": 15, "connectTimeoutInSeconds": 10}])
    assert result == {"status": 207, "payload": {"echo": {"delay": 3}}}
    assert child.wait_line(lambda o: o.get("event") == "called")["payload"] == {"delay": 3}
    assert child.end() == 0
    (missing,) = service(lab, ["method", "dev3", {"methodName": "reboot", "payload": None,
                                                  "responseTimeoutInSeconds": 5, "connectTimeoutInSeconds": 0}])
    assert not missing["ok"]


def test_registry(lab):
    results = good(
        lab, ["create", {"deviceId": "reg-1", "status": "enabled"}], ["get", "reg-1"],
        ["update", {"deviceId": "reg-1", "status": "disabled", "statusReason": "test"}], ["get", "reg-1"],
        ["bulk", [{"deviceId": "reg-2", "status": "enabled"}, {"deviceId": "reg-3", "status": "enabled"}]], ["list"],
        ["query", "SELECT * FROM devices WHERE capabilities.iotEdge = true"],
        ["query", "SELECT * FROM devices"], ["delete", "reg-1"])
    created, got, _, disabled, _, listed, edges, everyone, _ = results
    key = created["authentication"]["symmetricKey"]["primaryKey"]
    assert len(key) == 44 and got["authentication"]["symmetricKey"]["primaryKey"] == key
    # The SDK sends empty keys along where the document names none, and an empty key makes a new one.
    renewed = disabled["authentication"]["symmetricKey"]["primaryKey"]
    assert disabled["status"] == "disabled" and len(renewed) == 44 and renewed != key
    assert {"reg-1", "reg-2", "reg-3", "edge1", "dev0"} <= {d["deviceId"] for d in listed}
    assert [d["deviceId"] for d in edges] == ["edge1"]
    assert {"reg-1", "reg-2", "reg-3", "dev0"} <= {d["deviceId"] for d in everyone}
    again, missing = service(lab, ["create", {"deviceId": "reg-2"}], ["get", "reg-1"])
    assert again["error"] == "DeviceAlreadyExistsError", again
    assert missing["error"] == "DeviceNotFoundError", missing


def test_a_device_made_by_the_registry_becomes_a_child(lab):
    """Its first try may come before the scope is refreshed; the refusal asks for it, a later try succeeds."""
    scope = good(lab, ["get", "edge1"])[0]["deviceScope"]
    created = good(lab, ["create", {"deviceId": "late", "status": "enabled", "deviceScope": scope}])[0]
    row = {"deviceId": "late", "primaryKey": created["authentication"]["symmetricKey"]["primaryKey"]}

    def comes_in(_):
        try:
            lab.login(row).close()
            return True
        except LabFailed:
            return False

    lab.wait_status("the new child to be known", comes_in)


def test_module_telemetry(lab):
    row = lab.json("modules.json")[0]
    program = """
const {ModuleClient, Message} = require('azure-iot-device');
const {Mqtt} = require('azure-iot-device-mqtt');
const c = ModuleClient.fromConnectionString(process.env.HOLDFAST_CHILD, Mqtt);
c.open().then(() => c.sendOutputEvent('out1', new Message('from a module')))
	.then(() => c.close()).then(() => process.exit(0), (e) => { console.error(e); process.exit(1); });
"""
    lab.exec("child", "env", f"HOLDFAST_CHILD={row['connectionString']}", "node", "-e", program)
    event = lab.wait_events("the module's message", lambda events: next(
        (e for e in events if judge.body_of(e) == b"from a module"), None))
    assert (event["deviceId"], event["moduleId"]) == ("edge1", "mod0")
