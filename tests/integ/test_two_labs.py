# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs side by side, and what scripts/lab promises to people."""
import base64
import hashlib
import hmac
import os
import subprocess

import judge
from labctl import REPO, Lab

MASTER = base64.b64encode(b"a master key for this test only!").decode()


def test_two_labs_know_nothing_of_each_other(labs):
    one, two = labs(children=2), labs(children=3)
    for lab, text in ((one, "from one"), (two, "from two")):
        child = lab.children()[0]
        with lab.login(child) as c:
            c.publish("devices/dev0/messages/events/", text)
        lab.wait_events(text, lambda events, text=text: any(judge.body_of(e) == text.encode() for e in events))
    assert [judge.body_of(e) for e in one.events()] == [b"from one"]
    assert [judge.body_of(e) for e in two.events()] == [b"from two"]
    # The keys differ: a child of one lab is nobody in the other.
    with two.client() as c:
        assert c.login("hub.holdfast.test", "dev0", two.token(one.children()[0]))[1] == 5
    one.link("down")
    assert one.status()["link"] == "down" and two.status()["link"] == "up"
    one.down()
    assert two.gw_status()["uplink"] == "online"


def test_up_writes_what_outside_tools_read(labs):
    lab = labs(children=2, modules=1, master_key=MASTER)
    children, (module,) = lab.children(), lab.json("modules.json")
    assert [c["deviceId"] for c in children] == ["dev0", "dev1"]
    want = base64.b64encode(hmac.new(base64.b64decode(MASTER), b"dev1", hashlib.sha256).digest()).decode()
    assert children[1]["primaryKey"] == want
    assert f"SharedAccessKey={want}" in children[1]["connectionString"]
    assert (module["deviceId"], module["moduleId"]) == ("edge1", "mod0")
    hub = lab.json("hub.json")
    assert hub["hostName"] == "hub.holdfast.test" and "SharedAccessKeyName=" in hub["serviceConnectionString"]
    for name in ("ca.pem", "gw.conf", "gw.log", "hub.log"):
        assert os.path.exists(lab.path(name)), name


def test_exec_keeps_folder_status_and_sets_sockets(labs, tmp_path):
    lab = labs(children=1)
    r = lab.exec("child", "sh", "-c", "pwd; exit 7", cwd=tmp_path, check=False)
    assert (r.stdout.strip(), r.returncode) == (str(tmp_path), 7)
    r = lab.exec("gw", "sh", "-c", 'stat -f -c %T /sys/fs/bpf; [ -S "$HOLDFAST_SOCKET" ] && echo "$HOLDFAST_LAB"')
    assert r.stdout.split() == ["bpf_fs", lab.name]
    assert lab.exec("hub", "sh", "-c", '[ -S "$HOLDFAST_HUB_SOCKET" ]', check=False).returncode == 0
    # Children reach the gateway only.
    r = lab.exec("child", "/usr/bin/python3", "-c",
                 "import socket; socket.create_connection(('10.77.1.1', 8883), 1)", check=False)
    assert r.returncode != 0


def test_up_twice_is_refused_and_down_leaves_nothing(labs):
    lab = labs(children=1)
    r = lab.cmd("up", check=False)
    assert r.returncode == 1 and "exists already" in r.stderr
    pids = [pid for pid in lab.status()["pids"].values() if pid]
    assert len(pids) == 5
    lab.gw("kill")
    lab.down()
    assert not os.path.exists(lab.dir)
    assert lab.name not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}") and _state(pid) != "Z"]
    with open("/proc/mounts", encoding="utf-8") as f:
        assert lab.name not in f.read()


def _state(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


def test_a_refused_setting_is_told_and_cleans_up(tmp_path):
    lab = Lab(f"t{os.getpid()}-refused")
    conf = tmp_path / "bad.conf"
    conf.write_text('store: { when_ful = "refuse"; };\n')
    r = lab.cmd("up", "--conf", str(conf), check=False)
    assert r.returncode == 1
    assert "when_full" in r.stderr and "bad.conf" in r.stderr
    assert not os.path.exists(lab.dir) and not os.path.exists(f"/run/holdfast-lab/{lab.name}.lock")


def test_usage_errors():
    for words in (["nonsense"], ["link"], ["exec", "gw"], ["link", "up", "--", "x"]):
        r = subprocess.run([os.path.join(REPO, "scripts", "lab"), *words], capture_output=True, text=True, check=False)
        assert r.returncode == 2, words
    r = subprocess.run([os.path.join(REPO, "scripts", "lab"), "link", "up", "--name", "there-is-none"],
                       capture_output=True, text=True, check=False)
    assert r.returncode == 1 and "there is no lab" in r.stderr
