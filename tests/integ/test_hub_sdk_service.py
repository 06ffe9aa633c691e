# SPDX-License-Identifier: GPL-3.0-or-later
"""The official Node service SDK, unmodified, against the emulator: Registry, Twin, Client methods, JobClient, Configuration."""
import json
import os
import select
import time
import uuid

import hubrest
import methoddev
import pytest
from labctl import REPO
from labkit.procs import wait_for
from labkit.world import HUB_NAME

pytestmark = [pytest.mark.hub, pytest.mark.sdk]
LAB = {"children": 1}
NEVER = "0001-01-01T00:00:00Z"


class Sdk:
    def __init__(self, lab):
        self.p = lab.spawn("hub", "node", os.path.join(REPO, "tests", "sdk", "registry.js"), lab.path("hub.json"))
        self.n = 0

    def call(self, *call, seconds=40):
        self.p.tell(list(call))
        answer = self.p.wait_line(lambda o: "ok" in o, seconds, self.n)
        self.n += 1
        return answer

    def good(self, *call, **kw):
        answer = self.call(*call, **kw)
        assert answer["ok"], (call, answer)
        return answer["result"]

    def bad(self, error, *call, **kw):
        answer = self.call(*call, **kw)
        assert not answer["ok"] and answer["error"] == error, (call, answer)
        return answer


@pytest.fixture(scope="module")
def sdk(lab):
    s = Sdk(lab)
    yield s
    s.p.end()


def device(sdk, name, **members):
    return sdk.good("registry", "create", {"deviceId": name, **members})


# --- Registry: devices -------------------------------------------------------------------------------------------


def test_device_life(sdk):
    made = device(sdk, "life-1", status="enabled", statusReason="new")
    assert made["deviceId"] == "life-1" and made["etag"] and made["generationId"]
    assert made["status"] == "enabled" and made["connectionState"] == "Disconnected"
    assert made["lastActivityTime"] == NEVER and made["cloudToDeviceMessageCount"] == 0
    assert made["capabilities"] == {"iotEdge": False}
    keys = made["authentication"]["symmetricKey"]
    assert made["authentication"]["type"] == "sas" and len(keys["primaryKey"]) == 44 and keys["primaryKey"] != keys["secondaryKey"]
    assert sdk.good("registry", "get", "life-1") == made
    updated = sdk.good("registry", "update", {"deviceId": "life-1", "status": "disabled", "statusReason": "off"})
    assert updated["status"] == "disabled" and updated["etag"] != made["etag"]
    new = updated["authentication"]["symmetricKey"]  # the SDK sends empty ones: each is made anew
    assert all(len(new[k]) == 44 and new[k] != keys[k] for k in ("primaryKey", "secondaryKey"))
    assert "life-1" in [d["deviceId"] for d in sdk.good("registry", "list")]
    sdk.good("registry", "delete", "life-1")
    sdk.bad("DeviceNotFoundError", "registry", "get", "life-1")


def test_device_errors(sdk):
    device(sdk, "twice")
    sdk.bad("DeviceAlreadyExistsError", "registry", "create", {"deviceId": "twice"})
    sdk.bad("DeviceNotFoundError", "registry", "update", {"deviceId": "nobody"})
    sdk.bad("DeviceNotFoundError", "registry", "delete", "nobody")
    sdk.bad("ArgumentError", "registry", "create", {"deviceId": "bad id"})
    thumb = "A" * 40
    made = device(sdk, "certified", authentication={"x509Thumbprint": {"primaryThumbprint": thumb, "secondaryThumbprint": thumb}})
    assert made["authentication"]["type"] == "selfSigned"
    assert made["authentication"]["x509Thumbprint"]["primaryThumbprint"].upper() == thumb
    assert device(sdk, "by-ca", authentication={"type": "certificateAuthority"})["authentication"]["type"] == "certificateAuthority"


