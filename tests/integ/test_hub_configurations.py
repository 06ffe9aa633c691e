# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations and modules content on the wire: documents, etags, effect on connected devices, manifests kept unchanged."""
import json

import hubrest
import mqttwire
import pytest
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}


def good(service, method, path, body=None, match=None):
    status, _, doc = service.call(method, path, body, {"If-Match": match} if match else None)
    assert status in (200, 204), doc
    return doc


def device(service, name, **members):
    return good(service, "PUT", f"/devices/{name}", {"deviceId": name, **members})


def desired(service, ident):
    device_id, _, module = ident.partition("/")
    path = f"/twins/{device_id}" + (f"/modules/{module.replace('$', '%24')}" if module else "")
    return {k: v for k, v in good(service, "GET", path)["properties"]["desired"].items() if k[0] != "$"}


def config(service, name, content, condition="*", priority=1, **members):
    return good(service, "PUT", f"/configurations/{name}", {"id": name, "schemaVersion": "1.0", "content": content,
                                                         "targetCondition": condition, "priority": priority, **members})


def drop(service, *names):
    for name in names:
        good(service, "DELETE", f"/configurations/{name}")


def wait_counts(service, name, targeted, applied):
    want = {"targetedCount": targeted, "appliedCount": applied}

    def ready():
        results = good(service, "GET", f"/configurations/{name}")["systemMetrics"]["results"]
        return {k: results[k] for k in want} == want
    wait_for(f"{name}: {want}", 30, ready)


def refused(answer, status, name):
    got, headers, doc = answer
    assert got == status and headers["iothub-errorcode"] == name, doc
    assert doc["Message"].startswith(f"ErrorCode:{name};")
    return doc["Message"]


def test_documents_and_etags(service):
    made = config(service, "doc", {"deviceContent": {"properties.desired.x": 1}}, "", labels={"a": "b"})
    assert set(made) == {"id", "schemaVersion", "labels", "content", "targetCondition", "priority", "createdTimeUtc",
                         "lastUpdatedTimeUtc", "systemMetrics", "metrics", "etag"}
    status, headers, got = service.call("GET", "/configurations/doc")
    assert status == 200 and headers["ETag"] == f'"{got["etag"]}"' and got == made
    refused(service.call("PUT", "/configurations/doc", {"id": "doc"}), 409, "ConfigurationAlreadyExists")
    refused(service.call("PUT", "/configurations/doc", dict(made, priority=2), {"If-Match": '"x"'}), 412, "PreconditionFailed")
    refused(service.call("PUT", "/configurations/none", {"id": "none"}, {"If-Match": "*"}), 404, "ConfigurationNotFound")
    refused(service.call("GET", "/configurations/none"), 404, "ConfigurationNotFound")
    refused(service.call("DELETE", "/configurations/none"), 404, "ConfigurationNotFound")
    message = refused(service.call("PUT", "/configurations/doc", dict(made, content={"deviceContent": {}}), {"If-Match": "*"}), 400,
                      "ArgumentInvalid")
    assert "content" in message
    updated = good(service, "PUT", "/configurations/doc", dict(made, priority=7), f'"{made["etag"]}"')
    assert updated["priority"] == 7 and updated["createdTimeUtc"] == made["createdTimeUtc"]
    config(service, "doc-2", {}, "")
    assert [c["id"] for c in good(service, "GET", "/configurations")] == ["doc", "doc-2"]
    assert [c["id"] for c in good(service, "GET", f"/configurations?{hubrest.API}&top=1")] == ["doc"]
    refused(service.call("GET", f"/configurations?{hubrest.API}&top=0"), 400, "ArgumentInvalid")
    refused(service.call("DELETE", "/configurations/doc", None, {"If-Match": '"x"'}), 412, "PreconditionFailed")
    drop(service, "doc", "doc-2")


def test_queries_are_tested(service):
    ask = {"targetCondition": "tags.a = 'b'", "customMetricQueries": {"m": "SELECT deviceId FROM devices"}}
    assert good(service, "POST", "/configurations/testQueries", ask) == {"targetConditionError": None, "customMetricQueryErrors": {}}
    ask = {"targetCondition": "tags.a =", "customMetricQueries": {"m": "SELECT", "n": "SELECT * FROM devices"}}
    answer = good(service, "POST", "/configurations/testQueries", ask)
    assert "position" in answer["targetConditionError"] and set(answer["customMetricQueryErrors"]) == {"m"}
    refused(service.call("POST", "/configurations/testQueries", []), 400, "IotHubFormatError")


