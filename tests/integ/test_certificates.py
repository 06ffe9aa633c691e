# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates, good and bad, at the gateway and at the emulator: one table (tests/lib/certtable.py), one verdict."""
import json
import os
import re
import shutil
import signal
import ssl

import mqttwire
import pytest
from certtable import Cert, Table, authority
from cryptography.hazmat.primitives.asymmetric import rsa
from labctl import HUB_NAME

pytestmark = pytest.mark.accept

CHILD = "cdev"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return Table(str(tmp_path_factory.mktemp("certificates")), CHILD)


@pytest.fixture(scope="module")
def lab(module_labs, table):
    lab = module_labs(children=1, conf={"gateway.trust_bundle_file": table.roots_file})
    with open(lab.path("hub.conf"), encoding="utf-8") as f:
        text, n = re.subn(r'client_ca_file = "[^"]*"', f'client_ca_file = "{table.roots_file}"', f.read())
    assert n == 1, text
    with open(lab.path("hub.conf"), "w", encoding="utf-8") as f:
        f.write(text)
    lab.hub("restart")
    lab.hub_ctl("device.create", deviceId=CHILD, authMethod="x509_ca", parent="edge1")
    lab.gw("restart")
    lab.wait_status("the child in scope", lambda s: s["uplink"] == "online" and s.get("scopeIdentities", 0) >= 5)
    return lab


def reload(lab):
    os.kill(lab.status()["pids"]["gw"], signal.SIGHUP)


def accepted(connect, lab, path):
    context = mqttwire.tls_context(lab.ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")	# the client's own library would not show weak ones
    context.load_cert_chain(path)
    try:
        with connect(context=context) as c:
            return c.login(HUB_NAME, CHILD, None)[1] == 0
    except (mqttwire.Closed, ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize("where", ["gateway", "hub"])
def test_table(lab, table, where):
    connect = lab.client if where == "gateway" else lab.hub_client
    rows = list(table.rows())
    assert len(rows) >= 40
    wrong = [f"{what}: {'refused' if want else 'accepted'}" for what, want, path in rows if accepted(connect, lab, path) != want]
    assert not wrong, "\n".join(wrong)


def test_the_reason_is_logged(lab, table):
    path = next(path for what, _, path in table.rows() if what == "issued by another child's leaf")
    assert not accepted(lab.client, lab, path)
    lab.wait_status("the reason in the log", lambda _: "an issuer in the chain is no CA certificate" in lab.log() or
                    not accepted(lab.client, lab, path) and None)


def test_roots_change_with_a_reload(lab, table, tmp_path):
    """The bundle is read at start and on SIGHUP, not at each login; a bundle that cannot be read changes nothing."""
    good = next(path for _, want, path in table.rows() if want)
    with open(table.roots_file, "rb") as f:
        roots = f.read()
    try:
        with open(table.roots_file, "wb") as f:
            f.write(b"no certificate\n")
        assert accepted(lab.client, lab, good)
        reload(lab)
        lab.wait_status("the refusal", lambda _: "holds no usable CA certificate" in lab.log())
        assert accepted(lab.client, lab, good)
        for n, pinned in enumerate((Cert("other-child", table.root), Cert("signed by itself", ca=None),
                                    authority("weak", key=rsa.generate_private_key(65537, 1024)))):
            with open(table.roots_file, "wb") as f:		# it could vouch for anybody
                f.write(table.root.pem() + pinned.pem())
            reload(lab)
            lab.wait_status("the refusal", lambda _: lab.log().count("cannot vouch for clients") == n + 1)
            assert accepted(lab.client, lab, good)
        with open(table.roots_file, "wb") as f:
            f.write(table.short_root.pem())
        reload(lab)
        lab.wait_status("the new roots", lambda _: not accepted(lab.client, lab, good))
    finally:
        with open(table.roots_file, "wb") as f:
            f.write(roots)
        reload(lab)
    lab.wait_status("the old roots", lambda _: accepted(lab.client, lab, good))


def test_a_reload_is_seen_in_the_configuration(lab, table, tmp_path):
    moved = str(tmp_path / "moved.pem")
    with open(lab.path("gw.conf"), encoding="utf-8") as f:
        before = f.read()
    assert table.roots_file in before
    shutil.copy(table.roots_file, moved)
    os.chmod(tmp_path, 0o755)
    try:
        with open(lab.path("gw.conf"), "w", encoding="utf-8") as f:
            f.write(before.replace(table.roots_file, moved))
        reload(lab)
        lab.wait_status("the new path", lambda _: moved in json.dumps(lab.ctl("conf", "show")))
    finally:
        with open(lab.path("gw.conf"), "w", encoding="utf-8") as f:
            f.write(before)
        reload(lab)
    lab.wait_status("the old path", lambda _: table.roots_file in json.dumps(lab.ctl("conf", "show")))
