# SPDX-License-Identifier: GPL-3.0-or-later
"""A broken configuration: every problem at once, each with file and line; for a misspelt key the nearest one."""
import os
import re
import subprocess

import pytest
from labctl import REPO

BUILD = os.path.join(REPO, "build", os.environ.get("HOLDFAST_BUILD", ""))
GOOD = """\
hub: { host = "hub.holdfast.test"; connection_string_file = "FOLDER/connection"; ca_file = "FOLDER/ca.pem"; };
gateway: { host = "gw.holdfast.test"; };
tls: { cert_file = "FOLDER/cert.pem"; key_file = "FOLDER/key.pem"; };
control: { socket = "FOLDER/control.sock"; };
storage: { dir = "FOLDER/data"; };
"""


def run(program, *args):
    r = subprocess.run([os.path.join(BUILD, program), *args], capture_output=True, text=True, timeout=30, check=False)
    return r.returncode, r.stdout + r.stderr


@pytest.fixture
def conf(tmp_path):
    for name in ("connection", "ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("only has to be there\n")

    def write(text, name="gw.conf"):
        path = tmp_path / name
        path.write_text(text.replace("FOLDER", str(tmp_path)))
        return str(path)
    return write


CHECKERS = [("holdfastd", "-t", "-c"), ("holdfastctl", "conf", "check", "-c")]


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda c: " ".join(c))
def test_all_problems_with_file_line_and_nearest_key(conf, checker):
    path = conf(GOOD + """\
store: {
	when_ful = "refuse";
	max_bytes = "a lot";
	durability = "sometimes";
};
kernel: { mode = "auto"; };
kern: { mode = "perhaps"; };
limits: { connections = -4; };
""")
    status, text = run(*checker, path)
    assert status == 1, text
    for line, words in ((7, "when_full"), (8, "max_bytes"), (9, "durability"), (11, "kern"), (12, "mode"), (13, "connections")):
        assert re.search(rf"{re.escape(path)}:{line}: .*{words}", text), (line, words, text)


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda c: " ".join(c))
def test_syntax_error_has_its_line(conf, checker):
    path = conf(GOOD + 'store: { max_bytes = ; };\n')
    status, text = run(*checker, path)
    assert status == 1 and f"{path}:6: " in text, text


def test_missing_settings_are_all_named(conf):
    status, text = run("holdfastd", "-t", "-c", conf("log: { level = \"info\"; };\n"))
    assert status == 1
    for key in ("hub.host", "hub.connection_string_file", "gateway.host", "tls.key_file"):
        assert key in text, (key, text)


def test_missing_file_is_told(tmp_path):
    status, text = run("holdfastd", "-t", "-c", str(tmp_path / "none.conf"))
    assert status == 1 and "none.conf" in text


def test_good_one_passes_and_shows_itself(conf):
    path = conf(GOOD)
    status, text = run("holdfastctl", "conf", "check", "-c", path)
    assert status == 0, text
    over = conf('store: { max_bytes = "64 MiB"; time_to_live_secs = 60; };\n', "over.conf")
    status, shown = run("holdfastctl", "conf", "show", "-c", path, "-c", over)
    assert status == 0, shown
    # What it shows is itself a configuration and says the same again.
    again = conf(shown, "shown.conf")
    assert run("holdfastctl", "conf", "show", "-c", again) == (0, shown)
    assert re.search(r"time_to_live_secs\s*=\s*60", shown)


def test_usage_and_unreachable_exit_codes(tmp_path):
    assert run("holdfastctl", "no-such-command")[0] == 2
    assert run("holdfastctl", "-s", str(tmp_path / "nobody.sock"), "status")[0] == 3
    assert run("holdfastd")[0] == 2
    assert run("holdfast-hub", "-s", str(tmp_path / "nobody.sock"), "events", "--json")[0] == 3


def test_the_hub_names_what_it_cannot_use(tmp_path):
    folder = tmp_path / "hub"
    assert run("holdfast-hub", "init", str(folder))[0] == 0
    over = tmp_path / "over.conf"

    def with_(text):
        over.write_text(text)
        return run("holdfast-hub", "serve", "-t", "-c", str(folder / "hub.conf"), "-c", str(over))
    assert with_('listen: { mqtt = "[::1]:8883"; };')[0] == 0
    for address in ("localhost:8883", "127.0.0.1", "127.0.0.1:0", "[127.0.0.1]:8883"):
        status, text = with_(f'listen: {{ mqtt = "{address}"; }};')
        assert status == 1 and f"{over}:1: listen.mqtt: expected " in text, text
    status, text = with_("limits: { conections = 4; };")
    assert status == 1 and f"{over}:1: limits.conections: unknown key; did you mean limits.connections?" in text
    status, text = run("holdfast-hub", "serve", "-c", str(tmp_path / "none.conf"))	# nothing about what it may lack
    assert status == 1 and text == f"{tmp_path}/none.conf: No such file or directory\nholdfast-hub: configuration refused\n"
