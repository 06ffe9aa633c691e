# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a peer does wrong: a clear refusal, never a PUBACK; one counter goes up; one log line, not one per try.

The gateway of this file is the ASan + UBSan build.
"""
import os
import re
import socket
import ssl
import struct
import time

import mqttwire
import pytest
from labctl import GW_LAN_IP, GW_NAME, wait_for

pytestmark = pytest.mark.accept

MAX_CONNECTIONS, HANDSHAKE_MS, TRIES = 12, 1500, 5
LAB = {"children": MAX_CONNECTIONS + 4, "build": "asan",
       "conf": {"limits.connections": MAX_CONNECTIONS, "limits.per_address": MAX_CONNECTIONS,
                "limits.handshake_timeout_ms": HANDSHAKE_MS,
                "limits.connect_timeout_ms": HANDSHAKE_MS}}
MID = 77


def own(child, bag=""):
    return f"devices/{child['deviceId']}/messages/events/{bag}"


# Counter that must rise by one each time, and what to send after CONNACK.
AFTER_CONNECT = {
    "qos 3": ("mqtt_malformed_total", lambda c: mqttwire.packet(3, 0x06, struct.pack(">H", 3) + b"a/b" + struct.pack(">H", MID))),
    "reserved packet type": ("mqtt_malformed_total", lambda c: mqttwire.packet(15, 0)),
    "remaining length over 4 bytes": ("mqtt_malformed_total", lambda c: b"\x30\xff\xff\xff\xff\x7f"),
    "topic longer than the packet": ("mqtt_malformed_total", lambda c: mqttwire.packet(3, 2, b"\x10\x00devices")),
    "subscribe without a filter": ("mqtt_malformed_total", lambda c: mqttwire.packet(8, 2, struct.pack(">H", MID))),
    "second CONNECT": ("mqtt_unexpected_total", lambda c: mqttwire.connect(c["deviceId"], "x")),
    "packet id 0": ("mqtt_malformed_total", lambda c: mqttwire.publish(own(c), "x", 1, 0)),
    "wildcard in a topic": ("mqtt_malformed_total", lambda c: mqttwire.publish("devices/+/messages/events/", "x", 1, MID)),
    "another child's topic": ("mqtt_foreign_topic_total", lambda c: mqttwire.publish("devices/dev15/messages/events/", "x", 1, MID)),
    "a topic nobody knows": ("mqtt_bad_topic_total", lambda c: mqttwire.publish("home/kitchen", "x", 1, MID)),
    "over 256 KiB": ("mqtt_oversize_total", lambda c: mqttwire.publish(own(c), b"x" * (256 * 1024 + 1), 1, MID)),
    "a bag too long once it is encoded": ("mqtt_oversize_total", lambda c: mqttwire.publish(own(c, "a=" + "[" * 30000), "x", 1, MID)),
    "bad escape in the bag": ("mqtt_bad_bag_total", lambda c: mqttwire.publish(own(c, "a=%zz"), "x", 1, MID)),
    "cut escape in the bag": ("mqtt_bad_bag_total", lambda c: mqttwire.publish(own(c, "a=%4"), "x", 1, MID)),
    "qos 2": ("mqtt_qos2_total", lambda c: mqttwire.publish(own(c), "x", 2, MID)),
}


def total(counters, *names):
    return sum(counters[name] for name in names)


def quiet_log(lab):
    """Lines about peers come at most once a second for each reason: waits that second out. The log's length."""
    path = lab.path("gw.log")
    wait_for("a quiet log", 20, lambda: time.time() - os.stat(path).st_mtime > 1.1)
    return len(lab.log())


def warnings(lab, start):
    """Log lines since start about what children did wrong."""
    return [line for line in lab.log()[start:].splitlines() if re.search(r" warn +child\.", line)]


@pytest.mark.parametrize("case", AFTER_CONNECT)
def test_refused_counted_logged_once(lab, case):
    counter, build = AFTER_CONNECT[case]
    child = lab.children()[0]
    events, before = len(lab.events()), lab.counters()
    log_start, begin = quiet_log(lab), time.monotonic()
    for _ in range(TRIES):
        with lab.login(child) as c:
            try:
                c.send(build(child))
            except mqttwire.Closed:
                pass	# it need not wait for the end of an oversized message
            assert c.ends(5), "the connection stays open"
            assert not [p for p in c.seen if p.type in (mqttwire.PUBACK, 5)], c.seen
    after = lab.counters()
    assert total(after, counter) - total(before, counter) == TRIES, {
        k: (before.get(k), v) for k, v in after.items() if v != before.get(k)}
    # Logins follow each other so quickly that a busy gateway may see the old connection yet.
    lines = [line for line in warnings(lab, log_start) if "child.takeover.rapid" not in line]
    assert 1 <= len(lines) <= 1 + int(time.monotonic() - begin), lines or lab.log()[log_start:]
    assert len(lab.events()) == events
    assert lab.gw_status()["pending"] == 0


def test_bytes_that_are_no_mqtt(lab):
    before = lab.counters()
    for junk in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"\xff" * 64):
        with lab.client() as c:
            c.send(junk)
            assert c.ends(5) and not c.seen
    assert total(lab.counters(), "mqtt_malformed_total", "mqtt_unexpected_total") == total(
        before, "mqtt_malformed_total", "mqtt_unexpected_total") + 3


def test_publish_before_connect(lab):
    before = lab.counters()
    with lab.client() as c:
        c.send(mqttwire.publish(own(lab.children()[0]), "x", 1, MID))
        assert c.ends(5) and not c.seen
    assert total(lab.counters(), "mqtt_unexpected_total") == total(before, "mqtt_unexpected_total") + 1


