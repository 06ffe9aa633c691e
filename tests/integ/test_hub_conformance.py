# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of docs/conformance-hub.md that belong to no head alone: TLS on every port, names and addresses."""
import os
import socket
import ssl
import subprocess

import amqpwire
import hubrest
import pytest
import sdk
from amqpwire import Refused
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1}
PORTS = (8883, 5671, 443)


def handshake(lab, port, server_name=HUB_NAME, **kw):
    """The TLS version that both agreed on."""
    context = ssl.create_default_context(cafile=lab.ca)
    for k, v in kw.items():
        context.load_cert_chain(*v) if k == "cert" else setattr(context, k, v)
    with lab.inside("hub"):
        raw = socket.create_connection((HUB_IP, port), 10)
    with raw, context.wrap_socket(raw, server_hostname=server_name) as s:
        if s.version() == "TLSv1.3":	# a refused certificate would show with the first byte
            s.settimeout(0.2)
            with pytest.raises(TimeoutError):
                s.recv(1)
        return s.version()


@pytest.mark.parametrize("port", PORTS)
def test_tls(lab, tmp_path, port):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert handshake(lab, port, minimum_version=version, maximum_version=version) == version.name.replace("_", ".")
    # A certificate of nobody the hub knows is no reason to refuse the handshake: it is judged at the login.
    cert, _ = sdk.certificate(lab, tmp_path, "stranger")
    assert handshake(lab, port, cert=cert) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(lab, port, server_name="other.example.test")


@pytest.mark.parametrize("port", PORTS)
def test_old_tls(lab, port):
    # OpenSSL itself must be told to offer it.
    r = lab.exec("hub", "openssl", "s_client", "-connect", f"{HUB_IP}:{port}", "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0", check=False)
    assert r.returncode != 0 and "Cipher is (NONE)" in r.stdout, r.stdout


def test_the_event_hub_takes_no_events(lab):
    key = lab.hub_ctl("policy.show", name="iothubowner")[0]["primaryKey"]
    with lab.inside("hub"):
        c = amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)).open()
    assert c.cbs(sas_token(key, HUB_NAME, policy="iothubowner"))[0] == 200
    for address in ("hub", "messages/events", "hub/Partitions/0"):
        with pytest.raises(Refused):
            c.sender(address)
    c.sock.close()


def test_names_and_addresses(lab, tmp_path):
    """A second hub beside the first: another loopback address, ports and name; a name matters in any case."""
    ip, name, folder = "127.0.1.9", "second.holdfast.test", tmp_path / "second"
    lab.exec("hub", "holdfast-hub", "init", str(folder), "--host", name)
    conf = tmp_path / "more.conf"
    conf.write_text(f'listen: {{ mqtt = "{ip}:18883"; amqp = "{ip}:15671"; https = "{ip}:443"; }};\n'
                    f'control: {{ socket = "{tmp_path}/s"; }};\n', encoding="utf-8")
    main = next(f for f in os.listdir(folder) if f.endswith(".conf"))
    hub = subprocess.Popen(lab.argv("hub", "holdfast-hub", "serve", "-c", str(folder / main), "-c", str(conf)), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the second hub", 30, lambda: lab.exec("hub", "holdfast-hub", "-s", f"{tmp_path}/s", "status", check=False).returncode == 0)
        for port in (18883, 15671, 443):
            with lab.inside("hub"):
                socket.create_connection((ip, port), 5).close()
        key = lab.exec("hub", "holdfast-hub", "-s", f"{tmp_path}/s", "connection-string").stdout.strip().partition("SharedAccessKey=")[2]
        ca = next(str(folder / f) for f in os.listdir(folder) if "ca" in f and f.endswith(".pem"))
        for audience in (name, name.upper()):
            context = ssl.create_default_context(cafile=ca)
            with lab.inside("hub"):
                raw = socket.create_connection((ip, 443), 5)
            with context.wrap_socket(raw, server_hostname=name) as s:
                token = sas_token(key, audience, policy="iothubowner")
                s.sendall(f"GET /devices?{hubrest.API} HTTP/1.1\r\nHost: {name}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n".encode())
                assert s.recv(64).startswith(b"HTTP/1.1 200")
        assert lab.hub_ctl("status")[0]["host"] == HUB_NAME
    finally:
        hub.terminate()
        assert hub.wait(30) == 0
