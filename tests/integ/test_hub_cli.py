# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of holdfast-hub: help and examples of every command, exit codes, what each command does and says;
init, export into a second hub, completion, the manual page."""
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys

import hubrest
import manpage
import mqttwire
import pytest
from labctl import REPO
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1}
TOOL = os.path.join(REPO, "build", "holdfast-hub")
PAGE = os.path.join(REPO, "docs", "man", "holdfast-hub.8")
COMMANDS = [words for words, _ in manpage.commands(TOOL)] if os.path.exists(TOOL) else []
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def alone(*words):
    """Without a hub."""
    return subprocess.run([TOOL, *words], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "HOLDFAST_HUB_SOCKET": "/nonexistent/hub.sock"})


def hub(lab, *words, check=True, **kw):
    return lab.exec("hub", "holdfast-hub", *words, check=check, **kw)


def items(lab, *words):
    return [json.loads(line) for line in hub(lab, *words, "--json").stdout.splitlines()]


def one(lab, *words):
    (item,) = items(lab, *words)
    return item


def refused(lab, *words, code=1):
    r = hub(lab, *words, check=False)
    assert r.returncode == code and r.stdout == "" and r.stderr.startswith("holdfast-hub: "), r
    return r.stderr


# --- help, completion, manual page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [c for c in COMMANDS if c != "completion bash"])
def test_help(words):
    r = alone(*words.split(), "--help")
    assert r.returncode == 0 and r.stderr == ""
    usage, _, rest = r.stdout.partition("\n")
    assert usage.startswith(f"usage: holdfast-hub {words}")
    example = rest.split("\nexample:\n  ")[1].strip()
    assert example.startswith(f"holdfast-hub {words}")
    flags = re.findall(r"(?m)^  (-\S+?)(?:, (-\S+))? ", rest)
    known = {f for pair in flags for f in pair} | {"--json"}
    for word in shlex.split(example):		# the example names options that there are
        assert not re.match(r"--?[a-z]", word) or word in known, word


def test_help_of_a_group_and_of_everything():
    for words, code in ((("device", "--help"), 0), (("device",), 2)):
        r = alone(*words)
        text = r.stdout if code == 0 else r.stderr
        assert r.returncode == code and "device add-children" in text and "twin show" not in text
    r = alone("completion", "--help")
    assert r.returncode == 0 and "completion bash" in r.stdout
    for words in (("--help",), ("help",)):
        r = alone(*words)
        assert r.returncode == 0 and all(c in r.stdout for c in COMMANDS)
    assert {"module create", "module list", "module show", "module update", "module delete", "module twin", "c2d send", "export",
            "init", "serve", "query", "fault add", "policy show", "counters"} <= set(COMMANDS)


def test_the_manual_page_is_what_the_tool_says():
    with open(PAGE, encoding="utf-8") as f:
        text = f.read()
    assert text == manpage.renewed(TOOL, PAGE), "run: tests/lib/manpage.py build/holdfast-hub docs/man/holdfast-hub.8"
    r = subprocess.run(["man", "--warnings", "-l", PAGE], capture_output=True, text=True, timeout=60, check=False,
                       env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
    assert r.returncode == 0 and r.stderr == "" and "device add-children" in r.stdout


@pytest.mark.parametrize("line, wanted", [
    ("comp", {"completion"}), ("device ", {"create", "add-children", "set-parent"}), ("dev", {"device"}), ("module t", {"twin"}),
    ("query --i", {"--ids"}), ("c2d send --", {"--ack", "--expiry", "--json"})])
def test_completion(line, wanted):
    words = ["holdfast-hub", *line.split(" ")]
    script = (f"source <({TOOL} completion bash); COMP_WORDS=({' '.join(shlex.quote(w) for w in words)}); "
              f"COMP_CWORD={len(words) - 1}; _holdfast-hub; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    r = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    got = set(r.stdout.split())
    assert wanted <= got and all(g.startswith(words[-1]) for g in got) and r.stderr == ""
    assert alone("completion", "fish").returncode == 2


# --- exit codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, says", [
    (("nonsense",), "unknown command"), (("device", "create"), "missing --device-id"), (("device", "create", "-d"), "missing value"),
    (("device", "create", "-d", "x", "--what"), "unknown option --what"), (("device", "show", "-d", "x", "y"), "one argument too many"),
    (("events", "--max", "many"), "not a whole number"), (("twin", "update", "-d", "x", "--desired", "{"), "line 1"),
    (("serve",), "needs -c FILE"), (("import", "/nonexistent.json"), "nonexistent"), (("init", "/tmp/x", "--host", "a b"), "--host"),
    (("init", "/tmp/x", "--listen", "::"), "--listen"), (("--timeout", "x", "status"), "--timeout is"),
    (("status", "--timeout", "x"), "--timeout is"), (("status", "-s"), "missing value after -s"), (("-s", "status"), "missing COMMAND"),
    (("devise", "create", "-d", "x"), "did you mean device create?"), (("statsu",), "did you mean status?"),
    (("import", "none.json"), "FILE: unable to open none.json: No such file")])
def test_usage_errors(words, says):
    r = alone(*words)
    assert r.returncode == 2 and r.stdout == "" and says in r.stderr and r.stderr.startswith("holdfast-hub: ")


def test_unreachable_and_timeout(lab):
    r = alone("status")
    assert r.returncode == 3 and "-s" in r.stderr
    assert alone("status", "-s", "/nonexistent/other.sock").stderr.count("/nonexistent/other.sock") == 1
    assert "no answer in time" in refused(lab, "events", "--follow", "--timeout", "1", code=4)
    assert "DeviceNotFound" not in refused(lab, "device", "show", "-d", "nobody")
    assert hub(lab, "status", "--json").returncode == 0


# --- devices, modules, queries --------------------------------------------------------------------------------------------


def test_devices(lab):
    made = one(lab, "device", "create", "-d", "cli-1", "--pk", KEY, "--status", "disabled", "--status-reason", "spare")
    assert (made["authentication"]["symmetricKey"]["primaryKey"], made["status"], made["statusReason"]) == (KEY, "disabled", "spare")
    shown = one(lab, "device", "show", "-d", "cli-1")
    assert shown.pop("connectionString") == f"HostName={HUB_NAME};DeviceId=cli-1;SharedAccessKey={KEY}" and shown == made
    assert "already registered" in refused(lab, "device", "create", "-d", "cli-1")
    again = one(lab, "device", "update", "-d", "cli-1", "--status", "enabled", "--sk", KEY)
    assert again["status"] == "enabled" and again["authentication"]["symmetricKey"] == {"primaryKey": KEY, "secondaryKey": KEY}
    edge = one(lab, "device", "update", "-d", "cli-1", "--edge-enabled", "true")
    assert edge["capabilities"] == {"iotEdge": True} and edge["authentication"] == again["authentication"]
    assert "cli-1" in [d["deviceId"] for d in items(lab, "device", "list", "--ee")]
    assert "nothing to change" in refused(lab, "device", "update", "-d", "cli-1")
    assert "true or false" in refused(lab, "device", "update", "-d", "cli-1", "--ee", "perhaps")
    print_ = "ab" * 20
    x509 = one(lab, "device", "create", "-d", "cli-2", "--am", "x509_thumbprint", "--ptp", print_)
    assert x509["authentication"]["type"] == "selfSigned" and x509["authentication"]["x509Thumbprint"]["primaryThumbprint"] == print_
    assert one(lab, "device", "show", "-d", "cli-2")["connectionString"].endswith(";DeviceId=cli-2;x509=true")
    assert "authMethod" in refused(lab, "device", "create", "-d", "cli-3", "--am", "magic")
    assert "--edge-enabled" in refused(lab, "device", "create", "-d", "cli-3", "--parent", "cli-2")
    assert hub(lab, "device", "delete", "-d", "cli-2").stdout == ""
    assert "not registered" in refused(lab, "device", "show", "-d", "cli-2")
    table = hub(lab, "device", "list").stdout.splitlines()
    assert table[0].split() == ["DEVICE", "STATUS", "EDGE", "STATE", "AUTH", "SCOPE"]
    assert [line.split()[0] for line in table[1:]] == [d["deviceId"] for d in items(lab, "device", "list")]


def test_modules(lab):
    made = one(lab, "module", "create", "-d", "edge1", "-m", "cli-mod")
    shown = one(lab, "module", "show", "-d", "edge1", "-m", "cli-mod")
    assert shown.pop("connectionString").startswith(f"HostName={HUB_NAME};DeviceId=edge1;ModuleId=cli-mod;SharedAccessKey=")
    assert shown == made
    new = one(lab, "module", "update", "-d", "edge1", "-m", "cli-mod", "--pk", KEY)["authentication"]["symmetricKey"]
    assert new == {"primaryKey": KEY, "secondaryKey": made["authentication"]["symmetricKey"]["secondaryKey"]}
    assert "cli-mod" in [m["moduleId"] for m in items(lab, "module", "list", "-d", "edge1")]
    hub(lab, "twin", "update", "-d", "edge1", "-m", "cli-mod", "--desired", '{"rate":5}')
    assert one(lab, "module", "twin", "-d", "edge1", "-m", "cli-mod")["properties"]["desired"]["rate"] == 5
    hub(lab, "module", "delete", "-d", "edge1", "-m", "cli-mod")
    assert "not registered" in refused(lab, "module", "show", "-d", "edge1", "-m", "cli-mod")
    assert "missing" in hub(lab, "module", "show", "-d", "edge1", check=False).stderr


def test_query_ids_feed_child_list(lab):
    """As a shell does it: unquoted, quoted, through xargs."""
    script = ["set -e"] + [f"holdfast-hub device create -d q-{n} >/dev/null" for n in ("gw --edge-enabled", 1, 2, 3)] + [
        "sql=\"SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'q-') AND capabilities.iotEdge = false\"",
        'holdfast-hub device add-children -d q-gw --child-list $(holdfast-hub query -q "$sql" --ids)',
        'holdfast-hub device remove-children -d q-gw --child-list "$(holdfast-hub query -q "$sql" --ids)"',
        'holdfast-hub query -q "$sql" --ids | xargs holdfast-hub device add-children -d q-gw --child-list',
        "holdfast-hub device list-children -d q-gw --json"]
    out = lab.exec("hub", "bash", "-c", "\n".join(script)).stdout
    assert [json.loads(line)["deviceId"] for line in out.splitlines()] == ["q-1", "q-2", "q-3"]
    assert hub(lab, "query", "-q", "SELECT * FROM devices WHERE deviceId = 'q-1'", "--ids").stdout == "q-1\n"
    assert items(lab, "query", "-q", "SELECT * FROM devices.modules WHERE deviceId = 'q-gw'", "--ids") == ["q-gw/$edgeAgent", "q-gw/$edgeHub"]
    assert hub(lab, "query", "-q", "SELECT * FROM devices WHERE deviceId = 'nobody'", "--ids").stdout == ""
    assert "deviceId" in refused(lab, "query", "-q", "SELECT COUNT() AS n FROM devices", "--ids")
    assert refused(lab, "query", "-q", "SELECT nonsense FROM", "--ids")


def test_deployments(lab, tmp_path):
    one(lab, "device", "create", "-d", "dep", "--ee")
    agent = {"modules": {"filter": {"type": "docker", "env": {"A": {"value": "1"}}, "settings": {"image": "f:1", "createOptions": "{}"}}},
             "systemModules": {}}
    content = {"modulesContent": {
        "$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": {"storeAndForwardConfiguration": {"timeToLiveSecs": 60}}},
        "filter": {"properties.desired": {"rate": 5}, "properties.desired.deep.er": True}}}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"content": content}), encoding="utf-8")		# as a configuration holds it
    assert one(lab, "deployment", "apply", "-d", "dep", "-k", str(path)) == {"modules": ["$edgeAgent", "$edgeHub", "filter"]}
    shown = hub(lab, "deployment", "show", "-d", "dep").stdout
    assert json.loads(shown)["modulesContent"]["filter"] == {"properties.desired": {"rate": 5, "deep": {"er": True}}}
    assert json.loads(shown)["modulesContent"]["$edgeAgent"] == {"properties.desired": agent}
    path.write_text(shown, encoding="utf-8")
    hub(lab, "deployment", "apply", "-d", "dep", "--content", str(path))
    assert hub(lab, "deployment", "show", "-d", "dep").stdout == shown and one(lab, "deployment", "show", "-d", "dep") == json.loads(shown)
    del content["modulesContent"]["filter"], agent["modules"]["filter"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert one(lab, "deployment", "apply", "-d", "dep", "--content", str(path)) == {"modules": ["$edgeAgent", "$edgeHub"]}
    path.write_text('{"modules":{}}', encoding="utf-8")
    assert "modulesContent" in refused(lab, "deployment", "apply", "-d", "dep", "--content", str(path))
    assert "not an edge device" in refused(lab, "deployment", "show", "-d", "dev0")


# --- traffic ------------------------------------------------------------------------------------------------------------------


def client(lab, ident, key):
    with lab.inside("hub"):
        c = mqttwire.Client(HUB_NAME, lab.ca, address=HUB_IP)
    device, _, module = ident.partition("/")
    resource = f"{HUB_NAME}/devices/{device}" + (f"/modules/{module}" if module else "")
    assert c.login(HUB_NAME, ident, sas_token(key, resource), True)[1] == 0
    return c


@pytest.mark.parametrize("ident", ["cli-meth", "cli-meth/mod"])
def test_method_invoke(lab, ident):
    device, _, module = ident.partition("/")
    where = ["-d", device] + (["-m", module] if module else [])
    one(lab, "module" if module else "device", "create", *where, "--pk", KEY)
    assert "404103" in refused(lab, "method", "invoke", *where, "--mn", "ping")
    c = client(lab, ident, KEY)
    c.subscribe(("$iothub/methods/POST/#", 0))
    call = lab.spawn("hub", "holdfast-hub", "method", "invoke", *where, "--mn", "ping", "--mp", '{"x":1}', "--timeout", "20", "--json")
    m = c.message()
    assert m.topic.startswith("$iothub/methods/POST/ping/") and json.loads(m.payload) == {"x": 1}
    c.publish(f"$iothub/methods/res/207/?$rid={m.topic.partition('?$rid=')[2]}", b'{"pong":[2]}', qos=0)
    assert call.wait_line(lambda o: True) == {"status": 207, "payload": {"pong": [2]}}
    c.close()
    assert "5 to 300" in refused(lab, "method", "invoke", *where, "--mn", "ping", "--timeout", "1")


def test_c2d_send(lab):
    one(lab, "device", "create", "-d", "cli-c2d", "--pk", KEY)
    hub(lab, "c2d", "send", "-d", "cli-c2d", "--data", "hello", "--mid", "m1", "--cid", "c1", "--uid", "me", "--ct", "application/json",
        "--ce", "utf-8", "--ack", "full", "--expiry", "60", "-p", '{"colour":"sea green"}')
    assert "ack is one of" in refused(lab, "c2d", "send", "-d", "cli-c2d", "--data", "x", "--ack", "maybe")
    assert "two days" in refused(lab, "c2d", "send", "-d", "cli-c2d", "--data", "x", "--expiry", "200000")
    c = client(lab, "cli-c2d", KEY)
    c.subscribe(("devices/cli-c2d/messages/devicebound/#", 1))
    m = c.message()
    assert m.payload == b"hello"
    for part in ("%24.mid=m1", "%24.cid=c1", "%24.uid=me", "%24.ct=application%2Fjson", "%24.ce=utf-8", "iothub-ack=full", "%24.exp=2",
                 "colour=sea%20green"):
        assert part in m.topic, (part, m.topic)
    c.close()


def test_events_clients_policy_counters(lab):
    one(lab, "device", "create", "-d", "cli-ev", "--pk", KEY)
    c = client(lab, "cli-ev", KEY)
    c.publish("devices/cli-ev/messages/events/", b"one")
    (event,) = [e for e in items(lab, "events") if e["deviceId"] == "cli-ev"]
    assert event["bodyBase64"] == "b25l" and items(lab, "events", "--from", str(event["sequence"]), "--max", "1") == [event]
    c.publish("devices/cli-ev/messages/events/", b"two\n")
    rows = [line.split() for line in hub(lab, "events", "--from", str(event["sequence"])).stdout.splitlines()]
    assert [row[-1] for row in rows if row[2] == "cli-ev"] == ["one", "dHdvCg=="]	# text as text, the rest as base64
    assert [x["protocol"] for x in items(lab, "clients", "list") if x["id"] == "cli-ev"] == ["mqtt"]
    hub(lab, "clients", "disconnect", "-d", "cli-ev")
    assert c.ends()
    wait_for("the client to be gone", 30, lambda: not [x for x in items(lab, "clients", "list") if x["id"] == "cli-ev"])
    assert "not connected" in refused(lab, "clients", "disconnect", "-d", "cli-ev")
    policy = one(lab, "policy", "show", "--pn", "service")
    assert policy["connectionString"] == f"HostName={HUB_NAME};SharedAccessKeyName=service;SharedAccessKey={policy['primaryKey']}"
    assert "registryRead" in refused(lab, "policy", "show", "--pn", "nobody")
    assert one(lab, "counters")["events_total"] >= 1


def test_connection_strings_and_tokens(lab):
    made = one(lab, "device", "create", "-d", "cli-tok", "--pk", KEY)
    assert hub(lab, "connection-string", "-d", "cli-tok").stdout == f"HostName={HUB_NAME};DeviceId=cli-tok;SharedAccessKey={KEY}\n"
    policy = one(lab, "policy", "show")
    assert one(lab, "connection-string") == {"connectionString": policy["connectionString"]}
    assert hub(lab, "connection-string", "--event-hub").stdout.strip() == policy["eventHubConnectionString"]
    assert hub(lab, "connection-string", "-m", "x", check=False).returncode == 2
    url = f"https://{HUB_NAME}/devices/cli-tok"
    curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", lab.ca, "-H"]

    def status(path, *words, data=None):
        token = hub(lab, "token", *words).stdout.strip()
        return lab.exec("hub", *curl, f"Authorization: {token}", f"{url}{path}?api-version=2021-04-12",
                        *(["-d", data] if data else [])).stdout

    assert status("/messages/events", "-d", "cli-tok", data="x") == "204"
    assert status("", "--pn", "registryRead") == "200" and status("", "--pn", "service") == "401"
    assert status("", "-d", "cli-tok") == "401"
    sas = one(lab, "token", "-d", "edge1", "-m", "$edgeHub", "--duration", "60")["sas"]
    assert sas.startswith(f"SharedAccessSignature sr={HUB_NAME}%2Fdevices%2Fedge1%2Fmodules%2F%24edgeHub&sig=")
    one(lab, "device", "update", "-d", "cli-tok", "--am", "x509_ca")
    assert "certificate" in refused(lab, "token", "-d", "cli-tok")
    assert "not registered" in refused(lab, "token", "-d", "nobody")
    assert made["authentication"]["symmetricKey"]["primaryKey"] == KEY


# --- import, export, init -------------------------------------------------------------------------------------------------------


def test_import_shows_how_far_it_is(lab, tmp_path):
    path = tmp_path / "many.json"
    path.write_text(json.dumps(hubrest.devices(10000)), encoding="utf-8")
    main, other = pty.openpty()
    r = subprocess.run(lab.argv("hub", "holdfast-hub", "import", str(path)), stdout=subprocess.PIPE, stderr=other, timeout=60, check=False)
    os.close(other)
    seen = os.read(main, 65536).decode()
    os.close(main)
    assert r.returncode == 0 and r.stdout == b"imported 10000\n"
    done = [int(n) for n in re.findall(r"(\d+) of 10000", seen)]
    assert len(done) > 2 and done == sorted(done) and done[-1] == 10000
    many = [d["deviceId"] for d in hubrest.devices(10000)]
    assert items(lab, "device", "list-children", "-d", "edge1")[1:] == [{"deviceId": d, "edgeEnabled": False} for d in many]
    assert "no JSON array" in alone_import(lab, tmp_path, "{}", code=2)
    says = alone_import(lab, tmp_path, '[{"deviceId":"w"},{"deviceId":"x","parent":"nobody"}]')
    assert "record 1 (x): parent \"nobody\"" in says and "those before it are imported" in says
    assert one(lab, "device", "show", "-d", "w")["deviceId"] == "w"


def alone_import(lab, tmp_path, text, code=1):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    return refused(lab, "import", str(path), code=code)


def test_init_and_export_into_a_second_hub(lab, tmp_path):
    for words in (("exp-top", "--ee"), ("exp-low", "--ee", "--status", "disabled"), ("exp-leaf", "--parent", "exp-low")):
        one(lab, "device", "create", "-d", *words)
    hub(lab, "device", "set-parent", "-d", "exp-low", "--pd", "exp-top")
    hub(lab, "device", "set-parent", "-d", "exp-top", "--pd", "edge1")
    hub(lab, "twin", "update", "-d", "exp-leaf", "--tags", '{"site":"x"}', "--desired", '{"a":{"b":[1,2]}}')
    hub(lab, "twin", "update", "-d", "exp-low", "-m", "$edgeHub", "--desired", '{"ttl":7}')
    exported = hub(lab, "export").stdout
    records = json.loads(exported)
    assert len(exported.splitlines()) == len(records) + 2
    (tmp_path / "devices.json").write_text(exported, encoding="utf-8")

    folder = str(tmp_path / "the second, with spaces")
    said = one(lab, "init", folder)
    assert said == {"host": "localhost", "config": f"{folder}/hub.conf", "socket": f"{folder}/hub.sock", "ca": f"{folder}/ca.pem"}
    assert "is there already" in refused(lab, "init", folder)
    for name, mode in (("ca.key", 0o600), ("hub.key", 0o600), ("ca.pem", 0o644), ("hub.pem", 0o644)):
        assert os.stat(f"{folder}/{name}").st_mode & 0o777 == mode
    r = subprocess.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile",
                        f"{folder}/ca.pem", f"{folder}/hub.pem"], capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 0, r.stderr
    assert hub(lab, "serve", "-c", said["config"], "-t").stdout == "configuration ok\n"
    second = lab.spawn("hub", "holdfast-hub", "serve", "-c", said["config"])
    there = ("-s", said["socket"])
    assert one(lab, "status", "--wait", "10", *there)["host"] == "localhost"
    hub(lab, "import", str(tmp_path / "devices.json"), *there)
    assert json.loads(hub(lab, "export", *there).stdout) == records
    assert one(lab, "device", "get-parent", "-d", "exp-leaf", *there) == {"deviceId": "exp-low"}
    assert one(lab, "twin", "show", "-d", "exp-leaf", *there)["tags"] == {"site": "x"}
    assert one(lab, "device", "show", "-d", "exp-leaf", *there)["connectionString"].startswith("HostName=localhost;DeviceId=exp-leaf;")
    second.p.terminate()
    assert second.p.wait(30) == 0, sys.stderr


def test_sighup_reads_the_configuration_again(lab):
    path, pid = lab.path("hub.conf"), lab.hub_pid()
    with open(path, encoding="utf-8") as f:
        before = f.read()

    def reload(text, sign):
        seen = len(lab.log("hub"))
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.kill(pid, signal.SIGHUP)
        wait_for("the reload", 30, lambda: sign in lab.log("hub")[seen:])
        return lab.log("hub")[seen:], lab.hub_ctl("log.level")[0]["level"]
    try:
        text, level = reload(before.replace('level = "info"', 'level = "debug"').replace("storage: {", "storage: { max_bytes = 200000000;"),
                             "the log level is in force")
        assert level == "debug" and "storage.max_bytes changes at the next start only" in text
        assert reload("nonsense", "refused: the old configuration stays in force")[1] == "debug"
    finally:
        assert reload(before, "the log level is in force")[1] == "info"
    assert lab.hub_pid() == pid
