# SPDX-License-Identifier: GPL-3.0-or-later
"""Many identities at once on the wire: every import mode, its result body, keys made anew, lists and counts."""
import hubrest
import pytest

pytestmark = pytest.mark.hub
LAB = {"children": 1, "build": "asan"}


def good(service, method, path, body=None, status=200):
    got, _, doc = service.call(method, path, body)
    assert got == status, doc
    return doc


def get(service, name):
    return good(service, "GET", f"/devices/{name}")


def twin(service, name):
    return good(service, "GET", f"/twins/{name}")


def bulk(service, *entries):
    """The codes of what failed, by id."""
    status, headers, doc = service.call("POST", "/devices", list(entries))
    assert set(doc) == {"isSuccessful", "errors", "warnings"}, doc
    assert (status == 200) == doc["isSuccessful"] == (not doc["errors"]) and status in (200, 400)
    assert headers["iothub-errorcode"] == (None if status == 200 else "BulkRegistryOperationFailure")
    for e in doc["errors"]:
        assert set(e) == {"deviceId", "errorCode", "errorStatus", "moduleId", "operation"} and e["errorStatus"]
    return {e["deviceId"]: e["errorCode"] for e in doc["errors"]}


def test_modes_of_devices(service):
    assert bulk(service, {"id": "m", "importMode": "create"}) == {}
    assert bulk(service, {"id": "m", "importMode": "CREATE"}) == {"m": 409001}
    first = get(service, "m")
    assert bulk(service, {"id": "m", "importMode": "update", "status": "disabled", "statusReason": "off"}) == {}
    second = get(service, "m")
    assert second["status"] == "disabled" and second["authentication"] == first["authentication"]
    assert bulk(service, {"id": "n", "importMode": "Update"}) == {"n": 404001}
    assert bulk(service, {"id": "m", "importMode": "updateIfMatchETag", "eTag": first["etag"], "status": "enabled"}) == {"m": 412001}
    assert bulk(service, {"id": "m", "importMode": "updateIfMatchETag", "status": "enabled"}) == {"m": 412001}  # none fits none
    assert bulk(service, {"id": "m", "importMode": "updateIfMatchETag", "etag": second["etag"], "status": "enabled"}) == {}
    assert get(service, "m")["status"] == "enabled"
    assert bulk(service, {"id": "m", "importMode": "createOrUpdate", "statusReason": "again"}, {"id": "n", "importMode": "createOrUpdate"}) == {}
    assert get(service, "m")["statusReason"] == "again" and get(service, "n")
    assert bulk(service, {"id": "m", "importMode": "createOrUpdateIfMatchETag", "eTag": "x"},
                {"id": "o", "importMode": "createOrUpdateIfMatchETag"}) == {"m": 412001}
    assert bulk(service, {"id": "m", "importMode": "createOrUpdateIfMatchETag", "eTag": get(service, "m")["etag"]}, {"id": "p"}) == {}
    assert bulk(service, {"id": "n", "importMode": "deleteIfMatchETag", "eTag": "x"}, {"id": "o", "importMode": "delete"}) == {"n": 412001}
    assert bulk(service, {"id": "n", "importMode": "DeleteIfMatchETag", "etag": get(service, "n")["etag"]},
                {"id": "o", "importMode": "delete"}) == {"o": 404001}
    assert service.call("GET", "/devices/n")[0] == 404
    assert bulk(service, {"id": "m", "importMode": "jump"}, {"id": "bad id", "importMode": "create"}) == {"m": 400004, "bad id": 400004}


def test_modes_of_twins(service):
    patch = {"tags": {"a": 1, "b": 2}, "properties": {"desired": {"x": {"y": 1}}, "reported": {"never": 1}}}
    assert bulk(service, {"id": "t", "importMode": "create", **patch}) == {}
    now = twin(service, "t")
    assert now["tags"] == {"a": 1, "b": 2} and now["properties"]["desired"]["x"] == {"y": 1} and "never" not in now["properties"]["reported"]
    assert bulk(service, {"id": "t", "importMode": "updateTwin", "tags": {"a": None}, "properties": {"desired": {"z": 1}}}) == {}
    now = twin(service, "t")
    assert now["tags"] == {"b": 2} and now["properties"]["desired"]["x"] == {"y": 1} and now["properties"]["desired"]["z"] == 1
    assert bulk(service, {"id": "t", "importMode": "updateTwinIfMatchETag", "twinETag": "AAAA", "tags": {"c": 3}}) == {"t": 412001}
    assert bulk(service, {"id": "t", "importMode": "updateTwinIfMatchETag", "tags": {"c": 3}}) == {"t": 412001}
    assert bulk(service, {"id": "t", "importMode": "updateTwinIfMatchETag", "twinETag": now["etag"], "tags": {"c": 3}}) == {}
    assert twin(service, "t")["tags"] == {"b": 2, "c": 3}
    assert bulk(service, {"id": "nobody", "importMode": "updateTwin", "tags": {}}) == {"nobody": 404001}
    # An entry is done as a whole or not at all.
    assert bulk(service, {"id": "half", "importMode": "create", "tags": {"a.b": 1}},
                {"id": "t", "importMode": "update", "status": "disabled", "properties": {"desired": 7}}) == {"half": 400004, "t": 400004}
    assert service.call("GET", "/devices/half")[0] == 404 and get(service, "t")["status"] == "enabled"


