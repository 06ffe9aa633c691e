# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests: labs, made through scripts/lab and always taken down again."""
import itertools
import os
import sys

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(REPO, "tests", "lib"))
sys.dont_write_bytecode = True
import hubrest  # noqa: E402
from labctl import Lab  # noqa: E402
from labkit.procs import tail  # noqa: E402

LONG = os.environ.get("HOLDFAST_LONG") == "1"
# Settings for every gateway of a run, to pass the same suite under them, e.g. kern.mode=off
EVERYWHERE = [s for s in os.environ.get("HOLDFAST_TEST_CONF", "").split(",") if s]
_numbers = itertools.count()
_up = []


def conf_text(settings):
    """{"store.when_full": "refuse"} as configuration text."""
    groups = {}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if isinstance(value, bool):
            text = "true" if value else "false"
        else:
            text = f'"{value}"' if isinstance(value, str) else str(value)
        groups.setdefault(group, []).append(f"{name} = {text};")
    return "\n".join(f"{group}: {{ {' '.join(lines)} }};" for group, lines in groups.items()) + "\n"


class Factory:
    def __init__(self, tmp):
        self.tmp, self.labs = tmp, []

    def __call__(self, children=3, modules=0, conf=None, build=None, master_key=None):
        lab = Lab(f"t{os.getpid()}-{next(_numbers)}")
        settings = dict(s.split("=", 1) for s in EVERYWHERE)
        settings.update(conf or {})
        path = None
        if settings:
            path = str(self.tmp / f"{lab.name}.conf")
            with open(path, "w", encoding="utf-8") as f:
                f.write(conf_text(settings))
        before = os.environ.get("HOLDFAST_BUILD")
        if build is not None:
            os.environ["HOLDFAST_BUILD"] = build
        self.labs.append(lab)
        _up.append(lab)
        try:
            lab.up(children, modules, path, master_key)
        finally:
            if build is not None:
                os.environ.pop("HOLDFAST_BUILD")
                if before is not None:
                    os.environ["HOLDFAST_BUILD"] = before
        return lab

    def finish(self):
        for lab in self.labs:
            _up.remove(lab)
            lab.down()


def _factory(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("labs"))
    try:
        yield factory
    finally:
        factory.finish()


@pytest.fixture(scope="module")
def module_labs(tmp_path_factory):
    """Labs that live as long as the test file."""
    yield from _factory(tmp_path_factory)


@pytest.fixture
def labs(tmp_path_factory):
    """Labs that live as long as the test."""
    yield from _factory(tmp_path_factory)


@pytest.fixture(scope="module")
def lab(request, module_labs):
    """The file's lab; LAB = {...} in the file says how it is made."""
    return module_labs(**getattr(request.module, "LAB", {}))


@pytest.fixture(scope="module")
def service(lab):
    """The hub's HTTPS API with every right."""
    with lab.inside("hub"):
        rest = hubrest.Rest(lab.ca, lab.json("hub.json")["serviceConnectionString"])
    yield rest
    rest.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for lab in _up:
            for role in ("gw", "hub"):
                text = tail(lab.path(f"{role}.log"), 30)
                if text:
                    report.sections.append((f"end of {role}.log of lab {lab.name}", text))
