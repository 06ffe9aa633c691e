# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input on the hub's AMQP port: a clear end, no harm to others, no sanitizer report.

The hub of this file is the ASan + UBSan build. A witness stays connected the whole time and must work after each case.
"""
import os
import socket
import struct
import time

import amqpwire
import mqttwire
import pytest
from amqpwire import PLAIN_AMQP, SASL, frame
from labctl import wait_for
from labkit.identity import sas_token
from labkit.world import HUB_IP, HUB_NAME
from proton import Message, symbol

pytestmark = pytest.mark.hub
LAB = {"children": 2, "build": "asan"}
EVENTS = "/devices/{}/messages/events"
OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
NULL, ZERO, TRUE, FALSE, EMPTY_LIST = b"\x40", b"\x43", b"\x41", b"\x42", b"\x45"


# --- encoding by hand --------------------------------------------------------------------------------------------


def text(s):
    return b"\xb1" + struct.pack(">I", len(s)) + s.encode()


def sym(s):
    return b"\xb3" + struct.pack(">I", len(s)) + s.encode()


def uint(n):
    return b"\x70" + struct.pack(">I", n)


def binary(b):
    return b"\xb0" + struct.pack(">I", len(b)) + b


def listed(*fields):
    body = b"".join(fields)
    return b"\xd0" + struct.pack(">II", len(body) + 4, len(fields)) + body


def mapped(*pairs):
    body = b"".join(pairs)
    return b"\xd1" + struct.pack(">II", len(body) + 4, len(pairs)) + body


def described(code, value):
    return b"\x00\x53" + bytes([code]) + value


def perf(code, *fields, payload=b"", channel=0):
    return frame(0, described(code, listed(*fields)) + payload, channel)


def attach(handle, address, channel=0, sender=True):
    terminus = described(0x29 if sender else 0x28, listed(text(address)))
    return perf(ATTACH, text(f"l{handle}"), uint(handle), FALSE if sender else TRUE, NULL, NULL,
                NULL if sender else terminus, terminus if sender else NULL, NULL, NULL, ZERO, channel=channel)


def transfer(handle, number, payload, more=False, fields=()):
    return perf(TRANSFER, uint(handle), uint(number), binary(struct.pack(">I", number)), ZERO, FALSE, TRUE if more else FALSE,
                *fields, payload=payload)


HELLO = PLAIN_AMQP + perf(OPEN, text("bad"))
SESSION = perf(BEGIN, NULL, ZERO, uint(2048), uint(2048))
CBS = HELLO + SESSION + attach(0, "$cbs")


def message(properties=b"", body=b"\x40"):
    return (described(0x74, properties) if properties else b"") + described(0x77, body)


# --- peers ---------------------------------------------------------------------------------------------------------


def connect(lab):
    with lab.inside("hub"):
        return amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)


def login(lab, row):
    c = amqpwire.Client(connect(lab)).open()
    assert c.cbs(sas_token(row["primaryKey"], f"{HUB_NAME}/devices/{row['deviceId']}"))[0] == 200
    return c


def counter(lab, name):
    return lab.hub_ctl("counters")[0][name]


class Slow:
    """Peers that never finish what they began; opened early, judged last."""

    def __init__(self, lab):
        self.began = time.monotonic()
        self.socks = [connect(lab) for _ in range(6)]
        for s, data in zip(self.socks, (b"", b"AMQP", PLAIN_AMQP, SASL, HELLO + b"\x00\x00\x10\x00\x02\x00", CBS + transfer(0, 0, b"\x00S", True))):
            s.sendall(data)


@pytest.fixture(scope="module")
def slow(lab):
    return Slow(lab)


@pytest.fixture(scope="module")
def witness(lab, slow):
    c = login(lab, lab.children()[1])
    yield c, c.sender(EVENTS.format("dev1"))
    c.close()


@pytest.fixture(autouse=True)
def undisturbed(lab, witness):
    pid = lab.hub_pid()
    yield
    c, sender = witness
    assert c.send(sender, Message(body=b"still here", inferred=True)) == ("accepted", None)
    assert lab.hub_pid() == pid, lab.log("hub")[-3000:]
    assert "ERROR: AddressSanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")


def answers(sock, data, end=False):
    """All bytes until the hub closes; the peer ends its half first if `end`."""
    got = b""
    sock.settimeout(20)
    try:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        while chunk := sock.recv(65536):
            got += chunk
    except (ConnectionError, OSError) as e:
        assert "timed out" not in str(e), f"no end after {got[:200]}"
    finally:
        sock.close()
    return got


# --- frames ----------------------------------------------------------------------------------------------------------


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "mqtt": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "zeros": b"\x00" * 100,
    "another version": b"AMQP\x00\x02\x00\x00", "0-9-1": b"AMQP\x00\x00\x09\x01", "tls header": b"AMQP\x02\x01\x00\x00", "random": os.urandom(3000),
    "sasl, then garbage": SASL + b"\xff" * 64, "sasl, then amqp": SASL + HELLO,
    "unknown mechanism": SASL + amqpwire.sasl_init("GSSAPI", b"x"), "empty mechanism": SASL + amqpwire.sasl_init("", b"x"),
    "response without init": SASL + frame(1, described(0x43, listed(binary(b"x")))),
    "plain without parts": SASL + amqpwire.sasl_init("PLAIN", b"x"), "plain without anything": SASL + amqpwire.sasl_init("PLAIN"),
    "plain of NULs": SASL + amqpwire.sasl_init("PLAIN", b"\0" * 500), "plain too long": SASL + amqpwire.sasl_init("PLAIN", b"\0u\0" + b"x" * 60000),
    "sasl init twice": SASL + amqpwire.sasl_init("PLAIN", b"\0a\0b") * 2,
}
FRAMES = {	# after a good open and begin
    "smaller than its header": b"\x00\x00\x00\x04", "size 0": b"\x00\x00\x00\x00", "huge": b"\xff\xff\xff\xff\x02\x00\x00\x00",
    "over max-frame-size": b"\x00\x01\x00\x01\x02\x00\x00\x00", "data offset 0": b"\x00\x00\x00\x10\x00\x00\x00\x00" + b"x" * 8,
    "data offset over the frame": b"\x00\x00\x00\x10\xff\x00\x00\x00" + b"x" * 8, "no descriptor": frame(0, b"x" * 20),
    "unknown performative": perf(0x5F), "not a list": frame(0, described(TRANSFER, b"\x56\x01")),
    "list longer than the frame": frame(0, described(TRANSFER, b"\xd0\x7f\xff\xff\xff\x00\x00\x00\x01")),
    "count longer than the list": frame(0, described(TRANSFER, b"\xc0\x02\xff\x43")),
    "open again": perf(OPEN, text("again")),
    "unknown channel": attach(0, "$cbs", channel=77), "unknown handle": transfer(9, 0, message()),
    "flow of an unknown handle": perf(FLOW, ZERO, uint(1), ZERO, uint(1), uint(9)), "detach of an unknown handle": perf(DETACH, uint(9)),
    "end of an unknown session": perf(END, channel=9), "handle in use": attach(0, "$cbs") + attach(0, "$cbs"),
    "transfer without delivery id": attach(0, "$cbs") + perf(TRANSFER, ZERO, NULL, binary(b"t"), ZERO, FALSE, FALSE),
    "delivery id of another type": attach(0, "$cbs") + perf(TRANSFER, ZERO, text("1"), binary(b"t")),
    "delivery id behind the list": attach(0, "$cbs") + frame(0, described(TRANSFER, b"\xc0\x02\x01\x43\x43\x43\x43")),
    "no delivery id after a message ended": attach(0, "$cbs") + transfer(0, 0, b"\x00S", True) + transfer(0, 0, b"\x77\x40")
                                            + perf(TRANSFER, ZERO, NULL, NULL, NULL, NULL, TRUE),
    "no delivery id after an abort": attach(0, "$cbs") + transfer(0, 0, b"\x00S", True) + transfer(0, 0, b"", fields=(NULL, NULL, NULL, TRUE))
                                     + perf(TRANSFER, ZERO, NULL, NULL, NULL, NULL, TRUE),
    "no delivery id on a link attached again": attach(0, "$cbs") + transfer(0, 0, b"\x00S", True) + perf(DETACH, ZERO, TRUE)
                                               + attach(0, "$cbs") + perf(TRANSFER, ZERO, NULL, NULL, NULL, NULL, TRUE),
    "many unfinished messages": b"".join(perf(TRANSFER, uint(i), uint(i), NULL, NULL, NULL, TRUE) for i in range(80)),
    "transfer to a sender": attach(0, "$cbs", sender=False) + transfer(0, 0, message()),
    "symbol of 2 GiB": frame(0, described(ATTACH, b"\xd0\x00\x00\x00\x0d\x00\x00\x00\x01\xb3\x7f\xff\xff\xff")),
    "cut in a value": frame(0, described(OPEN, b"\xc0\x05\x01\xa1\xff")),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_ends_the_connection(lab, case):
    answers(connect(lab), GARBAGE[case], end=True)


@pytest.mark.parametrize("case", FRAMES)
def test_malformed_frames_end_the_connection_with_an_error(lab, case):
    before = counter(lab, "amqp_malformed_total")
    got = answers(connect(lab), HELLO + SESSION + FRAMES[case])
    assert b"amqp:" in got and b"\x00S\x18" in got, got
    assert counter(lab, "amqp_malformed_total") == before + 1


@pytest.mark.parametrize("performative", [perf(ATTACH, uint(1), text("x"), binary(b"y")), perf(ATTACH, NULL, ZERO, FALSE), perf(ATTACH), SESSION])
def test_odd_performatives_are_answered(lab, performative):
    """A link without a good address is refused; a session that begins twice is one more session."""
    got = answers(connect(lab), HELLO + SESSION + performative + perf(CLOSE))
    assert b"amqp:not-found" in got or got.count(b"S\x11") == 2


@pytest.mark.parametrize("first,last", [(0, 0xffffffff), (0, 0x7fffffff), (0x80000000, 0x7fffffff), (5, 1)])
@pytest.mark.parametrize("role", [TRUE, FALSE])
def test_dispositions_of_everything(lab, role, first, last):
    """The range is as long as the peer likes; the work is not: billions of steps would never end."""
    settle = perf(DISPOSITION, role, uint(first), uint(last), TRUE, described(0x24, EMPTY_LIST))
    answers(connect(lab), CBS + transfer(0, 0, message()) + settle * 20 + perf(CLOSE))


@pytest.mark.parametrize("data", [HELLO, HELLO + SESSION, CBS, CBS + transfer(0, 0, b"\x00S\x77", True), HELLO + SESSION + b"\x00\x00"])
def test_peers_that_just_go(lab, data):
    answers(connect(lab), data, end=True)


def test_frames_without_an_open_or_session(lab):
    for data in (SESSION, attach(0, "$cbs"), transfer(0, 0, message()), perf(CLOSE)):
        answers(connect(lab), PLAIN_AMQP + data, end=True)
    answers(connect(lab), HELLO + attach(0, "$cbs"), end=True)


# --- values ------------------------------------------------------------------------------------------------------------


def deep(n, wide=False):
    """Lists in lists."""
    value = b"\x45"
    for _ in range(n):
        value = b"\xd0" + struct.pack(">II", len(value) + 4, 1) + value if wide or len(value) > 240 else b"\xc0" + bytes([len(value) + 1, 1]) + value
    return value


VALUES = {
    "deep lists": message(body=deep(5000)), "deep lists in properties": message(mapped(text("name"), deep(5000))),
    "deep map keys": message(mapped(deep(500), text("x"))), "deep descriptors": b"\x00" * 60000,
    "described by itself": message(body=b"\x00\x00\x00\x00\x45\x45\x45\x45"),
    "an array of four billion nulls": message(body=b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40"),
    "a list of four billion": message(body=b"\xd0\x00\x00\x00\x04\xff\xff\xff\xff"),
    "an array of arrays": message(body=b"\xf0" + struct.pack(">II", 9, 1000000) + b"\xf0" + struct.pack(">I", 0)),
    "odd map": described(0x74, mapped(text("a"))), "map of numbers": message(mapped(*[uint(i) for i in range(1000)])),
    "many fields": message(mapped(*[text(f"k{i}") for i in range(20000)])), "no section": b"", "half a section": b"\x00S",
    "unknown section": described(0x55, b"\x40"), "section twice": described(0x74, mapped()) * 2, "data of another type": described(0x75, uint(7)),
    "text that is no UTF-8": message(mapped(text("operation"), b"\xa1\x02\xff\xfe"), b"\xa1\x02\xff\xfe"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_no_client_sends(lab, case):
    """To $cbs, by somebody unknown, and as telemetry: refused, the connection goes on."""
    data, messages = b"", VALUES[case]
    while len(messages) > 50000:
        data += transfer(0, 0, messages[:50000], True)
        messages = messages[50000:]
    answers(connect(lab), CBS + data + transfer(0, 0, messages) + perf(CLOSE))
    c = login(lab, lab.children()[0])
    s = c.sender(EVENTS.format("dev0"))
    if VALUES[case]:
        outcome = c.send(s, VALUES[case])
        assert outcome[0] == "rejected" or case in ("map of numbers", "unknown section", "no section"), outcome
    assert c.send(s, Message(body=b"good", inferred=True)) == ("accepted", None)
    c.close()


def test_twin_requests_of_every_kind(lab):
    c = login(lab, lab.children()[0])
    out, back = c.sender("/devices/dev0/twin"), c.receiver("/devices/dev0/twin")
    for annotations in ({}, {"operation": 7}, {"operation": "GET", "resource": 5}, {"operation": "x" * 5000}):
        m = Message(body=b"{}", inferred=True, correlation_id="c")
        m.annotations = {symbol(k): v for k, v in annotations.items()}
        assert c.send(out, m)[0] == "accepted"
        assert c.receive(back)[0].annotations[symbol("status")] == (200 if annotations.get("operation") == "GET" else 400)
    m = Message(body=b"{}", inferred=True)
    assert c.send(out, m) == ("rejected", "com.microsoft:argument-error")
    m.correlation_id = "x" * 1000
    assert c.send(out, m) == ("rejected", "com.microsoft:argument-error")
    c.close()


# --- too much ------------------------------------------------------------------------------------------------------------


def test_strangers_have_few_links_and_sessions(lab):
    before = counter(lab, "amqp_limit_total")
    got = answers(connect(lab), HELLO + SESSION + b"".join(attach(i, "$cbs") for i in range(100)))
    assert b"amqp:resource-limit-exceeded" in got
    got = answers(connect(lab), HELLO + b"".join(perf(BEGIN, NULL, ZERO, uint(1), uint(1), channel=i) for i in range(100)))
    assert b"amqp:resource-limit-exceeded" in got
    got = answers(connect(lab), HELLO + SESSION + b"".join(attach(i, "/nowhere") for i in range(100)))
    assert b"amqp:resource-limit-exceeded" in got
    assert counter(lab, "amqp_limit_total") == before + 3


@pytest.fixture
def fault(lab):
    yield lambda action, **kw: lab.hub_ctl("fault.add", on="telemetry", action=action, device="dev0", **kw)
    lab.hub_ctl("fault.clear")


def flood(c, n):
    """Transfers on the third link, whatever the hub allows."""
    try:
        for i in range(1, n):
            c.sock.sendall(transfer(2, i, b"\x00S\x75\xa0\x01x"))
    except OSError:
        pass


def test_more_messages_than_credit(lab, fault):
    """What is never answered gives no credit back."""
    fault("hang")
    before = counter(lab, "amqp_limit_total")
    c = login(lab, lab.children()[0])
    c.sender(EVENTS.format("dev0"))
    flood(c, 120)
    wait_for("the link to be detached", 30, lambda: counter(lab, "amqp_limit_total") == before + 1)
    c.sock.close()


def test_a_flood_on_a_link_that_waits(lab, fault):
    """Out of credit or of the session's window, whichever ends first."""
    def ended():
        return counter(lab, "amqp_malformed_total") + counter(lab, "amqp_limit_total")
    fault("delay=60000")
    before = ended()
    c = login(lab, lab.children()[0])
    c.sender(EVENTS.format("dev0"))
    flood(c, 3000)
    wait_for("link or connection to end", 30, lambda: ended() > before)
    c.sock.close()


