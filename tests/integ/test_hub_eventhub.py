# SPDX-License-Identifier: GPL-3.0-or-later
"""The Event-Hub-compatible endpoint, read by the unmodified @azure/event-hubs."""
import itertools
import json
import os
import time

import amqpwire
import mqttwire
import pytest
from labctl import REPO, LabFailed, wait_for
from labkit import control
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME
from proton import Message

pytestmark = pytest.mark.hub
LAB = {"children": 4, "modules": 1}	# dev0 to dev3 are in four different partitions
SCRIPT = os.path.join(REPO, "tests", "sdk", "events.js")
PARTITION = {"dev0": "0", "dev1": "3", "dev2": "2", "dev3": "1"}
EARLIEST, LATEST = {"offset": "-1"}, {"offset": "@latest"}


def login(lab, row, ident=None):
    """Straight to the hub."""
    ident = ident or row["deviceId"]
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    path = f"{HUB_NAME}/devices/{ident.replace('/', '/modules/')}"
    assert c.login(HUB_NAME, ident, sas_token(row["primaryKey"], path))[1] == 0
    return c


def send(client, ident, bodies, bag=""):
    for b in bodies:
        client.publish(mqttwire.telemetry_topic(ident, bag), json.dumps(b).encode())


def start(lab, transport="amqp"):
    return lab.spawn("hub", "node", SCRIPT, transport, lab.path("hub.json"))


class Subscription:
    """One subscription of an events.js process."""

    def __init__(self, script, name, position=EARLIEST, **options):
        self.script, self.name = script, name
        script.ask({"cmd": "subscribe", "name": name, "position": position, **options}, "subscribed")

    def events(self):
        lines = [x for x in list(self.script.lines) if isinstance(x, dict) and x.get("name") == self.name]
        return [(x["partition"], e) for x in lines if x["event"] == "events" for e in x["events"]]

    def problems(self):
        return [x for x in list(self.script.lines) if isinstance(x, dict) and x.get("name") == self.name and x["event"] == "problem"]

    def wait(self, what, test, seconds=30):
        """Until test(events) is true; returns its value."""
        try:
            return wait_for(what, seconds, lambda: test(self.events()))
        except Exception as e:
            raise LabFailed(f"{e}; {len(self.events())} events, problems {self.problems()[-2:]}, {self.script.errors[-5:]}") from None

    def wait_bodies(self, bodies, partition=None):
        """Exactly these bodies, in order, in the partition."""
        got = self.wait(f"{len(bodies)} events", lambda es: es if len(es) >= len(bodies) else None)
        assert [e["body"] for p, e in got if partition in (None, p)] == bodies
        return [e for _, e in got]

    def end(self):
        self.script.ask({"cmd": "unsubscribe", "name": self.name}, "unsubscribed")


@pytest.fixture(scope="module")
def devices(lab):
    """ident -> connected client"""
    clients = {row["deviceId"]: login(lab, row) for row in lab.children()}
    yield clients
    for c in clients.values():
        c.close()


@pytest.fixture(scope="module")
def script(lab):
    s = start(lab)
    yield s
    assert s.end() == 0


# Ten events of dev2, of which the tests about positions know everything.
@pytest.fixture(scope="module")
def ten(lab, devices, script):
    send(devices["dev2"], "dev2", [{"ten": n} for n in range(10)])
    sub = Subscription(script, "ten", partition="2")
    events = sub.wait_bodies([{"ten": n} for n in range(10)])
    sub.end()
    return events


