# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal: in headless Chromium as a person uses it (tests/sdk/portal.js), and its sessions at wire level. Screenshots
are left in build/portal/."""
import base64
import http.client
import json
import os
import shutil
import threading

import amqpwire
import hubrest
import mqttwire
import pytest
from labctl import REPO
from labkit.identity import sas_token
from labkit.procs import wait_for
from labkit.world import HUB_IP, HUB_NAME
from proton import Message

pytestmark = [pytest.mark.hub, pytest.mark.sdk]
LAB = {"children": 0, "build": "asan"}
SHOTS = os.path.join(REPO, "build", "portal")
EVIL = "<img src=x onerror=stolen=1>"
LEAVES = ["leaf-a", "leaf-b", "leaf-c"]


@pytest.fixture(scope="module", autouse=True)
def no_gateway(lab):
    lab.gw("kill")


@pytest.fixture(autouse=True)
def no_rules_left(lab):
    yield
    lab.hub_ctl("fault.clear")


@pytest.fixture(scope="module")
def policy(lab):
    return lambda name: lab.hub_ctl("policy.show", name=name)[0]["connectionString"]


@pytest.fixture(scope="module")
def do(lab):
    """Runs one command of the browser."""
    shutil.rmtree(SHOTS, ignore_errors=True)
    lab.wait_addresses("hub")
    p = lab.spawn("hub", "node", os.path.join(REPO, "tests", "sdk", "portal.js"), f"https://{HUB_NAME}/portal/", SHOTS)

    def run(cmd, seconds=120, **args):
        return p.ask({"cmd": cmd, **args}, "done", seconds)

    run("start")
    yield run
    assert p.end() == 0


@pytest.fixture(scope="module")
def owner(do, policy):
    """The browser, signed in with every right, and edge1 and three leaves made in it."""
    do("signin", credential=policy("iothubowner"))
    do("remove", device="edge1", consequence="messages that wait for it")
    do("create", device="edge1", edge=True)
    for leaf in LEAVES:
        do("create", device=leaf)
    return do


def get(service, path):
    status, _, doc = service.call("GET", path)
    assert status == 200, doc
    return doc


def login(lab, service, device):
    """A connected MQTT client of a device that the portal made."""
    key = get(service, f"/devices/{device}")["authentication"]["symmetricKey"]["primaryKey"]
    c = lab.hub_client()
    code = c.login(HUB_NAME, device, sas_token(key, f"{HUB_NAME}/devices/{device}"))[1]
    assert code == 0
    return c


def children(service, edge="edge1"):
    scope = get(service, f"/devices/{edge}")["deviceScope"]
    return sorted(r["deviceId"] for r in service.query(
        f"SELECT deviceId FROM devices WHERE array_contains(parentScopes, '{scope}')")[0])


def counters(lab):
    return lab.hub_ctl("counters")[0]


# --- signing in -----------------------------------------------------------------------------------------------------------

def test_wrong_keys_are_refused(lab, do, policy):
    right = policy("iothubowner")
    before = counters(lab)["portal_logins_refused_total"]
    wrong = [right[:-6] + "AAAAA=", right.replace("iothubowner", "service"), right.replace(HUB_NAME, "other.test"),
             f"HostName={HUB_NAME};DeviceId=d;SharedAccessKey=AAAA", policy("device"), "0" * 32]
    texts = do("wrongKeys", credentials=wrong)["texts"]
    for text, part in zip(texts, ["policy name or the key is wrong", "policy name or the key is wrong", "another hub",
                                  "device's connection string", "no right", "used already"]):
        assert part in text, (part, text)
    assert counters(lab)["portal_logins_refused_total"] - before == len(wrong)


def test_the_key_signs_in_once(lab, do):
    shown = lab.hub_ctl("portal.key")[0]
    assert shown["url"] == f"https://{HUB_NAME}/portal/" and shown["key"] in lab.log("hub")
    cookies = do("signin", credential=shown["key"])["cookies"]
    assert len(cookies) == 1
    assert cookies[0] | {"name": "__Host-holdfast", "httpOnly": True, "secure": True, "sameSite": "Strict", "path": "/"} == cookies[0]
    do("signout")
    assert "used already" in do("wrongKeys", credentials=[shown["key"]])["texts"][0]
    renewed = lab.hub_ctl("portal.key", renew=True)[0]["key"]
    assert renewed not in (shown["key"], lab.log("hub"))


# --- devices, children ------------------------------------------------------------------------------------------------------

def test_create_devices(owner, service):
    owner("createWrong")
    owner("create", device="cert1", auth="selfSigned", thumbprint="AB" * 20)
    owner("create", device="given", key=base64.b64encode(b"k" * 32).decode())
    assert get(service, "/devices/edge1")["capabilities"] == {"iotEdge": True}
    assert not any(get(service, f"/devices/{leaf}")["capabilities"]["iotEdge"] for leaf in LEAVES)
    auth = get(service, "/devices/cert1")["authentication"]
    assert (auth["type"], auth["x509Thumbprint"]["primaryThumbprint"]) == ("selfSigned", "AB" * 20)
    assert get(service, "/devices/given")["authentication"]["symmetricKey"]["primaryKey"] == base64.b64encode(b"k" * 32).decode()


def test_children_from_both_sides(owner, service):
    owner("create", device="edge2", edge=True)
    owner("addChildren", edge="edge1", search="", devices=["leaf-a", "leaf-b"], offered=["leaf-c"], notOffered=["edge2", "edge1"])
    owner("setParent", device="leaf-c", parent="edge1")
    assert children(service) == LEAVES
    owner("removeChildren", edge="edge1", devices=["leaf-a"])
    owner("setParent", device="leaf-b", parent=None)
    assert children(service) == ["leaf-c"]
    # A gateway below a gateway; leaves are never offered as parents, nor a device to itself.
    assert owner("offeredParents", device="edge2")["parents"] == ["edge1"]
    owner("setParent", device="edge2", parent="edge1")
    assert children(service) == ["edge2", "leaf-c"]
    assert get(service, "/devices/edge2")["parentScopes"] == [get(service, "/devices/edge1")["deviceScope"]]


def test_keyboard_alone_assigns_a_child(owner, service):
    owner("keyboardAssign", edge="edge1", device="leaf-b")
    assert "leaf-b" in children(service)


def test_list_is_searched_and_paged(lab, owner, service):
    lab.hub_ctl("import", devices=hubrest.devices(120))
    assert "51 to 100 of" in owner("pages", first="cert1", second="many00060")["label"]
    assert "edge1" in owner("listShows", search="00119", ids=["many00119"])["rows"][0]
    owner("listShows", search="", show="edge", ids=["edge1", "edge2"])
    owner("disable", device="given", reason="out of order")
    owner("listShows", search="", show="disabled", ids=["given"])
    assert get(service, "/devices/given")["statusReason"] == "out of order"
    owner("conflict", device="given", other="theirs")
    assert owner("newKey", device="leaf-a")["connectionString"].startswith(f"HostName={HUB_NAME};")


# --- twins, manifest ----------------------------------------------------------------------------------------------------------

def test_twin_editor(owner, service):
    wrong = [('{"tags": {"a": 1,}}', "Line 1, column 17: There is a comma"), ('{\n"tags": {"x": tru}}', "Line 2, column 15"),
             ('{"properties": {"reported": {}}}', "only the device reports"), ('{"tags": {"a.b": 1}}', "one of . $ #"),
             ('{"tags": {"a": 1, "a": 2}}', "twice"), ('{"tags": {"a": 99999999999999999}}', "Whole numbers"),
             (json.dumps({"tags": {f"k{i}": "x" * 4000 for i in range(3)}}), "8,192 are allowed")]
    doc = {"tags": {"place": EVIL}, "properties": {"desired": {"rate": 5, "deep": {"a": [1, {"b": None}]}}}}
    owner("twin", device="leaf-a", wrong=wrong, doc={"tags": {"gone": 1}})
    owner("twin", device="leaf-a", doc={**doc, "properties": {"desired": {"rate": 5, "deep": {"a": [1, 2]}}}})
    twin = get(service, "/twins/leaf-a")
    assert twin["tags"] == doc["tags"] and twin["properties"]["desired"]["deep"] == {"a": [1, 2]}
    owner("twinConflict", device="leaf-a", theirs={"tags": {"their": 1}}, mine=doc | {"tags": {"mine": EVIL}, "properties": {"desired": {}}})
    assert get(service, "/twins/leaf-a")["tags"] == {"mine": EVIL}
    owner("addModule", device="leaf-a", module="mod1")
    owner("twin", device="leaf-a", module="mod1", doc={"properties": {"desired": {"m": 1}}})
    assert get(service, "/twins/leaf-a/modules/mod1")["properties"]["desired"]["m"] == 1


def test_manifest(owner, service):
    binds = "/srv/hub/:/iotedge/storage/"
    shown = json.loads(owner("manifest", device="edge1", ttl=4242, storage="/iotedge/storage/", binds=binds, module="cam",
                             image="cam:1.0", route=["fromCam", "FROM /messages/modules/cam/* INTO $upstream"])["text"])
    hub = get(service, "/twins/edge1/modules/%24edgeHub")["properties"]["desired"]
    agent = get(service, "/twins/edge1/modules/%24edgeAgent")["properties"]["desired"]
    assert hub["storeAndForwardConfiguration"]["timeToLiveSecs"] == 4242
    assert hub["routes"]["fromCam"].startswith("FROM /messages/modules/cam")
    for name in ("edgeHub", "edgeAgent"):
        module = agent["systemModules"][name]
        assert module["env"]["storageFolder"]["value"] == "/iotedge/storage/"
        assert json.loads(module["settings"]["createOptions"])["HostConfig"]["Binds"] == [binds]
    cam = agent["modules"]["cam"]
    assert (cam["settings"]["image"], cam["restartPolicy"], cam["env"]) == ("cam:1.0", "on-failure", {"LEVEL": {"value": "debug"}})
    assert json.loads(cam["settings"]["createOptions"]) == {"HostConfig": {"Privileged": True}}
    assert shown["modulesContent"]["$edgeHub"]["properties.desired"]["storeAndForwardConfiguration"]["timeToLiveSecs"] == 4242
    assert [m["moduleId"] for m in get(service, "/devices/edge1/modules") if m["managedBy"] == "iotEdge"] == ["$edgeAgent", "$edgeHub", "cam"]


def test_manifest_keeps_what_it_does_not_show(owner, service):
    path = "/twins/edge1/modules/%24edge"
    more = {"mqttBroker": {"x": [1, None] and [1]}, "routes": {"r": {"route": "FROM /* INTO $upstream", "priority": 3}},
            "storeAndForwardConfiguration": {"storeLimits": {"maxSizeBytes": 1000}}}
    assert service.call("PATCH", f"{path}Hub", {"properties": {"desired": more}})[0] == 200
    options = {"systemModules": {"edgeHub": {"imagePullPolicy": "never", "env": {"storageFolder": {"value": "/x", "note": 1}, "N": {"value": 7}}}}}
    assert service.call("PATCH", f"{path}Agent", {"properties": {"desired": options}})[0] == 200
    before = [get(service, path + m)["properties"]["desired"] for m in ("Hub", "Agent")]
    owner("manifestTtl", device="edge1", ttl=99)
    after = [get(service, path + m)["properties"]["desired"] for m in ("Hub", "Agent")]
    for doc in before + after:
        del doc["$version"], doc["$metadata"]
    before[0]["storeAndForwardConfiguration"]["timeToLiveSecs"] = 99
    assert after == before
    owner("manifestDrop", device="edge1", module="cam")
    assert service.call("GET", "/devices/edge1/modules/cam")[0] == 404


# --- traffic ------------------------------------------------------------------------------------------------------------------

def test_live_telemetry(lab, owner, service):
    owner("telemetry")
    with login(lab, service, "leaf-b") as b, login(lab, service, "leaf-c") as c:
        b.publish(mqttwire.telemetry_topic("leaf-b", "%24.ct=application%2Fjson&%24.ce=utf-8&room=" + "a%3Cb%3E"), '{"temperature": 21.5}')
        c.publish(mqttwire.telemetry_topic("leaf-c"), b"\xff\x00binary")
        c.publish(mqttwire.telemetry_topic("leaf-c"), EVIL)
        owner("sees", texts=["leaf-b", "21.5", "8 bytes", EVIL])
        owner("details", text="21.5", within=["room", "a<b>", "application/json", "iothub-connection-device-id"])
        owner("pause", on=True)
        c.publish(mqttwire.telemetry_topic("leaf-c"), "while paused")
        owner("paused", n=1)
        owner("sees", texts=[], absent=["while paused"])
        owner("pause", on=False)
        owner("sees", texts=["while paused"])
        owner("telemetry", device="leaf-b")
        c.publish(mqttwire.telemetry_topic("leaf-c"), "of another")
        b.publish(mqttwire.telemetry_topic("leaf-b"), "of the one")
        owner("sees", texts=["of the one"], absent=["of another"])
        for i in range(400):
            b.publish(mqttwire.telemetry_topic("leaf-b"), f"many {i}", wait=False)
        owner("sees", texts=["many 399"])
        assert owner("sees", texts=[])["n"] <= 200


def test_method_and_message(lab, owner, service):
    def answer(c):
        while True:
            p = c.recv()
            m = mqttwire.parse_publish(p) if p.type == mqttwire.PUBLISH else None
            if m and m.topic.startswith("$iothub/methods/POST/reboot/"):
                c.publish(f"$iothub/methods/res/207/?$rid={m.topic.partition('$rid=')[2]}", b'{"got":' + m.payload + b"}", qos=0)
                return

    with login(lab, service, "leaf-b") as c:
        c.subscribe(("$iothub/methods/POST/#", 0))
        t = threading.Thread(target=answer, args=(c,))
        t.start()
        text = owner("method", device="leaf-b", name="reboot", payload='{"in": 5}')["text"]
        t.join()
        assert "status 207" in text and '"in": 5' in text.replace("\t", "")
        c.subscribe(("devices/leaf-b/messages/devicebound/#", 1))
        owner("c2d", device="leaf-b", body="wake up ü", property=["k", "v&ü"])
        message = mqttwire.parse_publish(c.recv())
        assert message.payload.decode() == "wake up ü" and "k=v%26%C3%BC" in message.topic
    assert "connect" in owner("method", device="leaf-a", name="reboot", payload="null")["text"]


def amqp_login(lab, token):
    """(connection, status of put-token)"""
    with lab.inside("hub"):
        c = amqpwire.Client(amqpwire.tls(lab.ca, HUB_NAME, HUB_IP)).open()
    return c, c.cbs(token)[0]


def test_switch_cuts_one_device_off(lab, owner, service):
    """Whatever other rules there are, for every protocol, and only that device."""
    lab.hub_ctl("fault.add", on="connect", action="delay=1", device="leaf-b")
    key = get(service, "/devices/leaf-b")["authentication"]["symmetricKey"]["primaryKey"]
    token = sas_token(key, f"{HUB_NAME}/devices/leaf-b")
    event = "/devices/leaf-b/messages/events"
    with login(lab, service, "leaf-b") as c, login(lab, service, "leaf-c") as other:
        amqp, status = amqp_login(lab, token)
        assert status == 200
        amqp.sender(event)
        assert "Cut off" in owner("cutOff", device="leaf-b", on=True)["row"]
        with pytest.raises((amqpwire.Closed, amqpwire.Refused)):
            amqp.sender(event)
        with pytest.raises(amqpwire.Closed):
            amqp_login(lab, token)
        with pytest.raises(mqttwire.Closed):
            c.recv()
        with lab.hub_client() as again, pytest.raises(mqttwire.Closed):
            again.login(HUB_NAME, "leaf-b", token)
        with lab.inside("hub"):
            https = hubrest.Https(lab.ca, token)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            https.raw("POST", event, b"x")
        other.publish(mqttwire.telemetry_topic("leaf-c"), "still here")
    owner("listShows", search="", show="cut", ids=["leaf-b"])
    assert "Cut off" not in owner("cutOff", device="leaf-b", on=False)["row"]
    login(lab, service, "leaf-b").close()
    amqp, status = amqp_login(lab, token)
    assert status == 200 and amqp.send(amqp.sender(event), Message(body=b"x", inferred=True))[0] == "accepted"
    with lab.inside("hub"):
        assert hubrest.Https(lab.ca, token).raw("POST", event, b"x")[0] == 204


def test_faults_and_overview(lab, owner, service):
    lab.hub_ctl("fault.add", on="telemetry", action="ack-late=5", device="leaf-a", rate=50)
    lab.hub_ctl("fault.add", on="twin", action="reject=503")
    owner("faults", rules=2)
    assert [r["on"] for r in lab.hub_ctl("fault.list")] == ["twin"]
    with login(lab, service, "leaf-a"):
        shown = owner("overview")
    assert len(shown["logins"]) == 1 and "leaf-amqtt10." in shown["logins"][0]
    devices = lab.hub_ctl("status")[0]["devices"]
    assert f"Devices{devices}2 edge · 1 disabled" in shown["figures"][0] and HUB_NAME in shown["facts"]


# --- safety -------------------------------------------------------------------------------------------------------------------

def test_text_is_never_markup(lab, owner, service):
    """Ids cannot hold < and >, but twins, reasons and telemetry can."""
    assert service.call("PUT", "/devices/odd$'(%2A)", {"statusReason": EVIL})[0] == 200
    assert service.call("PUT", "/devices/odd$'(%2A)/modules/m%25", {})[0] == 200
    assert service.call("PATCH", "/twins/odd$'(%2A)", {"tags": {"x": EVIL, "img<src>": EVIL}})[0] == 200
    with login(lab, service, "leaf-c") as c:
        c.publish(mqttwire.telemetry_topic("leaf-c", "%3Cimg%20src%3Dx%20onerror%3Dstolen%3D1%3E=v"), f'{{"a": "{EVIL}"}}')
    owner("markup", device="odd$'(*)", module="m%", text="leaf-c", pages=["/telemetry"])
    owner("markup", device="odd$'(*)", module="m%", text="odd$'(*)", pages=[
        f"/devices/odd$'(*){part}" for part in ("", "/twin", "/modules", "/parent", "/messages")] + ["/devices?search=ODD$'("])


def test_long_names_fit_a_phone(owner, service):
    name = "very-long-" * 12 + "12345678"
    path = "/devices/" + name
    assert service.call("PUT", path, {"capabilities": {"iotEdge": True}})[0] == 200
    assert service.call("PUT", f"{path}/modules/{name}", {})[0] == 200
    assert service.call("PUT", "/devices/child-of-long", {"deviceScope": get(service, path)["deviceScope"]})[0] == 200
    parts = ["", "/twin", "/modules", "/children", "/parent", "/manifest", "/messages", f"/modules/{name}"]
    owner("narrow", pages=[path + part for part in parts] + ["/devices/child-of-long/parent", f"/devices?search={name}"])
    assert service.call("DELETE", path)[0] == 204


def test_read_only_policy(owner, policy):
    refused = owner("readOnly", credential=policy("registryRead"), device="leaf-a")["refused"]
    assert set(refused.values()) == {401} and len(refused) == 5, refused


def test_dark(owner):
    owner("dark")


class Portal(hubrest.Https):
    """A signed-in program that is no browser."""

    def __init__(self, ca, credential):
        super().__init__(ca)
        status, headers, data = self.raw("POST", "/portal/api/login", json.dumps({"credential": credential}))
        assert status == 200, data
        self.cookie, self.session = headers["Set-Cookie"].partition(";")[0], json.loads(data)

    def ask(self, method, path, body=None, csrf=True, **headers):
        own = {"Cookie": self.cookie, **({"X-CSRF-Token": self.session["csrfToken"]} if csrf else {})}
        status, _, data = self.raw(method, f"/portal/api/{path}", None if body is None else json.dumps(body),
                                   {**own, **{k.replace("_", "-"): v for k, v in headers.items()}})
        return status, json.loads(data) if data else None


def test_forged_requests(lab, policy):
    before = counters(lab)["portal_forged_total"]
    with lab.inside("hub"):
        p = Portal(lab.ca, policy("iothubowner"))
        plain = hubrest.Https(lab.ca)
    put = ("PUT", "devices/forged", {"deviceId": "forged"})
    assert p.ask(*put, csrf=False)[0] == 403
    assert p.ask(*put, csrf=False, X_CSRF_Token="0" * 32)[0] == 403
    assert p.ask(*put, Origin="https://evil.test")[0] == 403
    assert p.ask(*put, Origin=f"http://{HUB_NAME}")[0] == 403
    assert p.ask(*put, Sec_Fetch_Site="cross-site")[0] == 403
    # Some reads change something too: a message is locked. Another port of this host is the same site to a cookie.
    feedback = ("GET", "messages/servicebound/feedback")
    assert p.ask(*feedback, Sec_Fetch_Site="same-site")[0] == 403
    assert p.ask(*feedback, Origin=f"https://{HUB_NAME}:8443")[0] == 403
    assert p.ask(*feedback, Sec_Fetch_Site="none")[0] == 204
    assert p.ask("POST", "logout", csrf=False)[0] == 403
    assert plain.raw("POST", "/portal/api/login", json.dumps({"credential": policy("iothubowner")}),
                     {"Origin": "https://evil.test"})[0] == 403
    assert counters(lab)["portal_forged_total"] - before == 9
    # The portal is no device.
    assert p.ask("GET", "devices/edge1/messages/devicebound")[0] == 405
    assert p.ask("POST", "devices/edge1/messages/events", {})[0] == 401
    assert p.ask("DELETE", "devices/edge1/messages/devicebound/1")[0] == 401
    # A session is worth nothing outside the portal, a token nothing inside.
    assert plain.raw("GET", "/devices/edge1", None, {"Cookie": p.cookie})[0] == 401
    key = policy("iothubowner").rpartition("SharedAccessKey=")[2]
    assert plain.raw("GET", "/portal/api/devices/edge1", None, {"Authorization": sas_token(key, HUB_NAME, policy="iothubowner")})[0] == 401
    assert p.ask(*put, Origin=f"https://{HUB_NAME}", Sec_Fetch_Site="same-origin")[0] == 200
    assert p.ask("GET", "devices/edge1")[1]["deviceId"] == "edge1"
    assert p.ask("POST", "logout")[0] == 204
    assert p.ask("GET", "devices/edge1")[0] == 401


def test_files(lab):
    with lab.inside("hub"):
        c = hubrest.Https(lab.ca)
    status, headers, page = c.raw("GET", "/portal/")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and b"SPDX" in page
    csp = headers["Content-Security-Policy"]
    assert "default-src 'self'" in csp and "frame-ancestors 'none'" in csp and "unsafe" not in csp and "http" not in csp
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, again, body = c.raw("GET", "/portal/", None, {"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"") and again["ETag"] == headers["ETag"]
    assert c.raw("HEAD", "/portal/main.js")[1]["Content-Type"].startswith("text/javascript")
    assert c.raw("GET", "/portal/portal.css")[1]["Content-Type"].startswith("text/css")
    assert c.raw("POST", "/portal/main.js", b"")[0] == 405
    assert c.raw("GET", "/portal/../portal/none")[0] == 404
    status, headers, _ = c.raw("GET", "/portal")
    assert (status, headers["Location"]) == (301, "/portal/")


def test_sessions_expire_and_failures_are_limited(lab, do, policy):
    """Near the end: it starts the hub anew, with short sessions."""
    with open(lab.path("hub.conf"), "a", encoding="utf-8") as f:
        f.write("portal: { session_idle_secs = 2; };\n")
    lab.hub("restart")
    credential = policy("iothubowner")
    for page in ("/", "/devices/edge1"):
        do("signin", credential=credential)
        do("expires", hash=page)
    with lab.inside("hub"):
        live, p = Portal(lab.ca, credential), Portal(lab.ca, credential)
    live.http.request("GET", "/portal/api/live", headers={"Cookie": live.cookie})
    stream = live.http.getresponse()
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    wait_for("the session to end unused", 30, lambda: p.ask("GET", "session", X_Portal_Poll="1")[0] == 401)
    assert b"event: signedout" in stream.read()
    with lab.inside("hub"):
        c = hubrest.Https(lab.ca)
    wrong = [c.raw("POST", "/portal/api/login", json.dumps({"credential": "0" * 32}))[0] for _ in range(11)]
    assert wrong == [401] * 10 + [429]
    status, _, data = c.raw("POST", "/portal/api/login", json.dumps({"credential": credential}))
    assert status == 429 and "Try again in" in json.loads(data)["Message"]
    assert counters(lab)["portal_logins_limited_total"] == 2


def test_the_hub_has_no_sanitizer_report(lab):
    lab.hub("restart")		# what leaks is told at the end
    assert "Sanitizer" not in lab.log("hub") and "runtime error" not in lab.log("hub")
