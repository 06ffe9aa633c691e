# SPDX-License-Identifier: GPL-3.0-or-later
"""Parent and child: each rule broken on purpose over REST; the positive paths; what a deletion or a change of kind does."""
import json
import os

import mqttwire
import pytest
from labctl import REPO
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1}
SERVICE = os.path.join(REPO, "tests", "sdk", "service.js")


def put(service, device, if_match=None, **members):
    """The document after a PUT that must work."""
    status, headers, doc = service.call("PUT", f"/devices/{device}", {"deviceId": device, **members},
                                     {"If-Match": if_match} if if_match else None)
    assert status == 200, doc
    assert headers["ETag"] == f'"{doc["etag"]}"'
    return doc


def edge(service, device, *parents):
    return put(service, device, capabilities={"iotEdge": True}, parentScopes=list(parents))


def get(service, device):
    status, _, doc = service.call("GET", f"/devices/{device}")
    assert status == 200, doc
    return doc


def refused(answer, status=400, name="InvalidDeviceScope"):
    """Envelope 1, and the header that names the error; returns its text."""
    got, headers, doc = answer
    assert got == status, doc
    assert headers["iothub-errorcode"] == name and headers["Content-Type"].startswith("application/json")
    code, _, text = doc["Message"].partition(";")
    assert code == f"ErrorCode:{name}" and text and doc["ExceptionMessage"].startswith("Tracking ID:")
    return text


def parents(service, device):
    """(deviceScope, parentScopes), the same in identity, twin and query."""
    doc, twin = get(service, device), service.call("GET", f"/twins/{device}")[2]
    (row,), _ = service.query(f"SELECT * FROM devices WHERE deviceId = '{device}'")
    result = doc.get("deviceScope"), doc["parentScopes"]
    for view in (twin, row):
        assert (view.get("deviceScope"), view["parentScopes"]) == result
    assert twin["deviceEtag"] == doc["etag"]
    return result


def children_of(service, scope):
    rows, _ = service.query(f"select deviceId from devices where array_contains(parentScopes, '{scope}')")
    return [r["deviceId"] for r in rows]


# --- what is right --------------------------------------------------------------------------------------------


def test_a_leaf_has_one_parent_and_a_parent_many_children(service):
    a, b = edge(service, "one-a"), edge(service, "one-b")
    assert a["deviceScope"] == f"ms-azure-iot-edge://one-a-{a['generationId']}" and a["parentScopes"] == []
    for n in range(3):
        put(service, f"one-{n}", deviceScope=a["deviceScope"])
        assert parents(service, f"one-{n}") == (a["deviceScope"], [a["deviceScope"]])
    assert children_of(service, a["deviceScope"]) == ["one-0", "one-1", "one-2"]

    put(service, "one-1", "*", deviceScope=b["deviceScope"])		# moved: one parent, not two
    assert parents(service, "one-1") == (b["deviceScope"], [b["deviceScope"]])
    assert children_of(service, a["deviceScope"]) == ["one-0", "one-2"] and children_of(service, b["deviceScope"]) == ["one-1"]
    put(service, "one-1", "*", deviceScope="")
    assert parents(service, "one-1") == (None, [])
    put(service, "one-1", "*", parentScopes=[b["deviceScope"]])		# parentScopes will do, too
    assert parents(service, "one-1") == (b["deviceScope"], [b["deviceScope"]])
    put(service, "one-1", "*", status="disabled")				# no word about the parent: it stays
    assert parents(service, "one-1") == (b["deviceScope"], [b["deviceScope"]])
    put(service, "one-1", "*", deviceScope=None)
    assert parents(service, "one-1") == (None, [])


def test_gateways_nest_by_parent_scopes(service):
    scopes = []
    for layer in range(5):
        doc = edge(service, f"nest-{layer}", *scopes[-1:])
        assert doc["parentScopes"] == scopes[-1:]
        scopes.append(doc["deviceScope"])
    put(service, "nest-leaf", deviceScope=scopes[4])
    assert parents(service, "nest-4") == (scopes[4], [scopes[3]])
    put(service, "nest-4", "*", status="enabled")
    assert parents(service, "nest-4") == (scopes[4], [scopes[3]])
    put(service, "nest-4", "*", deviceScope=scopes[4], parentScopes=[])
    assert parents(service, "nest-4") == (scopes[4], [])
    assert parents(service, "nest-leaf") == (scopes[4], [scopes[4]])


