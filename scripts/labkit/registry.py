# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills the hub's registry: the gateway, its modules, its children."""
from . import control, identity
from .world import EDGE_ID

_BATCH = 500


def fill(lab, master_key, children, modules):
    """children, modules: as in children.json and modules.json."""
    system = [{"moduleId": name, "primaryKey": identity.derive_key(master_key, f"{EDGE_ID}/{name}")}
              for name in ("$edgeAgent", "$edgeHub")]
    rows = [{"deviceId": EDGE_ID, "edgeEnabled": True, "primaryKey": identity.derive_key(master_key, EDGE_ID)}]
    rows += [{"deviceId": EDGE_ID, "moduleId": m["moduleId"], "primaryKey": m["primaryKey"]} for m in system + modules]
    rows += [{"deviceId": c["deviceId"], "primaryKey": c["primaryKey"], "parent": EDGE_ID} for c in children]
    for i in range(0, len(rows), _BATCH):
        control.call(lab.sockets["hub"], "import", {"devices": rows[i:i + _BATCH]}, timeout=120)
