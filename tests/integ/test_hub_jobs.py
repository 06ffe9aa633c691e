# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduled jobs on the wire: documents, refusals, lists with continuation, devices.jobs; SIGKILL of the hub in the middle."""
import os
import signal

import hubrest
import methoddev
import pytest
from labkit.procs import wait_for

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}


def put_devices(service, prefix, n):
    names = [f"{prefix}{i:04}" for i in range(n)]
    for at in range(0, n, 100):
        batch = [{"id": name, "importMode": "create", "tags": {"of": prefix}} for name in names[at:at + 100]]
        status, _, doc = service.call("POST", "/devices", batch)
        assert status == 200, doc
    return names


def schedule(service, job, **members):
    status, _, doc = service.call("PUT", f"/jobs/v2/{job}", {"jobId": job, **members})
    assert status == 200, doc
    return doc


def get(service, job):
    status, _, doc = service.call("GET", f"/jobs/v2/{job}")
    assert status == 200, doc
    return doc


def finished(service, job, seconds=30):
    def look():
        now = get(service, job)
        return now if now["status"] in ("completed", "failed", "cancelled") else None
    return wait_for(f"the end of {job}", seconds, look)


def refused(answer, status, name):
    got, headers, doc = answer
    assert got == status and headers["iothub-errorcode"] == name, doc
    assert doc["Message"].startswith(f"ErrorCode:{name};")


TWIN = {"type": "scheduleUpdateTwin", "updateTwin": {"etag": "*", "properties": {"desired": {"x": 1}}}}


def test_document(service):
    put_devices(service, "doc", 3)
    made = schedule(service, "doc-1", queryCondition="tags.of = 'doc'", maxExecutionTimeInSeconds=60, **TWIN)
    assert made["updateTwin"] == TWIN["updateTwin"] and made["queryCondition"] == "tags.of = 'doc'"
    assert made["status"] == "queued" and made["endTime"] is None and made["failureReason"] is None
    done = finished(service, "doc-1")
    assert done["deviceJobStatistics"]["succeededCount"] == 3
    status, headers, rows = service.call("POST", "/devices/query", {"query": "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'doc-1'"},
                                      {"x-ms-max-item-count": "2"})
    assert status == 200 and headers["x-ms-item-type"] == "DeviceJob" and len(rows) == 2 and headers["x-ms-continuation"]
    assert set(rows[0]) == {"deviceId", "jobId", "jobType", "status", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "startTimeUtc",
                            "endTimeUtc"}
    # An id with characters that a path cannot hold as they are.
    odd = "a%b?c#d"
    assert service.call("PUT", "/jobs/v2/a%25b%3Fc%23d", {"jobId": odd, "queryCondition": "deviceId = 'no'", **TWIN})[2]["jobId"] == odd
    assert finished(service, "a%25b%3Fc%23d")["status"] == "completed"


def test_etag_and_limits_of_one_device(service):
    put_devices(service, "tag", 2)
    etag = service.call("GET", "/twins/tag0001")[2]["etag"]
    schedule(service, "tag-1", queryCondition="tags.of = 'tag'", type="scheduleUpdateTwin", updateTwin={"etag": etag, "tags": {"new": 1}})
    done = finished(service, "tag-1")
    assert done["status"] == "completed"
    assert (done["deviceJobStatistics"]["succeededCount"], done["deviceJobStatistics"]["failedCount"]) == (1, 1)
    rows, _ = service.query("SELECT deviceId, error.code AS c FROM devices.jobs WHERE devices.jobs.jobId = 'tag-1' AND status = 'failed'")
    assert rows == [{"deviceId": "tag0000", "c": "412001"}]


