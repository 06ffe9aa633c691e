# SPDX-License-Identifier: GPL-3.0-or-later
"""However long the gateway has waited between its attempts: once the cable is mended it comes at once."""
import time

from conftest import LONG

MAX_S = 60 if LONG else 8
LAB = {"children": 1, "conf": {"upstream.backoff_max_secs": MAX_S}}


def test_online_three_seconds_after_link_up(lab):
    lab.link("down")
    lab.wait_status("offline", lambda s: s["uplink"] != "online")
    # Jitter takes up to half away.
    lab.wait_status("the back-off at its longest",
                    lambda s: lab.ctl("upstream", "show")[0].get("backoffMs", 0) >= MAX_S * 1000 * 0.5, 6 * MAX_S)
    lab.link("up")
    begin = time.monotonic()
    lab.wait_uplink("online", 3)
    print(f"online {time.monotonic() - begin:.2f} s after link up")


def test_a_silent_hub_is_tried_again(lab):
    """No link event helps here: the back-off itself must lead back."""
    lab.hub("kill")
    lab.wait_status("offline", lambda s: s["uplink"] != "online", 30)
    lab.hub("start")
    lab.wait_uplink("online", MAX_S * 1.5 + 3)


def test_upstream_reconnect_goes_now(lab):
    lab.hub("kill")
    lab.wait_status("offline", lambda s: s["uplink"] != "online", 30)
    lab.wait_status("the back-off to grow",
                    lambda s: lab.ctl("upstream", "show")[0].get("backoffMs", 0) >= MAX_S * 1000 * 0.5, 6 * MAX_S)
    lab.hub("start")
    lab.ctl("upstream", "reconnect")
    lab.wait_uplink("online", 3)