def test_a_message_without_an_end(lab):
    before = counter(lab, "amqp_limit_total")
    c = connect(lab)
    c.sendall(CBS)
    for _ in range(40):		# 2 MiB
        c.sendall(transfer(0, 0, b"x" * 60000, True))
    wait_for("the link to be detached", 30, lambda: counter(lab, "amqp_limit_total") > before)
    c.close()


def test_messages_on_links_that_were_refused_are_not_kept(lab):
    """Each goes back, also while the peer does not answer the detach."""
    data = HELLO + SESSION + attach(0, "/nowhere") + b"".join(transfer(0, i, b"") for i in range(20)) + perf(CLOSE)
    got = answers(connect(lab), data)
    assert b"amqp:not-found" in got and got.count(b"\x00S\x26") >= 1, got


def test_messages_after_the_end_was_told_are_not_taken(lab):
    """The hub closed because of the first transfer; the peer goes on as if nothing had happened."""
    before = counter(lab, "events_total")
    c = login(lab, lab.children()[0])
    c.sender(EVENTS.format("dev0"))
    c.receiver("/devices/dev0/messages/devicebound")
    c.sock.sendall(transfer(3, 1, message()) + transfer(2, 2, b"\x00S\x75\xa0\x01x"))
    assert c.closed() == "amqp:not-allowed"
    assert counter(lab, "events_total") == before
    c.sock.close()


