# SPDX-License-Identifier: GPL-3.0-or-later
"""Offline, after a restart: known children come in, nobody else does, and no secret lies about."""
import base64
import json
import os
import signal
import time

import pytest
import judge
import mqttwire
from labctl import HUB_NAME
from labkit.identity import derive_key, sas_token

pytestmark = pytest.mark.accept

LAB = {"children": 5, "modules": 1, "master_key": base64.b64encode(b"known to the test, 32 bytes long").decode()}
EXPIRED = 1_700_000_000


@pytest.fixture(scope="module")
def offline(lab):
    """The gateway restarted with its cable cut: what it knows comes from the disk."""
    with lab.login(lab.children()[0]) as c:
        c.publish("devices/dev0/messages/events/", "before the cut")
    lab.link("down")
    lab.gw("restart")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    return lab


def try_login(lab, ident, password, **kw):
    """(CONNACK code, seconds); the connection must be closed after a refusal."""
    begin = time.monotonic()
    with lab.client() as c:
        code = c.login(HUB_NAME, ident, password, **kw)[1]
        seconds = time.monotonic() - begin
        if code != 0:
            assert c.ends(2), "refused, but not closed"
    return code, seconds


def test_known_child_is_accepted_and_stored(offline):
    child = offline.children()[1]
    with offline.login(child) as c:
        c.publish("devices/dev1/messages/events/", "stored while offline")
    assert offline.gw_status()["pending"] >= 1
    assert [m["child"] for m in offline.ctl("queue", "peek", "dev1")] == ["dev1"]
    assert offline.ctl("queue", "peek", "dev4") == []


def test_known_module_is_accepted(offline):
    module = offline.json("modules.json")[0]
    token = sas_token(module["primaryKey"], f"{HUB_NAME}/devices/edge1/modules/mod0")
    assert try_login(offline, "edge1/mod0", token)[0] == 0


REFUSED = {
    "unknown id": lambda lab, c: ("stranger", sas_token(c["primaryKey"], f"{HUB_NAME}/devices/stranger")),
    "wrong key": lambda lab, c: (c["deviceId"], sas_token(
        base64.b64encode(os.urandom(32)).decode(), f"{HUB_NAME}/devices/{c['deviceId']}")),
    "another child's token": lambda lab, c: (c["deviceId"], lab.token(lab.children()[3])),
    "expired token": lambda lab, c: (c["deviceId"], lab.token(c, expiry=EXPIRED)),
    "no password": lambda lab, c: (c["deviceId"], None),
    "not a token": lambda lab, c: (c["deviceId"], "let me in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_within_a_second(offline, case):
    ident, password = REFUSED[case](offline, offline.children()[2])
    code, seconds = try_login(offline, ident, password)
    assert code in (4, 5) and seconds < 1, (code, seconds)


def test_a_foreign_client_id_is_refused(offline):
    child = offline.children()[2]
    code, seconds = try_login(offline, child["deviceId"], offline.token(child), client_id="dev4")
    assert code in (2, 5) and seconds < 1


COUNTERS = {
    "unknown id": "auth_unknown_total", "wrong key": "auth_signature_total", "another child's token": "auth_signature_total",
    "expired token": "auth_expired_total", "no password": "auth_no_credentials_total",
    "not a token": "auth_bad_token_total",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_counted(offline, case):
    before = offline.counters()
    try_login(offline, *REFUSED[case](offline, offline.children()[2]))
    assert offline.counters()[COUNTERS[case]] == before[COUNTERS[case]] + 1


def test_twin_patches_on_a_pile_share_writes(offline):
    """Each is answered 204 after a commit that holds it; they do not cost a commit each."""
    child, count = offline.children()[4], 30
    before = offline.gw_status()["store"]["stateWrites"]
    with offline.login(child) as c:
        c.subscribe(("$iothub/twin/res/#", 0))
        c.send(b"".join(mqttwire.publish(f"$iothub/twin/PATCH/properties/reported/?$rid={n}", json.dumps({"n": n, f"k{n}": "v"}), 0)
                        for n in range(count)))
        answers = [mqttwire.parse_publish(c.recv()).topic for _ in range(count)]
        assert answers == [f"$iothub/twin/res/204/?$rid={n}" for n in range(count)]
        assert 1 <= offline.gw_status()["store"]["stateWrites"] - before < count
        c.send(mqttwire.publish("$iothub/twin/GET/?$rid=end", " ", 0))
        reported = json.loads(mqttwire.parse_publish(c.recv()).payload)["reported"]
        assert reported["n"] == count - 1 and all(reported[f"k{n}"] == "v" for n in range(count))


def test_a_refused_reload_says_what_stayed(offline):
    with open(offline.path("gw.conf"), encoding="utf-8") as f:
        good = f.read()
    try:
        with open(offline.path("gw.conf"), "a", encoding="utf-8") as f:
            f.write("nonsense = 1;\n")
        os.kill(offline.json("state.json")["procs"]["gw"]["pid"], signal.SIGHUP)
        offline.wait_status("the refusal", lambda _: "nothing changed" in offline.log())
    finally:
        with open(offline.path("gw.conf"), "w", encoding="utf-8") as f:
            f.write(good)
    with offline.login(offline.children()[1]) as c:
        c.publish("devices/dev1/messages/events/", "after the refused reload")


def test_after_the_link_is_back_everything_arrives(offline):
    offline.link("up")
    offline.wait_drained(30)
    assert offline.wait_status("the reported properties", lambda s: offline.hub_ctl("twin.show", deviceId="dev4")[0][
        "properties"]["reported"].get("n") == 29)
    bodies = [judge.body_of(e) for e in offline.events()]
    assert b"before the cut" in bodies and b"stored while offline" in bodies


def test_no_key_and_no_token_in_storage_or_logs(offline):
    """Runs last: by now every kind of login was seen, and the scope was synced twice."""
    master = LAB["master_key"]
    keys = [c["primaryKey"] for c in offline.children()] + [m["primaryKey"] for m in offline.json("modules.json")]
    keys += [derive_key(master, "edge1"), derive_key(master, "edge1/$edgeHub"), derive_key(master, "edge1/$edgeAgent")]
    needles = {"SharedAccessSignature": b"SharedAccessSignature", "let me in": b"let me in"}
    for number, key in enumerate(keys):
        needles[f"key {number}, text"] = key.encode()
        needles[f"key {number}, raw"] = base64.b64decode(key)
    status = offline.status()
    files = [os.path.join(folder, f) for folder, _, names in os.walk(status["storage"]["gw"]) for f in names]
    files += [status["logs"]["gw"], status["logs"]["hub"]]
    assert len(files) > 3
    for path in files:
        with open(path, "rb") as f:
            data = f.read()
        for name, needle in needles.items():
            assert needle not in data, f"{name} found in {path}"
