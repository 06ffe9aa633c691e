# SPDX-License-Identifier: GPL-3.0-or-later
"""An AMQP peer by qpid-proton, for what the SDKs do not do. Run it with the distribution's Python:

    python3 amqppeer.py CA.pem USER PASSWORD send TO          one message to a device over SASL PLAIN
    python3 amqppeer.py CA.pem USER PASSWORD attach ADDRESS   attaches a receiver, tells what becomes of it
    python3 amqppeer.py CA.pem USER PASSWORD manage REQUESTS  to $management: a JSON list of their application properties
    python3 amqppeer.py CA.pem USER PASSWORD HOW ADDRESS      one message, of JSON; HOW: accept, reject, release, modify, none

USER "" is ANONYMOUS. Prints one JSON line.
"""
import json
import sys

from proton import ConnectionException, Message, SSLDomain, Timeout
from proton.reactor import ReceiverOption
from proton.utils import BlockingConnection, LinkDetached, SendException

HUB = "amqps://hub.holdfast.test:5671"


def text(value):
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else value


def take(receiver, how):
    try:
        m = receiver.receive(timeout=2)
    except Timeout:
        return {"body": None}
    if how == "accept":
        receiver.accept()
    elif how == "reject":
        receiver.reject()
    elif how != "none":
        receiver.release(delivered=how == "modify")
    return {"body": json.loads(bytes(m.body)), "userId": m.user_id.decode(), "contentType": m.content_type,
            "deliveries": int(m.annotations["iothub-deliverycount"])}


class ReplyTo(ReceiverOption):
    def apply(self, link):
        link.target.address = "me"


def manage(connection, requests):
    receiver = connection.create_receiver("$management", credit=len(requests), options=ReplyTo())
    sender, answers = connection.create_sender("$management"), []
    for properties in requests:
        sender.send(Message(properties=properties, reply_to="me", id=f"{len(answers)}"))
        m = receiver.receive(timeout=5)
        assert m.correlation_id == f"{len(answers)}" and m.address == "me"
        answers.append((m.properties["status-code"], m.properties.get("error-condition"), sorted(m.body or {})))
    return answers


def main():
    ca, user, password, command, address = sys.argv[1:]
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(ca)
    try:
        connection = BlockingConnection(HUB, ssl_domain=domain, user=user or None, password=password or None, timeout=10,
                                        allowed_mechs="PLAIN" if user else "ANONYMOUS", reconnect=False)
    except ConnectionException as e:
        return {"refused": str(e)}
    try:
        if command == "send":
            connection.create_sender("/messages/devicebound").send(Message(b"by proton", address=address, inferred=True))
            return {"outcome": "accepted"}
        if command == "manage":
            return manage(connection, json.loads(address))
        receiver = connection.create_receiver(address, credit=0 if command == "attach" else 1)
        return {"attached": True} if command == "attach" else take(receiver, command)
    except SendException as e:
        return {"outcome": str(e.state)}
    except LinkDetached as e:
        return {"condition": e.condition, "info": text(e.link.remote_condition.info)}
    finally:
        connection.close()


print(json.dumps(main()))