def test_messages_behind_the_one_that_cuts_the_connection_are_not_taken(lab, fault):
    before = counter(lab, "events_total")
    c = login(lab, lab.children()[0])
    c.sender(EVENTS.format("dev0"))
    fault("drop-connection", count=1)
    c.sock.sendall(transfer(2, 1, b"\x00S\x75\xa0\x01x") + transfer(2, 2, b"\x00S\x75\xa0\x01y"))
    assert c.closed() is None and c.eof
    assert counter(lab, "events_total") == before


def test_answers_that_are_never_settled(lab):
    """There is an end to what the hub remembers of them, however much credit the peer gives."""
    before = counter(lab, "amqp_unsent_total")
    c = amqpwire.Client(connect(lab)).open()
    c.sender("$cbs")
    replies = c.receiver("$cbs", credit=1000000)
    request = Message(body="no token").encode()

    def ask(i):
        c.sock.sendall(b"".join(transfer(0, 50 * i + n, request) for n in range(50)))
    for i in range(80):
        ask(i)
        c.pump(lambda: len(c.inbox.get(replies.name, ())) >= 50 * (i + 1))
    assert counter(lab, "amqp_unsent_total") == before
    for i in range(80, 90):
        ask(i)
        c.idle(0.05)
    wait_for("answers to be dropped", 30, lambda: counter(lab, "amqp_unsent_total") > before)
    c.sock.close()


