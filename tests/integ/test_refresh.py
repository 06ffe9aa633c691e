# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins that the scope does not allow, while the hub is there: they wait for one fresh answer, and cost the hub little."""
import base64
import os

from labctl import HUB_NAME
from labkit.identity import sas_token

LAB = {"children": 4}
LOGINS, REQUESTS_MAX = 5000, 20


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


def signed(ident, key):
    return sas_token(key, f"{HUB_NAME}/devices/{ident}")


def try_login(lab, ident, key):
    with lab.client() as c:
        return c.login(HUB_NAME, ident, signed(ident, key))[1]


def hub(lab, *args):
    return lab.exec("hub", "holdfast-hub", *args)


def connections_to_hub(lab):
    """As the kernel counts them on the hub's side: whatever the gateway asks, it opens one."""
    lines = [line.split() for line in lab.exec("hub", "cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Tcp:")]
    return int(dict(zip(*lines))["PassiveOpens"])


def scope(lab):
    return lab.ctl("upstream", "show")[0]["scope"]


def test_the_first_login_after_a_key_rotation_is_let_in(lab):
    lab.wait_uplink("online")
    old, new = lab.children()[0]["primaryKey"], new_key()
    passes = scope(lab)["passes"]
    hub(lab, "device", "update", "-d", "dev0", "--pk", new, "--sk", new_key())
    assert try_login(lab, "dev0", new) == 0
    assert try_login(lab, "dev0", old) == 5, "the old key is judged by fresh evidence"
    assert scope(lab)["passes"] == passes, "by a refresh of that record, not by a pass"


def test_a_device_that_came_too_early_is_let_in_once_it_is_a_child(lab):
    key = new_key()
    hub(lab, "device", "create", "-d", "early", "--pk", key)
    assert try_login(lab, "early", key) == 5
    hub(lab, "device", "set-parent", "-d", "early", "--parent-device-id", "edge1")
    lab.wait_status("the new child to be let in", lambda _: try_login(lab, "early", key) == 0)
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    lab.gw("restart")  # its record was stored
    try:
        lab.wait_status("offline", lambda s: s["uplink"] != "online")
        assert try_login(lab, "early", key) == 0
        assert try_login(lab, "dev1", lab.children()[1]["primaryKey"]) == 0, "and no other went"
    finally:
        lab.link("up")
    lab.wait_uplink("online")


def test_every_reconnect_runs_a_pass(lab):
    """Also one within seconds of the last: what changed while the uplink was gone is not missed."""
    for _ in range(2):
        before = scope(lab)["passes"]
        lab.exec("gw", "holdfastctl", "upstream", "reconnect")
        lab.wait_status("another pass", lambda _: scope(lab)["passes"] > before)


def test_wrong_keys_cost_the_hub_little(lab):
    lab.wait_uplink("online")
    before, asked = connections_to_hub(lab), scope(lab)["refreshes"]
    wrong, codes = new_key(), set()
    for _ in range(LOGINS):
        codes.add(try_login(lab, "dev2", wrong))
    assert codes <= {3, 5}
    assert connections_to_hub(lab) - before <= REQUESTS_MAX
    assert scope(lab)["refreshes"] > asked
    assert try_login(lab, "dev2", lab.children()[2]["primaryKey"]) == 0
