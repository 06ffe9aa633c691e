# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills the hub's registry: the gateway, its modules, its children."""
from . import control, identity
from .world import EDGE_ID

_BATCH = 500


def fill(lab, master_key, children, modules):
    """children, modules: as in children.json and modules.json."""
    hub = lab.sockets["hub"]
    control.call(hub, "device.create", {
        "deviceId": EDGE_ID, "edgeEnabled": True, "primaryKey": identity.derive_key(master_key, EDGE_ID)})
    edge_modules = [{"moduleId": name, "primaryKey": identity.derive_key(master_key, f"{EDGE_ID}/{name}")}
                    for name in ("$edgeAgent", "$edgeHub")]
    for m in edge_modules + modules:
        control.call(hub, "module.create", {
            "deviceId": EDGE_ID, "moduleId": m["moduleId"], "primaryKey": m["primaryKey"]})
    for i in range(0, len(children), _BATCH):
        control.call(hub, "import", {"devices": [
            {"deviceId": c["deviceId"], "primaryKey": c["primaryKey"], "parent": EDGE_ID}
            for c in children[i:i + _BATCH]]}, timeout=120)
