#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server for one name: dnsserver.py ADDRESS PORT NAME IP. Prints a JSON line per question."""
import json
import socket
import struct
import sys


def main():
    address, port, name, ip = sys.argv[1], int(sys.argv[2]), sys.argv[3].lower(), sys.argv[4]
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    print(json.dumps({"event": "ready"}), flush=True)
    while True:
        data, peer = s.recvfrom(4096)
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode(errors="replace"))
            at += 1 + data[at]
        qtype = struct.unpack_from(">H", data, at + 1)[0]
        asked, question = ".".join(labels).lower(), data[12:at + 5]
        answer = b""
        if asked == name and qtype == 1:
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(ip)
        flags = 0x8180 if asked == name else 0x8183
        s.sendto(data[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0) + question + answer, peer)
        print(json.dumps({"event": "asked", "name": asked, "type": qtype}), flush=True)


if __name__ == "__main__":
    main()