# --- each rule, broken ------------------------------------------------------------------------------------------


def test_a_refusal_is_counted_and_logged(lab, service):
    before = lab.hub_ctl("counters")[0]["scope_refused_total"]
    refused(service.call("PUT", "/devices/counted", {"deviceId": "counted", "deviceScope": "ms-azure-iot-edge://nobody-1"}))
    assert lab.hub_ctl("counters")[0]["scope_refused_total"] == before + 1
    assert "hub.scope.refused: counted: scope ms-azure-iot-edge://nobody-1 belongs to no edge device" in lab.log("hub")


def test_two_parents(service):
    a, b = edge(service, "two-a"), edge(service, "two-b")
    both = [a["deviceScope"], b["deviceScope"]]
    body = {"deviceId": "two-x", "parentScopes": both}
    assert "one parent" in refused(service.call("PUT", "/devices/two-x", body))
    refused(service.call("PUT", "/devices/two-x", {**body, "capabilities": {"iotEdge": True}}))
    assert service.call("GET", "/devices/two-x")[0] == 404


@pytest.mark.parametrize("scope", ["ms-azure-iot-edge://nobody-638000000000000000", "nonsense", "ms-azure-iot-edge://",
                                   "ms-azure-iot-edge://rule-edge-1"])
def test_a_scope_that_belongs_to_no_edge_device(service, scope):
    if service.call("GET", "/devices/rule-edge")[0] == 404:
        edge(service, "rule-edge")
        put(service, "rule-leaf")
    before = get(service, "rule-leaf")
    refused(service.call("PUT", "/devices/rule-new", {"deviceId": "rule-new", "deviceScope": scope}))
    refused(service.call("PUT", "/devices/rule-new", {"deviceId": "rule-new", "parentScopes": [scope],
                                                   "capabilities": {"iotEdge": True}}))
    refused(service.call("PUT", "/devices/rule-leaf", {"deviceId": "rule-leaf", "deviceScope": scope}, {"If-Match": "*"}))
    assert service.call("GET", "/devices/rule-new")[0] == 404
    assert get(service, "rule-leaf") == before


def test_the_scope_of_a_device_that_was_made_again(service):
    old = edge(service, "again")["deviceScope"]
    assert service.call("DELETE", "/devices/again", None, {"If-Match": "*"})[0] == 204
    new = edge(service, "again")["deviceScope"]
    assert new != old
    refused(service.call("PUT", "/devices/again-leaf", {"deviceId": "again-leaf", "deviceScope": old}))
    put(service, "again-leaf", deviceScope=new)


def test_an_edge_device_is_no_leaf_child(service):
    top, low = edge(service, "leafless-top"), edge(service, "leafless-low")
    body = {"deviceId": "leafless-low", "capabilities": {"iotEdge": True}, "deviceScope": top["deviceScope"]}
    assert "parentScopes" in refused(service.call("PUT", "/devices/leafless-low", body, {"If-Match": "*"}))
    refused(service.call("PUT", "/devices/leafless-new", {**body, "deviceId": "leafless-new"}))
    assert parents(service, "leafless-low") == (low["deviceScope"], [])


def test_cycles(service):
    a = edge(service, "cycle-a")
    b = edge(service, "cycle-b", a["deviceScope"])
    c = edge(service, "cycle-c", b["deviceScope"])
    for scope in (a, b, c):
        assert "ancestor" in refused(service.call("PUT", "/devices/cycle-a", {
            "deviceId": "cycle-a", "parentScopes": [scope["deviceScope"]]}, {"If-Match": "*"}))
    assert parents(service, "cycle-a") == (a["deviceScope"], [])


def test_more_than_five_layers(service):
    scopes = []
    for layer in range(5):
        scopes.append(edge(service, f"deep-{layer}", *scopes[-1:])["deviceScope"])
    body = {"deviceId": "deep-5", "capabilities": {"iotEdge": True}, "parentScopes": [scopes[4]]}
    assert "layers" in refused(service.call("PUT", "/devices/deep-5", body))
    over = edge(service, "deep-over")		# nor from above: deep-0 has four layers below it
    body = {"deviceId": "deep-0", "parentScopes": [over["deviceScope"]]}
    assert "layers" in refused(service.call("PUT", "/devices/deep-0", body, {"If-Match": "*"}))
    put(service, "deep-leaf", deviceScope=scopes[4])
    body = {"deviceId": "deep-leaf", "capabilities": {"iotEdge": True}}		# it would be the sixth
    assert "layers" in refused(service.call("PUT", "/devices/deep-leaf", body, {"If-Match": "*"}))
    # A leaf becomes a gateway beside a deep branch: layers are counted along each branch.
    put(service, "deep-side", deviceScope=scopes[0])
    assert put(service, "deep-side", "*", capabilities={"iotEdge": True})["parentScopes"] == [scopes[0]]


