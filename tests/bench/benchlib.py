# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements share: labs, the peer, readings of a process, rows of results."""
import json
import os
import statistics
import subprocess
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LAB, LOAD = os.path.join(REPO, "scripts", "lab"), os.path.join(REPO, "build", "bench", "load")
WORK = os.path.join(REPO, "build", "bench")
PORT = 1884


def sh(*cmd, check=True, timeout=600, env=None):
    r = subprocess.run(cmd, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    if check and r.returncode != 0:
        raise SystemExit(f"bench: {' '.join(cmd)}: exit {r.returncode}: {(r.stderr or r.stdout).strip()[-800:]}")
    return r.stdout


class Lab:
    """build: whose programs, a folder of build/; "" is build/ itself."""

    def __init__(self, name, children, conf="", build=""):
        self.name = name
        path = os.path.join(WORK, f"{name}.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write("limits: { connections = 50000; };\n" + conf)	# a tenth is for one address, that of all children
        sh(LAB, "down", "--name", name, check=False)
        sh(LAB, "up", "--name", name, "--children", str(children), "--conf", path, env=dict(os.environ, HOLDFAST_BUILD=build))
        self.dir = os.path.join(REPO, "build", "lab", name)
        self.pid = json.loads(sh(LAB, "status", "--name", name, "--json"))["pids"]["gw"]

    def exec(self, where, *cmd, **kw):
        return sh(LAB, "exec", "--name", self.name, where, "--", *cmd, **kw)

    def start(self, *cmd):
        """The command in the children's namespace, not waited for."""
        return subprocess.Popen([LAB, "exec", "--name", self.name, "child", "--", *cmd], stdout=subprocess.DEVNULL)

    def status(self):
        return json.loads(self.exec("gw", "holdfastctl", "status", "--json"))

    def link(self, state):
        sh(LAB, "link", state, "--name", self.name)
        want = "online" if state == "up" else None
        while (self.status()["uplink"] == "online") != (want == "online"):
            time.sleep(0.02)

    def load(self, port, *options, check=True):
        who = ["--children", os.path.join(self.dir, "children.json")] if port == 8883 else ["--plain-auth", ":"]
        out = self.exec("child", LOAD, "--target", f"gw.holdfast.test:{port}", "--ca", os.path.join(self.dir, "ca.pem"), *who,
                        *options, check=check)
        return json.loads(out.strip().splitlines()[-1])

    def down(self):
        sh(LAB, "down", "--name", self.name)


class Mosquitto:
    """Debian's broker in the gateway's namespace: persistence, nodelay, unlimited queues, a subscriber that is away."""

    def __init__(self, lab):
        self.lab, self.p = lab, None
        folder = os.path.join(WORK, "mosquitto")
        os.makedirs(folder, exist_ok=True)
        for f in os.listdir(folder):
            os.unlink(os.path.join(folder, f))
        conf = os.path.join(WORK, "mosquitto.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"user root\nlistener {PORT}\nallow_anonymous true\ncertfile {lab.dir}/gw.pem\nkeyfile {lab.dir}/gw.key\n"
                    f"persistence true\npersistence_location {folder}/\nautosave_interval 30\nset_tcp_nodelay true\n"
                    "max_queued_messages 0\nmax_inflight_messages 0\nmax_connections -1\n")
        self.p = subprocess.Popen([LAB, "exec", "--name", lab.name, "gw", "--", "mosquitto", "-c", conf],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            r = subprocess.run([LAB, "exec", "--name", lab.name, "child", "--", "mosquitto_sub", "-h", "gw.holdfast.test", "-p",
                                str(PORT), "--cafile", f"{lab.dir}/ca.pem", "-i", "away", "-c", "-q", "1", "-t", "devices/#", "-E"],
                               capture_output=True, check=False)
            if r.returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit("bench: mosquitto did not start")

    def stop(self):
        self.p.terminate()
        self.p.wait(60)


def rss_anon(pid, name="RssAnon"):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name + ":"))


def cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class Rows:
    """targets: row -> its target in words."""

    def __init__(self, targets):
        self.rows, self.targets = [], targets

    def add(self, row, values, unit, peer=None, peers=()):
        value = statistics.median(values)
        other = statistics.median(peers) if peers else None
        self.rows.append({"row": row, "value": round(value, 1), "unit": unit, "peer": peer,
                          "peerValue": round(other, 1) if other is not None else None,
                          "ratio": round(value / other, 2) if other else None, "rounds": len(values)})
        print(f"  {row:22} {value:12.0f} {unit:10}"
              + (f" {peer} {other:12.0f}  ratio {value / other:5.2f}" if other else " " * 30)
              + (f"   target {self.targets[row]}" if row in self.targets else ""), flush=True)

    def save(self, name):
        with open(os.path.join(REPO, "build", name), "w", encoding="utf-8") as f:
            json.dump(self.rows, f, indent=1)
            f.write("\n")
