# SPDX-License-Identifier: GPL-3.0-or-later
"""A blocking AMQP 1.0 client over one TLS socket, by proton's I/O-free engine; it can also misbehave.

Needs python3-qpid-proton. What proton cannot do is done by hand: SASL mechanisms of IoT Hub, message formats, raw bytes.
"""
import select
import socket
import ssl
import struct
import time

from proton import Collector, Connection, Delivery, Endpoint, Event, Message, Transport, symbol

SASL, PLAIN_AMQP = b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00"
BATCH, FRAME_MAX = 0x80013700, 65536
OUTCOMES = {Delivery.ACCEPTED: "accepted", Delivery.REJECTED: "rejected", Delivery.RELEASED: "released",
            Delivery.MODIFIED: "modified"}


class Closed(Exception):
    """The peer ended the connection, or refused SASL."""


class Refused(Exception):
    """A link was not to be had: condition, text and whether the attach came with null termini."""

    def __init__(self, condition, text, null):
        super().__init__(f"{condition}: {text}")
        self.condition, self.text, self.null = condition, text, null


def tls(ca, host, address, port=5671, cert=None, key=None):
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert, key)
    return context.wrap_socket(socket.create_connection((address, port), 30), server_hostname=host)


def frame(kind, body, channel=0):
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def sasl_init(mechanism, response=None, host="hub"):
    def sym(s):
        return b"\xa3" + bytes([len(s)]) + s.encode()
    answer = b"\x40" if response is None else b"\xb0" + struct.pack(">I", len(response)) + response
    fields = sym(mechanism) + answer + b"\xa1" + bytes([len(host)]) + host.encode()
    return frame(1, b"\x00\x53\x41\xd0" + struct.pack(">II", len(fields) + 4, 3) + fields)


def as_batch(data):
    """The whole frames in data, transfers among them with the message format of batches; and what is left."""
    out = b""
    while len(data) >= 4 and len(data) >= (size := struct.unpack(">I", data[:4])[0]):
        out += _one_as_batch(data[:size])
        data = data[size:]
    return out, data


def _one_as_batch(f):
    if f[8:11] != b"\x00\x53\x14":
        return f
    wide = f[11] == 0xD0
    at = 20 if wide else 14
    for _ in range(3):		# handle, delivery id, delivery tag
        at += {0x40: 1, 0x43: 1, 0x52: 2, 0x70: 5, 0xA0: 2 + f[at + 1]}[f[at]]
    assert f[at] in (0x43, 0x40), f"format is {f[at]:#x}"
    new = f[:at] + b"\x70" + struct.pack(">I", BATCH) + f[at + 1:]
    grown = len(new) - len(f)
    listed = (struct.pack(">I", struct.unpack(">I", f[12:16])[0] + grown) if wide else bytes([f[12] + grown]))
    new = struct.pack(">I", len(new)) + new[4:12] + listed + new[12 + len(listed):]
    if len(new) <= FRAME_MAX:
        return new
    # What no longer fits goes into one more transfer of the same handle.
    handle = f[20:22] if wide else f[14:16]
    handle = handle[:1] if handle[0] == 0x43 else handle
    more = handle + b"\x40\x40\x40\x40\x41"
    cut = len(new) - 64
    rest = frame(0, b"\x00\x53\x14\xc0" + bytes([len(more) + 1, 6]) + more + new[cut:], struct.unpack(">H", f[6:8])[0])
    return struct.pack(">I", cut) + new[4:cut] + rest


