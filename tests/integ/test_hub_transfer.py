# SPDX-License-Identifier: GPL-3.0-or-later
"""Import and export jobs: lines of JSON in a blob of the hub's own storage, there and back, errors, cancelling, SIGKILL."""
import json
import os
import signal

import pytest
from labkit.procs import wait_for
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}
CONTAINER = f"https://{HUB_NAME}/uploads"


def good(service, method, path, body=None):
    status, _, doc = service.call(method, path, body)
    assert status in (200, 204), doc
    return doc


def upload(service, device, lines, name="devices.txt"):
    """A blob D/name in the hub's storage, as the device would upload it; returns its container's address."""
    if service.call("GET", f"/devices/{device}")[0] == 404:
        good(service, "PUT", f"/devices/{device}", {"deviceId": device})
    ticket = good(service, "POST", f"/devices/{device}/files", {"blobName": name})
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    status, _, data = service.raw("PUT", f"/{ticket['containerName']}/{ticket['blobName']}{ticket['sasToken']}", text,
                               {"x-ms-blob-type": "BlockBlob"})
    assert status == 201, data
    good(service, "POST", f"/devices/{device}/files/notifications", {"correlationId": ticket["correlationId"], "isSuccess": True})
    return f"{CONTAINER}/{device}?sv=x&sig=y"


def blob(lab, name):
    text = lab.exec("hub", "holdfast-hub", "blob", "get", name).stdout
    return [json.loads(line) for line in text.splitlines()]


def start(service, **request):
    doc = good(service, "POST", "/jobs/create", request)
    assert doc["status"] == "enqueued" and doc["type"] == request["type"] and doc["endTimeUtc"] is None
    return doc["jobId"]


def ended(service, job, seconds=30):
    def look():
        doc = good(service, "GET", f"/jobs/{job}")
        return doc if doc["status"] not in ("enqueued", "running") else None
    return wait_for(f"the end of job {job}", seconds, look)


def refused(answer, status, name):
    got, headers, doc = answer
    assert got == status and headers["iothub-errorcode"] == name, doc
    assert doc["Message"].startswith(f"ErrorCode:{name};")


def test_there_and_back(service, lab):
    entries = [{"id": f"trip{i:03}", "importMode": "create", "tags": {"n": i}, "properties": {"desired": {"x": i}}} for i in range(250)]
    for at in range(0, 250, 100):
        good(service, "POST", "/devices", entries[at:at + 100])
    good(service, "PUT", "/devices/trip-edge", {"deviceId": "trip-edge", "capabilities": {"iotEdge": True}})
    good(service, "PUT", "/devices/trip000/modules/mod", {"deviceId": "trip000", "moduleId": "mod", "managedBy": "me"})
    good(service, "PATCH", "/twins/trip000/modules/mod", {"properties": {"desired": {"inner": {"a": [1, "é"]}}}})
    before = {d: good(service, "GET", f"/devices/{d}") for d in ("trip000", "trip249", "trip-edge")}
    done = ended(service, start(service, type="export", outputBlobContainerUri=CONTAINER + "?sas", excludeKeysInExport=False))
    assert done["status"] == "completed" and done["progress"] == 100 and done["failureReason"] is None and done["endTimeUtc"]
    assert done["outputBlobContainerUri"] == CONTAINER + "?sas" and done["excludeKeysInExport"] is False
    lines = blob(lab, "devices.txt")
    mine = [line for line in lines if line["id"].startswith("trip")]
    assert len([line for line in mine if "moduleId" not in line]) == 251
    assert [line["moduleId"] for line in mine if "moduleId" in line] == ["$edgeAgent", "$edgeHub", "mod"]
    one = next(line for line in mine if line["id"] == "trip249")
    assert one["authentication"] == before["trip249"]["authentication"] and one["tags"] == {"n": 249}
    assert one["properties"]["desired"]["x"] == 249 and one["eTag"] == before["trip249"]["etag"]

    # Deleted, and made again from the file.
    for at in range(0, 250, 100):
        good(service, "POST", "/devices", [{"id": e["id"], "importMode": "delete"} for e in entries[at:at + 100]])
    good(service, "DELETE", "/devices/trip-edge")
    done = ended(service, start(service, type="import", inputBlobContainerUri=upload(service, "carrier", mine), outputBlobContainerUri=CONTAINER))
    assert done["status"] == "completed", done
    for name, doc in before.items():
        now = good(service, "GET", f"/devices/{name}")
        assert now["authentication"] == doc["authentication"] and now["capabilities"] == doc["capabilities"]
    assert service.query("SELECT COUNT() AS n FROM devices WHERE STARTSWITH(deviceId, 'trip') AND properties.desired.x = tags.n")[0] == [{"n": 250}]
    module = good(service, "GET", "/twins/trip000/modules/mod")["properties"]["desired"]
    assert module["inner"] == {"a": [1, "é"]}
    assert "importErrors.log" not in lab.exec("hub", "holdfast-hub", "blob", "list").stdout


def test_without_keys_under_another_name(service, lab):
    good(service, "PUT", "/devices/keyless", {"deviceId": "keyless"})
    done = ended(service, start(service, type="export", outputBlobContainerUri=CONTAINER + "/some%20folder/", outputBlobName="all.json",
                             excludeKeysInExport=True))
    assert done["status"] == "completed"
    lines = blob(lab, "some folder/all.json")
    assert {json.dumps(line["authentication"]["symmetricKey"]) for line in lines} == {'{"primaryKey": null, "secondaryKey": null}'}


