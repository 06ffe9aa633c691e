# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the hub, again and again, amid telemetry, messages to devices, twin patches and reports.

Each worker logs what the hub acknowledged to it and goes on after the hub came back. In the end nothing of that is
missing, and no version or etag ever went back.
"""
import collections
import http.client
import itertools
import json
import os
import random
import struct
import threading
import time

import hubrest
import judge
import mqttwire
import pytest
from labctl import REPO, LabFailed
from labkit import control
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = [pytest.mark.hub, pytest.mark.timeout(180)]
LAB = {"children": 8}
ROUNDS = 10
WINDOW = 8
GONE = (LabFailed, mqttwire.Closed, OSError, TimeoutError, http.client.HTTPException, ValueError)


class Worker(threading.Thread):
    """Works in the hub's network namespace; step() does one thing and may fail while the hub is away."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.done, self.stop, self.link, self.failure = lab, 0, False, None, None

    def run(self):
        try:
            with self.lab.inside("hub"):
                while not self.stop:
                    try:
                        if self.link is None:
                            self.link = self.connect()
                        self.step()
                    except GONE:
                        self.leave()
                        time.sleep(0.02)	# the hub is away: this is the pace of trying again
                self.leave()
        except Exception as e:	# pylint: disable=broad-except
            self.failure = e
            raise

    def leave(self):
        if self.link is not None:
            self.link.close()
            self.link = None

    def finish(self):
        self.stop = True
        self.join(30)
        assert not self.is_alive() and self.failure is None, self.failure

    def mqtt(self, child, clean=True):
        c = mqttwire.Client(HUB_NAME, self.lab.ca, address=HUB_IP, timeout=5)
        if c.login(HUB_NAME, child["deviceId"], self.lab.token(child), clean)[1] != 0:
            c.close()
            raise mqttwire.Closed("refused")
        return c


class Telemetry(Worker):
    """A window of messages; those without PUBACK are sent again, the same."""

    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.topic = child, mqttwire.telemetry_topic(child["deviceId"])
        self.numbers, self.open, self.acked = itertools.count(), collections.OrderedDict(), []

    def connect(self):
        c = self.mqtt(self.child)
        again = list(self.open.values())
        self.open.clear()
        for body in again:
            self.send(c, body)
        return c

    def send(self, c, body):
        self.open[c.next_mid()] = body
        c.send(mqttwire.publish(self.topic, body, 1, c.mid))

    def step(self):
        while len(self.open) < WINDOW:
            self.send(self.link, f"{self.child['deviceId']}:{next(self.numbers)}")
        p = self.link.recv()
        assert p.type == mqttwire.PUBACK
        mid = struct.unpack(">H", p.body)[0]
        assert mid == next(iter(self.open)), "PUBACKs in order"
        self.acked.append(self.open.pop(mid))
        self.done += 1


class Https(Worker):
    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.numbers, self.acked, self.body = child, itertools.count(), [], None

    def connect(self):
        return hubrest.Https(self.lab.ca, self.lab.token(self.child))

    def step(self):
        self.body = self.body or f"{self.child['deviceId']}:{next(self.numbers)}"
        if self.link.raw("POST", f"/devices/{self.child['deviceId']}/messages/events", self.body)[0] == 204:
            self.acked.append(self.body)
            self.body = None
            self.done += 1


class NodeAmqp(Worker):
    """The Node SDK over AMQP, one message after the other. It is slow to come back, so nobody waits for it."""

    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.numbers, self.acked = child, itertools.count(), []

    def connect(self):
        string = f"HostName={HUB_NAME};DeviceId={self.child['deviceId']};SharedAccessKey={self.child['primaryKey']}"
        p = self.lab.spawn("hub", "node", os.path.join(REPO, "tests", "sdk", "device.js"), "amqp", env={"HOLDFAST_CHILD": string})
        p.wait_line(lambda o: o.get("event") == "open")
        p.close = p.finish
        return p

    def step(self):
        body = f"{self.child['deviceId']}:{next(self.numbers)}"
        self.link.ask({"cmd": "send", "body": body}, "sent", 5)
        self.acked.append(body)
        self.done += 1


class C2dSender(Worker):
    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.numbers, self.acked = child, itertools.count(), []
        self.path = os.path.join("/run/holdfast-lab", lab.name, "hub.sock")

    def connect(self):
        return None

    def step(self):
        body = f"c2d {next(self.numbers)}"
        try:
            control.call(self.path, "c2d.send", {"deviceId": self.child["deviceId"], "data": body}, 5)
        except control.Refused as e:
            assert "403004" in str(e), e	# 50 wait already
            time.sleep(0.01)
            return
        self.acked.append(body)
        self.done += 1


class C2dReceiver(Worker):
    """PUBACK is a promise, too, but one of the device: what it acknowledged may come again, nothing may be skipped."""

    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.got = child, []

    def connect(self):
        c = self.mqtt(self.child, clean=False)
        if not self.got:
            c.subscribe((f"devices/{self.child['deviceId']}/messages/devicebound/#", 1))	# the session keeps it
        return c

    def step(self):
        self.got.append(self.link.message(0.5).payload.decode())
        self.done += 1