def test_many_at_once(sdk):
    names = [f"many-{i:02}" for i in range(30)]
    done = sdk.good("registry", "addDevices", [{"deviceId": n} for n in names])
    assert done == {"isSuccessful": True, "errors": [], "warnings": []}
    answer = sdk.bad("ArgumentError", "registry", "addDevices", [{"deviceId": "many-00"}, {"deviceId": "many-new"}])
    result = json.loads(answer["body"])
    assert result["isSuccessful"] is False
    assert [(e["deviceId"], e["errorCode"]) for e in result["errors"]] == [("many-00", 409001)]
    assert sdk.good("registry", "get", "many-new")  # the others are done
    one = sdk.good("registry", "get", "many-01")
    sdk.good("registry", "updateDevices", [{"deviceId": n, "status": "disabled"} for n in names[:5]], True)
    assert sdk.good("registry", "get", "many-04")["status"] == "disabled"
    stale = {"deviceId": "many-01", "status": "enabled", "etag": one["etag"]}
    errors = json.loads(sdk.bad("ArgumentError", "registry", "updateDevices", [stale], False)["body"])["errors"]
    assert errors[0]["errorCode"] == 412001
    fresh = dict(stale, etag=sdk.good("registry", "get", "many-01")["etag"])
    sdk.good("registry", "updateDevices", [fresh], False)
    sdk.good("registry", "removeDevices", [{"deviceId": n} for n in names], True)
    answer = sdk.bad("ArgumentError", "registry", "removeDevices", [{"deviceId": "many-00"}], True)
    assert json.loads(answer["body"])["errors"][0]["errorCode"] == 404001


def test_statistics(sdk):
    before = sdk.good("registry", "getRegistryStatistics")
    device(sdk, "counted", status="disabled")
    after = sdk.good("registry", "getRegistryStatistics")
    assert after["totalDeviceCount"] == before["totalDeviceCount"] + 1
    assert after["disabledDeviceCount"] == before["disabledDeviceCount"] + 1
    assert after["enabledDeviceCount"] == before["enabledDeviceCount"]


def test_query_pages(sdk):
    sdk.good("registry", "addDevices", [{"deviceId": f"page-{i}"} for i in range(7)])
    text = "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'page-')"
    answer = sdk.good("query", text, 3)
    assert answer["pages"] == 3 and [r["deviceId"] for r in answer["rows"]] == [f"page-{i}" for i in range(7)]
    row = answer["rows"][0]
    assert row["properties"]["desired"]["$version"] == 1 and row["status"] == "enabled"
    counted = sdk.good("query", f"SELECT COUNT() AS n FROM devices {text.split('devices', 1)[1]}", 10)
    assert counted["rows"] == [{"n": 7}]
    sdk.bad("ArgumentError", "query", "SELECT * FROM nowhere", 3)


# --- Registry: modules -------------------------------------------------------------------------------------------


def test_modules(sdk):
    device(sdk, "with-modules")
    made = sdk.good("registry", "addModule", {"deviceId": "with-modules", "moduleId": "cam", "managedBy": "me"})
    assert made["moduleId"] == "cam" and made["managedBy"] == "me" and made["etag"]
    sdk.bad("DeviceAlreadyExistsError", "registry", "addModule", {"deviceId": "with-modules", "moduleId": "cam"})
    sdk.bad("DeviceNotFoundError", "registry", "addModule", {"deviceId": "nobody", "moduleId": "cam"})
    assert sdk.good("registry", "getModule", "with-modules", "cam") == made
    assert sdk.good("registry", "getModulesOnDevice", "with-modules") == [made]
    updated = sdk.good("registry", "updateModule", dict(made, managedBy="you"))
    assert updated["managedBy"] == "you"
    sdk.bad("InvalidEtagError", "registry", "updateModule", dict(made, managedBy="them"))
    sdk.good("registry", "updateModule", dict(made, managedBy="them"), True)
    sdk.bad("InvalidEtagError", "callback", "registry", "removeModule", made)
    sdk.good("registry", "removeModule", "with-modules", "cam")
    assert sdk.bad("Error", "registry", "getModule", "with-modules", "cam")["status"] == 404
    assert sdk.good("registry", "getModulesOnDevice", "with-modules") == []


