# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell blocks of a Markdown file that are marked as examples: a comment `<!-- example: NAME -->`, then a fence."""
import re

_MARK = re.compile(r"<!-- example: (?P<name>[a-z-]+) -->\n(?P<fence>```+)sh\n(?P<text>.*?)^(?P=fence)\n", re.M | re.S)


def examples(path):
    """{name: text} in the order of the file."""
    with open(path, encoding="utf-8") as f:
        document = f.read()
    found = {m["name"]: m["text"] for m in _MARK.finditer(document)}
    if len(found) != document.count("<!-- example:"):
        raise ValueError(f"{path}: an example has no shell block after it, or a name is used twice")
    return found