@pytest.mark.parametrize("body", [
    {"queryCondition": "*", "type": "scheduleNothing"},
    {"queryCondition": "tags.x =", **TWIN},
    {"queryCondition": "", **TWIN},
    {"queryCondition": "*", **TWIN, "startTime": "tomorrow"},
    {"queryCondition": "*", **TWIN, "maxExecutionTimeInSeconds": "long"},
    {"queryCondition": "*", "type": "scheduleUpdateTwin", "updateTwin": {"properties": {"desired": {"a": {"b.c": 1}}}}},
    {"queryCondition": "*", "type": "scheduleUpdateTwin", "updateTwin": {"tags": {"big": ["x" * 4000] * 3}}},
    {"queryCondition": "*", "type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "a b"}},
    {"queryCondition": "*", "type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "m", "payload": "x" * 131073}},
    {"jobId": "other", "queryCondition": "*", **TWIN}, [], 7, None])
def test_refused(service, body):
    answer = service.call("PUT", "/jobs/v2/refused", body)
    assert answer[0] in (400, 413) and answer[2]["Message"].startswith("ErrorCode:"), answer
    refused(service.call("GET", "/jobs/v2/refused"), 404, "JobNotFound")
    refused(service.call("POST", "/jobs/v2/refused/cancel"), 404, "JobNotFound")


def test_list(service):
    for i in range(7):
        schedule(service, f"list-{i}", queryCondition="*", startTime="2099-01-01T00:00:00Z", **TWIN)
    refused(service.call("PUT", "/jobs/v2/list-0", {"queryCondition": "*", **TWIN}), 409, "JobAlreadyExists")
    assert service.call("POST", "/jobs/v2/list-3/cancel")[2]["status"] == "cancelled"
    path = f"/jobs/v2/query?{hubrest.API}&jobType=scheduleUpdateTwin&jobStatus="
    names, token, pages = [], None, 0
    while pages == 0 or token:
        status, headers, jobs = service.call("GET", path + "scheduled", None, {"x-ms-max-item-count": "2",
                                                                             **({"x-ms-continuation": token} if token else {})})
        assert status == 200 and headers["x-ms-item-type"] == "JobResponse"
        names += [j["jobId"] for j in jobs]
        token, pages = headers["x-ms-continuation"], pages + 1
    assert names == [f"list-{i}" for i in (0, 1, 2, 4, 5, 6)] and pages == 3
    assert [j["jobId"] for j in service.call("GET", path + "cancelled")[2]] == ["list-3"]
    assert service.call("GET", path + "running")[2] == []
    refused(service.call("GET", path, None, {"x-ms-continuation": "x"}), 400, "ArgumentInvalid")
    for i in (0, 1, 2, 4, 5, 6):
        service.call("POST", f"/jobs/v2/list-{i}/cancel")


def test_a_token_for_one_device_cannot_schedule(service, lab):
    parts = dict(p.split("=", 1) for p in lab.json("hub.json")["serviceConnectionString"].split(";"))
    token = hubrest.sas_token(parts["SharedAccessKey"], f"{hubrest.HUB_NAME}/devices/narrow", policy=parts["SharedAccessKeyName"])
    refused(service.call("PUT", "/jobs/v2/narrow", {"queryCondition": "*", **TWIN}, {"Authorization": token}), 401,
            "IotHubUnauthorizedAccess")


def test_kill_in_the_middle(service, lab):
    """SIGKILL with calls in flight and half of a fleet updated: after the start both jobs end, what was answered before is not
    called again, and each twin has exactly one new version."""
    n = 3000
    names = put_devices(service, "kill", n)
    keys = {name: service.call("GET", f"/devices/{name}")[2]["authentication"]["symmetricKey"]["primaryKey"] for name in names[:20]}
    devices = methoddev.Devices(lab, keys, lambda device, name, payload: (200, None) if device < "kill0010" else None)
    try:
        schedule(service, "kill-m", type="scheduleDeviceMethod", queryCondition=f"deviceId IN {names[:20]}",
                 cloudToDeviceMethod={"methodName": "doIt", "responseTimeoutInSeconds": 300})
        wait_for("half of the answers", 30, lambda: get(service, "kill-m")["deviceJobStatistics"]["succeededCount"] == 10)
        pid = lab.hub_pid()
        schedule(service, "kill-t", queryCondition="tags.of = 'kill'", **TWIN)
        now = get(service, "kill-t")["deviceJobStatistics"]
        while now["succeededCount"] == 0:
            now = get(service, "kill-t")["deviceJobStatistics"]
        os.kill(pid, signal.SIGKILL)
        assert now["succeededCount"] < n, "it was over before the kill"
        assert len(devices.calls) == 20
    finally:
        devices.close()
    lab.hub("start")
    with lab.inside("hub"):
        service.connect()
    done = finished(service, "kill-t")
    assert done["status"] == "completed" and done["deviceJobStatistics"] == {
        "deviceCount": n, "failedCount": 0, "succeededCount": n, "runningCount": 0, "pendingCount": 0}
    assert service.query("SELECT COUNT() AS n FROM devices WHERE tags.of = 'kill' AND properties.desired.$version = 2")[0] == [{"n": n}]
    # The calls that had no answer were made again at the start, to devices that are not there now.
    done = finished(service, "kill-m")["deviceJobStatistics"]
    assert (done["deviceCount"], done["succeededCount"], done["failedCount"]) == (20, 10, 10)
