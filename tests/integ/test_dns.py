# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's name is known only to the servers of dns.servers; the system's resolver answers nothing."""
import os
import time

from labctl import HUB_NAME, PYTHON, REPO

LAB = {"children": 2}
PORT = 5353


def forget_hub_name(lab):
    path = lab.status()["hosts"]["gw"]
    with open(path, encoding="utf-8") as f:
        lines = [line for line in f if HUB_NAME not in line]
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines)


def test_hub_found_through_the_configured_servers(lab):
    forget_hub_name(lab)
    r = lab.exec("gw", PYTHON, "-c", f"import socket; socket.getaddrinfo('{HUB_NAME}', 8883)", check=False)
    assert r.returncode != 0, "the system resolver should be dead here"
    dns = lab.spawn("hub", PYTHON, os.path.join(REPO, "tests", "lib", "dnsserver.py"), "10.77.1.1", str(PORT),
                    HUB_NAME, "10.77.1.1")
    dns.wait_line(lambda o: o.get("event") == "ready")
    # The first server of the list is silent: the second one must be asked.
    lab.reconfigure(f'dns: {{ servers = "10.77.1.77,10.77.1.1:{PORT}"; }};')
    lab.wait_uplink("online", 20)
    assert dns.wait_line(lambda o: o.get("name") == HUB_NAME)
    with lab.login(lab.children()[0]) as c:
        c.publish("devices/dev0/messages/events/", "found")
    lab.wait_drained()


def test_dead_name_servers_do_not_delay_children(lab):
    lab.reconfigure('dns: { servers = "10.77.1.77"; };')
    begin = time.monotonic()
    with lab.login(lab.children()[1]) as c:
        for _ in range(20):
            c.publish("devices/dev1/messages/events/", "accepted without any name server")
    assert time.monotonic() - begin < 3