def test_modules_and_limits(service):
    assert bulk(service, {"id": "mod", "importMode": "create"}, {"id": "mod", "moduleId": "cam", "importMode": "create", "managedBy": "me",
                                                              "properties": {"desired": {"fps": 5}}}) == {}
    assert good(service, "GET", "/twins/mod/modules/cam")["properties"]["desired"]["fps"] == 5
    status, _, doc = service.call("POST", "/devices", [{"id": "mod", "moduleId": "none", "importMode": "update"}])
    assert status == 400 and doc["errors"][0]["moduleId"] == "none" and doc["errors"][0]["errorCode"] == 404010
    assert doc["errors"][0]["operation"] == "update"
    for body in ([], {}, [{"id": f"x{i}"} for i in range(101)], None):
        status, headers, doc = service.call("POST", "/devices", body)
        assert status == 400 and headers["iothub-errorcode"] == "ArgumentInvalid", doc
    assert bulk(service, {"importMode": "create"}) == {None: 400004}


def test_keys_made_anew(service):
    bulk(service, {"id": "k1", "importMode": "create"}, {"id": "k2", "importMode": "create"},
         {"id": "k2", "moduleId": "m", "importMode": "create"}, {"id": "kc", "importMode": "create", "authentication": {"type": "certificateAuthority"}})
    before = {d: get(service, d)["authentication"]["symmetricKey"] for d in ("k1", "k2")}
    doc = good(service, "POST", "/devices/keys/regenerate", {"policyKey": "secondaryKey", "devices": [{"id": "k1"}, {"id": "k2", "moduleId": "m"}]})
    assert doc["errors"] == [] and [(k["id"], k["moduleId"]) for k in doc["rotatedKeys"]] == [("k1", None), ("k2", "m")]
    now = get(service, "k1")["authentication"]["symmetricKey"]
    assert now["primaryKey"] == before["k1"]["primaryKey"] and now["secondaryKey"] == doc["rotatedKeys"][0]["secondaryKey"]
    assert now["secondaryKey"] != before["k1"]["secondaryKey"]
    doc = good(service, "POST", "/devices/keys/regenerate", {"policyKey": "both", "devices": [{"id": "k2"}, {"id": "nobody"}, {"id": "kc"}]}, 207)
    assert [k["id"] for k in doc["rotatedKeys"]] == ["k2"]
    assert [(e["id"], e["errorCode"]) for e in doc["errors"]] == [("nobody", 404001), ("kc", 400004)]
    doc = good(service, "POST", "/devices/keys/regenerate", {"policyKey": "primaryKey", "devices": [{"id": "nobody"}]}, 400)
    assert doc["rotatedKeys"] == [] and len(doc["errors"]) == 1
    for body in ({"policyKey": "third", "devices": [{"id": "k1"}]}, {"policyKey": "both", "devices": []}, {"devices": [{"id": "k1"}]}):
        assert service.call("POST", "/devices/keys/regenerate", body)[0] == 400


def test_ids_without_wildcards(service):
    for name in ("a%2Bb", "a%23b"):
        status, headers, doc = service.call("PUT", f"/devices/{name}", {})
        assert (status, headers["iothub-errorcode"]) == (400, "ArgumentInvalid") and "ids have" in doc["Message"]


def test_tags_that_are_nulled_are_gone(service):
    bulk(service, {"id": "tagged", "importMode": "create", "tags": {"a": 1, "b": {"c": 2}}})
    assert good(service, "PATCH", "/twins/tagged", {"tags": {"a": None}})["tags"] == {"b": {"c": 2}}
    assert "tags" not in good(service, "PATCH", "/twins/tagged", {"tags": {"b": None}})
    assert "tags" not in good(service, "GET", "/twins/tagged")
    for tags in ({"a": None}, {"a": {"b": None}}):
        status, headers, doc = service.call("PUT", "/twins/tagged", {"tags": tags})
        assert (status, headers["iothub-errorcode"]) == (400, "ArgumentInvalid") and "null" in doc["Message"]


def test_lists_and_counts(service):
    bulk(service, *[{"id": f"list{i}", "importMode": "create", "status": "disabled" if i < 3 else "enabled"} for i in range(8)])
    everything = good(service, "GET", "/devices/")
    assert [d["deviceId"] for d in everything] == sorted(d["deviceId"] for d in everything)
    assert len(good(service, "GET", f"/devices?{hubrest.API}&top=5")) == 5
    for top in ("0", "1001", "x", "-1"):
        assert service.call("GET", f"/devices?{hubrest.API}&top={top}")[0] == 400
    counts = good(service, "GET", "/statistics/devices")
    assert counts["totalDeviceCount"] == len(everything) == counts["enabledDeviceCount"] + counts["disabledDeviceCount"]
    assert counts["disabledDeviceCount"] == len([d for d in everything if d["status"] == "disabled"]) >= 3
    assert set(good(service, "GET", "/statistics/service")) == {"connectedDeviceCount"}
    assert good(service, "DELETE", "/devices/list0/commands") == {"deviceId": "list0", "moduleId": None, "totalMessagesPurged": 0}


def test_refusals_are_counted(service, lab):
    def count():
        return lab.hub_ctl("counters")[0]["service_refused_total"]
    before = count()
    assert service.call("PUT", "/jobs/v2/x", {"type": "none"})[0] == 400
    assert service.call("PUT", "/configurations/X", {})[0] == 400
    assert service.call("POST", "/jobs/create", {"type": "none"})[0] == 400
    assert service.call("PATCH", "/digitaltwins/list1", [])[0] == 400
    assert service.call("POST", "/devices/list1/applyConfigurationContent", {})[0] == 400
    assert count() == before + 5
    assert "hub.service.refused" in lab.log("hub")
