# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices that answer direct methods straight at the hub, each over its own MQTT connection, all in one thread."""
import json
import select
import threading

import mqttwire
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME

PREFIX = "$iothub/methods/POST/"


class Devices:
    """answer(device, name, payload) gives (status, payload), or None: no answer."""

    def __init__(self, lab, keys, answer):
        self.answer, self.calls, self.clients = answer, [], {}
        with lab.inside("hub"):
            for device, key in keys.items():
                c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
                assert c.login(HUB_NAME, device, sas_token(key, f"{HUB_NAME}/devices/{device}"))[1] == 0
                assert c.subscribe((PREFIX + "#", 0)) == [0]
                self.clients[c.sock] = (device, c)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._end.is_set():
            for sock in select.select(list(self.clients), [], [], 0.1)[0]:
                device, c = self.clients[sock]
                try:
                    self._call(device, c, c.message(5))
                except (mqttwire.Closed, OSError):
                    del self.clients[sock]

    def _call(self, device, c, m):
        name, _, rid = m.topic.removeprefix(PREFIX).partition("/?$rid=")
        payload = json.loads(m.payload) if m.payload else None
        self.calls.append((device, name, payload))
        result = self.answer(device, name, payload)
        if result:
            c.publish(f"$iothub/methods/res/{result[0]}/?$rid={rid}", json.dumps(result[1]), qos=0)

    def close(self):
        self._end.set()
        self._thread.join(10)
        for _, c in self.clients.values():
            c.close()
