# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud-to-device messages through the gateway, and children that log in with certificates."""
import base64
import json
import os
import subprocess

import judge
from labctl import GW_NAME, HUB_NAME, REPO

LAB = {"children": 2}
SDK = os.path.join(REPO, "tests", "sdk")


def test_c2d_is_completed_by_the_child(lab):
    child = lab.spawn("child", "node", os.path.join(SDK, "child.js"), "device",
                      env={"HOLDFAST_CHILD": lab.children()[0]["connectionString"]})
    child.wait_line(lambda o: o.get("event") == "open", 30)
    child.ask({"cmd": "c2d"}, "listening")
    lab.exec("hub", "holdfast-hub", "c2d", "send", "-d", "dev0", "--data", "wake up")
    assert child.wait_line(lambda o: o.get("event") == "c2d")["body"] == "wake up"

    def left():
        r = lab.exec("hub", "holdfast-hub", "device", "show", "-d", "dev0", "--json")
        return json.loads(r.stdout)["cloudToDeviceMessageCount"]
    lab.wait_status("the hub's queue to be empty", lambda _: left() == 0)
    assert child.end() == 0


def certificate(tmp_path, name):
    key, cert = str(tmp_path / f"{name}.key"), str(tmp_path / f"{name}.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", cert, "-subj", f"/CN={name}"], check=True, capture_output=True)
    der = base64.b64decode("".join(open(cert, encoding="ascii").read().split("-----")[2].split()))
    return key, cert, __import__("hashlib").sha256(der).hexdigest()


def publish(lab, ident, key, cert, text):
    return lab.exec("child", "mosquitto_pub", "-V", "mqttv311", "-h", GW_NAME, "-p", "8883", "--cafile", lab.ca, "--cert", cert,
                    "--key", key, "-i", ident, "-u", f"{HUB_NAME}/{ident}/?api-version=2021-04-12", "-q", "1",
                    "-t", f"devices/{ident}/messages/events/", "-m", text, check=False).returncode


def test_a_thumbprint_child_comes_in_offline_and_no_other_certificate_does(lab, tmp_path):
    key, cert, thumb = certificate(tmp_path, "xdev")
    other_key, other_cert, _ = certificate(tmp_path, "stranger")
    lab.exec("hub", "holdfast-hub", "device", "create", "-d", "xdev", "--am", "x509_thumbprint", "--ptp", thumb, "--parent", "edge1")
    # Unknown to the snapshot: it waits until the hub was asked.
    assert publish(lab, "xdev", key, cert, "signed") == 0
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    try:
        assert publish(lab, "xdev", key, cert, "signed offline") == 0
        assert publish(lab, "xdev", other_key, other_cert, "forged") != 0
    finally:
        lab.link("up")
    bodies = lab.wait_events("both messages", lambda events: (
        b if {b"signed", b"signed offline"} <= (b := {judge.body_of(e) for e in events}) else None))
    assert b"forged" not in bodies
