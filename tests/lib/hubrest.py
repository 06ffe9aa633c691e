# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's HTTPS API from Python's own library, and many devices for it. Names do not resolve: by address."""
import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import sys

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(REPO, "scripts"))
from labkit.identity import sas_token  # noqa: E402
from labkit.world import HUB_IP, HUB_NAME  # noqa: E402


API = "api-version=2021-04-12"


class Https:
    """One connection that stays; made in the network namespace of the calling thread. cert: PEM files, key in the second."""

    def __init__(self, ca, token=None, cert=None, address=HUB_IP):
        self.token, self.ca, self.cert, self.address = token, ca, cert, address
        self.connect()

    def connect(self):
        """A new connection, e.g. after the hub was restarted."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            context.load_cert_chain(*self.cert)
        sock = socket.create_connection((self.address, 443), 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.http = http.client.HTTPSConnection(HUB_NAME)
        self.http.sock = context.wrap_socket(sock, server_hostname=HUB_NAME)
        self.http.auto_open = 0

    def send(self, method, path, body=None, headers=None):
        """The request alone; the query is added where path has none."""
        auth = {"Authorization": self.token} if self.token else {}
        self.http.request(method, path if "?" in path else f"{path}?{API}", body, {**auth, **(headers or {})})

    def raw(self, method, path, body=None, headers=None):
        """(status, headers, bytes) of a request as with send()"""
        self.send(method, path, body, headers)
        r = self.http.getresponse()
        return r.status, r.headers, r.read()

    def close(self):
        self.http.close()


class Rest(Https):
    """The service, by a policy's connection string."""

    def __init__(self, ca, connection_string, address=HUB_IP):
        parts = dict(p.split("=", 1) for p in connection_string.split(";"))
        super().__init__(ca, sas_token(parts["SharedAccessKey"], HUB_NAME, policy=parts["SharedAccessKeyName"]), address=address)

    def call(self, method, path, body=None, headers=None):
        """(status, headers, document)"""
        status, got, data = self.raw(method, path, None if body is None else json.dumps(body),
                                     {"Content-Type": "application/json", **(headers or {})})
        return status, got, json.loads(data) if data else None

    def query(self, text):
        """All pages: (rows, how many pages)"""
        rows, pages, token = [], 0, None
        while pages == 0 or token:
            status, headers, doc = self.call("POST", "/devices/query", {"query": text},
                                             {"x-ms-continuation": token} if token else None)
            if status != 200:
                raise RuntimeError(f"{text}: {status} {doc}")
            rows += doc
            pages += 1
            token = headers.get("x-ms-continuation")
        return rows, pages


def devices(n, parent="edge1"):
    """n identities with keys for `holdfast-hub import`, the file's children first."""
    key = [base64.b64encode(hashlib.sha256(str(i).encode()).digest()).decode() for i in range(n)]
    return [{"deviceId": f"many{i:05}", "primaryKey": key[i], "parent": parent} for i in range(n)]


def write_children(path, rows):
    """The file tests/bench/load.c reads: logins straight to the hub."""
    with open(path, "w", encoding="utf-8") as f:
        json.dump([{"deviceId": r["deviceId"], "connectionString":
                    f"HostName={HUB_NAME};DeviceId={r['deviceId']};SharedAccessKey={r['primaryKey']}"} for r in rows], f)
