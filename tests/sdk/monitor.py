# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the CLI's monitor-events, with its AMQP library (uamqp): SASL PLAIN, the redirection, $management, one reader.

    python monitor.py CONNECTION-STRING TOKEN CA.pem PARTITION SINCE-MS

TOKEN: of the policy, for the hub. Prints one JSON line.
"""
import json
import sys

import uamqp
from uamqp import authentication, errors

connection_string, token, ca, partition, since = sys.argv[1:]
parts = dict(p.split("=", 1) for p in connection_string.split(";"))
host, policy, key = parts["HostName"], parts["SharedAccessKeyName"], parts["SharedAccessKey"]
name = f"{policy}@sas.root.{host.split('.')[0]}"


def redirection():
    plain = authentication.SASLPlain(host, name, token, verify=ca)
    client = uamqp.ReceiveClient(f"amqps://{host}/messages/events/$management", auth=plain, timeout=10000, prefetch=1)
    try:
        client.receive_message_batch(max_batch_size=1, timeout=10000)
    except errors.LinkRedirect as e:
        return e.hostname.decode(), e.address.decode().removeprefix("amqps://").split("/")[1]
    finally:
        client.close()
    raise SystemExit("no redirection")


def auth():
    uri = f"sb://{events_host}/{entity}"
    return authentication.SASTokenAuth.from_shared_access_key(uri, policy, key, verify=ca)


events_host, entity = redirection()
client = uamqp.AMQPClient(f"amqps://{events_host}/{entity}", auth=auth())
client.open()
request = uamqp.Message(application_properties={b"name": entity.encode()})
answer = client.mgmt_request(request, b"READ", op_type=b"com.microsoft:eventhub", status_code_field=b"status-code",
                             description_fields=b"status-description", timeout=10000).get_data()
client.close()

source = uamqp.address.Source(f"amqps://{events_host}/{entity}/ConsumerGroups/$Default/Partitions/{partition}")
source.set_filter(f"amqp.annotation.x-opt-enqueuedtimeutc > {since}".encode())
client = uamqp.ReceiveClient(source, auth=auth(), timeout=5000, prefetch=100)
messages = [(m.annotations[b"iothub-connection-device-id"].decode(), b"".join(m.get_data()).decode())
            for m in client.receive_message_batch(max_batch_size=100, timeout=5000)]
client.close()
print(json.dumps({"host": events_host, "entity": entity, "partitions": [p.decode() for p in answer[b"partition_ids"]],
                  "count": answer[b"partition_count"], "messages": messages}))
