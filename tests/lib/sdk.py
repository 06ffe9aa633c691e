# SPDX-License-Identifier: GPL-3.0-or-later
"""The official device SDKs directly against the hub, driven by JSON lines: Node (tests/sdk/device.js), Python (device.py)."""
import base64
import hashlib
import os
import subprocess

import judge
from labkit.world import HUB_NAME
from labctl import REPO

SDK = os.path.join(REPO, "tests", "sdk")
VENV = os.path.join(REPO, "build", "venv", "bin", "python")


def connection_string(row, x509=False):
    """Straight to the hub: the rows of children.json and modules.json name the gateway."""
    module = f";ModuleId={row['moduleId']}" if row.get("moduleId") else ""
    gateway = f";GatewayHostName={row['gateway']}" if row.get("gateway") else ""
    secret = "x509=true" if x509 else f"SharedAccessKey={row['primaryKey']}"
    return f"HostName={HUB_NAME};DeviceId={row['deviceId']}{module};{secret}{gateway}"


def start(lab, language, transport, row, cert=None, **env):
    """A client that is open. cert: (certificate, key), PEM files, instead of the row's key. env: HOLDFAST_MODEL and the like."""
    program = {"node": ("node", os.path.join(SDK, "device.js")), "python": (VENV, "-B", os.path.join(SDK, "device.py"))}[language]
    if cert:
        env.update(HOLDFAST_CERT=cert[0], HOLDFAST_KEY=cert[1])
    p = lab.spawn("hub", *program, transport, *(["module"] if row.get("moduleId") else []), env={
        "HOLDFAST_CHILD": row.get("sas") or connection_string(row, x509=bool(cert)), "HOLDFAST_CA": lab.ca, **env})
    p.wait_line(lambda o: o.get("event") == "open", 40)
    return p


def refused(lab, language, transport, row, cert=None):
    """What the client says when it is not let in."""
    try:
        start(lab, language, transport, row, cert).kill()
    except Exception as e:	# the end of the program, with its last words
        return str(e)
    return ""


def certificate(lab, folder, name, ca=False):
    """((certificate, key), SHA-256 of the certificate) for a device of that name; signed by itself or by the lab's root."""
    stem = str(folder / name)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             f"/CN={name}", "-keyout", f"{stem}.key", "-out", f"{stem}.pem", "-addext", "basicConstraints=critical,CA:FALSE"]
    if ca:
        words += ["-CA", lab.ca, "-CAkey", lab.path("ca.key")]
    subprocess.run(words, check=True, capture_output=True)
    with open(f"{stem}.pem", encoding="ascii") as f:
        der = base64.b64decode("".join(f.read().split("-----")[2].split()))
    return (f"{stem}.pem", f"{stem}.key"), hashlib.sha256(der).hexdigest()


def create_x509(lab, folder, name, ca=False):
    """A registered device with a certificate: (row, cert)."""
    cert, thumb = certificate(lab, folder, name, ca)
    kind = ["x509_ca"] if ca else ["x509_thumbprint", "--ptp", thumb]
    lab.exec("hub", "holdfast-hub", "device", "create", "-d", name, "--am", *kind)
    return {"deviceId": name}, cert


# --- what a test asks the hub about its client ---------------------------------------------------------------------

def event_of(lab, before, body):
    return lab.wait_events("the message", lambda events: next((e for e in events[before:] if judge.body_of(e) == body), None))


def twin(service, ident):
    status, _, doc = service.call("GET", f"/twins/{ident}")
    assert status == 200
    return doc


def desire(service, ident, patch):
    status, _, doc = service.call("PATCH", f"/twins/{ident}", {"properties": {"desired": patch}}, {"If-Match": "*"})
    assert status == 200, doc
    return doc["properties"]["desired"]["$version"]


def call(service, ident, name, payload):
    """The SDK does not tell when its subscription is granted: the hub waits for it."""
    status, _, doc = service.call("POST", f"/twins/{ident}/methods", {
        "methodName": name, "payload": payload, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 10})
    assert status == 200, doc
    return doc


def since(lab, name):
    return {c["id"]: c["connectedAt"] for c in lab.hub_ctl("clients.list")}.get(name)