def test_edge_device_has_its_system_modules(sdk):
    device(sdk, "edge-a", capabilities={"iotEdge": True})
    names = [m["moduleId"] for m in sdk.good("registry", "getModulesOnDevice", "edge-a")]
    assert names == ["$edgeAgent", "$edgeHub"]


# --- Twin --------------------------------------------------------------------------------------------------------


def test_twins(sdk):
    device(sdk, "twin-a")
    twin = sdk.good("registry", "getTwin", "twin-a")
    assert twin["properties"]["desired"]["$version"] == 1 and twin["properties"]["reported"]["$version"] == 1
    patch = {"tags": {"site": {"floor": 3}}, "properties": {"desired": {"rate": 5, "mode": "fast"}}}
    after = sdk.good("registry", "updateTwin", "twin-a", patch, twin["etag"])
    assert after["tags"] == {"site": {"floor": 3}} and after["properties"]["desired"]["rate"] == 5
    assert after["properties"]["desired"]["$version"] == 2 and after["etag"] != twin["etag"]
    sdk.bad("InvalidEtagError", "registry", "updateTwin", "twin-a", patch, twin["etag"])
    gone = sdk.good("registry", "updateTwin", "twin-a", {"properties": {"desired": {"mode": None}}}, "*")
    assert "mode" not in gone["properties"]["desired"] and gone["properties"]["desired"]["$version"] == 3
    sdk.bad("DeviceNotFoundError", "registry", "getTwin", "nobody")
    sdk.bad("ArgumentError", "registry", "updateTwin", "twin-a", {"properties": {"desired": {"a.b": 1}}}, "*")
    changed = sdk.good("twin", "update", "twin-a", None, {"tags": {"site": {"floor": 4}}})
    assert changed["tags"] == {"site": {"floor": 4}}
    again = sdk.good("twin", "get", "twin-a", None)
    assert again["etag"] == changed["etag"] and again["tags"] == changed["tags"]


def test_module_twins(sdk):
    device(sdk, "twin-b")
    sdk.good("registry", "addModule", {"deviceId": "twin-b", "moduleId": "m"})
    twin = sdk.good("registry", "getModuleTwin", "twin-b", "m")
    assert twin["deviceId"] == "twin-b" and twin["moduleId"] == "m"
    after = sdk.good("registry", "updateModuleTwin", "twin-b", "m", {"properties": {"desired": {"x": 1}}}, twin["etag"])
    assert after["properties"]["desired"]["x"] == 1
    sdk.bad("InvalidEtagError", "registry", "updateModuleTwin", "twin-b", "m", {"tags": {"a": 1}}, twin["etag"])
    assert sdk.good("twin", "update", "twin-b", "m", {"tags": {"a": 2}})["tags"] == {"a": 2}
    assert sdk.bad("Error", "registry", "getModuleTwin", "twin-b", "none")["status"] == 404


# --- methods -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def callee(lab, sdk):
    """callee answers, except to "silence"; quiet-NN answer too; nobody else is connected."""
    names = ["callee"] + [f"quiet-{i:02}" for i in range(5)]
    keys = {n: device(sdk, n)["authentication"]["symmetricKey"]["primaryKey"] for n in names}
    d = methoddev.Devices(lab, keys, lambda _, name, payload: None if name == "silence" else (201, {"echo": payload}))
    yield d
    d.close()


def code(answer):
    return json.loads(json.loads(answer["body"])["Message"])["errorCode"]


