# SPDX-License-Identifier: GPL-3.0-or-later
"""An AMQP peer by qpid-proton, for what the SDKs do not do. Run it with the distribution's Python:

    python3 amqppeer.py CA.pem USER PASSWORD send TO          one message to a device over SASL PLAIN; or start: unanswered for a second
    python3 amqppeer.py CA.pem USER PASSWORD attach ADDRESSES receivers at a JSON list of addresses: what becomes of each
    python3 amqppeer.py CA.pem USER PASSWORD manage REQUESTS  to $management: a JSON list of their application properties
    python3 amqppeer.py CA.pem USER PASSWORD watch ADDRESS     new events, one line each; credit is given once, at the start
    python3 amqppeer.py CA.pem USER PASSWORD HOW ADDRESS      one message, of JSON; HOW: accept, reject, release, modify, none; or
                                                              drain: the one that is there at once, if any

USER "" is ANONYMOUS. Prints one JSON line.
"""
import json
import sys
import time

from proton import ConnectionException, Described, Message, SSLDomain, Timeout, symbol
from proton.reactor import Filter, ReceiverOption
from proton.utils import BlockingConnection, LinkDetached

HUB, PATIENCE = "amqps://hub.holdfast.test:5671", 30


def send(sender, to, seconds):
    begin = time.monotonic()
    try:
        d = sender.send(Message(b"by proton", address=to, inferred=True), timeout=seconds, error_states=[])
    except (Timeout, ConnectionException) as e:
        return {"outcome": None if isinstance(e, Timeout) else "closed"}
    condition = d.remote.condition
    return {"outcome": str(d.remote_state), "condition": condition.name if condition else None, "seconds": time.monotonic() - begin}


def take(receiver, how):
    if how == "drain":	# the hub gives the credit back when it has nothing: nobody needs to wait
        receiver.link.drain(0)
        receiver.connection.wait(lambda: receiver.fetcher.has_message or receiver.link.credit == 0, timeout=PATIENCE)
        if not receiver.fetcher.has_message:
            return {"body": None}
    m = receiver.receive(timeout=PATIENCE)
    if how == "accept":
        receiver.accept()
    elif how == "reject":
        receiver.reject()
    elif how in ("release", "modify"):
        receiver.release(delivered=how == "modify")
    return {"body": json.loads(bytes(m.body)), "userId": m.user_id.decode(), "contentType": m.content_type,
            "deliveries": int(m.annotations["iothub-deliverycount"])}


def attach(connection, address):
    try:
        connection.create_receiver(address, credit=0).close()
        return "attached", None
    except LinkDetached as e:
        info = e.link.remote_condition.info
        return e.condition, {str(k): str(v) for k, v in info.items()} if info else None


def watch(connection, address):
    name = symbol("apache.org:selector-filter:string")
    latest = Filter({name: Described(name, "amqp.annotation.x-opt-offset > '@latest'")})
    receiver = connection.create_receiver(address, credit=10, options=latest)
    print(json.dumps({"watching": True}), flush=True)
    for _ in range(3):
        print(json.dumps({"body": bytes(receiver.receive(timeout=PATIENCE).body).decode()}), flush=True)
    return {"watching": False}


class ReplyTo(ReceiverOption):
    def apply(self, link):
        link.target.address = "me"


def manage(connection, requests):
    receiver = connection.create_receiver("$management", credit=len(requests), options=ReplyTo())
    sender, answers = connection.create_sender("$management"), []
    for properties in requests:
        sender.send(Message(properties=properties, reply_to="me", id=f"{len(answers)}"))
        m = receiver.receive(timeout=PATIENCE)
        assert m.correlation_id == f"{len(answers)}" and m.address == "me"
        answers.append((m.properties["status-code"], m.properties.get("error-condition"), sorted(m.body or {})))
    return answers


def main():
    ca, user, password, command, address = sys.argv[1:]
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(ca)
    try:
        connection = BlockingConnection(HUB, ssl_domain=domain, user=user or None, password=password or None, timeout=PATIENCE,
                                        allowed_mechs="PLAIN" if user else "ANONYMOUS", reconnect=False)
    except ConnectionException as e:
        return {"refused": str(e)}
    try:
        if command == "send":
            return send(connection.create_sender("/messages/devicebound"), address, PATIENCE)
        if command == "start":
            return send(connection.create_sender("/messages/devicebound"), address, 1)
        if command == "manage":
            return manage(connection, json.loads(address))
        if command == "attach":
            return [attach(connection, a) for a in json.loads(address)]
        if command == "watch":
            return watch(connection, address)
        return take(connection.create_receiver(address, credit=1), command)
    finally:
        connection.close()


print(json.dumps(main()))