@pytest.mark.parametrize("members", [{"deviceScope": 7}, {"parentScopes": "text"}, {"parentScopes": [7]},
                                     {"capabilities": {"iotEdge": "yes"}}])
def test_members_of_a_wrong_type(service, members):
    refused(service.call("PUT", "/devices/typed", {"deviceId": "typed", **members}), name="ArgumentInvalid")
    assert service.call("GET", "/devices/typed")[0] == 404


def test_bulk_keeps_the_same_rules(service):
    a = edge(service, "bulk-a")
    status, headers, doc = service.call("POST", "/devices", [
        {"id": "bulk-1", "importMode": "create", "deviceScope": a["deviceScope"]},
        {"id": "bulk-2", "importMode": "create", "deviceScope": "ms-azure-iot-edge://nobody-1"}])
    assert status == 400 and headers["iothub-errorcode"] == "BulkRegistryOperationFailure"
    (error,) = doc["errors"]
    assert error["deviceId"] == "bulk-2" and error["errorCode"] == 400028
    assert children_of(service, a["deviceScope"]) == ["bulk-1"]


# --- deletion and change of kind ----------------------------------------------------------------------------------


def test_deleting_a_parent_frees_its_children_for_good(lab, service):
    top = edge(service, "free-top")
    mid = edge(service, "free-mid", top["deviceScope"])
    before = {d: put(service, d, deviceScope=mid["deviceScope"]) for d in ("free-1", "free-2")}
    before["free-low"] = edge(service, "free-low", mid["deviceScope"])
    other = put(service, "free-other", deviceScope=top["deviceScope"])
    assert service.call("DELETE", "/devices/free-mid", None, {"If-Match": f'"{mid["etag"]}"'})[0] == 204

    for _ in range(2):		# the second time after kill -9
        assert parents(service, "free-1") == parents(service, "free-2") == (None, [])
        assert parents(service, "free-low") == (before["free-low"]["deviceScope"], [])
        assert get(service, "free-other")["etag"] == other["etag"]
        for device, doc in before.items():
            assert get(service, device)["etag"] != doc["etag"]
        assert children_of(service, mid["deviceScope"]) == [] and children_of(service, top["deviceScope"]) == ["free-other"]
        lab.hub("kill")
        lab.hub("start")
        with lab.inside("hub"):
            service.connect()
    refused(service.call("PUT", "/devices/free-1", {"deviceId": "free-1", "deviceScope": mid["deviceScope"]}, {"If-Match": "*"}))


def test_edge_or_not(service):
    top = edge(service, "kind-top")
    put(service, "kind", deviceScope=top["deviceScope"])

    # A leaf becomes an edge device: as the whole document, changed. It keeps its parent and gets a scope of its own.
    doc = get(service, "kind")
    doc["capabilities"]["iotEdge"] = True
    now = service.call("PUT", "/devices/kind", doc, {"If-Match": f'"{doc["etag"]}"'})[2]
    assert now["parentScopes"] == [top["deviceScope"]] and now["deviceScope"].startswith("ms-azure-iot-edge://kind-")
    modules = service.call("GET", "/devices/kind/modules")[2]
    assert sorted(m["moduleId"] for m in modules) == ["$edgeAgent", "$edgeHub"]

    # With children it cannot go back.
    put(service, "kind-leaf", deviceScope=now["deviceScope"])
    now["capabilities"]["iotEdge"] = False
    assert "children" in refused(service.call("PUT", "/devices/kind", now, {"If-Match": "*"}))
    put(service, "kind-leaf", "*", deviceScope="")

    # Without it does: the scope it owned ends, its parent's takes the place, the system modules go.
    back = service.call("PUT", "/devices/kind", now, {"If-Match": "*"})[2]
    assert (back["deviceScope"], back["parentScopes"]) == (top["deviceScope"], [top["deviceScope"]])
    assert service.call("GET", "/devices/kind/modules")[2] == []
    refused(service.call("PUT", "/devices/kind-leaf", {"deviceId": "kind-leaf", "deviceScope": now["deviceScope"]},
                      {"If-Match": "*"}))


