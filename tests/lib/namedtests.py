# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables in docs/ that name a test for each line: `test_file::test_name`. Every one must exist, and have run."""
import os
import re

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DOCS = ("docs/sdk-compatibility.md", "docs/conformance-hub.md")
NAME = re.compile(r"`((?:test|prop|fuzz)_\w+)::(\w+)`")


def named(doc):
    """{(file, test): line} of the names in a document."""
    found = {}
    with open(os.path.join(REPO, doc), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            for m in NAME.finditer(line):
                found.setdefault(m.groups(), number)
    return found


def exists(file, test):
    """Is there such a test in the sources?"""
    for path, pattern in ((f"tests/integ/{file}.py", rf"^def {test}\("), (f"tests/unit/{file}.c", rf"cmocka_unit_test\w*\({test}\b")):
        path = os.path.join(REPO, path)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                return re.search(pattern, f.read(), re.M) is not None
    return False


def problems(doc, ran=None):
    """One line for each name that is not there, or, with `ran` (a set of (file, test)), did not run."""
    names = named(doc)
    bad = [f"{doc}:{line}: {file}::{test} does not exist" for (file, test), line in names.items() if not exists(file, test)]
    if ran is not None:
        bad += [f"{doc}:{line}: {file}::{test} did not run" for (file, test), line in names.items()
                if exists(file, test) and (file, test) not in ran]
    return bad if names else [f"{doc}: names no test"]
