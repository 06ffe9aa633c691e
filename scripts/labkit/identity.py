# SPDX-License-Identifier: GPL-3.0-or-later
"""Identities of a lab: derived keys, connection strings, SAS tokens."""
import base64
import hashlib
import hmac
import time
from urllib.parse import quote

from .world import EDGE_ID, GW_NAME, HUB_NAME


def derive_key(master_b64, ident):
    """primaryKey = base64(HMAC-SHA256(decoded master key, id)); a module's id is 'device/module'."""
    mac = hmac.new(base64.b64decode(master_b64), ident.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def child(master_b64, index):
    device_id = f"dev{index}"
    key = derive_key(master_b64, device_id)
    return {"deviceId": device_id, "primaryKey": key, "connectionString":
            f"HostName={HUB_NAME};DeviceId={device_id};SharedAccessKey={key};GatewayHostName={GW_NAME}"}


def module(master_b64, module_id):
    key = derive_key(master_b64, f"{EDGE_ID}/{module_id}")
    return {"deviceId": EDGE_ID, "moduleId": module_id, "primaryKey": key, "connectionString":
            f"HostName={HUB_NAME};DeviceId={EDGE_ID};ModuleId={module_id};SharedAccessKey={key}"
            f";GatewayHostName={GW_NAME}"}


def gateway_connection_string(master_b64):
    key = derive_key(master_b64, f"{EDGE_ID}/$edgeHub")
    return f"HostName={HUB_NAME};DeviceId={EDGE_ID};ModuleId=$edgeHub;SharedAccessKey={key}"


def sas_token(key_b64, resource, seconds=3600, policy=None, expiry=None):
    """A SAS token; resource is 'host/devices/D[/modules/M]' for clients, the host for services."""
    sr = quote(resource, safe="") if policy is None else resource
    se = str(int(time.time()) + seconds if expiry is None else expiry)
    mac = hmac.new(base64.b64decode(key_b64), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    sig = quote(base64.b64encode(mac).decode(), safe="")
    skn = f"&skn={policy}" if policy else ""
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={se}{skn}"