# --- gateways notice ----------------------------------------------------------------------------------------------


def login(lab, device, key, signer, chain):
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    _, code = c.login(HUB_NAME, device, sas_token(key, f"{HUB_NAME}/devices/{signer}"), True,
                      username=f"{HUB_NAME}/{device}/?api-version=2021-04-12" + (f"&auth-chain={chain}" if chain else ""))
    return c, code


def test_a_gateway_loses_the_logins_of_a_freed_child(lab, service):
    gw = edge(service, "cut-gw")
    key = service.call("GET", "/devices/cut-gw/modules/$edgeHub")[2]["authentication"]["symmetricKey"]["primaryKey"]
    leaf = put(service, "cut-leaf", deviceScope=gw["deviceScope"])["authentication"]["symmetricKey"]["primaryKey"]
    put(service, "cut-direct", deviceScope=gw["deviceScope"])
    direct_key = get(service, "cut-direct")["authentication"]["symmetricKey"]["primaryKey"]
    direct, code = login(lab, "cut-direct", direct_key, "cut-direct", None)
    assert code == 0

    def acting():
        return login(lab, "cut-leaf", key, "cut-gw/modules/$edgeHub", "cut-leaf%3Bcut-gw")

    for change in (lambda: put(service, "cut-leaf", "*", deviceScope=""),
                   lambda: service.call("DELETE", "/devices/cut-gw", None, {"If-Match": "*"})):
        put(service, "cut-leaf", "*", deviceScope=gw["deviceScope"])
        c, code = acting()
        assert code == 0
        change()
        assert c.ends()
        assert acting()[1] == 5
    own, code = login(lab, "cut-leaf", leaf, "cut-leaf", None)		# the child itself may come
    assert code == 0
    own.close()
    direct.publish("devices/cut-direct/messages/events/", b"x")		# who speaks for himself was not disturbed
    direct.close()


def test_the_gateway_of_the_lab_notices(lab, service):
    """A removed child is out at the gateway, too: its session is cut in the hub, which makes the gateway ask."""
    (row,) = lab.children()
    child = lab.login(row)
    child.publish("devices/dev0/messages/events/", b"x")
    lab.wait_events("the child's message", lambda events: any(e["deviceId"] == "dev0" for e in events))
    lab.exec("hub", "holdfast-hub", "device", "remove-children", "-d", "edge1", "--child-list", "dev0")
    child.publish("devices/dev0/messages/events/", b"y")
    wait_for("the gateway to refuse the removed child", 30, lambda: not comes_in(lab, row))


def comes_in(lab, row):
    c = lab.client()
    try:
        return c.login(HUB_NAME, row["deviceId"], lab.token(row), True)[1] == 0
    except OSError:
        return False
    finally:
        c.close()


# --- the same by the command line and by the service SDK: read back each time ----------------------------------------


def hub(lab, *words, check=True):
    return lab.exec("hub", "holdfast-hub", *words, check=check)


def shown(lab, *words):
    return [json.loads(line) for line in hub(lab, *words, "--json").stdout.splitlines()]


