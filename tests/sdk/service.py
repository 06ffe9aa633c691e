# SPDX-License-Identifier: GPL-3.0-or-later
"""The official Python service SDK (azure-iot-hub, AMQP by uamqp), unmodified: reads one JSON list of calls, prints one JSON line each.

    python service.py amqp|amqp-ws CONNECTION-STRING CA.pem
"""
import json
import sys

import certifi

transport, connection_string, ca = sys.argv[1:]
certifi.where = lambda: ca  # uamqp has no other way to be told a CA
from azure.iot.hub import IoTHubRegistryManager  # noqa: E402
from uamqp import TransportType  # noqa: E402

registry = IoTHubRegistryManager.from_connection_string(
    connection_string, TransportType.AmqpOverWebsocket if transport == "amqp-ws" else TransportType.Amqp)
calls = {
    "send": registry.send_c2d_message,
    "create": lambda device: registry.create_device_with_sas(device, "", "", "enabled").as_dict(),
    "get": lambda device: registry.get_device(device).as_dict(),
    "twin": lambda device: registry.get_twin(device).as_dict(),
    "delete": registry.delete_device,
}
for name, *args in json.load(sys.stdin):
    try:
        print(json.dumps({"ok": True, "result": calls[name](*args)}), flush=True)
    except Exception as e:  # every error of the SDK is an answer
        print(json.dumps({"ok": False, "error": type(e).__name__, "message": str(e)}), flush=True)
