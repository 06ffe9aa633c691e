# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the built-in endpoint with PyPI's azure-eventhub, until so many events came.

    python eventhub.py CONNECTION-STRING CA.pem SINCE-MS COUNT

Prints one JSON line: partitions of the hub, and the bodies in the order of their arrival by partition.
"""
import datetime
import json
import sys
import threading

from azure.eventhub import EventHubConsumerClient

connection_string, ca, since, count = sys.argv[1:]
client = EventHubConsumerClient.from_connection_string(connection_string, consumer_group="$Default", connection_verify=ca)
bodies, done, lock = {}, threading.Event(), threading.Lock()


def on_batch(context, events):
    with lock:
        bodies.setdefault(context.partition_id, []).extend(e.body_as_str() for e in events)
        if sum(map(len, bodies.values())) >= int(count):
            done.set()


def on_error(context, error):
    print(context.partition_id if context else "-", repr(error), file=sys.stderr)


with client:
    partitions = client.get_partition_ids()
    reader = threading.Thread(target=client.receive_batch, args=(on_batch,), daemon=True,
                              kwargs={"starting_position": datetime.datetime.fromtimestamp(int(since) / 1000, datetime.timezone.utc), "on_error": on_error, "max_wait_time": 1})
    reader.start()
    done.wait(60)
print(json.dumps({"partitions": partitions, "bodies": bodies}))
