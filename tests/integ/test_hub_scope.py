# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateways ask the hub: scope sync of both generations, chains, modules on behalf of gateways below
(iothub-protocol 8)."""
import urllib.parse

import pytest
from labkit.identity import sas_token
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 0}
OLD, NEW = "api-version=2018-08-30-preview", "api-version=2020-06-30-preview"
LEAVES = [f"leaf{n}" for n in range(5)]


class World:
    """top > mid > low, all gateways; five leaves below mid, one beside everything."""

    def __init__(self, rest):
        self.rest, self.docs = rest, {}
        for device, parent in (("top", None), ("mid", "top"), ("low", "mid")):
            self.put(device, capabilities={"iotEdge": True}, parentScopes=[self.docs[parent]["deviceScope"]] if parent else [])
        for leaf in LEAVES:
            self.put(leaf, deviceScope=self.docs["mid"]["deviceScope"])
        self.put("alone")
        for device in ("mid", "leaf1"):
            assert rest.call("PUT", f"/devices/{device}/modules/m1", {"deviceId": device, "moduleId": "m1"})[0] == 200

    def put(self, device, **members):
        status, _, self.docs[device] = self.rest.call("PUT", f"/devices/{device}", {"deviceId": device, **members})
        assert status == 200

    def token(self, ident):
        device, _, module = ident.partition("/")
        doc = self.rest.call("GET", f"/devices/{device}" + (f"/modules/{urllib.parse.quote(module, safe='')}" if module else ""))[2]
        resource = f"{HUB_NAME}/devices/{device}" + (f"/modules/{module}" if module else "")
        return sas_token(doc["authentication"]["symmetricKey"]["primaryKey"], resource)

    def ask(self, caller, method, actor, what, body=None, name="%24edgeHub", headers=None):
        """As `caller` about the scope of `actor`."""
        path = f"/devices/{actor}/modules/{name}/{what}"
        return self.rest.call(method, path, body, {"Authorization": self.token(caller), **(headers or {})})


@pytest.fixture(scope="module")
def world(service):
    return World(service)


def ok(answer, status=200):
    assert answer[0] == status, answer[2]
    return answer[2]


def refused(answer, status, name):
    assert (answer[0], answer[1]["iothub-errorcode"]) == (status, name), answer[2]


def devices(doc):
    return [d["deviceId"] for d in doc["devices"]]


def modules(doc):
    return [f"{m['deviceId']}/{m['moduleId']}" for m in doc["modules"]]


# --- first generation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["%24edgeHub", "$edgeHub"])
def test_the_whole_scope(world, name):
    doc = ok(world.ask("mid/$edgeHub", "GET", "mid", f"devicesAndModulesInDeviceScope?deviceCount=100&continuationToken=&{OLD}", name=name))
    assert set(doc) == {"devices", "modules", "continuationLink"} and doc["continuationLink"] is None
    assert devices(doc) == ["mid", *LEAVES, "low"]
    assert modules(doc) == [f"{d}/{m}" for d, m in (("mid", "$edgeAgent"), ("mid", "$edgeHub"), ("mid", "m1"), ("leaf1", "m1"),
                                                     ("low", "$edgeAgent"), ("low", "$edgeHub"))]
    leaf, low, scope = doc["devices"][1], doc["devices"][-1], world.docs["mid"]["deviceScope"]
    assert leaf["authentication"] == world.docs["leaf0"]["authentication"] and leaf["generationId"] == world.docs["leaf0"]["generationId"]
    assert (leaf["deviceScope"], leaf["parentScopes"], leaf["capabilities"]) == (scope, [scope], {"iotEdge": False})
    assert (low["deviceScope"], low["parentScopes"], low["status"]) == (world.docs["low"]["deviceScope"], [scope], "enabled")
    assert doc["modules"][0]["managedBy"] == "iotEdge" and doc["modules"][0]["authentication"]["symmetricKey"]["primaryKey"]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_pages_by_links_used_as_they_are(world, size):
    path, seen, token = f"/devices/mid/modules/%24edgeHub/devicesAndModulesInDeviceScope?deviceCount={size}&continuationToken=&{OLD}", [], \
        world.token("mid/$edgeHub")
    while path:
        doc = ok(world.rest.call("GET", path, None, {"Authorization": token}))
        assert 0 < len(doc["devices"]) <= size
        seen += devices(doc)
        path = doc["continuationLink"]
    assert seen == ["mid", *LEAVES, "low"]


def test_a_single_identity(world):
    def one(device, module=""):
        return world.ask("mid/$edgeHub", "GET", "mid", f"deviceAndModuleInDeviceScope?targetDeviceId={device}&targetModuleId={module}&{OLD}")

    assert devices(ok(one("leaf1"))) == ["leaf1"] and modules(ok(one("leaf1"))) == []
    assert modules(ok(one("leaf1", "m1"))) == ["leaf1/m1"] and devices(ok(one("leaf1", "m1"))) == ["leaf1"]
    assert modules(ok(one("mid", "%24edgeHub"))) == ["mid/$edgeHub"]
    for outside in ("alone", "top", "nobody", ""):
        refused(one(outside), 404, "DeviceNotFound")
    refused(one("leaf1", "m2"), 404, "ModuleNotFound")


def test_who_may_ask(world):
    what = f"devicesAndModulesInDeviceScope?deviceCount=1&continuationToken=&{OLD}"
    ok(world.ask("mid", "GET", "mid", what))		# the device's own token will do
    for caller, actor in (("mid/$edgeAgent", "mid"), ("mid/m1", "mid"), ("low/$edgeHub", "mid"), ("top/$edgeHub", "mid"), ("leaf0", "mid"),
                          ("leaf0", "leaf0")):
        refused(world.ask(caller, "GET", actor, what), 401, "IotHubUnauthorizedAccess")
    refused(world.ask("mid/$edgeHub", "GET", "mid", what, name="m1"), 401, "IotHubUnauthorizedAccess")
    refused(world.ask("mid/$edgeHub", "GET", "mid", f"devicesAndModulesInDeviceScope?deviceCount=1001&{OLD}"), 400, "ArgumentInvalid")
    refused(world.ask("mid/$edgeHub", "GET", "mid", f"devicesAndModulesInDeviceScope?continuationToken=zz&{OLD}"), 400, "ArgumentInvalid")


def test_a_disabled_child_is_shown_as_disabled(world):
    path = f"deviceAndModuleInDeviceScope?targetDeviceId=leaf1&targetModuleId=m1&{OLD}"
    ok(world.rest.call("PUT", "/devices/leaf1", {"deviceId": "leaf1", "status": "disabled"}, {"If-Match": "*"}))
    doc = ok(world.ask("mid/$edgeHub", "GET", "mid", path))
    assert doc["devices"][0]["status"] == doc["modules"][0]["status"] == "disabled"
    ok(world.rest.call("PUT", "/devices/leaf1", {"deviceId": "leaf1", "status": "enabled"}, {"If-Match": "*"}))
    assert ok(world.ask("mid/$edgeHub", "GET", "mid", path))["devices"][0]["status"] == "enabled"


# --- nested gateways -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_scope_of_a_gateway_below(world, size):
    seen, link = [], None
    while True:
        body = {"pageSize": size, "authChain": "mid;top", **({"continuationLink": link} if link else {})}
        doc = ok(world.ask("top/$edgeHub", "POST", "top", f"devicesAndModulesInTargetDeviceScope?{NEW}", body))
        assert len(doc["devices"]) <= size
        seen += devices(doc)
        link = doc["continuationLink"]
        if not link:
            break
    assert seen == ["mid", *LEAVES, "low"]


def test_one_identity_on_behalf_of(world):
    def one(chain, device, module=None):
        return world.ask("top/$edgeHub", "POST", "top", f"getDeviceAndModuleOnBehalfOf?{NEW}", {
            "targetDeviceId": device, "authChain": chain, **({"targetModuleId": module} if module else {})})

    assert devices(ok(one("leaf1;mid;top", "leaf1"))) == ["leaf1"]
    for chain in ("leaf1/m1;mid;top", "leaf1/m1;leaf1;mid;top"):		# with or without the module's own device
        doc = ok(one(chain, "leaf1", "m1"))
        assert devices(doc) == ["leaf1"] and modules(doc) == ["leaf1/m1"]
    assert devices(ok(one("low;mid;top", "low"))) == devices(ok(one("mid;top", "low"))) == ["low"]
    refused(one("mid;top", "alone"), 404, "DeviceNotFound")


@pytest.mark.parametrize("chain", ["", "alone;top", "leaf1;top", "leaf1;mid", "leaf1;mid;low", "mid;leaf1;top", "top;mid", "nobody;mid;top",
                                   "mid;mid;top", None, 7])
def test_chains_that_do_not_hold(world, chain):
    body = {"pageSize": 1, "authChain": chain, "targetDeviceId": "leaf1", "moduleId": "m1", "module": {"moduleId": "m1"}}
    for method, what in (("POST", "devicesAndModulesInTargetDeviceScope"), ("POST", "getDeviceAndModuleOnBehalfOf"),
                         ("PUT", "putModuleOnBehalfOf"), ("POST", "getModuleOnBehalfOf"), ("POST", "getModulesOnTargetDevice"),
                         ("POST", "deleteModuleOnBehalfOf")):
        refused(world.ask("top/$edgeHub", method, "top", f"{what}?{NEW}", body), 401, "IotHubUnauthorizedAccess")


def test_a_disabled_gateway_in_between(world):
    body = {"pageSize": 1, "authChain": "low;mid;top"}
    what = f"devicesAndModulesInTargetDeviceScope?{NEW}"
    ok(world.ask("top/$edgeHub", "POST", "top", what, body))
    ok(world.rest.call("PUT", "/devices/mid", {"deviceId": "mid", "status": "disabled"}, {"If-Match": "*"}))
    refused(world.ask("top/$edgeHub", "POST", "top", what, body), 401, "IotHubUnauthorizedAccess")
    ok(world.rest.call("PUT", "/devices/mid", {"deviceId": "mid", "status": "enabled"}, {"If-Match": "*"}))


def test_modules_of_a_gateway_below(world):
    def ask(method, what, if_match=None, chain="low;mid;top", **body):
        return world.ask("top/$edgeHub", method, "top", f"{what}?{NEW}", {"authChain": chain, **body},
                         headers={"If-Match": if_match} if if_match else None)

    module = {"deviceId": "low", "moduleId": "app", "managedBy": "iotEdge", "authentication": {"type": "sas", "symmetricKey": {}}}
    made = ok(ask("PUT", "putModuleOnBehalfOf", module=module))
    assert (made["deviceId"], made["moduleId"], made["managedBy"]) == ("low", "app", "iotEdge")
    refused(ask("PUT", "putModuleOnBehalfOf", module=module), 409, "ModuleAlreadyExistsOnDevice")
    refused(ask("PUT", "putModuleOnBehalfOf", '"bad"', module=module), 412, "PreconditionFailed")
    again = ok(ask("PUT", "putModuleOnBehalfOf", f'"{made["etag"]}"', module={**made, "managedBy": "x"}))
    assert again["managedBy"] == "x" and again["authentication"] == made["authentication"]
    assert ok(ask("POST", "getModuleOnBehalfOf", moduleId="app")) == again == ok(world.rest.call("GET", "/devices/low/modules/app"))
    assert [m["moduleId"] for m in ok(ask("POST", "getModulesOnTargetDevice"))] == ["$edgeAgent", "$edgeHub", "app"]
    assert ask("POST", "deleteModuleOnBehalfOf", moduleId="app")[0] == 204
    refused(ask("POST", "getModuleOnBehalfOf", moduleId="app"), 404, "ModuleNotFound")
    for bad in (None, "", 7, "x" * 200):
        refused(ask("POST", "getModuleOnBehalfOf", moduleId=bad), 400, "ArgumentInvalid")
    refused(ask("PUT", "putModuleOnBehalfOf"), 400, "ArgumentInvalid")
    refused(ask("POST", "getModulesOnTargetDevice", chain="leaf0;mid;top"), 400, "ArgumentInvalid")
    refused(ask("PUT", "putModuleOnBehalfOf", module={"deviceId": "mid", "moduleId": "app"}), 400, "ArgumentInvalid")
    assert [m["moduleId"] for m in ok(ask("POST", "getModulesOnTargetDevice", chain="top"))] == ["$edgeAgent", "$edgeHub"]