class Patcher(Worker):
    """Desired properties by the service: (version, etag, n) of each answer."""

    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.path, self.acked = child, f"/twins/{child['deviceId']}", []
        self.service = lab.json("hub.json")["serviceConnectionString"]

    def connect(self):
        r = hubrest.Rest(self.lab.ca, self.service)
        self.check(r.call("GET", self.path)[2])
        return r

    def check(self, doc):
        """What is there now is what was acknowledged, or one change more whose answer got lost."""
        if not self.acked:
            return
        version, etag, n = self.acked[-1]
        desired = doc["properties"]["desired"]
        assert desired["$version"] - version in (0, 1) and desired["n"] - n in (0, 1), (doc, self.acked[-1])
        assert (doc["etag"] == etag) == (desired["$version"] == version), (doc, self.acked[-1])

    def step(self):
        n = self.acked[-1][2] + 1 if self.acked else 1
        status, _, doc = self.link.call("PATCH", self.path, {"properties": {"desired": {"n": n}}})
        assert status == 200, doc
        version = doc["properties"]["desired"]["$version"]
        assert not self.acked or version > self.acked[-1][0]
        self.acked.append((version, doc["etag"], n))
        self.done += 1


class Reporter(Worker):
    def __init__(self, lab, child):
        super().__init__(lab)
        self.child, self.acked = child, []

    def connect(self):
        c = self.mqtt(self.child, clean=False)
        if not self.acked:
            c.subscribe(("$iothub/twin/res/#", 0))	# the session keeps it
        c.publish("$iothub/twin/GET/?$rid=0", " ", 0)
        reported = json.loads(c.message().payload)["reported"]
        if self.acked:
            version, n = self.acked[-1]
            assert reported["$version"] - version in (0, 1) and reported["n"] - n in (0, 1), (reported, self.acked[-1])
        return c

    def step(self):
        n = self.acked[-1][1] + 1 if self.acked else 1
        self.link.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={n}", json.dumps({"n": n}), 0)
        topic = self.link.message().topic
        assert topic.startswith(f"$iothub/twin/res/204/?$rid={n}&$version="), topic
        version = int(topic.rpartition("=")[2])
        assert not self.acked or version > self.acked[-1][0]
        self.acked.append((version, n))
        self.done += 1


@pytest.fixture
def workers(lab):
    rows = lab.children()
    made = [Telemetry(lab, rows[0]), Telemetry(lab, rows[1]), Telemetry(lab, rows[2]), Https(lab, rows[3]),
            NodeAmqp(lab, rows[7]), C2dSender(lab, rows[4]), C2dReceiver(lab, rows[4]), Patcher(lab, rows[5]), Reporter(lab, rows[6])]
    for w in made:
        w.start()
    yield made
    for w in made:
        w.stop = True


def identities(lab):
    """Keys, etags and parents, without what changes by use."""
    rows = [*lab.hub_ctl("device.list"), *lab.hub_ctl("module.list", deviceId="edge1")]
    return [{k: v for k, v in r.items() if k in ("deviceId", "moduleId", "etag", "generationId", "authentication", "deviceScope")}
            for r in rows]


def secrets(lab):
    return [lab.hub_ctl("policy.show", name=n)[0] for n in ("iothubowner", "service", "device", "registryRead")]


def test_kill_9_loses_nothing(lab, workers):
    lab.gw("kill")
    before, keys, start = identities(lab), secrets(lab), 1
    for _ in range(ROUNDS):
        marks = [(w, w.done + random.randint(3, 60)) for w in workers if not isinstance(w, NodeAmqp)]
        wait_for("every worker to get on", 60, lambda marks=marks: any(w.failure for w in workers) or
                 all(w.done >= n for w, n in marks))
        assert not [w.failure for w in workers if w.failure]
        lab.hub("kill")
        lab.hub("start")
        assert identities(lab) == before and secrets(lab) == keys
    marks = [(w, w.done + 3) for w in workers]
    wait_for("every worker after the last blow", 60, lambda: all(w.done >= n for w, n in marks))
    telemetry, (sender, receiver) = workers[:5], workers[5:7]
    for w in workers:
        if w is not receiver:
            w.finish()
    wait_for("the queue to drain", 30, lambda: lab.hub_ctl("twin.show", deviceId=sender.child["deviceId"])[0]
             ["cloudToDeviceMessageCount"] == 0)
    receiver.finish()

    bodies = [judge.body_of(e).decode() for e in lab.events(start)]
    for w in telemetry:
        own = [b for b in bodies if b.startswith(w.child["deviceId"] + ":")]
        missing = set(w.acked) - set(own)
        assert not missing, f"{len(missing)} of {len(w.acked)} acknowledged messages are missing"
        first = list(dict.fromkeys(own))
        assert first == sorted(first, key=lambda b: int(b.partition(":")[2])), "order of first arrival"
        assert len(own) - len(first) <= ROUNDS * WINDOW
    missing = set(sender.acked) - set(receiver.got)
    assert not missing, f"{len(missing)} of {len(sender.acked)} messages to the device are missing"
    print({f"{type(w).__name__} {w.child['deviceId']}": w.done for w in workers})
