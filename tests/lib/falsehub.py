# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub that takes telemetry over MQTT and can end a session in its own way; in place of a lab's own hub."""
import socket
import ssl
import struct
import threading

import mqttwire
from labctl import HUB_IP


class FalseHub:
    """Accepts every login and acknowledges every message, but for those that hold `poison`: on these it resets the
    connection. `taken` lists (client id, body)."""

    def __init__(self, lab, poison):
        self.poison, self.taken, self.resets, self._lock = poison, [], 0, threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(lab.path("hub.pem"), lab.path("hub.key"))
        with lab.inside("hub"):
            self._socket = socket.create_server((HUB_IP, 8883))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def bodies(self):
        with self._lock:
            return [body for _, body in self.taken]

    def _accept(self):
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw):
        try:
            with self._context.wrap_socket(raw, server_side=True) as conn:
                self._session(conn)
        except (OSError, ssl.SSLError):
            pass

    def _session(self, conn):
        parser, ident = mqttwire.Parser(), None
        while data := conn.recv(65536):
            parser.feed(data)
            while (p := parser.next()) is not None:
                if p.type == mqttwire.CONNECT:
                    at = 12 + struct.unpack_from(">H", p.body, 10)[0]
                    ident = p.body[12:at].decode()
                    conn.sendall(mqttwire.packet(mqttwire.CONNACK, 0, b"\0\0"))
                elif p.type == mqttwire.SUBSCRIBE:
                    conn.sendall(mqttwire.packet(mqttwire.SUBACK, 0, p.body[:2] + b"\0"))
                elif p.type == mqttwire.PINGREQ:
                    conn.sendall(mqttwire.packet(mqttwire.PINGRESP, 0))
                elif p.type == mqttwire.PUBLISH and not self._take(conn, ident, mqttwire.parse_publish(p)):
                    return

    def _take(self, conn, ident, m):
        if self.poison in m.payload:
            with self._lock:
                self.resets += 1
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))	# RST, not FIN
            return False
        if m.qos:
            with self._lock:
                self.taken.append((ident, m.payload))
            conn.sendall(mqttwire.puback(m.mid))
        return True
