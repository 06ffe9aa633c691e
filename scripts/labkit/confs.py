# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration files of a lab's two daemons."""
import subprocess

from . import identity
from .world import GW_NAME, HUB_IP, HUB_NAME, LabError, write_file

HUB_CONF = """\
# written by scripts/lab
hub: {{ host = "{host}"; }};
listen: {{ mqtt = "{ip}:8883"; amqp = "{ip}:5671"; https = "{ip}:443"; }};
tls: {{ cert_file = "{dir}/hub.pem"; key_file = "{dir}/hub.key"; client_ca_file = "{dir}/ca.pem"; }};
control: {{ socket = "{socket}"; }};
storage: {{ dir = "{storage}"; }};
log: {{ level = "info"; }};
"""

GW_CONF = """\
# written by scripts/lab
hub: {{
	host = "{hub}";
	connection_string_file = "{dir}/gw.connection-string";
	ca_file = "{dir}/ca.pem";
}};
gateway: {{ host = "{gw}"; listen = [ "0.0.0.0:8883" ]; }};
tls: {{ cert_file = "{dir}/gw.pem"; key_file = "{dir}/gw.key"; }};
control: {{ socket = "{socket}"; }};
storage: {{ dir = "{storage}"; seal_key_file = "{dir}/seal.key"; }};
kern: {{ mode = "auto"; pin_dir = "{pins}"; }};
log: {{ level = "info"; }};
"""


def write_hub(lab):
    write_file(lab.path("hub.conf"), HUB_CONF.format(
        host=HUB_NAME, ip=HUB_IP, dir=lab.dir, socket=lab.sockets["hub"], storage=lab.storage["hub"]))


def write_gw(lab, master_key, override=None):
    """gw.conf is complete in itself; with an override the gateway's own tool merges the two."""
    write_file(lab.path("gw.connection-string"), identity.gateway_connection_string(master_key) + "\n", 0o600)
    text = GW_CONF.format(hub=HUB_NAME, gw=GW_NAME, dir=lab.dir, socket=lab.sockets["gw"],
                          storage=lab.storage["gw"], pins=lab.pin_dir)
    if override is None:
        write_file(lab.path("gw.conf"), text)
        return
    write_file(lab.path("gw.base.conf"), text)
    r = subprocess.run([lab.program("holdfastctl"), "conf", "show", "-c", lab.path("gw.base.conf"), "-c", override],
                       capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise LabError(f"--conf {override}: {(r.stderr or r.stdout).strip()}")
    write_file(lab.path("gw.conf"), r.stdout)