def test_methods(sdk, callee):
    answer = sdk.good("client", "invokeDeviceMethod", "callee", {"methodName": "doIt", "payload": {"a": [1, None, "é"]}})
    assert answer == {"status": 201, "payload": {"echo": {"a": [1, None, "é"]}}}
    assert callee.calls[-1] == ("callee", "doIt", {"a": [1, None, "é"]})
    answer = sdk.good("client", "invokeDeviceMethod", "callee", {"methodName": "doIt"})
    assert answer == {"status": 201, "payload": {"echo": None}}


def test_method_errors(lab, sdk, callee):
    device(sdk, "offline")
    offline = sdk.bad("Error", "client", "invokeDeviceMethod", "offline", {"methodName": "doIt"})
    assert offline["status"] == 404 and code(offline) == 404103
    sdk.bad("DeviceNotFoundError", "client", "invokeDeviceMethod", "nobody", {"methodName": "doIt"})
    with lab.inside("hub"):
        rest = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    assert rest.call("GET", "/devices/callee")[0] == 200
    began = time.monotonic()
    rest.send("POST", "/twins/callee/methods", '{"methodName": "silence", "responseTimeoutInSeconds": 9}')
    late = sdk.call("client", "invokeDeviceMethod", "callee", {"methodName": "silence", "responseTimeoutInSeconds": 5,
                                                              "connectTimeoutInSeconds": 5})
    assert not late["ok"] and late["status"] == 504 and code(late) == 504101
    assert time.monotonic() - began > 4.5
    assert not select.select([rest.http.sock], [], [], 0)[0]	# the call that may take longer has no answer yet
    rest.close()
    sdk.bad("ArgumentError", "client", "invokeDeviceMethod", "callee", {"methodName": "doIt", "responseTimeoutInSeconds": 301})
    assert sdk.bad("Error", "client", "invokeDeviceMethod", "callee", "none", {"methodName": "doIt"})["status"] == 404


# --- JobClient ---------------------------------------------------------------------------------------------------


def finished(sdk, job, seconds=30):
    def look():
        now = sdk.good("jobs", "getJob", job)
        return now if now["status"] in ("completed", "failed", "cancelled") else None
    return wait_for(f"the end of {job}", seconds, look)


def now_date():
    return {"$date": "1970-01-01T00:00:00.000Z"}


def test_job_twin_update(sdk):
    sdk.good("registry", "addDevices", [{"deviceId": f"fleet-{i}"} for i in range(12)])
    job = f"twins-{uuid.uuid4()}"
    patch = {"etag": "*", "tags": {"fleet": True}, "properties": {"desired": {"rate": 9}}}
    made = sdk.good("jobs", "scheduleTwinUpdate", job, "STARTSWITH(deviceId, 'fleet-')", patch, now_date(), 300)
    assert made["jobId"] == job and made["type"] == "scheduleUpdateTwin" and made["status"] in ("queued", "running")
    assert made["updateTwin"] == patch and made["maxExecutionTimeInSeconds"] == 300
    done = finished(sdk, job)
    assert done["status"] == "completed" and done["startTime"] and done["endTime"] and done["createdTime"]
    assert done["deviceJobStatistics"] == {"deviceCount": 12, "failedCount": 0, "succeededCount": 12, "runningCount": 0,
                                           "pendingCount": 0}
    assert sdk.good("registry", "getTwin", "fleet-11")["properties"]["desired"]["rate"] == 9
    rows = sdk.good("query", f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job}'", 5)
    assert rows["pages"] == 3 and {r["status"] for r in rows["rows"]} == {"completed"}
    assert [r["deviceId"] for r in rows["rows"]] == sorted(f"fleet-{i}" for i in range(12))
    sdk.bad("DeviceAlreadyExistsError", "jobs", "scheduleTwinUpdate", job, "*", patch, now_date(), 300)
    sdk.bad("ArgumentError", "jobs", "scheduleTwinUpdate", "bad", "tags.x =", patch, now_date(), 300)
    assert sdk.bad("Error", "jobs", "getJob", "nobody")["status"] == 404