def test_a_connected_device_is_told(service, lab):
    """The configuration reaches the device as a patch with only what it sets; priority decides between two."""
    key = device(service, "told")["authentication"]["symmetricKey"]["primaryKey"]
    good(service, "PATCH", "/twins/told", {"tags": {"site": "a"}, "properties": {"desired": {"own": {"keep": 1}}}})
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    assert c.login(HUB_NAME, "told", hubrest.sas_token(key, f"{HUB_NAME}/devices/told"))[1] == 0
    c.subscribe(("$iothub/twin/PATCH/properties/desired/#", 0))
    config(service, "told-low", {"deviceContent": {"properties.desired.rate": {"every": 5, "unit": "s"}}}, "tags.site = 'a'", 1)
    patch = json.loads(c.message(10).payload)
    assert patch["rate"] == {"every": 5, "unit": "s"} and patch["$version"] == 3
    config(service, "told-high", {"deviceContent": {"properties.desired.rate": {"every": 1}}}, "tags.site = 'a'", 2)
    patch = json.loads(c.message(10).payload)
    assert patch["$version"] == 4
    assert desired(service, "told") == {"own": {"keep": 1}, "rate": {"every": 1}}
    wait_counts(service, "told-high", 1, 1)
    wait_counts(service, "told-low", 1, 0)
    twin = good(service, "GET", "/twins/told")
    assert twin["configurations"] == {"told-high": {"status": "Applied"}, "told-low": {"status": "Targeted"}}
    assert service.query("SELECT deviceId FROM devices WHERE configurations.[[told-high]].status = 'Applied'")[0] == [{"deviceId": "told"}]
    c.close()
    drop(service, "told-high", "told-low")
    wait_for("the status to go", 30, lambda: "configurations" not in good(service, "GET", "/twins/told"))
    assert desired(service, "told")["rate"] in ({"every": 1}, {"every": 5, "unit": "s"})


def test_new_devices_and_changed_tags(service):
    config(service, "dyn", {"deviceContent": {"properties.desired.mode": "x"}}, "tags.dyn = true", 3)
    device(service, "dyn-a")
    wait_counts(service, "dyn", 0, 0)
    good(service, "PATCH", "/twins/dyn-a", {"tags": {"dyn": True}})
    wait_counts(service, "dyn", 1, 1)
    assert good(service, "POST", "/devices", [{"id": "dyn-b", "importMode": "create", "tags": {"dyn": True}}])["isSuccessful"]
    wait_counts(service, "dyn", 2, 2)
    good(service, "PATCH", "/twins/dyn-a", {"tags": {"dyn": None}})
    wait_counts(service, "dyn", 1, 1)
    assert desired(service, "dyn-a") == {"mode": "x"} == desired(service, "dyn-b")
    good(service, "DELETE", "/devices/dyn-b")
    wait_counts(service, "dyn", 0, 0)
    drop(service, "dyn")


def test_modules(service):
    device(service, "mod-dev")
    for name in ("cam", "mic"):
        good(service, "PUT", f"/devices/mod-dev/modules/{name}", {"deviceId": "mod-dev", "moduleId": name})
    config(service, "mods", {"moduleContent": {"properties.desired.fps": 25}}, "FROM devices.modules WHERE moduleId = 'cam'")
    wait_counts(service, "mods", 1, 1)
    assert desired(service, "mod-dev/cam") == {"fps": 25} and desired(service, "mod-dev/mic") == {}
    queries = good(service, "GET", "/configurations/mods")["systemMetrics"]["queries"]
    assert service.query(queries["targetedCount"])[0] == [{"deviceId": "mod-dev", "moduleId": "cam"}] == service.query(queries["appliedCount"])[0]
    drop(service, "mods")


