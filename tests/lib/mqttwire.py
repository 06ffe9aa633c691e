# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT 3.1.1 at the level of packets: encoders, a stream parser, and a blocking client that can also misbehave."""
import socket
import ssl
import struct
import time
from collections import namedtuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
API = "api-version=2021-04-12"

Packet = namedtuple("Packet", "type flags body")
Message = namedtuple("Message", "topic qos mid dup payload")


class Closed(Exception):
    """The peer ended the connection."""


def _text(s):
    raw = s.encode() if isinstance(s, str) else s
    return struct.pack(">H", len(raw)) + raw


def packet(ptype, flags, body=b""):
    n, head = len(body), bytearray([ptype << 4 | flags])
    while True:
        head.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if n == 0:
            return bytes(head) + body


def connect(client_id, username, password=None, keep_alive=60, clean=True, level=4, will=None):
    """will: (topic, payload, qos[, retain])."""
    flags = (0x80 if username is not None else 0) | (0x40 if password is not None else 0) | (0x02 if clean else 0)
    if will:
        flags |= 0x04 | will[2] << 3 | (0x20 if will[3:] == (True,) else 0)
    body = _text("MQTT") + bytes([level, flags]) + struct.pack(">H", keep_alive) + _text(client_id)
    if will:
        body += _text(will[0]) + _text(will[1])
    body += (_text(username) if username is not None else b"") + (_text(password) if password is not None else b"")
    return packet(CONNECT, 0, body)


def publish(topic, payload, qos=1, mid=1, dup=False, retain=False):
    payload = payload.encode() if isinstance(payload, str) else payload
    body = _text(topic) + (struct.pack(">H", mid) if qos else b"") + payload
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body)


def puback(mid):
    return packet(PUBACK, 0, struct.pack(">H", mid))


def subscribe(mid, *filters):
    """filters: (filter, qos) pairs."""
    return packet(SUBSCRIBE, 2, struct.pack(">H", mid) + b"".join(_text(f) + bytes([q]) for f, q in filters))


def parse_publish(p):
    qos = p.flags >> 1 & 3
    n = struct.unpack_from(">H", p.body)[0]
    topic, at, mid = p.body[2:2 + n].decode(), 2 + n, 0
    if qos:
        mid = struct.unpack_from(">H", p.body, at)[0]
        at += 2
    return Message(topic, qos, mid, bool(p.flags & 8), p.body[at:])


class Parser:
    """Bytes in, packets out."""

    def __init__(self):
        self.buf = bytearray()

    def feed(self, data):
        self.buf += data

    def next(self):
        n, shift, at = 0, 0, 1
        while True:
            if at >= len(self.buf):
                return None
            n |= (self.buf[at] & 0x7F) << shift
            at += 1
            if not self.buf[at - 1] & 0x80:
                break
            shift += 7
            if shift > 21:
                raise ValueError("remaining length over 4 bytes")
        if len(self.buf) < at + n:
            return None
        p = Packet(self.buf[0] >> 4, self.buf[0] & 15, bytes(self.buf[at:at + n]))
        del self.buf[:at + n]
        return p


def tls_context(ca_file, min_version=None, max_version=None, ciphers=None):
    ctx = ssl.create_default_context(cafile=ca_file)
    if ciphers:
        ctx.set_ciphers(ciphers)
    if min_version:
        ctx.minimum_version = min_version
    if max_version:
        ctx.maximum_version = max_version
    return ctx


def telemetry_topic(ident, bag=""):
    device, _, module = ident.partition("/")
    return f"devices/{device}/modules/{module}/messages/events/{bag}" if module else \
        f"devices/{device}/messages/events/{bag}"


class Client:
    """One blocking connection. Every wait is bounded by timeout: below the half minute after which the hub lets a peer go
    that never finishes what it began, so that no such end is taken for a refusal."""

    def __init__(self, host, ca_file, port=8883, timeout=20, context=None, address=None, source=None):
        """address: where to connect when the name need not resolve here; source: the address to come from."""
        self.host, self.timeout, self.mid, self.parser, self.seen = host, timeout, 0, Parser(), []
        raw = socket.create_connection((address or host, port), timeout, (source, 0) if source else None)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.sock = (context or tls_context(ca_file)).wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError) as e:
            raise Closed(str(e)) from None

    def recv(self, timeout=None):
        """The next packet; Closed at the end of the stream, TimeoutError after timeout seconds."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            p = self.parser.next()
            if p:
                return p
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no packet")
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as e:
                raise Closed(str(e)) from None
            except ssl.SSLError as e:
                if "timed out" in str(e):
                    raise TimeoutError("no packet") from None
                raise Closed(str(e)) from None
            if not data:
                raise Closed("end of stream")
            self.parser.feed(data)

    def login(self, hub_host, ident, password, clean=True, keep_alive=60, client_id=None, username=None, **kw):
        """CONNECT as an IoT Hub client; returns CONNACK's (session present, code)."""
        self.send(connect(ident if client_id is None else client_id,
                          f"{hub_host}/{ident}/?{API}" if username is None else username,
                          password, keep_alive, clean, **kw))
        p = self.recv()
        assert p.type == CONNACK, p
        return p.body[0], p.body[1]

    def next_mid(self):
        self.mid = self.mid % 65535 + 1
        return self.mid

    def publish(self, topic, payload, qos=1, wait=True, **kw):
        mid = self.next_mid() if qos else 0
        self.send(publish(topic, payload, qos, mid, **kw))
        if qos and wait:
            self.wait_puback(mid)
        return mid

    def wait_puback(self, mid, timeout=None):
        while True:
            p = self.recv(timeout)
            if p.type == PUBACK and struct.unpack(">H", p.body)[0] == mid:
                return

    def subscribe(self, *filters):
        mid = self.next_mid()
        self.send(subscribe(mid, *filters))
        p = self.recv()
        while p.type != SUBACK:
            p = self.recv()
        return list(p.body[2:])

    def message(self, timeout=None):
        """The next PUBLISH from the peer (acknowledged when it asks for that)."""
        while True:
            p = self.recv(timeout)
            if p.type == PUBLISH:
                m = parse_publish(p)
                if m.qos:
                    self.send(puback(m.mid))
                return m

    def ends(self, timeout=None):
        """True if the peer closes in time; packets on the way are returned in .seen."""
        self.seen = []
        try:
            while True:
                self.seen.append(self.recv(timeout))
        except Closed:
            return True
        except TimeoutError:
            return False