def test_the_command_line(lab, service):
    for words in (("cl-gw", "--edge-enabled"), ("cl-low", "--edge-enabled"), ("cl-1",), ("cl-2",), ("cl-3", "--parent", "cl-low")):
        hub(lab, "device", "create", "-d", *words)
    scope, low = get(service, "cl-gw")["deviceScope"], get(service, "cl-low")["deviceScope"]
    assert parents(service, "cl-3") == (low, [low])
    hub(lab, "device", "add-children", "-d", "cl-gw", "--child-list", "cl-1, cl-2")		# as one word, with a comma
    assert parents(service, "cl-1") == parents(service, "cl-2") == (scope, [scope])
    assert shown(lab, "device", "list-children", "-d", "cl-gw") == [{"deviceId": d, "edgeEnabled": False} for d in ("cl-1", "cl-2")]
    assert shown(lab, "device", "get-parent", "-d", "cl-1") == [{"deviceId": "cl-gw"}]
    hub(lab, "device", "set-parent", "-d", "cl-low", "--pd", "cl-gw")
    assert parents(service, "cl-low") == (low, [scope])

    def says(*words):
        r = hub(lab, *words, check=False)
        assert r.returncode == 1 and not r.stdout
        return r.stderr

    assert "set-parent" in says("device", "add-children", "-d", "cl-gw", "--child-list", "cl-low")
    assert "--force" in says("device", "add-children", "-d", "cl-gw", "--child-list", "cl-1,cl-3")
    assert "list-children" in says("device", "remove-children", "-d", "cl-gw", "--child-list", "cl-1", "cl-3")
    assert "not registered" in says("device", "add-children", "-d", "cl-gw", "--child-list", "cl-1", "nobody")
    assert "not an edge device" in says("device", "add-children", "-d", "cl-1", "--child-list", "cl-2")
    assert "not an edge device" in says("device", "set-parent", "-d", "cl-1", "--pd", "cl-2")
    assert "ancestor" in says("device", "set-parent", "-d", "cl-gw", "--pd", "cl-low")
    assert "InvalidDeviceScope" in says("device", "update", "-d", "cl-low", "--edge-enabled", "false")
    assert parents(service, "cl-1") == (scope, [scope]) and parents(service, "cl-3") == (low, [low])		# nothing was changed
    hub(lab, "device", "add-children", "-d", "cl-gw", "--child-list", "cl-3", "--force")
    assert parents(service, "cl-3") == (scope, [scope])
    hub(lab, "device", "remove-children", "-d", "cl-gw", "--child-list", "cl-1", "cl-2,cl-low", "cl-3")
    assert all(parents(service, d) == (None, []) for d in ("cl-1", "cl-2", "cl-3"))
    assert parents(service, "cl-low") == (low, [])
    assert "has no parent" in says("device", "get-parent", "-d", "cl-1")
    assert hub(lab, "device", "list-children", "-d", "cl-gw", "--json").stdout == ""


def test_the_service_sdk(lab, service):
    def sdk(*calls):
        r = lab.exec("hub", "node", SERVICE, lab.path("hub.json"), input=json.dumps(calls))
        return [json.loads(line) for line in r.stdout.splitlines()]

    edge_ = {"capabilities": {"iotEdge": True}}
    answers = sdk(["create", {"deviceId": "sdk-gw", **edge_}], ["create", {"deviceId": "sdk-low", **edge_}],
                  *(["create", {"deviceId": f"sdk-{n}"}] for n in (1, 2)))
    assert all(a["ok"] for a in answers), answers
    scope, low = (a["result"]["deviceScope"] for a in answers[:2])
    answers = sdk(["update", {"deviceId": "sdk-1", "deviceScope": scope}],
                  ["update", {"deviceId": "sdk-2", "parentScopes": [scope]}],
                  ["update", {"deviceId": "sdk-low", "parentScopes": [scope], **edge_}], ["get", "sdk-1"], ["get", "sdk-low"],
                  ["query", f"select deviceId from devices where array_contains(parentScopes, '{scope}')"],
                  ["update", {"deviceId": "sdk-2", "deviceScope": low}], ["update", {"deviceId": "sdk-1", "status": "disabled"}],
                  ["update", {"deviceId": "sdk-1", "deviceScope": "ms-azure-iot-edge://nobody-1"}],
                  ["update", {"deviceId": "sdk-gw", "parentScopes": [low], **edge_}])
    assert [a["ok"] for a in answers] == [True] * 8 + [False] * 2, answers
    one, nested, children = (a["result"] for a in answers[3:6])
    assert (one["deviceScope"], one["parentScopes"]) == (scope, [scope])
    assert (nested["deviceScope"], nested["parentScopes"]) == (low, [scope])
    assert [c["deviceId"] for c in children] == ["sdk-1", "sdk-2", "sdk-low"]
    for refusal in answers[8:]:
        assert refusal["error"] == "ArgumentError", refusal
    assert parents(service, "sdk-1") == (scope, [scope]) and get(service, "sdk-1")["status"] == "disabled"
    assert parents(service, "sdk-2") == (low, [low]) and parents(service, "sdk-low") == (low, [scope])
    assert shown(lab, "device", "get-parent", "-d", "sdk-2") == [{"deviceId": "sdk-low"}]
    (gone,) = sdk(["delete", "sdk-low"])
    assert gone["ok"] and parents(service, "sdk-2") == (None, [])
