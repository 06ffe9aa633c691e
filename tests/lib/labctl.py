# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab from Python: everything goes through scripts/lab, as a person would do it."""
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import threading
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(REPO, "scripts"))
sys.path.insert(0, os.path.join(REPO, "tests", "lib"))
import mqttwire  # noqa: E402
from labkit import control  # noqa: E402
from labkit.identity import sas_token  # noqa: E402
from labkit.procs import alive, wait_for  # noqa: E402
from labkit.world import GW_LAN_IP, GW_NAME, HUB_IP, HUB_NAME  # noqa: E402

PYTHON = "/usr/bin/python3"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabFailed(Exception):
    pass


class Lab:
    def __init__(self, name):
        self.name = name
        self.dir = os.path.join(REPO, "build", "lab", name)
        self._started = []

    # --- scripts/lab -------------------------------------------------------------------------------------
    def cmd(self, *args, check=True, timeout=180):
        r = subprocess.run([os.path.join(REPO, "scripts", "lab"), *args[:1], "--name", self.name, *args[1:]],
                           capture_output=True, text=True, timeout=timeout, check=False)
        if check and r.returncode != 0:
            raise LabFailed(f"scripts/lab {' '.join(args)}: {r.stderr.strip()}")
        return r

    def up(self, children=3, modules=0, conf=None, master_key=None):
        args = ["up", "--children", str(children), "--modules", str(modules)]
        if conf:
            args += ["--conf", conf]
        if master_key:
            args += ["--master-key", master_key]
        self.cmd(*args)
        return self

    def down(self):
        for p in self._started:
            p.finish()
        return self.cmd("down")

    def link(self, direction):
        self.cmd("link", direction)

    def gw(self, action):
        self.cmd("gw", action)

    def hub(self, action):
        self.cmd("hub", action)

    def status(self):
        return json.loads(self.cmd("status", "--json").stdout)

    def argv(self, role, *cmd):
        return [os.path.join(REPO, "scripts", "lab"), "exec", role, "--name", self.name, "--", *cmd]

    def exec(self, role, *cmd, check=True, timeout=60, **kw):
        if "input" not in kw:
            kw["stdin"] = subprocess.DEVNULL
        r = subprocess.run(self.argv(role, *cmd), capture_output=True, text=True, timeout=timeout, check=False, **kw)
        if check and r.returncode != 0:
            raise LabFailed(f"{role}: {' '.join(cmd)}: exit status {r.returncode}: {(r.stderr or r.stdout).strip()}")
        return r

    def spawn(self, role, *cmd, **kw):
        p = LineProcess(self.argv(role, *cmd), **kw)
        self._started.append(p)
        return p

    @contextlib.contextmanager
    def inside(self, role):
        """This thread's new sockets belong to the role's network namespace; names do not resolve there."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/hf-{self.name}-{role}", "rb") as there:
            if _libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                _libc.setns(home.fileno(), _CLONE_NEWNET)

    # --- wire-level children -------------------------------------------------------------------------------
    def client(self, **kw):
        """A TLS connection from the child's side, nothing sent yet."""
        with self.inside("child"):
            return mqttwire.Client(GW_NAME, self.ca, address=GW_LAN_IP, **kw)

    def token(self, child, **kw):
        return sas_token(child["primaryKey"], f"{HUB_NAME}/devices/{child['deviceId']}", **kw)

    def login(self, child, password=None, clean=True, **kw):
        """A connected child; child is a row of children.json."""
        c = self.client(**kw)
        _, code = c.login(HUB_NAME, child["deviceId"], self.token(child) if password is None else password, clean)
        if code != 0:
            c.close()
            raise LabFailed(f"{child['deviceId']}: CONNACK {code}")
        return c

    # --- straight to the hub -------------------------------------------------------------------------------
    def hub_client(self, port=8883, **kw):
        """A TLS connection to the hub, nothing sent yet."""
        with self.inside("hub"):
            return mqttwire.Client(HUB_NAME, self.ca, port=port, address=HUB_IP, **kw)

    def hub_login(self, child, clean=True, **kw):
        """A device or module that is connected to the hub."""
        c = self.hub_client()
        _, code = c.login(HUB_NAME, child["deviceId"], kw.pop("password", None) or self.token(child), clean, **kw)
        if code != 0:
            c.close()
            raise LabFailed(f"{child['deviceId']}: CONNACK {code}")
        return c

    def reconfigure(self, override):
        """Merges settings (text) into the gateway's configuration and restarts it."""
        path = self.path("override.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(override)
        merged = self.exec("gw", "holdfastctl", "conf", "show", "-c", self.path("gw.conf"), "-c", path).stdout
        with open(self.path("gw.conf"), "w", encoding="utf-8") as f:
            f.write(merged)
        self.gw("restart")

    def reconfigure_hub(self, **groups):
        """Adds settings to the hub's configuration, e.g. storage='durability = "sync";'; for its next start."""
        with open(self.path("hub.conf"), encoding="utf-8") as f:
            text = f.read()
        for group, settings in groups.items():
            if f"\n{group}: {{ " in text:
                text = text.replace(f"\n{group}: {{ ", f"\n{group}: {{ {settings} ", 1)
            else:
                text += f"{group}: {{ {settings} }};\n"
        with open(self.path("hub.conf"), "w", encoding="utf-8") as f:
            f.write(text)

    # --- what it knows -----------------------------------------------------------------------------------
    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def json(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return json.load(f)

    @property
    def ca(self):
        return self.path("ca.pem")

    def children(self):
        return self.json("children.json")

    def log(self, role="gw"):
        with open(self.path(f"{role}.log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    # --- the two control sockets ---------------------------------------------------------------------------
    def ctl(self, *args, check=True):
        """holdfastctl ARGS --json, as a list of objects."""
        r = self.exec("gw", "holdfastctl", *args, "--json", check=check)
        return [json.loads(line) for line in r.stdout.splitlines() if line.strip()]

    def gw_status(self):
        return self.ctl("status")[0]

    def counters(self):
        """All counters by name."""
        result = {}
        for item in self.ctl("counters"):
            result.update({item["name"]: item["value"]} if "name" in item else item)
        return {name.removeprefix("hf_"): value for name, value in result.items()}

    def events(self, start=None):
        """As `holdfast-hub events --json` lists them, without a process for each look."""
        return self.hub_ctl("events", **({"from": start} if start is not None else {}))

    def wait_events(self, what, test, seconds=30):
        """Polls the hub's events until test(list of events) is true; returns its value."""
        events = []

        def ready():
            nonlocal events
            events = self.events()
            return test(events)

        try:
            return wait_for(what, seconds, ready)
        except Exception as e:
            raise LabFailed(f"{e}; the hub has {len(events)} events, last: {events[-1:]}") from None

    def hub_ctl(self, cmd, **args):
        return control.call(os.path.join("/run/holdfast-lab", self.name, "hub.sock"), cmd, args)

    def hub_pid(self):
        """As `scripts/lab status` tells it: None while the lab's hub does not run."""
        proc = self.json("state.json").get("procs", {}).get("hub")
        return proc["pid"] if alive(proc) else None

    # --- conditions ------------------------------------------------------------------------------------------
    def wait_status(self, what, test, seconds=20):
        """Polls the gateway's control socket until test(status) is true; returns that status."""
        path = os.path.join("/run/holdfast-lab", self.name, "gw.sock")
        last = {}

        def ready():
            nonlocal last
            last = control.answers(path) or {}
            return last if last and test(last) else None

        try:
            return wait_for(what, seconds, ready)
        except Exception as e:
            raise LabFailed(f"{e}; last status: {json.dumps(last)}") from None

    def wait_addresses(self, role):
        """Until the kernel has looked for duplicates of every address: a browser drops its requests when one becomes valid."""
        wait_for(f"the addresses of {role}", 20, lambda: not subprocess.run(
            ["ip", "-n", f"hf-{self.name}-{role}", "-6", "addr", "show", "tentative"], capture_output=True, check=True).stdout)

    def wait_uplink(self, state, seconds=20):
        return self.wait_status(f"uplink {state}", lambda s: s.get("uplink") == state, seconds)

    def wait_drained(self, seconds=60):
        return self.wait_status("an empty queue", lambda s: s.get("uplink") == "online" and s.get("pending") == 0, seconds)


class LineProcess:
    """A child process that speaks JSON lines; its output is collected by a thread."""

    def __init__(self, argv, cwd=None, env=None):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, cwd=cwd, env=dict(os.environ, **env) if env else None)
        self.lines, self.errors, self._more = [], [], threading.Condition()
        self._threads = [threading.Thread(target=self._collect, args=(self.p.stdout, self.lines), daemon=True),
                         threading.Thread(target=self._collect, args=(self.p.stderr, self.errors), daemon=True)]
        for t in self._threads:
            t.start()

    def _collect(self, stream, into):
        for line in stream:
            value = line.rstrip("\n")
            if into is self.lines:
                try:
                    value = json.loads(line)
                except ValueError:
                    pass
            with self._more:
                into.append(value)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def tell(self, line):
        self.p.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self.p.stdin.flush()

    @property
    def last(self):
        with self._more:
            return self.lines[-1] if self.lines else {}

    def wait_line(self, test, seconds=30, start=0):
        """The first collected line for which test is true, from index start on."""
        deadline, at = time.monotonic() + seconds, start
        with self._more:
            while True:
                while at < len(self.lines):
                    if isinstance(self.lines[at], dict) and test(self.lines[at]):
                        return self.lines[at]
                    at += 1
                left = deadline - time.monotonic()
                if left <= 0 or (self.p.poll() is not None and not self._threads[0].is_alive()):
                    raise LabFailed(f"waited in vain for a line; last: {self.lines[-3:]} errors: {self.errors[-8:]}")
                self._more.wait(min(left, 0.2))

    def ask(self, command, event, seconds=30):
        """Sends a command and waits for the answering event."""
        with self._more:
            start = len(self.lines)
        self.tell(command)
        answer = self.wait_line(lambda o: o.get("event") in (event, "failed"), seconds, start)
        if answer["event"] != event:
            raise LabFailed(f"{command}: {answer}")
        return answer

    def wait_last(self, test, seconds=30):
        """Waits until the newest line passes."""
        deadline = time.monotonic() + seconds
        with self._more:
            while not (self.lines and isinstance(self.lines[-1], dict) and test(self.lines[-1])):
                left = deadline - time.monotonic()
                if left <= 0 or (self.p.poll() is not None and not self._threads[0].is_alive()):
                    raise LabFailed(f"waited in vain; last: {self.lines[-1:]} errors: {self.errors[-8:]}")
                self._more.wait(min(left, 0.2))
            return self.lines[-1]

    def end(self, command="quit", seconds=30):
        """Asks for the orderly end; returns the exit status."""
        try:
            self.tell(command)
            self.p.stdin.close()
        except (BrokenPipeError, ValueError):
            pass
        status = self.p.wait(seconds)
        for t in self._threads:
            t.join(5)
        return status

    def kill(self):
        self.p.kill()
        self.p.wait(10)

    def finish(self):
        if self.p.poll() is None:
            self.kill()


def start_publisher(lab, acks, children="children.json", **options):
    """tests/lib/publisher.py in the child namespace; options are its long options."""
    words = []
    for key, value in options.items():
        words += [f"--{key}", str(value)]
    return lab.spawn("child", PYTHON, os.path.join(REPO, "tests", "lib", "publisher.py"), "--children",
                     lab.path(children), "--ca", lab.ca, "--acks", acks, *words)
