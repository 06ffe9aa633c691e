# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten thousand registered devices, two thousand of them connected to one hub process."""
import json
import os
import resource

import hubrest
import mqttwire
import pytest
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME
from labctl import REPO

pytestmark = pytest.mark.hub
LAB = {"children": 1}
REGISTERED, CONNECTED = 10000, 2000


@pytest.fixture(scope="module")
def many(lab, tmp_path_factory):
    rows = hubrest.devices(REGISTERED)
    folder = tmp_path_factory.mktemp("scale")
    path = folder / "devices.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    out = lab.exec("hub", "holdfast-hub", "import", str(path)).stdout
    assert out.strip() == f"imported {REGISTERED}"
    hubrest.write_children(folder / "children.json", rows)
    return {"rows": rows, "children": str(folder / "children.json"), "path": path}


def test_queries_are_right(lab, many, service):
    scope = service.call("GET", "/devices/edge1")[2]["deviceScope"]
    ids = [r["deviceId"] for r in many["rows"]]
    rows, pages = service.query("SELECT * FROM devices")
    assert sorted(r["deviceId"] for r in rows) == sorted([*ids, "edge1", "dev0"]) and pages == REGISTERED // 1000 + 1
    rows, _ = service.query(f"select deviceId from devices where array_contains(parentScopes, '{scope}')")
    assert [r["deviceId"] for r in rows] == ["dev0", *ids]
    some = ids[5::1000]
    for d in some:
        lab.hub_ctl("twin.update", deviceId=d, tags={"location": {"region": "US"}})
    rows, pages = service.query("SELECT * FROM devices WHERE tags.location.region = 'US'")
    assert [r["deviceId"] for r in rows] == some and pages == 1
    rows, _ = service.query("SELECT tags.location.region AS r, COUNT() AS n FROM devices GROUP BY tags.location.region")
    assert sorted(r["n"] for r in rows) == [len(some), REGISTERED + 2 - len(some)]
    listed = lab.exec("hub", "holdfast-hub", "device", "list-children", "-d", "edge1", "--json").stdout.splitlines()
    assert [json.loads(line)["deviceId"] for line in listed] == ["dev0", *ids]

    for words in (("query", "-q", "SELECT * FROM devices"), ("device", "list")):
        listed = lab.exec("hub", "holdfast-hub", *words, "--json").stdout.splitlines()
        assert sorted(json.loads(line)["deviceId"] for line in listed) == sorted([*ids, "edge1", "dev0"]), words


def test_import_says_which_record_is_wrong(lab, many):
    bad = [*many["rows"][:9000], {"deviceId": "no spaces allowed"}]
    path = many["path"].with_name("bad.json")
    path.write_text(json.dumps(bad), encoding="utf-8")
    r = lab.exec("hub", "holdfast-hub", "import", str(path), check=False)
    assert r.returncode == 1 and "record 9000 (no spaces allowed)" in r.stderr, r.stderr


def test_two_thousand_connected(lab, many, service):
    load = os.path.join(REPO, "build", "bench", "load")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > CONNECTED + 100
    held = lab.spawn("hub", load, "--target", f"{HUB_NAME}:8883", "--ca", lab.ca, "--children", many["children"],
                     "--connect-only", str(CONNECTED))
    up = held.wait_line(lambda o: "connected" in o, 50)
    assert up["connected"] == CONNECTED and up["errors"] == 0, held.errors[-5:]
    rows, _ = service.query("SELECT COUNT() AS n FROM devices WHERE connectionState = 'Connected' AND startswith(deviceId, 'many')")
    assert rows == [{"n": CONNECTED}]

    # One more beside them, which is called and answers.
    last = many["rows"][-1]
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    _, code = c.login(HUB_NAME, last["deviceId"], lab.token(last), True)
    assert code == 0
    c.subscribe(("$iothub/methods/POST/#", 0))
    c.publish(f"devices/{last['deviceId']}/messages/events/", b"{}")
    call = lab.spawn("hub", "holdfast-hub", "method", "invoke", "-d", last["deviceId"], "--mn", "ping", "--json")
    rid = c.message().topic.partition("?$rid=")[2]
    c.publish(f"$iothub/methods/res/200/?$rid={rid}", b'{"pong":1}', qos=0)
    assert call.wait_line(lambda o: o.get("status") == 200)["payload"] == {"pong": 1}
    c.close()

    held.p.terminate()
    held.p.wait(30)
    wait_for("devices to leave", 30, lambda: service.query(
        "SELECT COUNT() AS n FROM devices WHERE connectionState = 'Connected' AND startswith(deviceId, 'many')")[0] == [{"n": 0}])


def test_each_sends_one_message(lab, many):
    load = os.path.join(REPO, "build", "bench", "load")
    before = len(lab.events())
    out = lab.exec("hub", load, "--target", f"{HUB_NAME}:8883", "--ca", lab.ca, "--children", many["children"], "--clients",
                   str(CONNECTED), "--count", str(CONNECTED), timeout=60).stdout
    done = json.loads(out.splitlines()[-1])
    assert done["acked"] == CONNECTED and done["errors"] == 0
    events = lab.events()
    assert len(events) - before == CONNECTED
    assert {e["deviceId"] for e in events[before:]} == {r["deviceId"] for r in many["rows"][:CONNECTED]}