def test_lines_that_fail(service, lab):
    lines = [{"id": "mixed-a", "importMode": "create"}, "not json", {"id": "mixed-a", "importMode": "create"}, "",
             {"id": "bad id", "importMode": "create"}, {"importMode": "create"}, {"id": "mixed-b", "importMode": "jump"},
             {"id": "mixed-c", "importMode": "create", "properties": {"desired": {"a.b": 1}}},
             {"id": "mixed-a", "importMode": "updateTwin", "tags": {"t": 1}}, {"id": "mixed-d", "importMode": "createOrUpdate"}]
    done = ended(service, start(service, type="import", inputBlobContainerUri=upload(service, "mixer", lines), outputBlobContainerUri=CONTAINER))
    assert done["status"] == "completed"
    errors = blob(lab, "importErrors.log")
    assert [e["line"] for e in errors] == [2, 3, 5, 6, 7, 8] and errors[1]["errorCode"] == 409001 and errors[1]["id"] == "mixed-a"
    assert good(service, "GET", "/twins/mixed-a")["tags"] == {"t": 1}
    assert service.query("SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'mixed')")[0] == [{"deviceId": "mixed-a"},
                                                                                                {"deviceId": "mixed-d"}]


@pytest.mark.parametrize("request_, name", [
    ({"type": "export"}, "ArgumentInvalid"), ({"type": "move", "outputBlobContainerUri": CONTAINER}, "ArgumentInvalid"), ([], "ArgumentInvalid"),
    ({"type": "export", "outputBlobContainerUri": "https://account.blob.core.windows.net/c?sig=x"}, "BlobContainerValidationError"),
    ({"type": "export", "outputBlobContainerUri": f"https://{HUB_NAME}/other"}, "BlobContainerValidationError"),
    ({"type": "export", "outputBlobContainerUri": f"http://{HUB_NAME}/uploads"}, "ArgumentInvalid"),
    ({"type": "export", "outputBlobContainerUri": CONTAINER + "/" + "x" * 500}, "BlobContainerValidationError"),
    ({"type": "export", "outputBlobContainerUri": CONTAINER, "excludeKeysInExport": "yes"}, "ArgumentInvalid"),
    ({"type": "export", "outputBlobContainerUri": CONTAINER, "includeConfigurations": True}, "ArgumentInvalid"),
    ({"type": "import", "outputBlobContainerUri": CONTAINER}, "ArgumentInvalid")])
def test_refused(service, request_, name):
    before = good(service, "GET", "/jobs")
    refused(service.call("POST", "/jobs/create", request_), 400, name)
    assert good(service, "GET", "/jobs") == before


def test_list_and_what_ends_badly(service):
    job = start(service, type="import", inputBlobContainerUri=CONTAINER + "/nowhere", outputBlobContainerUri=CONTAINER)
    done = ended(service, job)
    assert done["status"] == "failed" and "input blob" in done["failureReason"]
    assert [j for j in good(service, "GET", "/jobs") if j["jobId"] == job] == [done]
    refused(service.call("DELETE", f"/jobs/{job}"), 400, "InvalidOperation")
    refused(service.call("GET", "/jobs/nobody"), 404, "JobNotFound")
    refused(service.call("DELETE", "/jobs/nobody"), 404, "JobNotFound")
    long = ended(service, start(service, type="import", inputBlobContainerUri=upload(service, "longline", ["{" + " " * 400000 + "}"]),
                             outputBlobContainerUri=CONTAINER))
    assert long["status"] == "failed" and "too long" in long["failureReason"]


def big_import(service, prefix, n):
    container = upload(service, f"{prefix}-carrier", [{"id": f"{prefix}{i:05}", "importMode": "create"} for i in range(n)])
    return start(service, type="import", inputBlobContainerUri=container, outputBlobContainerUri=CONTAINER + f"/{prefix}")


def in_the_middle(service, job):
    while True:
        doc = good(service, "GET", f"/jobs/{job}")
        if doc["progress"] or doc["status"] == "completed":
            return doc


def test_one_at_a_time_and_cancelled(service):
    job = big_import(service, "cancel", 5000)
    doc = in_the_middle(service, job)
    assert doc["status"] == "running" and doc["progress"] < 100
    refused(service.call("POST", "/jobs/create", {"type": "export", "outputBlobContainerUri": CONTAINER}), 403, "JobQuotaExceeded")
    good(service, "DELETE", f"/jobs/{job}")
    assert good(service, "GET", f"/jobs/{job}")["status"] == "cancelled"
    (row,), _ = service.query("SELECT COUNT() AS n FROM devices WHERE STARTSWITH(deviceId, 'cancel0')")
    assert 0 < row["n"] < 5000


def test_kill_in_the_middle(service, lab):
    """An import goes on where it was: each line is done once, so no "create" meets a device that is there already."""
    pid = lab.hub_pid()
    job = big_import(service, "kill", 5000)
    doc = in_the_middle(service, job)
    os.kill(pid, signal.SIGKILL)
    assert doc["status"] == "running", "it was over before the kill"
    lab.hub("start")
    with lab.inside("hub"):
        service.connect()
    assert ended(service, job)["status"] == "completed"
    assert service.query("SELECT COUNT() AS n FROM devices WHERE STARTSWITH(deviceId, 'kill0')")[0] == [{"n": 5000}]
    assert "kill/importErrors.log" not in lab.exec("hub", "holdfast-hub", "blob", "list").stdout
