# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway registers modules of nested edge devices on their behalf: what it may do, and every chain that does not hold."""
import hubrest
import pytest
from labkit.world import HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1}
VERBS = {"putModuleOnBehalfOf": "PUT", "getModuleOnBehalfOf": "POST", "getModulesOnTargetDevice": "POST", "deleteModuleOnBehalfOf": "POST"}


class World:
    """top > mid > low, and other beside them; calls as $edgeHub of top."""

    def __init__(self, lab):
        with lab.inside("hub"):
            self.rest = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
        scope = None
        for name in ("top", "mid", "low"):
            scope = self.edge(name, scope)
        self.edge("other", None)
        status, _, doc = self.rest.call("PUT", "/devices/leaf", {"deviceId": "leaf", "deviceScope": scope})
        assert status == 200, doc

    def edge(self, name, parent):
        status, _, doc = self.rest.call("PUT", f"/devices/{name}", {"deviceId": name, "capabilities": {"iotEdge": True},
                                                                   "parentScopes": [parent] if parent else []})
        assert status == 200, doc
        return doc["deviceScope"]

    def token(self, device, module="$edgeHub"):
        path = f"/devices/{device}" + (f"/modules/{module.replace('$', '%24')}" if module else "")
        key = self.rest.call("GET", path)[2]["authentication"]["symmetricKey"]["primaryKey"]
        return hubrest.sas_token(key, HUB_NAME + path)

    def call(self, what, body, actor="top", token=None, **headers):
        return self.rest.call(VERBS[what], f"/devices/{actor}/modules/%24edgeHub/{what}?api-version=2020-06-30-preview", body,
                              {"Authorization": token or self.token(actor), **headers})


@pytest.fixture(scope="module")
def world(lab):
    w = World(lab)
    yield w
    w.rest.close()


CHAIN = "low;mid;top"


def refused(answer, status, name):
    got, headers, doc = answer
    assert got == status and headers["iothub-errorcode"] == name, doc


def test_for_itself_and_by_the_device_token(world):
    module = {"moduleId": "own"}
    assert world.call("putModuleOnBehalfOf", {"authChain": "top", "module": module})[2]["deviceId"] == "top"
    status, _, listed = world.call("getModulesOnTargetDevice", {"authChain": "mid;top"}, token=world.token("top", None))
    assert status == 200 and len(listed) == 2
    assert world.call("deleteModuleOnBehalfOf", {"authChain": "top", "moduleId": "own"})[0] == 204


@pytest.mark.parametrize("chain", ["", ";", "low", "low;top", "top;mid;low", "low;mid", "other;top", "low;mid;top;other", "nobody;top",
                                   "low;;mid;top", "mid/$edgeAgent;low;top", None, 7])
@pytest.mark.parametrize("what", VERBS)
def test_a_chain_that_does_not_hold(world, what, chain):
    body = {"authChain": chain, "moduleId": "m", "module": {"moduleId": "m"}}
    refused(world.call(what, body), 401, "IotHubUnauthorizedAccess")
    assert world.rest.call("GET", "/devices/low/modules/m")[0] == 404


def test_who_may_call(world):
    body = {"authChain": CHAIN, "moduleId": "m", "module": {"moduleId": "m"}}
    for what in VERBS:
        for token in (world.token("other"), world.token("top", "$edgeAgent"), world.token("mid"), world.token("leaf", None)):
            refused(world.call(what, body, token=token), 401, "IotHubUnauthorizedAccess")
        refused(world.call(what, {**body, "authChain": "leaf;low;mid;top"}), 400, "ArgumentInvalid")  # no edge device
    refused(world.call("putModuleOnBehalfOf", {"authChain": CHAIN}), 400, "ArgumentInvalid")
    refused(world.call("getModuleOnBehalfOf", {"authChain": CHAIN}), 400, "ArgumentInvalid")
    refused(world.call("putModuleOnBehalfOf", {"authChain": CHAIN, "module": {"moduleId": "m", "deviceId": "top"}}), 400,
            "ArgumentInvalid")


def test_a_chain_ends_with_the_parent(world):
    """When the device in the middle leaves, the gateway has no say any more."""
    assert world.call("getModulesOnTargetDevice", {"authChain": CHAIN})[0] == 200
    mid = world.rest.call("GET", "/devices/mid")[2]
    parents = mid["parentScopes"]
    assert world.rest.call("PUT", "/devices/mid", dict(mid, parentScopes=[]), {"If-Match": "*"})[0] == 200
    refused(world.call("getModulesOnTargetDevice", {"authChain": CHAIN}), 401, "IotHubUnauthorizedAccess")
    assert world.rest.call("PUT", "/devices/mid", dict(mid, parentScopes=parents), {"If-Match": "*"})[0] == 200
    assert world.call("getModulesOnTargetDevice", {"authChain": CHAIN})[0] == 200
