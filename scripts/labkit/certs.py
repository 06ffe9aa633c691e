# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's certificates: one P-256 root, one server certificate each for hub and gateway."""
import os

from . import procs
from .world import GW_LAN_IP, GW_NAME, HUB_IP, HUB_NAME, write_file

_CA = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")


def _openssl(*args):
    procs.run("openssl", *args)


def _new_key(path):
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    os.chmod(path, 0o600)


def make_ca(lab):
    _new_key(lab.path("ca.key"))
    exts = [word for ext in _CA for word in ("-addext", ext)]
    _openssl("req", "-x509", "-new", "-key", lab.path("ca.key"), "-subj", "/CN=Holdfast lab root", "-days", "3650",
             "-sha256", "-out", lab.path("ca.pem"), *exts)


def issue(lab, stem, common_name, alt_names="", usage="serverAuth"):
    """Writes stem.pem (certificate) and stem.key, signed by the lab's root."""
    key, csr, ext = lab.path(f"{stem}.key"), lab.path(f"{stem}.csr"), lab.path(f"{stem}.ext")
    _new_key(key)
    _openssl("req", "-new", "-key", key, "-subj", f"/CN={common_name}", "-out", csr)
    lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
    if alt_names:
        lines.append(f"subjectAltName={alt_names}")
    write_file(ext, "\n".join(lines) + "\n")
    _openssl("x509", "-req", "-in", csr, "-CA", lab.path("ca.pem"), "-CAkey", lab.path("ca.key"), "-days", "3650",
             "-set_serial", str(int.from_bytes(os.urandom(15), "big")), "-sha256", "-extfile", ext,
             "-out", lab.path(f"{stem}.pem"))
    os.unlink(csr)
    os.unlink(ext)


def make_all(lab):
    make_ca(lab)
    issue(lab, "hub", HUB_NAME, f"DNS:{HUB_NAME},IP:{HUB_IP}")
    issue(lab, "gw", GW_NAME, f"DNS:{GW_NAME},IP:{GW_LAN_IP}")