def base_manifest(version):
    return {"$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "runtime": {"type": "docker", "settings": {}},
                                                  "systemModules": {"edgeAgent": {"type": "docker"}, "edgeHub": {"type": "docker"}},
                                                  "modules": {"sensor": {"version": version, "env": {"A": {"value": "1"}}}}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {},
                                                "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}}}


def test_deployment_with_a_layer(service):
    device(service, "layered", capabilities={"iotEdge": True})
    good(service, "PATCH", "/twins/layered", {"tags": {"dep": 1}})
    config(service, "base", {"modulesContent": base_manifest("1")}, "tags.dep = 1", 10)
    config(service, "layer", {"modulesContent": {
        "$edgeAgent": {"properties.desired.modules.extra": {"version": "9", "type": "docker"}},
        "$edgeHub": {"properties.desired.routes.up": "FROM /* INTO $upstream"},
        "extra": {"properties.desired": {"z": 1}}}}, "tags.dep = 1", 20)
    wait_counts(service, "layer", 1, 1)
    names = [m["moduleId"] for m in good(service, "GET", "/devices/layered/modules")]
    assert names == ["$edgeAgent", "$edgeHub", "extra", "sensor"]
    agent = desired(service, "layered/$edgeAgent")
    assert set(agent["modules"]) == {"sensor", "extra"} and agent["modules"]["sensor"]["env"] == {"A": {"value": "1"}}
    assert desired(service, "layered/$edgeHub")["routes"] == {"up": "FROM /* INTO $upstream"}
    assert desired(service, "layered/extra") == {"z": 1}
    status = {"base": {"status": "Applied"}, "layer": {"status": "Applied"}}
    assert good(service, "GET", "/twins/layered/modules/%24edgeAgent")["configurations"] == status
    results = good(service, "GET", "/configurations/base")["systemMetrics"]
    assert set(results["results"]) == {"targetedCount", "appliedCount", "reportedSuccessfulCount", "reportedFailedCount"}
    for name, text in results["queries"].items():
        assert len(service.query(text)[0]) == results["results"][name], name
    drop(service, "layer")
    wait_for("the layer's module to go", 30, lambda: len(good(service, "GET", "/devices/layered/modules")) == 3)
    assert "extra" not in desired(service, "layered/$edgeAgent")["modules"]
    drop(service, "base")
    wait_for("the status to go", 30, lambda: "configurations" not in good(service, "GET", "/twins/layered"))
    assert "sensor" in desired(service, "layered/$edgeAgent")["modules"]


# --- applyConfigurationContent ---------------------------------------------------------------------------------------


def big_manifest():
    options = json.dumps({"HostConfig": {"Binds": ["/srv/data:/data", "C:\\x:/y"], "PortBindings": {"8883/tcp": [{"HostPort": "8883"}]}},
                          "Env": ["K=\"quoted\"", "Ü=ß", "\u2028"], "Labels": {"a.b$c": "d e"}}, ensure_ascii=False)

    def module(n):
        return {"version": f"1.{n}", "type": "docker", "status": "running", "restartPolicy": "always", "startupOrder": n,
                "imagePullPolicy": "on-create",
                "env": {"storageFolder": {"value": "/iotedge/storage/"}, "Logging__Level": {"value": "Ünïcödé ✓ 日本 🙂"},
                        "empty": {"value": ""}, "number": {"value": 4503599627370495}, "real": {"value": -0.5},
                        "flag": {"value": False}, "list": {"value": [1, "a", [True], {"deep": {"er": []}}]}},
                "settings": {"image": f"example.org/{n}:1.0", "createOptions": options}}
    return {
        "$edgeAgent": {"properties.desired": {
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25", "loggingOptions": "", "registryCredentials": {}}},
            "systemModules": {"edgeAgent": module(0), "edgeHub": module(1)},
            "modules": {f"module-{n}": module(n) for n in range(2, 12)}}},
        "$edgeHub": {"properties.desired": {
            "schemaVersion": "1.1", "routes": {f"r{n}": f"FROM /messages/modules/module-{n}/* INTO $upstream" for n in range(2, 12)},
            "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}},
        **{f"module-{n}": {"properties.desired": {"n": n, "nested": {"a": {"b": [1.5, None][:1]}}}} for n in range(2, 12)}}


def test_a_manifest_is_kept_unchanged(service):
    """env and createOptions come back as they were sent, after a restart too; null is an absent member, as in every twin."""
    device(service, "manifest", capabilities={"iotEdge": True})
    content = big_manifest()
    sent = json.loads(json.dumps(content))
    sent["module-2"]["properties.desired"]["gone"] = None
    assert service.call("POST", "/devices/manifest/applyConfigurationContent", {"modulesContent": sent})[0] == 204
    for name, parts in content.items():
        assert desired(service, f"manifest/{name}") == parts["properties.desired"], name
    managed = {m["moduleId"]: m["managedBy"] for m in good(service, "GET", "/devices/manifest/modules")}
    assert managed == {name: "iotEdge" for name in content}


def test_content_replaces_sections_and_paths(service):
    device(service, "paths", capabilities={"iotEdge": True})
    good(service, "PUT", "/devices/paths/modules/own", {"deviceId": "paths", "moduleId": "own"})
    first = {"$edgeAgent": {"properties.desired": {"modules": {"a": {}, "b": {}}}}, "a": {"properties.desired": {"x": 1, "y": {"z": 1}}}}
    assert service.call("POST", "/devices/paths/applyConfigurationContent", {"modulesContent": first})[0] == 204
    second = {"$edgeAgent": {"properties.desired": {"modules": {"a": {}}}}, "a": {"properties.desired.y": {"w": 2}},
              "own": {"properties.desired.q.r": 5}}
    assert service.call("POST", "/devices/paths/applyConfigurationContent", {"modulesContent": second})[0] == 204
    assert [m["moduleId"] for m in good(service, "GET", "/devices/paths/modules")] == ["$edgeAgent", "$edgeHub", "a", "own"]
    assert desired(service, "paths/a") == {"x": 1, "y": {"w": 2}}
    assert desired(service, "paths/own") == {"q": {"r": 5}}


@pytest.mark.parametrize("content", [
    None, [], {"a": {"properties.desired": {}}}, {"$edgeAgent": {"properties.reported": {}}}, {"$edgeAgent": {"properties.desired": []}},
    {"$edgeAgent": {"properties.desired": {"modules": {"a b": {}}}}}, {"$edgeAgent": {"properties.desired": {"modules": [1]}}},
    {"$edgeAgent": {"properties.desired": {"modules": {"n": {"env": {"a.b": {}}}}}}},
    {"$edgeAgent": {"properties.desired": {"modules": {f"m{i}": {} for i in range(51)}}}},
    {"$edgeAgent": {"properties.desired": {"modules": {"n": {}}, "big": ["x" * 4000] * 9}}}])
def test_bad_content_changes_nothing(service, content):
    if service.call("GET", "/devices/strict")[0] == 404:
        device(service, "strict", capabilities={"iotEdge": True})
    before = good(service, "GET", "/twins/strict/modules/%24edgeAgent")["properties"]["desired"]
    status, headers, doc = service.call("POST", "/devices/strict/applyConfigurationContent", {"modulesContent": content})
    assert status in (400, 403, 413) and doc["Message"].startswith(f"ErrorCode:{headers['iothub-errorcode']};"), doc
    assert doc["ExceptionMessage"].startswith("Tracking ID:")
    assert good(service, "GET", "/twins/strict/modules/%24edgeAgent")["properties"]["desired"] == before
    assert len(good(service, "GET", "/devices/strict/modules")) == 2


def test_content_for_whom(service):
    device(service, "leaf")
    refused(service.call("POST", "/devices/leaf/applyConfigurationContent", {"modulesContent": {}}), 400, "ArgumentInvalid")
    refused(service.call("POST", "/devices/nobody/applyConfigurationContent", {"modulesContent": {}}), 404, "DeviceNotFound")


def test_restart_keeps_everything(service, lab):
    config(service, "kept", {"deviceContent": {"properties.desired.kept": 1}}, "deviceId = 'told'", 5)
    wait_counts(service, "kept", 1, 1)
    before = good(service, "GET", "/configurations/kept")
    lab.hub("kill")
    lab.hub("start")
    with lab.inside("hub"):
        service.connect()
    assert good(service, "GET", "/configurations/kept") == before
    assert desired(service, "manifest/$edgeAgent") == big_manifest()["$edgeAgent"]["properties.desired"]
    wait_counts(service, "kept", 1, 1)
    drop(service, "kept")
