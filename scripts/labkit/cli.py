# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of scripts/lab."""
import argparse
import os
import sys

from . import commands, procs
from .world import Lab, LabError

TEACH = """\
The test world, also by hand: three network namespaces joined by two virtual cables.

  hf-NAME-hub  holdfast-hub  10.77.1.1  hub.holdfast.test
       |            <- 'link down' cuts this cable, 'link up' mends it
  hf-NAME-gw   holdfastd     10.77.1.2 / 10.77.2.1  gw.holdfast.test, device edge1
       |
  hf-NAME-child              10.77.2.2  children dev0, dev1, ...

  make                                          # build first
  sudo scripts/lab up --children 5              # returns when the gateway is synced and ready
  sudo scripts/lab exec gw -- holdfastctl status
  sudo scripts/lab link down                    # offline
  sudo scripts/lab exec child -- mosquitto_pub ...
  sudo scripts/lab gw kill; sudo scripts/lab gw start
  sudo scripts/lab link up
  sudo scripts/lab exec hub -- holdfast-hub events --json
  sudo scripts/lab down

Files are in build/lab/NAME/: children.json, modules.json, hub.json, ca.pem, gw.conf, gw.log, hub.log.
Several labs run at once under different names. HOLDFAST_BUILD=debug|asan|... takes that build's programs.
Needs root: it makes network namespaces and mounts.
Exit status: 0 done, 1 failed, 2 usage; 'exec' gives the command's own.
"""

UP = """\
Starts a lab. Returns once the gateway is online, has synced its scope and accepts children. Keys of children
and modules derive from the master key: base64(HMAC-SHA256(decoded master key, deviceId)). FILE is in the
gateway's configuration format and overrides single settings, for example:  store: { durability = "interval 50"; };
"""


def _parser():
    p = argparse.ArgumentParser(prog="scripts/lab", description=TEACH,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--name", help="which lab (default: HOLDFAST_LAB, else main); anywhere before '--'")
    sub = p.add_subparsers(dest="cmd", metavar="CMD", required=True)

    def add(name, text, more=None):
        return sub.add_parser(name, help=text, description=more or text + ".",
                              formatter_class=argparse.RawDescriptionHelpFormatter)

    up = add("up", "start a lab", UP)
    up.add_argument("--children", type=int, default=3, metavar="N", help="children dev0..dev(N-1), default 3")
    up.add_argument("--modules", type=int, default=0, metavar="M", help="modules mod0..mod(M-1) of edge1, default 0")
    up.add_argument("--master-key", metavar="B64", help="key the others derive from (default: random)")
    up.add_argument("--conf", metavar="FILE", help="settings that override the gateway's")
    link = add("link", "cut or mend the cable between gateway and hub",
               "down: the hub's end goes down, the gateway loses its carrier. up: the reverse.")
    link.add_argument("direction", choices=("down", "up"))
    for role, what in (("gw", "the gateway"), ("hub", "the hub")):
        d = add(role, f"kill, start or restart {what}",
                f"kill: SIGKILL, as a crash. start: returns when {what} listens and answers its control socket.\n"
                "restart: SIGTERM, wait for the orderly end, start.")
        d.add_argument("action", choices=("kill", "start", "restart"))
    ex = add("exec", "run a command in a namespace",
             "scripts/lab exec hub|gw|child -- CMD ARG...\n\nKeeps the folder and the exit status; sets HOLDFAST_SOCKET, "
             "HOLDFAST_HUB_SOCKET,\nNODE_EXTRA_CA_CERTS and PATH; sees bpffs.")
    ex.add_argument("role", choices=("hub", "gw", "child"))
    st = add("status", "pids, sockets, storage, link")
    st.add_argument("--json", action="store_true", help="one JSON object")
    add("down", "end a lab: leaves no process, namespace, mount, pin or file; cleans up after a crash, too")
    return p


def _take_name(words):
    """--name NAME or --name=NAME anywhere; argparse would want it before the command."""
    rest, name, it = [], None, iter(words)
    for word in it:
        if word == "--name":
            name = next(it, None)
            if not name:
                return None, None
        elif word.startswith("--name="):
            name = word[len("--name="):]
        else:
            rest.append(word)
    return rest, name


def _usage(text):
    print(f"lab: {text} (scripts/lab --help)", file=sys.stderr)
    return 2


def main(argv):
    split = argv.index("--") if "--" in argv else len(argv)
    head, tail = argv[:split], argv[split + 1:]
    head, name = _take_name(head)
    if head is None:
        return _usage("--name needs a name")
    args = _parser().parse_args(head)
    if args.cmd == "exec" and not tail:
        return _usage("exec needs a command after '--'")
    if args.cmd != "exec" and tail:
        return _usage(f"{args.cmd} takes nothing after '--'")
    if args.cmd == "up" and (args.children < 0 or args.modules < 0):
        return _usage("--children and --modules are counts")
    if os.geteuid() != 0:
        print("lab: needs root (network namespaces and mounts); run it with sudo", file=sys.stderr)
        return 1
    try:
        return _run(Lab(name or os.environ.get("HOLDFAST_LAB") or "main"), args, tail)
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        if e.log:
            print(f"--- end of {e.log}\n{procs.tail(e.log)}\n---", file=sys.stderr)
        return 1
    except OSError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(lab, args, tail):
    if args.cmd == "up":
        commands.up(lab, args.children, args.modules, args.master_key, args.conf)
    elif args.cmd == "link":
        commands.link(lab, args.direction)
    elif args.cmd in ("gw", "hub"):
        commands.daemon(lab, args.cmd, args.action)
    elif args.cmd == "exec":
        commands.execute(lab, args.role, tail)
    elif args.cmd == "status":
        commands.status(lab, args.json)
    else:
        commands.down(lab)
    return 0
