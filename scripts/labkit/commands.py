# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of scripts/lab do."""
import base64
import json
import os
import shutil
import signal
import sys

from . import certs, confs, daemons, identity, netns, procs, registry
from .world import HUB_NAME, ROLES, RUN_ROOT, LabError, write_file, write_json

# edge1 itself and its two system modules come on top of children and modules.
_OWN_IDENTITIES = 3


def up(lab, children, modules, master_key, conf):
    with lab.lock():
        if lab.exists():
            raise LabError(f"lab '{lab.name}' exists already; remove it with: scripts/lab down --name {lab.name}")
        master_key = master_key or base64.b64encode(os.urandom(32)).decode()
        try:
            if len(base64.b64decode(master_key, validate=True)) < 16:
                raise ValueError
        except ValueError:
            raise LabError("--master-key: base64 of at least 16 bytes is wanted") from None
        try:
            _build(lab, children, modules, master_key, conf)
        except BaseException as e:
            if isinstance(e, LabError) and e.log:
                # down() removes the log; its tail is the story.
                e.args = (f"{e.args[0]}\n--- end of {os.path.basename(e.log)}\n{procs.tail(e.log)}\n---",)
                e.log = None
            _tear_down(lab)
            _remove_lock(lab)
            raise


def _build(lab, n_children, n_modules, master_key, conf):
    conf = os.path.realpath(conf) if conf else None
    shutil.rmtree(lab.dir, ignore_errors=True)
    os.makedirs(lab.dir)
    os.makedirs(lab.run, exist_ok=True)
    lab.update_state(name=lab.name, build=os.environ.get("HOLDFAST_BUILD", ""))
    for program in daemons.PROGRAM.values():
        lab.program(program)
    for storage in lab.storage.values():
        os.mkdir(storage, 0o700)
    children = [identity.child(master_key, i) for i in range(n_children)]
    modules = [identity.module(master_key, f"mod{i}") for i in range(n_modules)]
    certs.make_all(lab)
    confs.write_hub(lab)
    confs.write_gw(lab, master_key, conf)
    write_json(lab.path("children.json"), children)
    write_json(lab.path("modules.json"), modules)
    netns.create(lab)
    daemons.start(lab, "hub")
    registry.fill(lab, master_key, children, modules)
    service, events = daemons.connection_strings(lab)
    write_json(lab.path("hub.json"), {
        "hostName": HUB_NAME, "serviceConnectionString": service, "eventHubConnectionString": events})
    daemons.start(lab, "gw")
    daemons.wait_synced(lab, n_children + n_modules + _OWN_IDENTITIES)


def down(lab):
    with lab.lock():
        found = lab.exists() or os.path.exists(lab.dir) or os.path.exists(lab.run)
        _tear_down(lab)
        _remove_lock(lab)
    if not found:
        print(f"lab: there was no lab '{lab.name}'", file=sys.stderr)


def _tear_down(lab):
    """Also for a lab that is half there: a crash of up or of this machine's owner's patience."""
    state = lab.state()
    _remove_pins(lab, state)
    known = list(state.get("procs", {}).values()) + list(state.get("holders", {}).values())
    # Everything that runs in the namespaces belongs to the lab, whoever started it.
    inside = [procs.identify(pid) for role in ROLES for pid in netns.pids(lab, role) if pid != os.getpid()]
    for proc in known + [p for p in inside if p]:
        procs.end(proc, signal.SIGKILL, "a process of the lab", 10)
    netns.remove(lab)
    shutil.rmtree(lab.run, ignore_errors=True)
    shutil.rmtree(lab.dir, ignore_errors=True)
    try:
        os.rmdir(os.path.dirname(lab.dir))
    except OSError:
        pass


def _remove_lock(lab):
    try:
        os.unlink(os.path.join(RUN_ROOT, f"{lab.name}.lock"))
        os.rmdir(RUN_ROOT)
    except OSError:
        pass


def _remove_pins(lab, state):
    """bpffs may be the holder's own or the host's; ask through the holder while it lives."""
    if procs.alive(state.get("holders", {}).get("gw")) and os.path.exists(lab.netns_file("gw")):
        procs.run(*netns.enter(lab, "gw", ["rm", "-rf", lab.pin_dir], cwd="/"), check=False)
    shutil.rmtree(lab.pin_dir, ignore_errors=True)


def link(lab, direction):
    lab.require()
    with lab.lock():
        netns.set_link(lab, direction == "up")


def daemon(lab, role, action):
    lab.require()
    with lab.lock():
        {"start": daemons.start, "kill": daemons.kill, "restart": daemons.restart}[action](lab, role)


def execute(lab, role, cmd):
    """Replaces this process; the command's exit status is ours."""
    lab.require()
    argv = netns.enter(lab, role, cmd)
    os.execvpe(argv[0], argv, netns.environment(lab))


def status(lab, as_json):
    lab.require()
    state = lab.state()
    alive = {role: daemons.proc(lab, role)["pid"] if daemons.running(lab, role) else None for role in ("hub", "gw")}
    alive.update({f"holder-{role}": proc["pid"] for role, proc in state.get("holders", {}).items()
                  if procs.alive(proc)})
    result = {
        "name": lab.name, "dir": lab.dir, "link": "up" if netns.link_is_up(lab) else "down",
        "pids": alive, "sockets": lab.sockets, "storage": lab.storage, "pinDir": lab.pin_dir,
        "namespaces": {role: lab.netns(role) for role in ROLES},
        "logs": {role: lab.log(role) for role in ("hub", "gw")},
        "hosts": {role: lab.path(f"hosts.{role}") for role in ROLES}, "build": lab.build_dir(),
    }
    if as_json:
        print(json.dumps(result))
        return
    print(f"lab {lab.name}: link {result['link']}, folder {lab.dir}")
    for role in ("hub", "gw"):
        print(f"  {role:5} {'pid ' + str(alive[role]) if alive[role] else 'not running':14} {lab.sockets[role]}")
