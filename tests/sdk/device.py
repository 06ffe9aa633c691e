# SPDX-License-Identifier: GPL-3.0-or-later
"""The official Python device SDK (azure-iot-device), unmodified, driven by JSON lines as device.js is.

    python device.py mqtt|mqtt-ws [module]

HOLDFAST_CHILD: connection string, or a token. HOLDFAST_CERT, HOLDFAST_KEY: PEM files, for a string with x509=true.
HOLDFAST_MODEL: model id. HOLDFAST_CA: PEM file of the server's root.
"""
import json
import logging
import os
import sys

import requests
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509

logging.disable(logging.CRITICAL)
transport, kind = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "device"
env = os.environ


def say(**o):
    sys.stdout.write(json.dumps(o) + "\n")
    sys.stdout.flush()


def make():
    factory = IoTHubModuleClient if kind == "module" else IoTHubDeviceClient
    with open(env["HOLDFAST_CA"], encoding="ascii") as f:
        options = {"server_verification_cert": f.read(), "websockets": transport == "mqtt-ws", "connection_retry_interval": 1}
    if "HOLDFAST_MODEL" in env:
        options["product_info"] = env["HOLDFAST_MODEL"]
    text = env["HOLDFAST_CHILD"]
    if text.startswith("SharedAccessSignature "):
        return factory.create_from_sastoken(text, **options)
    if "HOLDFAST_CERT" in env:
        names = dict(part.split("=", 1) for part in text.split(";"))
        who = {"module_id": names["ModuleId"]} if kind == "module" else {}
        return factory.create_from_x509_certificate(X509(env["HOLDFAST_CERT"], env["HOLDFAST_KEY"]), names["HostName"], names["DeviceId"],
                                                    **who, **options)
    return factory.create_from_connection_string(text, **options)


def message(c):
    m = Message(c["body"])
    m.custom_properties.update(c.get("properties", {}))
    for key, name in (("messageId", "message_id"), ("correlationId", "correlation_id"), ("userId", "user_id"),
                      ("contentType", "content_type"), ("contentEncoding", "content_encoding")):
        if key in c:
            setattr(m, name, c[key])
    if c.get("security"):
        m.set_as_security_message()
    return m


def received(m):
    return {"body": m.data.decode(), "messageId": m.message_id, "correlationId": m.correlation_id, "ack": m.ack,
            "contentType": m.content_type, "properties": sorted(m.custom_properties.items())}


class Commands:
    def __init__(self, client):
        self.client, self.methods = client, {}

    def send(self, c):
        self.client.send_message(message(c))
        return {"event": "sent"}

    def output(self, c):
        self.client.send_message_to_output(message(c), c["output"])
        return {"event": "sent"}

    def twin(self, _):
        self.client.on_twin_desired_properties_patch_received = lambda patch: say(event="desired", patch=patch)
        twin = self.client.get_twin()
        return {"event": "twin", **twin}

    def report(self, c):
        self.client.patch_twin_reported_properties(c["patch"])
        return {"event": "reported"}

    def method(self, c):
        self.methods[c["name"]] = c["status"]
        self.client.on_method_request_received = self._called
        return {"event": "method"}

    def _called(self, request):
        say(event="called", name=request.name, payload=request.payload)
        self.client.send_method_response(MethodResponse.create_from_method_request(
            request, self.methods.get(request.name, 404), {"echo": request.payload}))

    def listen(self, _):
        self.client.on_message_received = lambda m: say(event="c2d", **received(m))
        return {"event": "listening"}

    def renew(self, c):
        self.client.update_sastoken(c["sas"])
        return {"event": "renewed"}

    def upload(self, c):
        place = self.client.get_storage_info_for_blob(c["name"])
        url = f"https://{place['hostName']}/{place['containerName']}/{place['blobName']}{place['sasToken']}"
        with open(c["file"], "rb") as f:
            status = requests.put(url, f, headers={"x-ms-blob-type": "BlockBlob"}, verify=env["HOLDFAST_CA"], timeout=30).status_code
        self.client.notify_blob_upload_status(place["correlationId"], status == 201, status, f"answered {status}")
        return {"event": "uploaded", "status": status}

    def invoke(self, c):
        return {"event": "invoked", "answer": self.client.invoke_method(c["params"], c["device"], c.get("module"))}

    def drop(self, _):
        self.client.disconnect()
        self.client.connect()
        return {"event": "dropped"}


def main():
    client = make()
    client.on_background_exception = lambda e: say(event="error", message=str(e), name=type(e).__name__)
    commands = Commands(client)
    try:
        client.connect()
    except Exception as e:	# told to the test, whatever it is
        say(event="failed", cmd="open", message=str(e), name=type(e).__name__)
        os._exit(1)	# threads of the SDK may wait for long
    say(event="open")
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        c = json.loads(line)
        try:
            say(**getattr(commands, c["cmd"])(c))
        except Exception as e:
            say(event="failed", cmd=c["cmd"], message=str(e), name=type(e).__name__, cause=repr(e.__cause__))
    client.shutdown()


main()
