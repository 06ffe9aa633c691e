# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces, the two cables between them, and how to run something inside.

    hub 10.77.1.1 ==== 10.77.1.2 gw 10.77.2.1 ==== 10.77.2.2 child

Children have no route to the hub and nothing forwards. Each namespace has one holder process whose private
mount namespace carries the hosts file, the resolver's file and bpffs.
"""
import os
import subprocess

from . import procs
from .world import (CHILD_IF, CHILD_IP, GW_LAN_IF, GW_LAN_IP, GW_NAME, GW_UP_IF, GW_UP_IP, HUB_IF, HUB_IP, HUB_NAME,
                    REPO, ROLES, LabError, write_file)

HOSTS = {
    "hub": f"127.0.0.1 localhost\n{HUB_IP} {HUB_NAME}\n",
    "gw": f"127.0.0.1 localhost\n{HUB_IP} {HUB_NAME}\n{GW_LAN_IP} {GW_NAME}\n",
    "child": f"127.0.0.1 localhost\n{GW_LAN_IP} {GW_NAME}\n",
}
# Nobody answers there: names come from the hosts files, or from servers a test sets up.
RESOLV_CONF = "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n"

# Mounts made here stay here (slave: what the host unmounts goes away here, too, so no lab pins another's).
HOLDER = r"""
set -e
mount --bind "$1" /etc/hosts
[ ! -e /etc/resolv.conf ] || mount --bind "$2" /etc/resolv.conf
[ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ] || mount -t bpf bpf /sys/fs/bpf
echo ready
exec sleep infinity
"""


def _ip(*args, check=True):
    return procs.run("ip", *args, check=check)


def _veth(lab, role_a, if_a, addr_a, role_b, if_b, addr_b):
    a, b = lab.netns(role_a), lab.netns(role_b)
    _ip("link", "add", if_a, "netns", a, "type", "veth", "peer", "name", if_b, "netns", b)
    for ns, dev, addr in ((a, if_a, addr_a), (b, if_b, addr_b)):
        _ip("-n", ns, "addr", "add", f"{addr}/24", "dev", dev)
        _ip("-n", ns, "link", "set", dev, "up")


def create(lab):
    for role in ROLES:
        _ip("netns", "add", lab.netns(role))
        _ip("-n", lab.netns(role), "link", "set", "lo", "up")
        # A new namespace may inherit forwarding from the host; children must reach the gateway only.
        procs.run("nsenter", f"--net={lab.netns_file(role)}", "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    _veth(lab, "hub", HUB_IF, HUB_IP, "gw", GW_UP_IF, GW_UP_IP)
    _veth(lab, "gw", GW_LAN_IF, GW_LAN_IP, "child", CHILD_IF, CHILD_IP)
    _ip("-n", lab.netns("gw"), "route", "add", "default", "via", HUB_IP)
    write_file(lab.path("resolv.conf"), RESOLV_CONF)
    holders = {}
    for role in ROLES:
        hosts = lab.path(f"hosts.{role}")
        write_file(hosts, HOSTS[role])
        holders[role] = _holder(lab, role, hosts)
        lab.update_state(holders=holders)


def _holder(lab, role, hosts):
    with open(lab.path("holder.log"), "ab") as log:
        p = subprocess.Popen(
            ["nsenter", f"--net={lab.netns_file(role)}", "unshare", "--mount", "--propagation", "slave",
             "sh", "-c", HOLDER, "holder", hosts, lab.path("resolv.conf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/", start_new_session=True)
    line = p.stdout.readline()
    p.stdout.close()
    if line.strip() != b"ready":
        p.kill()
        p.wait()
        raise LabError(f"the mount namespace of {lab.netns(role)} could not be made", lab.path("holder.log"))
    return procs.identify(p.pid)


def enter(lab, role, cmd, cwd=None):
    """The argv that runs cmd in the role's namespaces, in the folder cwd; it execs, so the pid stays."""
    holder = lab.state().get("holders", {}).get(role)
    if not procs.alive(holder):
        raise LabError(f"the holder process of {lab.netns(role)} is gone; 'scripts/lab down --name {lab.name}' cleans up")
    return ["nsenter", f"--net={lab.netns_file(role)}", f"--mount=/proc/{holder['pid']}/ns/mnt",
            f"--wdns={cwd or os.getcwd()}", "--", *cmd]


def environment(lab):
    env = dict(os.environ)
    env.update(
        HOLDFAST_SOCKET=lab.sockets["gw"], HOLDFAST_HUB_SOCKET=lab.sockets["hub"], HOLDFAST_LAB=lab.name,
        NODE_EXTRA_CA_CERTS=lab.path("ca.pem"), REQUESTS_CA_BUNDLE=lab.path("ca.pem"),
        NODE_PATH=os.path.join(REPO, "build", "sdk", "node_modules"),
        PATH=lab.build_dir() + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    return env


def set_link(lab, up):
    """The hub's end of the cable: down is a cut, the gateway sees its carrier go."""
    _ip("-n", lab.netns("hub"), "link", "set", HUB_IF, "up" if up else "down")


def link_is_up(lab):
    r = _ip("-n", lab.netns("hub"), "-o", "link", "show", "dev", HUB_IF, check=False)
    return r.returncode == 0 and "UP" in r.stdout.split("<", 1)[-1].split(">", 1)[0].split(",")


def pids(lab, role):
    r = _ip("netns", "pids", lab.netns(role), check=False)
    return [int(word) for word in r.stdout.split()] if r.returncode == 0 else []


def remove(lab):
    for role in ROLES:
        if os.path.exists(lab.netns_file(role)):
            # The cable first: it must not outlive its name if something still holds the namespace.
            for dev in (HUB_IF, GW_UP_IF, GW_LAN_IF, CHILD_IF):
                _ip("-n", lab.netns(role), "link", "del", dev, check=False)
            _ip("netns", "del", lab.netns(role), check=False)
