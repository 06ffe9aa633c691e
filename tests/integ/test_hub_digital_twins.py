# SPDX-License-Identifier: GPL-3.0-or-later
"""Digital twins: documents by the plug-and-play convention, JSON Patch to desired properties, commands as methods."""
import json

import hubrest
import methoddev
import mqttwire
import pytest
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}
MODEL = "dtmi:com:example:TemperatureController;2"


def device(service, name):
    status, _, doc = service.call("PUT", f"/devices/{name}", {"deviceId": name})
    assert status == 200, doc
    return doc["authentication"]["symmetricKey"]["primaryKey"]


def twin(service, name):
    return service.call("GET", f"/twins/{name}")[2]


def patch(service, name, *ops, **headers):
    return service.call("PATCH", f"/digitaltwins/{name}", list(ops), headers)


def report(lab, name, key, reported):
    """As a device of that model, over MQTT."""
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    user = f"{HUB_NAME}/{name}/?api-version=2020-09-30&model-id={MODEL.replace(':', '%3A').replace(';', '%3B')}"
    assert c.login(HUB_NAME, name, hubrest.sas_token(key, f"{HUB_NAME}/devices/{name}"), username=user)[1] == 0
    c.subscribe(("$iothub/twin/res/#", 0))
    c.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", json.dumps(reported), qos=0)
    assert c.message(10).topic.startswith("$iothub/twin/res/204/")
    c.close()


def test_document(service, lab):
    key = device(service, "pnp")
    report(lab, "pnp", key, {
        "serial": "42", "target": {"value": 20, "ac": 200, "av": 2, "ad": "done"},
        "thermostat1": {"__t": "c", "max": 38.5, "goal": {"value": 5, "ac": 203, "av": 1}}})
    service.call("PATCH", "/twins/pnp", {"properties": {"desired": {"target": 21, "thermostat1": {"__t": "c", "goal": 6}, "fresh": 1,
                                                                "thermostat2": {"__t": "c", "goal": 7}}}})
    status, headers, doc = service.call("GET", "/digitaltwins/pnp")
    assert status == 200 and headers["ETag"] == f'"{twin(service, "pnp")["etag"]}"'
    assert doc["$dtId"] == "pnp" and doc["$metadata"]["$model"] == MODEL
    assert doc["serial"] == "42" and doc["target"] == 20 and "fresh" not in doc
    times = [m.pop("lastUpdateTime") for m in (doc["$metadata"]["target"], doc["$metadata"]["serial"], doc["$metadata"]["fresh"])]
    assert all(t.startswith("20") for t in times)
    assert doc["$metadata"]["target"] == {"desiredValue": 21, "desiredVersion": 2, "ackVersion": 2, "ackCode": 200, "ackDescription": "done"}
    assert doc["$metadata"]["fresh"] == {"desiredValue": 1, "desiredVersion": 2} and doc["$metadata"]["serial"] == {}
    part = doc["thermostat1"]
    assert part["max"] == 38.5 and part["goal"] == 5 and "__t" not in part
    assert part["$metadata"]["goal"]["desiredValue"] == 6 and part["$metadata"]["goal"]["ackCode"] == 203
    assert doc["thermostat2"]["$metadata"]["goal"]["desiredValue"] == 7
    assert service.call("GET", "/digitaltwins/nobody")[2]["Message"].startswith("ErrorCode:DeviceNotFound;")