def test_job_method(sdk, callee):
    device(sdk, "quiet-off")
    job = f"method-{uuid.uuid4()}"
    params = {"methodName": "doIt", "payload": {"n": 1}, "responseTimeoutInSeconds": 15}
    made = sdk.good("jobs", "scheduleDeviceMethod", job, "STARTSWITH(deviceId, 'quiet-')", params, now_date(), 300)
    assert made["cloudToDeviceMethod"] == params
    done = finished(sdk, job)
    assert done["deviceJobStatistics"]["succeededCount"] == 5 and done["deviceJobStatistics"]["failedCount"] == 1
    rows = {r["deviceId"]: r for r in sdk.good("query", f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job}'", 50)["rows"]}
    assert rows["quiet-03"]["outcome"] == {"deviceMethodResponse": {"status": 201, "payload": {"echo": {"n": 1}}}}
    assert rows["quiet-off"]["status"] == "failed" and rows["quiet-off"]["error"]["code"] == "404103"
    assert [c for c in callee.calls if c[0] == "quiet-00"] == [("quiet-00", "doIt", {"n": 1})]


def test_job_cancel_and_list(sdk):
    for i in range(5):
        made = sdk.good("jobs", "scheduleTwinUpdate", f"list-{i}", "deviceId = 'nobody'", {"tags": {"x": 1}},
                        {"$date": "2099-01-01T00:00:00.000Z"}, 300)
        assert made["status"] == "queued" and made["startTime"].startswith("2099-01-01T00:00:00")
    listed = sdk.good("jobquery", "scheduleUpdateTwin", "scheduled", 2)
    assert [j["jobId"] for j in listed["rows"]] == [f"list-{i}" for i in range(5)] and listed["pages"] == 3
    assert sdk.good("jobs", "cancelJob", "list-2")["status"] == "cancelled"
    assert sdk.good("jobs", "getJob", "list-2")["status"] == "cancelled"
    sdk.bad("ArgumentError", "jobs", "cancelJob", "list-2")
    assert [j["jobId"] for j in sdk.good("jobquery", "scheduleUpdateTwin", "cancelled", 100)["rows"]] == ["list-2"]
    assert sdk.good("jobquery", "scheduleDeviceMethod", "scheduled", 100)["rows"] == []
    for i in (0, 1, 3, 4):
        sdk.good("jobs", "cancelJob", f"list-{i}")


# --- configurations ----------------------------------------------------------------------------------------------


def test_configurations(sdk):
    device(sdk, "conf-a")
    sdk.good("registry", "updateTwin", "conf-a", {"tags": {"conf": "yes"}}, "*")
    config = {"id": "conf-1", "schemaVersion": "1.0", "content": {"deviceContent": {"properties.desired.interval": {"s": 30}}},
              "targetCondition": "tags.conf = 'yes'", "priority": 10, "labels": {"team": "a"},
              "metrics": {"queries": {"mine": "SELECT deviceId FROM devices WHERE tags.conf = 'yes'"}}}
    made = sdk.good("registry", "addConfiguration", config)
    assert made["id"] == "conf-1" and made["etag"] == "MQ==" and made["createdTimeUtc"] and made["content"] == config["content"]
    sdk.bad("DeviceAlreadyExistsError", "registry", "addConfiguration", config)

    def applied():
        return sdk.good("registry", "getConfiguration", "conf-1")["systemMetrics"]["results"]["appliedCount"] == 1
    wait_for("the configuration to be applied", 30, applied)
    twin = sdk.good("registry", "getTwin", "conf-a")
    assert twin["properties"]["desired"]["interval"] == {"s": 30}
    wait_for("the metric", 30, lambda: sdk.good("registry", "getConfiguration", "conf-1")["metrics"]["results"]["mine"] == 1)
    now = sdk.good("registry", "getConfiguration", "conf-1")
    # The metrics' own queries say the same.
    for name, text in now["systemMetrics"]["queries"].items():
        assert len(sdk.good("query", text, 100)["rows"]) == now["systemMetrics"]["results"][name], name
    updated = sdk.good("registry", "updateConfiguration", dict(now, priority=11))
    assert updated["priority"] == 11 and updated["etag"] != now["etag"]
    sdk.bad("InvalidEtagError", "registry", "updateConfiguration", dict(now, priority=12))
    sdk.good("registry", "updateConfiguration", dict(now, priority=12), True)
    assert [c["id"] for c in sdk.good("registry", "getConfigurations")] == ["conf-1"]
    sdk.bad("ArgumentError", "registry", "addConfiguration", dict(config, id="conf-2", targetCondition="tags.x ="))
    sdk.good("registry", "removeConfiguration", "conf-1")
    assert sdk.bad("Error", "registry", "getConfiguration", "conf-1")["status"] == 404
    assert sdk.good("registry", "getTwin", "conf-a")["properties"]["desired"]["interval"] == {"s": 30}


def test_apply_configuration_content(sdk):
    device(sdk, "edge-b", capabilities={"iotEdge": True})
    content = {"modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {"sensor": {"type": "docker"}}, "systemModules": {"edgeHub": {}}}},
        "$edgeHub": {"properties.desired": {"routes": {"up": "FROM /* INTO $upstream"},
                                            "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}},
        "sensor": {"properties.desired": {"rate": 2}}}}
    sdk.good("registry", "applyConfigurationContentOnDevice", "edge-b", content)
    names = [m["moduleId"] for m in sdk.good("registry", "getModulesOnDevice", "edge-b")]
    assert names == ["$edgeAgent", "$edgeHub", "sensor"]
    hub = sdk.good("registry", "getModuleTwin", "edge-b", "$edgeHub")["properties"]["desired"]
    assert hub["storeAndForwardConfiguration"] == {"timeToLiveSecs": 7200}
    assert sdk.good("registry", "getModuleTwin", "edge-b", "sensor")["properties"]["desired"]["rate"] == 2
    device(sdk, "no-edge")
    sdk.bad("ArgumentError", "registry", "applyConfigurationContentOnDevice", "no-edge", content)
    sdk.bad("DeviceNotFoundError", "registry", "applyConfigurationContentOnDevice", "nobody", content)


# --- import and export jobs --------------------------------------------------------------------------------------


def test_export_and_import(sdk, lab):
    container = f"https://{HUB_NAME}/uploads"

    def end(job):
        def look():
            doc = sdk.good("registry", "getJob", job)
            return doc if doc["status"] in ("completed", "failed", "cancelled") else None
        return wait_for(f"the end of {job}", 30, look)
    device(sdk, "exported", status="disabled")
    made = sdk.good("registry", "exportDevicesToBlob", container, False)
    assert made["type"] == "export" and made["jobId"] and made["status"] == "enqueued"
    assert end(made["jobId"])["status"] == "completed"
    lines = [json.loads(line) for line in lab.exec("hub", "holdfast-hub", "blob", "get", "devices.txt").stdout.splitlines()]
    assert [line["status"] for line in lines if line["id"] == "exported"] == ["disabled"]
    sdk.good("registry", "delete", "exported")
    back = sdk.good("registry", "importDevicesFromBlob", container, container)
    assert back["type"] == "import" and end(back["jobId"])["status"] == "completed"
    assert sdk.good("registry", "get", "exported")["status"] == "disabled"
    assert {made["jobId"], back["jobId"]} <= {j["jobId"] for j in sdk.good("registry", "listJobs")}
    sdk.bad("ArgumentError", "registry", "cancelJob", back["jobId"])
    assert sdk.bad("Error", "registry", "getJob", "nobody")["status"] == 404
    sdk.bad("ArgumentError", "registry", "exportDevicesToBlob", "https://account.blob.core.windows.net/c?sig=x", False)
