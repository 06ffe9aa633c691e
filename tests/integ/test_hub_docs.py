# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/hub.md, executed as printed: one shell in a network of its own runs every example, one after the other."""
import base64
import json
import os
import re
import shutil

import docblocks
import pytest
from labctl import REPO

pytestmark = pytest.mark.hub
LAB = {"children": 0}
GUIDE = os.path.join(REPO, "docs", "hub.md")
EXAMPLES = docblocks.examples(GUIDE)
MARK = "=== end of example: "
MODULES = os.path.join(REPO, "build", "sdk", "node_modules")


@pytest.fixture(scope="module")
def outputs(lab, tmp_path_factory):
    """{name: output} of every example. A failing command ends the shell, which is told by an example without output."""
    script = ["set -e", "trap 'kill $(jobs -p); wait' EXIT"]
    run = {name: text for name, text in EXAMPLES.items() if os.path.isdir(MODULES) or not name.startswith("node-")}
    for name, text in run.items():
        script += [text, f"echo '{MARK}{name}'"]
    folder = tmp_path_factory.mktemp("docs")
    r = lab.exec("child", "env", "-u", "HOLDFAST_HUB_SOCKET", f"NODE_PATH={MODULES}", "bash", "-c", "\n".join(script), check=False,
                 timeout=200, cwd=folder)
    parts = re.split(f"{MARK}([a-z-]+)\n", r.stdout)
    found = dict(zip(parts[1::2], parts[::2]))
    missing = [name for name in run if name not in found]
    assert not missing and r.returncode == 0, f"{missing[:1]} failed: {parts[-1]}\n{r.stderr}"
    return found


def records(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def bodies(text):
    return [base64.b64decode(e["bodyBase64"]) for e in records(text)]


def test_every_example_has_a_test():
    tested = "".join(open(__file__, encoding="utf-8"))
    assert [name for name in EXAMPLES if f'outputs["{name}"]' not in tested] == []


def test_five_commands(outputs):
    lines = EXAMPLES["start"].splitlines()
    assert len(lines) == 5
    assert "ready; next:" in outputs["start"] and re.search(r"(?m)^host +localhost$", outputs["start"])
    assert re.search(r"(?m)^deviceId +dev1$", outputs["start"])


def test_telemetry(outputs):
    (event,) = records(outputs["telemetry"])
    assert event["deviceId"] == "dev1" and event["properties"] == {"room": "kitchen"}
    assert bodies(outputs["telemetry"]) == [b'{"temperature":21.5}']


def test_connection_strings(outputs):
    device, service, events = outputs["connection-strings"].splitlines()
    assert device.startswith("HostName=localhost;DeviceId=dev1;SharedAccessKey=")
    assert service.startswith("HostName=localhost;SharedAccessKeyName=service;SharedAccessKey=")
    assert events.startswith("Endpoint=sb://localhost/;SharedAccessKeyName=iothubowner;SharedAccessKey=")


@pytest.mark.skipif(not os.path.isdir(MODULES), reason="the Node SDKs are not installed")
def test_a_node_device(outputs):
    assert bodies(outputs["node-device"])[-1] == b"hello from Node"


@pytest.mark.skipif(not os.path.isdir(MODULES), reason="the Node SDKs are not installed")
def test_a_back_end(outputs):
    assert outputs["node-event-hubs"].splitlines() == [
        "dev1 { room: 'kitchen' } { temperature: 21.5 }", "dev1 undefined hello from Node"]


def test_certificate(outputs):
    assert re.search(r"(?m)^authentication.type +certificateAuthority$", outputs["certificate"])


def test_children_by_the_command_line(outputs):
    assert outputs["children"].splitlines()[-5:] == ["DEVICE  EDGE", "cam1    false", "dev1    false", "dev2    false", "dev3    false"]
    assert "capabilities.iotEdge = false" in EXAMPLES["children"]


def test_nested_gateways(outputs):
    assert outputs["nested"].splitlines()[-2:] == ["DEVICE", "edge1"]


@pytest.mark.skipif(not os.path.isdir(MODULES), reason="the Node SDKs are not installed")
def test_children_by_the_service_sdk(outputs):
    assert outputs["node-service"].splitlines() == ["DEVICE", "edge2"]


def test_deployment(outputs):
    shown = outputs["deployment"]
    content = json.loads(shown[shown.index("{"):])["modulesContent"]
    assert content["filter"] == {"properties.desired": {"limit": 30}}
    assert content["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"] == {"timeToLiveSecs": 7200}


def test_import(outputs):
    assert outputs["import"] == "imported 2\n"


def test_upload(outputs):
    assert "dev1/log.txt" in outputs["upload"] and outputs["upload"].endswith("first line\n")


def test_faults(outputs):
    text = outputs["fault"]
    assert re.search(r"(?m)^\d+ +telemetry +ack-never +dev1 +100 ", text) and re.search(r"(?m)^\d+ +connect +reject=3 +.*50 ", text)
    assert re.search(r"(?m)^removed +2$", text)


def test_portal_key(outputs):
    assert "https://localhost/portal/" in outputs["portal"]


def test_settings_are_what_the_tool_says(lab):
    with open(GUIDE, encoding="utf-8") as f:
        assert lab.exec("hub", "holdfast-hub", "serve", "--defaults").stdout in f.read()


def test_every_setting_is_documented():
    with open(os.path.join(REPO, "userspace", "hub", "hub_conf.c"), encoding="utf-8") as f:
        rows = re.findall(r'ROW(?:_IF)?\("([^"]+)", \w+, \w+, "([^"]*)",.*?,\s*"([^"]*)"(?:, \w+)?\),', f.read(), re.S)
    with open(os.path.join(REPO, "docs", "configuration.md"), encoding="utf-8") as f:
        section = f.read().partition("## holdfast-hub")[2]
    shown = re.findall(r"^\| `([^`]+)` \| (?:required|-|`([^`]*)`) \| (.*) \|$", section, re.M)
    assert len(rows) > 15 and shown == rows


def test_links_lead_somewhere():
    with open(GUIDE, encoding="utf-8") as f:
        text = f.read()
    for target in re.findall(r"\]\((?!https?:)([^)#]*)", text):
        assert not target or os.path.exists(os.path.join(os.path.dirname(GUIDE), target)), target
    assert shutil.which("man")