def test_patch(service):
    device(service, "patched")
    status, headers, doc = patch(service, "patched", {"op": "add", "path": "/rate", "value": {"every": 5, "unit": "s"}},
                                 {"op": "add", "path": "/thermostat1/goal", "value": 20},
                                 {"op": "replace", "path": "/thermostat2", "value": {"$metadata": {}, "goal": 3}},
                                 {"op": "add", "path": "/a~1b", "value": 1})
    assert status == 202 and doc is None and headers["Location"].endswith("/digitaltwins/patched")
    now = twin(service, "patched")
    assert headers["ETag"] == f'"{now["etag"]}"'
    desired = {k: v for k, v in now["properties"]["desired"].items() if k[0] != "$"}
    assert desired == {"rate": {"every": 5, "unit": "s"}, "thermostat1": {"__t": "c", "goal": 20},
                       "thermostat2": {"__t": "c", "goal": 3}, "a/b": 1}
    assert patch(service, "patched", {"op": "replace", "path": "/rate", "value": {"every": 6}}, {"op": "remove", "path": "/a~1b"},
                 {"op": "remove", "path": "/thermostat1/goal"})[0] == 202
    after = twin(service, "patched")
    desired = {k: v for k, v in after["properties"]["desired"].items() if k[0] != "$"}
    assert desired == {"rate": {"every": 6}, "thermostat1": {"__t": "c"}, "thermostat2": {"__t": "c", "goal": 3}}
    assert after["properties"]["desired"]["$version"] == 3
    assert patch(service, "patched", {"op": "add", "path": "/x", "value": 1}, **{"If-Match": f'"{now["etag"]}"'})[0] == 412
    assert patch(service, "patched", {"op": "add", "path": "/x", "value": 1}, **{"If-Match": f'"{after["etag"]}"'})[0] == 202


@pytest.mark.parametrize("ops", [
    [], {"op": "add"}, [7], [{"op": "add", "path": "/x"}], [{"op": "test", "path": "/x", "value": 1}], [{"op": "add", "path": "x", "value": 1}],
    [{"op": "add", "path": "/", "value": 1}], [{"op": "add", "path": "/$metadata", "value": 1}], [{"op": "remove", "path": "/none"}],
    [{"op": "remove", "path": "/none/x"}], [{"op": "add", "path": "/a~2b", "value": 1}], [{"op": "add", "path": "/a.b", "value": 1}],
    [{"op": "add", "path": "/ok", "value": 1}, {"op": "remove", "path": "/none"}], [{"op": "add", "path": "/ok", "value": "x" * 5000}],
    [{"op": "add", "path": f"/n{i}", "value": 1} for i in range(101)], [{"op": "add", "path": "/" + "a/" * 50000 + "b", "value": 1}]])
def test_bad_patch_changes_nothing(service, ops):
    if service.call("GET", "/devices/strict")[0] == 404:
        device(service, "strict")
    status, _, doc = service.call("PATCH", "/digitaltwins/strict", ops)
    assert status == 400 and doc["Message"].startswith("ErrorCode:ArgumentInvalid;"), doc
    assert twin(service, "strict")["properties"]["desired"]["$version"] == 1


def test_commands(service, lab):
    key = device(service, "commanded")
    devices = methoddev.Devices(lab, {"commanded": key}, lambda _, name, payload: (202, {"did": name, "with": payload}))
    try:
        status, headers, doc = service.call("POST", "/digitaltwins/commanded/commands/reboot", {"delay": 3})
        assert status == 200 and headers["x-ms-command-statuscode"] == "202" and headers["x-ms-request-id"]
        assert doc == {"did": "reboot", "with": {"delay": 3}}
        path = f"/digitaltwins/commanded/components/thermostat1/commands/getMax?{hubrest.API}&responseTimeoutInSeconds=10"
        assert service.call("POST", path, "2026-01-01")[2] == {"did": "thermostat1*getMax", "with": "2026-01-01"}
        assert service.call("POST", "/digitaltwins/commanded/commands/none")[2] == {"did": "none", "with": None}
        assert service.call("POST", f"/digitaltwins/commanded/commands/x?{hubrest.API}&responseTimeoutInSeconds=1")[0] == 400
        assert service.call("POST", "/digitaltwins/commanded/commands/a%20b")[0] == 400
    finally:
        devices.close()
    device(service, "away")
    status, headers, doc = service.call("POST", "/digitaltwins/away/commands/reboot")
    assert status == 404 and json.loads(doc["Message"])["errorCode"] == 404103 and headers["iothub-errorcode"] == "DeviceNotOnline"
    assert service.call("POST", "/digitaltwins/nobody/commands/reboot")[2]["Message"].startswith("ErrorCode:DeviceNotFound;")
