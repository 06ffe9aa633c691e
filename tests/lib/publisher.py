#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many children in one process: QoS 1 telemetry with a window, an ack log, and stubborn reconnects.

Every message is {"c": child, "n": counter}. A message is given up only when its PUBACK came: after a reconnect
all unanswered ones are sent again, in order, with the same body. PUBACKs go to the ack log, one line each,
before anything else is done with them.

Lines on standard input: 'rate R' (messages per second per child), 'total N' (each child sends N more, then
rests), 'pause', 'bounce CHILD' (its process died: unanswered messages are forgotten), 'quit' (stop producing,
end when everything is acknowledged), 'abort'. Standard output: one JSON object every 100 ms and at the end.
"""
import argparse
import asyncio
import json
import os
import random
import struct
import sys
import time
from collections import deque

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "scripts"))
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import mqttwire  # noqa: E402
from judge import read_acks  # noqa: E402
from labkit.identity import sas_token  # noqa: E402
from labkit.world import GW_NAME, HUB_NAME  # noqa: E402


class Child:
    def __init__(self, run, ident, key, first):
        self.run, self.ident, self.key = run, ident, key
        self.next_n, self.made, self.acked = first, 0, 0
        self.waiting = deque()		# counters not acknowledged yet, oldest first
        self.sent = 0			# so many of them are out on this connection
        self.writer, self.connected, self.reconnects = None, False, -1
        self.wake = asyncio.Event()
        self.due_from = None

    def produce(self):
        """Hands in new messages as the rate and the total allow."""
        run = self.run
        if run.rate is not None:
            now = time.monotonic()
            if self.due_from is None or self.due_from[0] != run.epoch:
                self.due_from = (run.epoch, now - random.random() / run.rate, self.made)
            room = int((now - self.due_from[1]) * run.rate) - (self.made - self.due_from[2])
        elif run.total is not None:
            room = run.total - self.made
        else:
            room = 0
        while room > 0 and len(self.waiting) < run.window:
            self.waiting.append(self.next_n)
            self.next_n += 1
            self.made += 1
            room -= 1

    def flush(self):
        if not self.connected:
            return
        out = bytearray()
        for i in range(self.sent, len(self.waiting)):
            n = self.waiting[i]
            body = json.dumps({"c": self.ident, "n": n, "pad": self.run.pad})
            out += mqttwire.publish(mqttwire.telemetry_topic(self.ident), body, 1, n % 65535 + 1)
        self.sent = len(self.waiting)
        if out:
            self.writer.write(bytes(out))

    def on_puback(self, mid):
        if not self.waiting or self.sent == 0 or self.waiting[0] % 65535 + 1 != mid:
            self.run.bad_acks += 1	# acknowledged out of order, or not asked for
            return
        n = self.waiting.popleft()
        self.sent -= 1
        self.acked += 1
        self.run.log_ack(self.ident, n)

    async def session(self):
        reader, self.writer = await asyncio.wait_for(asyncio.open_connection(
            self.run.host, 8883, ssl=self.run.tls, server_hostname=self.run.host), 15)
        parser, pinger = mqttwire.Parser(), None
        try:
            token = sas_token(self.key, f"{HUB_NAME}/devices/" + self.ident.replace("/", "/modules/"))
            self.writer.write(mqttwire.connect(self.ident, f"{HUB_NAME}/{self.ident}/?{mqttwire.API}", token, 30, True))
            while True:
                data = await asyncio.wait_for(reader.read(65536), 60)
                if not data:
                    return
                parser.feed(data)
                while (p := parser.next()) is not None:
                    if p.type == mqttwire.CONNACK:
                        if p.body[1] != 0:
                            self.run.refusals += 1
                            return
                        self.connected, self.sent = True, 0
                        self.reconnects += 1
                        pinger = asyncio.ensure_future(self.ping())
                    elif p.type == mqttwire.PUBACK:
                        self.on_puback(struct.unpack(">H", p.body)[0])
                self.produce()
                self.flush()
        finally:
            self.connected = False
            if pinger:
                pinger.cancel()
            self.writer.transport.abort()

    async def ping(self):
        while True:
            await asyncio.sleep(10)
            self.writer.write(mqttwire.packet(mqttwire.PINGREQ, 0))

    async def live(self):
        pause = 0.05
        while True:
            try:
                await self.session()
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, EOFError):
                pass
            if self.reconnects >= 0 and not self.waiting:
                pause = 0.05
            await asyncio.sleep(random.uniform(0.5, 1) * pause)
            pause = min(pause * 1.5, 1.0)

    def bounce(self):
        self.waiting.clear()
        self.sent = 0
        if self.writer:
            self.writer.transport.abort()


class Run:
    def __init__(self, args):
        self.host, self.window, self.rate, self.total = GW_NAME, args.window, args.rate, args.total
        self.epoch, self.pad, self.bad_acks, self.refusals = 0, "x" * args.pad, 0, 0
        self.tls = mqttwire.tls_context(args.ca)
        self.log = os.open(args.acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        known = read_acks(args.acks)
        with open(args.children, encoding="utf-8") as f:
            rows = json.load(f)
        rows = rows[args.first:args.first + args.count] if args.count else rows[args.first:]
        self.children = {}
        for row in rows:
            ident = row["deviceId"] + ("/" + row["moduleId"] if row.get("moduleId") else "")
            # Beyond everything a former run of this child may have handed in.
            first = max(known.get(ident, {-1})) + 1 + (args.window if ident in known else 0)
            self.children[ident] = Child(self, ident, row["primaryKey"], first)

    def log_ack(self, ident, n):
        os.write(self.log, b"%s %d\n" % (ident.encode(), n))

    def command(self, line):
        words = line.split()
        if not words:
            return
        for child in self.children.values():
            child.produce()
        self.epoch += 1
        if words[0] == "rate":
            self.rate, self.total = float(words[1]), None
        elif words[0] == "total":
            self.rate, self.total = None, int(words[1])
            for child in self.children.values():
                child.made = 0
        elif words[0] in ("pause", "quit"):
            self.rate = self.total = None
        elif words[0] == "bounce" and words[1] in self.children:
            self.children[words[1]].bounce()

    def state(self, last=False):
        c = self.children.values()
        return {"children": len(c), "connected": sum(x.connected for x in c), "acked": sum(x.acked for x in c),
                "unacked": sum(len(x.waiting) for x in c),
                "resting": self.total is not None and all(x.made >= self.total and not x.waiting for x in c),
                "reconnects": sum(max(0, x.reconnects) for x in c), "badAcks": self.bad_acks,
                "refusals": self.refusals, "last": last}

    async def main(self):
        loop = asyncio.get_running_loop()
        stdin = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        tasks = [asyncio.ensure_future(c.live()) for c in self.children.values()]
        quitting, reading, report = False, asyncio.ensure_future(stdin.readline()), 0.0
        while True:
            await asyncio.sleep(0.02)
            if reading and reading.done():
                line = reading.result().decode()
                if line.strip() == "abort" or (not line and not quitting):
                    break
                quitting = quitting or line.strip() == "quit"
                self.command(line)
                reading = asyncio.ensure_future(stdin.readline()) if line else None
            for child in self.children.values():
                child.produce()
                child.flush()
            if time.monotonic() - report >= 0.1:
                report = time.monotonic()
                print(json.dumps(self.state()), flush=True)
            if quitting and not any(c.waiting for c in self.children.values()):
                break
        while tasks:	# wait_for may swallow one cancellation
            for task in tasks:
                task.cancel()
            tasks = (await asyncio.wait(tasks, timeout=0.2))[1]
        print(json.dumps(self.state(last=True)), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--children", required=True, help="children.json of the lab")
    p.add_argument("--ca", required=True)
    p.add_argument("--acks", required=True, help="ack log, appended to")
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--count", type=int, default=0, help="so many of them, from --first on; 0 = all")
    p.add_argument("--window", type=int, default=8, help="unacknowledged messages per child")
    p.add_argument("--rate", type=float, help="messages per second per child from the start")
    p.add_argument("--total", type=int, help="so many messages per child from the start, as fast as it goes")
    p.add_argument("--pad", type=int, default=200, help="filler bytes per body")
    asyncio.run(Run(p.parse_args()).main())


if __name__ == "__main__":
    main()