def test_a_client_that_asks_and_never_reads(lab):
    """The hub stops reading from it instead of piling up answers."""
    c = login(lab, lab.children()[0])
    out = c.sender("/devices/dev0/twin")
    c.receiver("/devices/dev0/twin", credit=1000000)
    m = Message(body=b" ", inferred=True, correlation_id="c")
    m.annotations = {symbol("operation"): "PATCH", symbol("resource"): "/properties/reported"}
    m.body = b'{"a":"' + b"x" * 4000 + b'"}'
    assert c.send(out, m)[0] == "accepted"
    request = Message(body=b" ", inferred=True, correlation_id="c")
    request.annotations = {symbol("operation"): "GET"}
    frames = b"".join(transfer(2, i, request.encode()) for i in range(1, 20)) * 200
    c.sock.settimeout(1)
    try:
        c.sock.sendall(frames)
    except (TimeoutError, OSError):
        pass
    c.sock.close()


# --- WebSocket --------------------------------------------------------------------------------------------------------------


def websocket(lab):
    with lab.inside("hub"):
        s = mqttwire.Client(HUB_NAME, lab.ca, port=443, address=HUB_IP).sock
    s.sendall(f"GET /$iothub/websocket HTTP/1.1\r\nHost: {HUB_NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: AMQPWSB10\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        got += s.recv(4096)
    assert b" 101 " in got
    return s


def ws(opcode, body, fin=True, masked=True, reserved=0):
    key = b"mask"
    size = bytes([len(body)]) if len(body) < 126 else b"\x7e" + struct.pack(">H", len(body))
    head = bytes([(0x80 if fin else 0) | reserved | opcode]) + bytes([size[0] | (0x80 if masked else 0)]) + size[1:]
    return head + (key + bytes(b ^ key[i % 4] for i, b in enumerate(body)) if masked else body)


@pytest.mark.parametrize("data", [
    ws(1, b"text"), ws(2, HELLO, masked=False), ws(2, HELLO, reserved=0x40), ws(5, b""), ws(0, b"x"), ws(9, b"x" * 126), ws(8, b"\x03"),
    ws(2, b"GET / HTTP/1.1\r\n\r\n"), ws(2, PLAIN_AMQP + b"\xff" * 32), ws(2, HELLO + SESSION + FRAMES["open again"]),
    ws(2, HELLO, fin=False) + ws(2, SESSION), b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask" + b"x" * 99, b"".join(ws(2, bytes([b])) for b in HELLO) + ws(8, b"")])
def test_bad_frames_of_websockets(lab, data):
    answers(websocket(lab), data)


# --- time ---------------------------------------------------------------------------------------------------------------------


def test_slow_peers_are_let_go(lab, slow):
    """Half a minute without a token is the limit."""
    for s in slow.socks:
        s.settimeout(max(1.0, slow.began + 45 - time.monotonic()))
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
        s.close()


def test_no_sanitizer_report_at_the_end(lab, witness):
    assert "Sanitizer" not in lab.log("hub")
