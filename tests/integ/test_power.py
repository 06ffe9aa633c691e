# SPDX-License-Identifier: GPL-3.0-or-later
"""A power cut, modelled: of the storage files only what was synced is left (tests/fault/powercut.c).

test_acknowledged_means_synced is the test that turns red when the sync is skipped; its sibling proves that, with
a debug build that is told to skip it (HOLDFAST_FAULT=nosync).
"""
import os
import subprocess

import judge
import pytest
from labctl import REPO, start_publisher

CHILDREN = 10


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("shim") / "libpowercut.so")
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", path,
                    os.path.join(REPO, "tests", "fault", "powercut.c"), "-ldl"], check=True)
    return path


def cut_power(lab, start_env):
    """Kills the gateway, forgets every byte that was not synced, starts it again."""
    storage = lab.status()["storage"]["gw"]
    lab.gw("kill")
    kept = 0
    for folder, _, names in os.walk(storage):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".durable"):
                os.rename(path, path[:-len(".durable")])
                kept += 1
            elif "lock" in name:
                os.unlink(path)
    assert kept >= 1, "the model saw no storage file"
    with_environment(lab, start_env, "start")


def with_environment(lab, env, action):
    before = {k: os.environ.get(k) for k in env}
    os.environ.update(env)
    try:
        lab.gw(action)
    finally:
        for k, v in before.items():
            if v is None:
                os.environ.pop(k)
            else:
                os.environ[k] = v


def cut_while_publishing(lab, tmp_path, shim, fault):
    """Publishes offline through a power cut; the verdict on what the hub has in the end."""
    env = {"LD_PRELOAD": shim, "HF_POWERCUT_DIR": lab.status()["storage"]["gw"]}
    if fault:
        env["HOLDFAST_FAULT"] = fault
    lab.link("down")
    with_environment(lab, env, "restart")
    acks = str(tmp_path / "acks")
    pub = start_publisher(lab, acks, window=4, rate=20)
    pub.wait_last(lambda s: s["connected"] == CHILDREN and s["acked"] > 300, 30)
    cut_power(lab, {})
    lab.link("up")
    assert pub.end("quit", 60) == 0
    lab.wait_drained(30)
    return judge.judge(judge.read_acks(acks), lab.events())


def test_acknowledged_means_synced(labs, tmp_path, shim):
    verdict = cut_while_publishing(labs(children=CHILDREN, build="debug"), tmp_path, shim, None)
    assert verdict.accepted > 300
    assert verdict.lost == 0 and verdict.order_errors == 0, judge.format_verdict(verdict)


def test_the_model_notices_a_skipped_sync(labs, tmp_path, shim):
    verdict = cut_while_publishing(labs(children=CHILDREN, build="debug"), tmp_path, shim, "nosync")
    assert verdict.lost > 0, "a build that skips the sync passes: the test above proves nothing"
