# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle: what children were promised (their own ack logs) against what the hub has.

An ack log has one line per PUBACK a child received: its id and the counter in the message's body. A body is
JSON and holds the same two, "c" and "n"; a child's counters rise in the order it hands messages in.
"""
import base64
import json
from collections import namedtuple

Verdict = namedtuple("Verdict", "accepted delivered lost order_errors duplicates lost_list order_list")


def read_acks(*paths):
    """{child: set of acknowledged counters}; a line cut off by a kill does not count."""
    acks = {}
    for path in paths:
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                text = f.read()
        except FileNotFoundError:
            continue
        for line in text[:text.rfind("\n") + 1].splitlines():
            child, _, number = line.rpartition(" ")
            acks.setdefault(child, set()).add(int(number))
    return acks


def body_of(event):
    return base64.b64decode(event["bodyBase64"])


def identity_of(event):
    return f"{event['deviceId']}/{event['moduleId']}" if event.get("moduleId") else event["deviceId"]


def numbered(events):
    """(child, counter) of each event whose body is one of ours, oldest first; the sender must match the body."""
    for event in events:
        try:
            body = json.loads(body_of(event))
            child, number = body["c"], body["n"]
        except (ValueError, KeyError, TypeError):
            continue
        if child != identity_of(event):
            raise AssertionError(f"event {event['sequence']} came as {identity_of(event)}, its body says {child}")
        yield child, number


def judge(acks, events):
    seen, newest, duplicates, order_list = {}, {}, 0, []
    for child, number in numbered(events):
        mine = seen.setdefault(child, set())
        if number in mine:
            duplicates += 1
            continue
        mine.add(number)
        if number < newest.get(child, -1):
            order_list.append((child, number, newest[child]))
        newest[child] = max(number, newest.get(child, -1))
    lost = [(child, n) for child, numbers in acks.items() for n in sorted(numbers - seen.get(child, set()))]
    accepted = sum(len(n) for n in acks.values())
    return Verdict(accepted, accepted - len(lost), len(lost), len(order_list), duplicates, lost, order_list)


def format_verdict(v):
    text = (f"accepted {v.accepted} delivered {v.delivered} lost {v.lost} order-errors {v.order_errors} "
            f"duplicates {v.duplicates}")
    for name, rows in (("lost", v.lost_list), ("out of order (child, counter, after)", v.order_list)):
        if rows:
            text += f"\n  {name}: {rows[:10]}{' ...' if len(rows) > 10 else ''}"
    return text
