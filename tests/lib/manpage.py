#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The COMMANDS section of a manual page, made from what the tool says about itself with --help.

    tests/lib/manpage.py build/holdfast-hub docs/man/holdfast-hub.8      writes the section anew
"""
import re
import subprocess
import sys

BEGIN, END = '.\\" begin of what --help says', '.\\" end of what --help says'


def _help(tool, *words):
    r = subprocess.run([tool, *words, "--help"], capture_output=True, text=True, timeout=10, check=True)
    return r.stdout


def commands(tool):
    """[(words, help)] of the tool, in its order."""
    listing = _help(tool).split("\ncommands:\n", 1)[1].split("\n\n", 1)[0]
    return [(line[2:26].strip(), line[26:].strip()) for line in listing.splitlines()]


def _text(s):
    return s.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _command(tool, words, summary):
    if words == "completion bash":
        return [f".SS {words}", _text(summary[0].upper() + summary[1:]) + "."]
    usage, _, rest = _help(tool, *words.split()).partition("\n")
    out = [f".SS {words}", f".B {_text(usage.split(' ', 2)[2])}", ".PP", _text(summary[0].upper() + summary[1:]) + "."]
    for line in rest.splitlines():
        option = re.fullmatch(r"  (\S.*?)\s{2,}(\S.*)", line) or re.fullmatch(r"  (\S.{27,}?) (\S.*)", line)
        if line == "example:":
            break
        if option:
            out += [".TP", f".B {_text(option[1])}", _text(option[2])]
    if "\nexample:\n" in rest:
        out += [".PP", ".EX", _text(rest.split("\nexample:\n", 1)[1].rstrip()), ".EE"]
    return out


def section(tool):
    lines = []
    for words, summary in commands(tool):
        lines += _command(tool, words, summary)
    return "\n".join(lines) + "\n"


def renewed(tool, page):
    """The page's text with a new section."""
    with open(page, encoding="utf-8") as f:
        head, _, rest = f.read().partition(BEGIN + "\n")
    return f"{head}{BEGIN}\n{section(tool)}{END}\n{rest.partition(END + chr(10))[2]}"


if __name__ == "__main__":
    text = renewed(sys.argv[1], sys.argv[2])
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(text)
