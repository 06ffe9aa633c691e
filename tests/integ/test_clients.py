# SPDX-License-Identifier: GPL-3.0-or-later
"""Unmodified MQTT clients of the distribution, mosquitto_pub and paho-mqtt; and a peer that takes connections only to
hold them."""
import json
import resource
import socket
import sys

import judge
import mqttwire
import pytest
from labctl import GW_LAN_IP, GW_NAME, HUB_NAME

LAB = {"children": 4}
pytestmark = pytest.mark.accept

PAHO = """
import json, ssl, sys, paho.mqtt.client as mqtt
host, ca, ident, user, password, count = sys.argv[1:]
ready = []
c = mqtt.Client(client_id=ident, clean_session=False, protocol=mqtt.MQTTv311)
c.username_pw_set(user, password)
c.tls_set(ca, tls_version=ssl.PROTOCOL_TLS_CLIENT)
c.on_connect = lambda c, u, f, rc: ready.append(rc)
c.connect(host, 8883, 60)
c.loop_start()
infos = [c.publish(f"devices/{ident}/messages/events/", json.dumps({"c": ident, "n": n}), qos=1) for n in range(int(count))]
for i in infos:
    i.wait_for_publish(20)
print(json.dumps({"connack": ready, "done": all(i.is_published() for i in infos)}))
c.disconnect()
c.loop_stop()
"""


def test_mosquitto_pub_with_properties(lab):
    child = lab.children()[0]
    lab.exec("child", "mosquitto_pub", "-V", "mqttv311", "-h", GW_NAME, "-p", "8883", "--cafile", lab.ca,
             "-i", child["deviceId"], "-u", f"{HUB_NAME}/{child['deviceId']}/?api-version=2021-04-12",
             "-P", lab.token(child), "-q", "1", "-t", f"devices/{child['deviceId']}/messages/events/room=kitchen%20one&n=7",
             "-m", "21.5 degrees")
    event = lab.wait_events("mosquitto_pub's message", lambda events: next(
        (e for e in events if judge.body_of(e) == b"21.5 degrees"), None))
    assert event["deviceId"] == child["deviceId"]
    assert event["properties"] == {"room": "kitchen one", "n": "7"}


def test_mosquitto_pub_is_refused_with_a_wrong_key(lab):
    child, other = lab.children()[0:2]
    r = lab.exec("child", "mosquitto_pub", "-V", "mqttv311", "-h", GW_NAME, "-p", "8883", "--cafile", lab.ca,
                 "-i", child["deviceId"], "-u", f"{HUB_NAME}/{child['deviceId']}/?api-version=2021-04-12",
                 "-P", lab.token(other), "-q", "1", "-t", f"devices/{child['deviceId']}/messages/events/",
                 "-m", "never", check=False)
    assert r.returncode != 0


def test_paho_keeps_its_order(lab):
    child, count = lab.children()[2], 200
    ident = child["deviceId"]
    r = lab.exec("child", sys.executable, "-c", PAHO, GW_NAME, lab.ca, ident,
                 f"{HUB_NAME}/{ident}/?api-version=2021-04-12", lab.token(child), str(count))
    assert json.loads(r.stdout) == {"connack": [0], "done": True}
    mine = lab.wait_events("paho's messages", lambda events: (
        numbers if len(numbers := [n for c, n in judge.numbered(events) if c == ident]) >= count else None))
    assert mine == list(range(count))


def test_qos0_arrives_too(lab):
    child = lab.children()[3]
    with lab.login(child) as c:
        c.publish(f"devices/{child['deviceId']}/messages/events/", "no answer wanted", qos=0)
        lab.wait_events("the QoS 0 message", lambda events: any(
            judge.body_of(e) == b"no answer wanted" for e in events))


def test_one_address_does_not_keep_others_out(lab):
    """1 000 TLS connections that never send CONNECT, with the limits as they come."""
    other, child, before, held = "10.77.2.3", lab.children()[3], lab.counters(), []
    context, files = mqttwire.tls_context(lab.ca), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], min(4096, files[1])), files[1]))
    lab.exec("child", "ip", "addr", "add", f"{other}/24", "dev", "eth0")
    try:
        with lab.inside("child"):
            for _ in range(1000):
                raw = socket.create_connection((GW_LAN_IP, 8883), 20)
                try:
                    held.append(context.wrap_socket(raw, server_hostname=GW_NAME))
                except OSError:
                    raw.close()
        with lab.login(child, source=other) as c:
            c.publish(mqttwire.telemetry_topic(child["deviceId"]), "not kept out")
            status, counters = lab.gw_status()["connections"], lab.counters()
        assert len(held) == 100 and counters["connections_over_address_limit_total"] == 900 + before["connections_over_address_limit_total"]
        assert status["unauthenticated"] == 100 and status["open"] >= 101
    finally:
        for s in held:
            s.close()
        lab.exec("child", "ip", "addr", "del", f"{other}/24", "dev", "eth0")
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
    lab.wait_status("the places free again", lambda s: s["connections"]["unauthenticated"] == 0)
    lab.login(child).close()