@pytest.mark.parametrize("transport", ["amqp", "amqp-ws"])
def test_hub_and_partitions(lab, devices, ten, transport):
    s = start(lab, transport)
    hub = s.ask({"cmd": "hub"}, "hub")
    assert hub["ids"] == hub["partitionIds"] == ["0", "1", "2", "3"]
    assert hub["name"] == HUB_NAME.split(".", maxsplit=1)[0]
    assert abs(time.time() - time.mktime(time.strptime(hub["createdOn"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 3600
    p = s.ask({"cmd": "partition", "id": "2"}, "partition")
    assert p["partitionId"] == "2" and p["eventHubName"] == hub["name"] and not p["isEmpty"]
    assert p["beginningSequenceNumber"] == ten[0]["sequenceNumber"]
    assert p["lastEnqueuedSequenceNumber"] == ten[-1]["sequenceNumber"]
    assert p["lastEnqueuedOffset"] == ten[-1]["offset"]
    assert p["lastEnqueuedOnUtc"][:19] == time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ten[-1]["enqueued"] / 1000))
    s.tell({"cmd": "partition", "id": "4"})
    assert "The specified partition is invalid" in s.wait_line(lambda o: o["event"] == "failed")["message"]
    assert s.end() == 0


@pytest.mark.parametrize("transport", ["amqp", "amqp-ws"])
def test_bodies_properties_and_stamps(lab, devices, transport):
    s = start(lab, transport)
    before = int(time.time() * 1000)
    sub = Subscription(s, "stamps", {"enqueuedOn": before}, track=True)
    module = lab.json("modules.json")[0]
    mod = login(lab, module, f"{module['deviceId']}/{module['moduleId']}")
    bag = "%24.mid=id%201&%24.cid=c&%24.uid=me&%24.ct=application%2Fjson&%24.ce=utf-8&%24.sub=thermo&k%201=v%26%3D&n"
    send(devices["dev1"], "dev1", [{"stamped": transport}], bag)
    mod.publish(mqttwire.telemetry_topic("edge1/mod0", "%24.on=out1"), b"\xff\x00 no text")

    def find(test):
        return lambda es: next(((p, e) for p, e in es if test(e)), None)

    partition, e = sub.wait("the device's", find(lambda e: e["body"] == {"stamped": transport}))
    assert partition == PARTITION["dev1"]
    assert (e["messageId"], e["correlationId"], e["contentType"]) == ("id 1", "c", "application/json")
    assert e["properties"] == {"k 1": "v&=", "n": None}
    assert before < e["enqueued"] < before + 20000
    system = e["system"]
    stored = next(x for x in lab.events() if str(x["sequence"]) == e["offset"])
    assert stored["partition"] == int(partition) and stored["partitionSequence"] == e["sequenceNumber"]
    assert system["iothub-connection-device-id"] == "dev1" and "iothub-connection-module-id" not in system
    assert json.loads(system["iothub-connection-auth-method"]) == {
        "scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
    assert system["iothub-connection-auth-generation-id"] == stored["systemProperties"]["iothub-connection-auth-generation-id"]
    assert system["iothub-message-source"] == "Telemetry" and system["dt-subject"] == "thermo"
    assert system["iothub-enqueuedtime"] == e["enqueued"] and system["contentEncoding"] == "utf-8"
    last = next(x["last"] for x in s.lines if x["event"] == "events" and x["partition"] == partition)
    # The module's, which is of the same partition, may have come by then.
    assert last["sequenceNumber"] - e["sequenceNumber"] == int(last["offset"]) - int(e["offset"]) in (0, 1)
    _, e = sub.wait("the module's", find(lambda e: e["system"].get("iothub-connection-module-id") == "mod0"))
    assert e["system"]["iothub-connection-device-id"] == "edge1" and e["properties"] == {"iothub-outputname": "out1"}
    assert json.loads(e["system"]["iothub-connection-auth-method"])["scope"] == "module"
    assert bytes(e["body"]["data"]) == b"\xff\x00 no text"
    sub.end()
    assert s.end() == 0


def test_start_positions(script, ten):
    first, fifth, last = ten[0], ten[4], ten[9]
    places = {
        "earliest": (EARLIEST, 0),
        "sequence": ({"sequenceNumber": fifth["sequenceNumber"]}, 5),
        "sequence-inclusive": ({"sequenceNumber": fifth["sequenceNumber"], "isInclusive": True}, 4),
        "offset": ({"offset": fifth["offset"]}, 5),
        "offset-inclusive": ({"offset": fifth["offset"], "isInclusive": True}, 4),
        "before-all": ({"enqueuedOn": first["enqueued"] - 1}, 0),
        "last": ({"sequenceNumber": last["sequenceNumber"], "isInclusive": True}, 9),
    }
    for name, (position, begin) in places.items():
        sub = Subscription(script, name, position, partition="2")
        sub.wait_bodies([{"ten": n} for n in range(begin, 10)])
        sub.end()


def test_enqueued_time_is_exclusive(script, ten, devices):
    middle = ten[9]["enqueued"]
    wait_for("another millisecond", 30, lambda: time.time() * 1000 > middle + 2)
    send(devices["dev2"], "dev2", [{"ten": 10}])
    sub = Subscription(script, "time", {"enqueuedOn": middle}, partition="2")
    sub.wait_bodies([{"ten": 10}])
    sub.end()


def test_positions_beyond_the_end_are_refused(script, ten):
    for name, position in (("far", {"sequenceNumber": 10 ** 9}), ("off", {"offset": "999999999"}), ("odd", {"offset": "x"})):
        sub = Subscription(script, name, position, partition="2")
        problem = wait_for("the refusal", 30, sub.problems)[0]
        assert problem["code"] == "ArgumentError", problem
        sub.end()


def test_consumer_groups_read_alone(script, ten, devices):
    one, two = Subscription(script, "one", LATEST, group="one", partition="1"), Subscription(script, "two", LATEST, group="two", partition="1")
    probes = itertools.count(1)

    def both():
        send(devices["dev3"], "dev3", [{"probe": next(probes)}])
        return one.events() and two.events()
    wait_for("both links", 60, both)
    last = next(probes) - 1
    send(devices["dev3"], "dev3", [{"end": True}])
    for sub in (one, two):
        bodies = sub.wait("the end", lambda es: es if es[-1][1]["body"] == {"end": True} else None)
        numbers = [e["body"]["probe"] for _, e in bodies[:-1]]
        assert numbers == list(range(numbers[0], last + 1))
        sub.end()


def test_owner_level_steals(script, ten):
    low = Subscription(script, "low", EARLIEST, partition="2", ownerLevel=1)
    low.wait("its events", lambda es: len(es) >= 10)
    high = Subscription(script, "high", EARLIEST, partition="2", ownerLevel=2)
    high.wait("its events", lambda es: len(es) >= 10)
    assert wait_for("the theft", 30, low.problems)[0]["code"] == "ReceiverDisconnectedError"
    for name, options in (("lower", {"ownerLevel": 1}), ("none", {})):
        late = Subscription(script, name, EARLIEST, partition="2", **options)
        assert wait_for("the refusal", 30, late.problems)[0]["code"] == "ReceiverDisconnectedError"
        assert not late.events()
        late.end()
    # Another group has owners of its own.
    other = Subscription(script, "other", EARLIEST, partition="2", group="other")
    other.wait("its events", lambda es: len(es) >= 10)
    for sub in (low, high, other):
        sub.end()


@pytest.mark.parametrize("transport", ["amqp", "amqp-ws"])
def test_all_partitions_at_once(lab, devices, transport):
    s = start(lab, transport)
    sub = Subscription(s, "all", {"enqueuedOn": int(time.time() * 1000) - 1})
    for ident, c in devices.items():
        send(c, ident, [{"all": transport, "i": i} for i in range(20)])
    events = sub.wait("80 events", lambda es: found if len(found := [
        (p, e) for p, e in es if isinstance(e["body"], dict) and e["body"].get("all") == transport]) >= 80 else None)
    for ident, partition in PARTITION.items():
        mine = [(p, e["body"]["i"]) for p, e in events if e["system"]["iothub-connection-device-id"] == ident]
        assert mine == [(partition, n) for n in range(20)]
    sub.end()
    assert s.end() == 0


def test_backlog_is_read_complete_while_others_are_served(lab, devices):
    per_device, window = 5000, 100
    for ident, c in devices.items():
        mids = []
        for n in range(per_device):
            mids.append(c.publish(mqttwire.telemetry_topic(ident, "backlog"), json.dumps({"n": n}).encode(), wait=False))
            if len(mids) == window:
                c.wait_puback(mids[-1])
                mids = []
        if mids:
            c.wait_puback(mids[-1])
    s = start(lab)
    subs = [Subscription(s, f"p{p}", EARLIEST, partition=str(p), batch=1000, brief=True) for p in range(4)]
    served = itertools.count()

    def step():
        send(devices["dev0"], "dev0", [{"witness": True}])	# acknowledged
        next(served)
        return all(sum(e[2] is not None for _, e in sub.events()) >= per_device for sub in subs)

    wait_for("20 000 events", 60, step)
    assert next(served) >= 10	# a reader that keeps the hub busy would let none through
    for sub in subs:
        numbers = [e[2] for _, e in sub.events() if e[2] is not None]
        assert numbers == list(range(per_device)), sub.name
        sequence = [e[0] for _, e in sub.events()]
        assert sequence == list(range(sequence[0], sequence[0] + len(sequence)))
    s.kill()


def test_reading_goes_on_after_a_restart_of_the_hub(lab, devices):
    s = start(lab)
    sub = Subscription(s, "resume", LATEST, partition="1")
    n = 0

    def step():
        nonlocal n
        send(devices["dev3"], "dev3", [{"resume": (n := n + 1)}])
        return sub.events()
    wait_for("the link", 60, step)
    lab.hub("kill")
    lab.hub("start")
    again = login(lab, lab.children()[3])
    send(again, "dev3", [{"resume": n + 1}, {"resume": n + 2}])
    sub.wait("the events after the restart", lambda es: es[-1][1]["body"]["resume"] == n + 2)
    numbers = [e["body"]["resume"] for _, e in sub.events()]
    assert numbers == list(range(numbers[0], n + 3))
    again.close()
    s.kill()


def test_retention_overtakes_a_slow_reader(lab, devices):
    """The reader goes on with the oldest event there is, and the hub counts what it missed."""
    small = lab.path("small.conf")
    with open(small, "w", encoding="utf-8") as f:
        f.write('storage: { max_bytes = "64 MiB"; };')
    lab.hub("kill")
    hub = lab.spawn("hub", "holdfast-hub", "serve", "-c", lab.path("hub.conf"), "-c", small)
    wait_for("the hub", 30, lambda: hub.p.poll() is not None or control.answers(os.path.join("/run/holdfast-lab", lab.name, "hub.sock")))
    c, s = login(lab, lab.children()[0]), start(lab)
    begin = s.ask({"cmd": "partition", "id": "0"}, "partition")["lastEnqueuedSequenceNumber"] + 1
    sub = Subscription(s, "slow", {"sequenceNumber": begin, "isInclusive": True}, partition="0", batch=1, brief=True, hold=True)
    count, filler = 600, "x" * 200000	# 120 MB
    send(c, "dev0", [{"n": 0}])
    sub.wait("the first event", lambda es: es)
    topic = mqttwire.telemetry_topic("dev0")
    mids = [c.publish(topic, json.dumps({"n": n, "filler": filler}).encode(), wait=False) for n in range(1, count)]
    c.wait_puback(mids[-1], 60)
    assert s.ask({"cmd": "partition", "id": "0"}, "partition")["beginningSequenceNumber"] > begin + 100
    s.ask({"cmd": "go"}, "going")
    events = sub.wait("the newest event", lambda es: es if es and es[-1][1][2] == count - 1 else None, 30)
    numbers = [e[2] for _, e in events]
    assert numbers[0] == 0 and numbers == sorted(set(numbers))
    missed = sum(b - a - 1 for a, b in zip(numbers, numbers[1:]))
    assert missed > 100 and lab.hub_ctl("counters")[0]["events_missed_total"] == missed
    late = Subscription(s, "late", {"sequenceNumber": begin, "isInclusive": True}, partition="0", brief=True)
    assert late.wait("what there is", lambda es: es[0][1][2] if es else None) > 100
    s.kill()
    c.close()
    hub.p.terminate()
    hub.p.wait(30)
    lab.hub("start")


def test_azure_eventhub_of_python(lab):
    """PyPI's library has an AMQP stack of its own, asks for unsettled events and never settles one."""
    rows, total = lab.children()[:4], 5200
    since = time.time_ns() // 1_000_000
    with lab.inside("hub"):
        c = amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)).open()
    for row in rows:
        ident = row["deviceId"]
        assert c.cbs(sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{ident}"), f"{HUB_NAME}/devices/{ident}")[0] == 200
        s = c.sender(f"/devices/{ident}/messages/events")
        big = Message(body=f"py {ident} big".encode() + b" " * 200_000, inferred=True)	# several frames
        assert c.send(s, big)[0] == "accepted"
        for first in range(0, total // len(rows), 325):
            assert c.send_batch(s, [Message(body=f"py {ident} {first + n}".encode(), inferred=True) for n in range(325)])[0] == "accepted"
    policy = lab.hub_ctl("policy.show", name="service")[0]
    text = (f"Endpoint=sb://{HUB_NAME}/;SharedAccessKeyName=service;SharedAccessKey={policy['primaryKey']};"
            f"EntityPath={HUB_NAME.split('.', maxsplit=1)[0]}")
    r = lab.exec("hub", os.path.join(REPO, "build", "venv", "bin", "python"), os.path.join(REPO, "tests", "sdk", "eventhub.py"), text, lab.ca,
                 str(since), str(total + len(rows)), timeout=90)
    got = json.loads(r.stdout)
    assert got["partitions"] == ["0", "1", "2", "3"], r.stderr
    for row in rows:
        ident = row["deviceId"]
        assert [b.strip() for b in got["bodies"].get(PARTITION[ident], []) if b.startswith(f"py {ident} ")] == \
            [f"py {ident} big", *(f"py {ident} {n}" for n in range(total // len(rows)))], r.stderr