def test_wrong_protocol_level(lab):
    child, before = lab.children()[0], lab.counters()
    with lab.client() as c:
        assert c.login("hub.holdfast.test", child["deviceId"], lab.token(child), level=6)[1] == 1
        assert c.ends(5)
    assert total(lab.counters(), "connect_bad_version_total") == total(before, "connect_bad_version_total") + 1


def raw(lab):
    with lab.inside("child"):
        return socket.create_connection((GW_LAN_IP, 8883), 5)


def test_slow_handshake_is_cut(lab):
    before = lab.counters()
    with raw(lab) as s:
        begin = time.monotonic()
        s.settimeout(HANDSHAKE_MS / 1000 + 5)
        assert s.recv(1) == b""
        assert time.monotonic() - begin > HANDSHAKE_MS / 1000 * 0.5
    assert total(lab.counters(), "handshake_timeout_total") == total(before, "handshake_timeout_total") + 1


def test_plain_text_on_the_tls_port(lab):
    before = lab.counters()
    with raw(lab) as s:
        s.sendall(mqttwire.connect("dev0", "x"))
        s.settimeout(5)
        data = s.recv(100)
        while data:	# an alert may come first
            data = s.recv(100)
    assert total(lab.counters(), "tls_refused_total") == total(before, "tls_refused_total") + 1


def test_silence_after_the_handshake_is_cut(lab):
    before = lab.counters()
    with lab.client() as c:
        assert c.ends(HANDSHAKE_MS / 1000 + 5), "no CONNECT came, and the connection stays"
    assert total(lab.counters(), "connect_timeout_total") == total(before, "connect_timeout_total") + 1


def test_too_many_connections(lab):
    before, log_start, begin = lab.counters(), quiet_log(lab), time.monotonic()
    clients = [lab.login(child) for child in lab.children()[:MAX_CONNECTIONS]]
    try:
        for _ in range(TRIES):
            with raw(lab) as s:
                s.settimeout(5)
                try:
                    assert s.recv(1) == b""
                except ConnectionResetError:
                    pass
        after = lab.counters()
        assert total(after, "connections_over_limit_total") - total(before, "connections_over_limit_total") == TRIES, {
            k: (before.get(k), v) for k, v in after.items() if v != before.get(k)}
        assert 1 <= len(warnings(lab, log_start)) <= 1 + int(time.monotonic() - begin)
        # Those inside are not disturbed.
        for c, child in zip(clients, lab.children()):
            c.publish(own(child), "still here")
    finally:
        for c in clients:
            c.close()
    lab.wait_status("room again", lambda s: s["childrenConnected"] == 0)
    lab.login(lab.children()[-1]).close()


BANNED = ["NULL-SHA256", "ECDHE-ECDSA-NULL-SHA", "AECDH-AES256-SHA", "AECDH-NULL-SHA", "RC4-SHA", "ECDHE-ECDSA-RC4-SHA",
          "DES-CBC3-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-SHA256", "PSK-AES128-GCM-SHA256"]
GOOD = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
# Code points of what OpenSSL no longer knows, to offer them all the same.
SUITES = {"NULL-SHA256": 0x003B, "ECDHE-ECDSA-NULL-SHA": 0xC006, "AECDH-AES256-SHA": 0xC019, "AECDH-NULL-SHA": 0xC015,
          "RC4-SHA": 0x0005, "ECDHE-ECDSA-RC4-SHA": 0xC007, "DES-CBC3-SHA": 0x000A, "ECDHE-ECDSA-AES128-SHA": 0xC009,
          "ECDHE-ECDSA-AES256-SHA384": 0xC024, "AES128-SHA256": 0x003C, "PSK-AES128-GCM-SHA256": 0x00A8}


def client_hello(suite):
    """A TLS 1.2 ClientHello that offers this one suite."""
    name = GW_NAME.encode()
    sni = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in (
        (0, sni), (10, bytes.fromhex("0006001700180019")), (11, b"\x01\x00"),
        (13, bytes.fromhex("000c040305030603040105010601"))))
    body = b"\x03\x03" + bytes(range(32)) + b"\x00" + struct.pack(">HH", 2, suite) + b"\x01\x00" + \
        struct.pack(">H", len(extensions)) + extensions
    hello = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello


@pytest.mark.parametrize("cipher", BANNED)
def test_banned_cipher_is_refused(lab, cipher):
    before = lab.counters()
    with raw(lab) as s:
        s.sendall(client_hello(SUITES[cipher]))
        s.settimeout(5)
        data = b""
        try:
            while chunk := s.recv(4096):
                data += chunk
        except ConnectionResetError:
            pass
    assert not data or data[0] == 21, "an alert or nothing, but no ServerHello"
    assert total(lab.counters(), "tls_refused_total") == total(before, "tls_refused_total") + 1


@pytest.mark.parametrize("cipher", GOOD)
def test_good_cipher_is_taken(lab, cipher):
    context = mqttwire.tls_context(lab.ca, max_version=ssl.TLSVersion.TLSv1_2, ciphers=cipher)
    child = lab.children()[1]
    with lab.login(child, context=context) as c:
        assert c.sock.cipher()[0] == cipher


def test_tls_versions(lab):
    with lab.client(context=mqttwire.tls_context(lab.ca, ssl.TLSVersion.TLSv1_3)) as c:
        assert c.sock.version() == "TLSv1.3"
    old = mqttwire.tls_context(lab.ca, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        lab.client(context=old)


def test_nothing_upset_the_gateway(lab):
    """Runs last: still the same process, no sanitizer report."""
    assert lab.status()["pids"]["gw"]
    assert "ERROR: AddressSanitizer" not in lab.log() and "runtime error" not in lab.log()
    with lab.login(lab.children()[2]) as c:
        c.publish(own(lab.children()[2]), "fine")
    lab.wait_drained()