class Client:
    def __init__(self, sock, idle_s=None, frame_max=None):
        self.sock, self.eof = sock, False
        self.connection, self.collector, self.transport = Connection(), Collector(), Transport(Transport.CLIENT)
        self.connection.container, self.connection.hostname = f"test-{id(self)}", "hub"
        self.connection.collect(self.collector)
        if idle_s:
            self.transport.idle_timeout = idle_s
        if frame_max:
            self.transport.max_frame_size = frame_max
        self.on_encoded = None
        self.inbox = {}		# receiver -> [(Message, Delivery)]
        self.batch, self.cut = False, b""	# transfers leave as batches; a frame of which not all is there yet
        self.n = self.dispositions = 0
        self.frames, self.part = [], b""	# performatives that came: (code, number of fields); a frame that is not whole yet

    # --- connection -----------------------------------------------------------------------------------------
    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise Closed("by the peer")
            data += more
        return data

    def read_frame(self):
        size = struct.unpack(">I", self.read(4))[0]
        return self.read(size - 4)

    def sasl(self, mechanism, response=None):
        """The mechanisms offered; Closed when the outcome is not 0."""
        self.sock.sendall(SASL)
        assert self.read(8) == SASL
        offered = self.read_frame()
        self.sock.sendall(sasl_init(mechanism, response))
        outcome = self.read_frame()
        assert outcome[4:7] == b"\x00\x53\x44", outcome
        if b"\x50\x00" not in outcome[7:12]:
            raise Closed("SASL refused")
        return offered

    def open(self):
        self.transport.bind(self.connection)
        self.connection.open()
        self.pump(lambda: self.connection.state & Endpoint.REMOTE_ACTIVE)
        return self

    def session(self):
        s = self.connection.session()
        s.open()
        return s

    def pump(self, until, seconds=20):
        """Exchanges bytes until the condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            self._events()
            self._write()
            if until():
                return
            if self.eof:
                raise Closed("by the peer")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("waited in vain")
            self._read(min(left, 0.5))

    def idle(self, seconds):
        """Exchanges bytes for that long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.eof:
            self._events()
            self._write()
            self._read(min(0.1, max(0.0, end - time.monotonic())))
        self._events()

    def _write(self):
        while (n := self.transport.pending()) > 0:
            data = self.transport.peek(n)
            self.transport.pop(len(data))
            if self.batch:
                data, self.cut = as_batch(self.cut + data)
            try:
                self.sock.sendall(data)
            except OSError:
                self.eof = True
                return

    def _read(self, seconds):
        if not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()) and not select.select([self.sock], [], [], seconds)[0]:
            return
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if data:
            self.dispositions += data.count(b"\x00\x53\x15")
            self._note_frames(data)
            while data:
                n = max(1, min(self.transport.capacity(), len(data)))
                self.transport.push(data[:n])
                self._events()
                data = data[n:]
        else:
            self.eof = True
            self.transport.close_tail()
        self._events()

    def _note_frames(self, data):
        self.part += data
        while len(self.part) >= 8 and len(self.part) >= (size := 8 if self.part[:4] == b"AMQP" else struct.unpack(">I", self.part[:4])[0]):
            f, self.part = self.part[:size], self.part[size:]
            if f[:4] == b"AMQP" or f[8:10] != b"\x00\x53":
                continue
            n = {0x45: 0, 0xC0: f[13] if len(f) > 13 else 0, 0xD0: struct.unpack(">I", f[16:20])[0] if len(f) > 19 else 0}[f[11]]
            self.frames.append((f[10], n))

    def _events(self):
        while e := self.collector.peek():
            if e.type == Event.DELIVERY and e.delivery.link.is_receiver:
                self._received(e.delivery)
            self.collector.pop()

    def _received(self, d):
        if not d.readable or d.partial:
            return
        m, link = Message(), d.link
        encoded = link.recv(d.pending)
        if self.on_encoded:
            self.on_encoded(encoded)
        m.decode(encoded)
        link.advance()
        self.inbox.setdefault(link.name, []).append((m, d))

    def close(self):
        """The orderly end."""
        self.connection.close()
        try:
            self.pump(lambda: self.connection.state & Endpoint.REMOTE_CLOSED)
        finally:
            self.sock.close()

    def closed(self, seconds=20):
        """Waits for the peer's close; its condition, None without one."""
        try:
            self.pump(lambda: self.connection.state & Endpoint.REMOTE_CLOSED, seconds)
        except Closed:
            return None
        c = self.connection.remote_condition
        return c.name if c else None

    # --- links ------------------------------------------------------------------------------------------------
    def sender(self, address, session=None, name=None, **kw):
        return self._link("sender", address, session, name, **kw)

    def receiver(self, address, session=None, name=None, credit=20, **kw):
        r = self._link("receiver", address, session, name, **kw)
        r.flow(credit)
        return r

    def _link(self, kind, address, session, name, properties=None, snd=None, rcv=None, wait=True):
        self.n += 1
        if session is None:
            session = self._session = getattr(self, "_session", None) or self.session()
        link = getattr(session, kind)(name or f"{kind}-{self.n}")
        (link.target if kind == "sender" else link.source).address = address
        if properties:
            link.properties = {symbol(k): v for k, v in properties.items()}
        if snd is not None:
            link.snd_settle_mode = snd
        if rcv is not None:
            link.rcv_settle_mode = rcv
        link.open()
        if wait:
            self.opened(link)
        return link

    def opened(self, link, seconds=20):
        """Waits for the answer to an attach; raises Refused."""
        self.pump(lambda: link.state & Endpoint.REMOTE_ACTIVE or link.state & Endpoint.REMOTE_CLOSED, seconds)
        own, other = (link.remote_target, link.remote_source) if link.is_sender else (link.remote_source, link.remote_target)
        if not own.address:
            self.pump(lambda: link.state & Endpoint.REMOTE_CLOSED)
            c = link.remote_condition
            link.close()
            raise Refused(c.name, c.description, own.type == 0 and other.type == 0)
        return link

    def detached(self, link, seconds=20):
        """Waits until the peer detaches the link; the condition."""
        self.pump(lambda: link.state & Endpoint.REMOTE_CLOSED, seconds)
        c = link.remote_condition
        link.close()
        return c.name if c else None

    # --- messages ---------------------------------------------------------------------------------------------
    def start(self, link, message, settled=False):
        """Sends without waiting for the outcome. message: a Message or encoded bytes."""
        self.pump(lambda: link.credit > 0)
        self.n += 1
        d = link.delivery(f"t{self.n}")
        link.send(message if isinstance(message, bytes) else message.encode())
        link.advance()
        if settled:
            d.settle()
        self._events()
        self._write()
        return d

    def outcome(self, d, seconds=20):
        """(outcome, condition or None)"""
        self.pump(lambda: d.remote_state in OUTCOMES or d.settled, seconds)
        c = d.remote.condition if d.remote_state == Delivery.REJECTED else None
        result = OUTCOMES.get(d.remote_state), c.name if c else None
        d.settle()
        return result

    def send(self, link, message):
        return self.outcome(self.start(link, message))

    def send_batch(self, link, messages):
        """One transfer whose data sections are the encoded messages."""
        body = b"".join(b"\x00\x53\x75\xb0" + struct.pack(">I", len(e)) + e
                        for e in (m if isinstance(m, bytes) else m.encode() for m in messages))
        self.pump(lambda: link.credit > 0)
        self.batch = True
        try:
            return self.outcome(self.start(link, body))
        finally:
            self.batch = False

    def receive(self, link, seconds=20):
        """The next message: (Message, Delivery)."""
        self.pump(lambda: self.inbox.get(link.name), seconds)
        return self.inbox[link.name].pop(0)

    def settle(self, d, state=Delivery.ACCEPTED):
        d.update(state)
        d.settle()
        self._write()

    # --- claims ------------------------------------------------------------------------------------------------
    def cbs(self, token, name="audience", kind="servicebus.windows.net:sastoken", message_id="id-1", operation="put-token"):
        """put-token: (status-code, description, the reply)"""
        if not hasattr(self, "_cbs"):
            self._cbs = self.sender("$cbs"), self.receiver("$cbs")
        m = Message(body=token)
        m.id, m.reply_to, m.address = message_id, "cbs", "$cbs"
        m.properties = {"operation": operation, "type": kind, "name": name}
        outcome = self.send(self._cbs[0], m)
        assert outcome == ("accepted", None), outcome
        reply, d = self.receive(self._cbs[1])
        self.settle(d)
        return reply.properties["status-code"], reply.properties["status-description"], reply
