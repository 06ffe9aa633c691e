# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hub keeps, and for how long: durability against a power cut, a full disk, retention, lives that end while
it is down."""
import json
import os
import struct
import subprocess
import time

import hubrest
import judge
import mqttwire
import pytest
from labctl import REPO
from labkit.procs import wait_for

pytestmark = pytest.mark.hub


def service(lab):
    with lab.inside("hub"):
        return hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])


def counter(lab, name):
    return lab.hub_ctl("counters")[0][name]


def send(c, child, first, n, size=10):
    """n messages at once; the numbers of those that were acknowledged."""
    topic = mqttwire.telemetry_topic(child["deviceId"])
    acked = []
    try:
        c.send(b"".join(mqttwire.publish(topic, f"{i:<{size}}", 1, i) for i in range(first, first + n)))
        while len(acked) < n:
            acked.append(struct.unpack(">H", c.recv().body)[0])
    except mqttwire.Closed:
        pass
    return acked


def numbers(lab):
    return [int(judge.body_of(e)) for e in lab.events()]


# --- power ------------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("shim") / "libpowercut.so")
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", path,
                    os.path.join(REPO, "tests", "fault", "powercut.c"), "-ldl"], check=True)
    return path


def cut_power(lab):
    """SIGKILL, and of each file only what was synced is left."""
    storage, kept = lab.status()["storage"]["hub"], 0
    lab.hub("kill")
    for name in os.listdir(storage):
        path = os.path.join(storage, name)
        if name.endswith(".durable"):
            os.rename(path, path[:-len(".durable")])
            kept += 1
        elif "lock" in name:
            os.unlink(path)
    assert kept == 2, "the model saw no storage files"


@pytest.mark.parametrize("durability", ["sync", "process"])
def test_a_power_cut(labs, shim, monkeypatch, durability):
    """sync: nothing acknowledged is lost. process: the model notices that nothing was synced, or this test proves nothing."""
    lab = labs(children=1)
    child = lab.children()[0]
    lab.gw("kill")
    lab.reconfigure_hub(storage=f'durability = "{durability}";')
    monkeypatch.setenv("LD_PRELOAD", shim)
    monkeypatch.setenv("HF_POWERCUT_DIR", lab.status()["storage"]["hub"])
    lab.hub("restart")
    monkeypatch.delenv("LD_PRELOAD")
    rest = service(lab)
    versions = []
    with lab.hub_login(child) as c:
        acked = []
        for i in range(20):
            acked += send(c, child, 1 + 10 * i, 10)
            _, _, doc = rest.call("PATCH", f"/twins/{child['deviceId']}", {"properties": {"desired": {"n": i}}})
            versions.append(doc["properties"]["desired"]["$version"])
            lab.hub_ctl("c2d.send", deviceId=child["deviceId"], data=str(i))
        rest.close()
        cut_power(lab)
    assert len(acked) == 200
    lab.hub("start")
    missing = set(acked) - set(numbers(lab))
    if durability == "process":
        assert missing
        return
    twin = lab.hub_ctl("twin.show", deviceId=child["deviceId"])[0]
    assert not missing and twin["properties"]["desired"]["$version"] == versions[-1] and twin["cloudToDeviceMessageCount"] == 20


# --- a full disk --------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def small(labs, tmp_path):
    """A lab whose hub has its storage on a disk of 6 MiB, mounted in its namespace; and where that is."""
    lab = labs(children=2)
    path, was = lab.status()["storage"]["hub"], str(tmp_path / "was")
    lab.gw("kill")
    lab.hub("kill")
    lab.exec("hub", "cp", "-a", path, was)
    lab.exec("hub", "mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "holdfast-test", path)
    lab.exec("hub", "cp", "-a", was + "/.", path)
    lab.hub("start")
    yield lab, os.path.join(path, "ballast")
    lab.hub("kill")
    lab.exec("hub", "umount", path)


def test_a_full_disk(small):
    """Refused is what cannot be stored, and only that; with room again all goes on, without a restart."""
    lab, ballast = small
    child = lab.children()[0]
    rest, acked = service(lab), []
    with lab.hub_login(child) as c:
        acked += send(c, child, 1, 100)
    assert lab.exec("hub", "dd", "if=/dev/zero", f"of={ballast}", "bs=4k", check=False).returncode != 0
    while True:		# pages that were freed before are still there to be used
        assert len(acked) < 20000
        with lab.hub_login(child) as c:
            got = send(c, child, len(acked) + 1, 100, 2000)
        acked += got
        if len(got) < 100:
            break
    assert counter(lab, "mqtt_unanswered_total") >= 1
    status, n = 200, 0
    while status == 200:
        assert n < 20000
        status, headers, doc = rest.call("PUT", f"/devices/more{n}", {"deviceId": f"more{n}"})
        n += 1
    assert status == 503 and "the storage is full" in doc["Message"] and headers["iothub-errorcode"] == "ServiceUnavailable"
    with pytest.raises(Exception, match="storage failed"):
        lab.hub_ctl("c2d.send", deviceId=child["deviceId"], data="x" * 60000)

    # Reading works, over every head.
    assert rest.query("SELECT deviceId FROM devices WHERE deviceId = 'dev1'")[0] == [{"deviceId": "dev1"}]
    assert rest.call("GET", "/devices/dev0")[0] == 200
    assert set(numbers(lab)) == set(acked)
    with lab.hub_login(lab.children()[1]) as c:
        c.send(mqttwire.packet(mqttwire.PINGREQ, 0))
        assert c.recv().type == mqttwire.PINGRESP

    lab.exec("hub", "rm", ballast)
    with lab.hub_login(child) as c:
        acked += send(c, child, len(acked) + 1, 100)
    assert rest.call("PUT", "/devices/room", {"deviceId": "room"})[0] == 200
    rest.close()
    lab.hub("kill")
    lab.hub("start")
    assert set(numbers(lab)) == set(acked)
    assert lab.hub_ctl("device.show", deviceId="room")


# --- age ------------------------------------------------------------------------------------------------------------------------------

def test_retention_by_age(labs):
    """The oldest go while nothing comes; sequence numbers go on, over a restart, too."""
    lab = labs(children=1)
    child = lab.children()[0]
    lab.gw("kill")
    lab.reconfigure_hub(retention="max_age_secs = 3;")
    lab.hub("restart")
    with lab.hub_login(child) as c:
        assert len(send(c, child, 1, 50)) == 50
        assert numbers(lab) == list(range(1, 51))
        wait_for("the old ones to go", 30, lambda: not lab.events())
        assert counter(lab, "events_dropped_total") == 50
        lab.hub("restart")
    with lab.hub_login(child) as c:
        send(c, child, 51, 1)
    event = lab.events()[0]
    assert (event["sequence"], event["partitionSequence"]) == (51, 50)
    assert lab.events(10) == [event]	# whoever asks for what is gone gets what is there


def test_lives_end_while_the_hub_is_down(labs):
    lab = labs(children=1)
    d = lab.children()[0]["deviceId"]
    lab.gw("kill")
    soon = int(time.time() * 1000) + 1500
    lab.hub_ctl("c2d.send", deviceId=d, data="short", messageId="short", ack="negative", expiryTimeUtc=soon)
    lab.hub_ctl("c2d.send", deviceId=d, data="long", messageId="long", ack="negative")
    lab.hub("kill")
    wait_for("its time to end", 30, lambda: time.time() * 1000 > soon)
    lab.hub("start")
    wait_for("it to go", 30, lambda: lab.hub_ctl("twin.show", deviceId=d)[0]["cloudToDeviceMessageCount"] == 1)
    lab.hub("kill")	# the feedback is durable, too
    lab.hub("start")
    rest = service(lab)
    status, _, data = rest.raw("GET", "/messages/servicebound/feedback")
    records = json.loads(data)
    assert status == 200 and [(r["originalMessageId"], r["statusCode"]) for r in records] == [("short", "Expired")]
    with lab.hub_login(lab.children()[0]) as c:
        c.subscribe((f"devices/{d}/messages/devicebound/#", 1))
        assert c.message().payload == b"long"
    rest.close()
