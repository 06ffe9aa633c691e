# SPDX-License-Identifier: GPL-3.0-or-later
"""limits.connections: one number for MQTT and AMQP together."""
import amqpwire
import pytest
from labctl import wait_for
from labkit.world import HUB_IP, HUB_NAME

pytestmark = pytest.mark.hub
LAB = {"children": 1}
MQTT, AMQP = 8883, 5671


def test_connections_of_both_protocols_share_the_limit(lab):
    conf = lab.path("limits.conf")
    with open(conf, "w", encoding="utf-8") as f:
        f.write("limits: { connections = 3; };")
    lab.gw("kill")		# it has a connection of its own
    lab.hub("kill")
    hub = lab.spawn("hub", "holdfast-hub", "serve", "-c", lab.path("hub.conf"), "-c", conf)

    def connect(port):
        with lab.inside("hub"):
            return amqpwire.tls(lab.ca, HUB_NAME, HUB_IP, port=port)

    def refused():
        counters = lab.hub_ctl("counters")[0]
        return counters["refused_max_connections_total"], counters["connections"]

    def first():
        try:
            return connect(MQTT)
        except OSError:
            return None
    taken = [wait_for("the hub", 30, first), connect(AMQP), connect(MQTT)]
    for n, port in enumerate((AMQP, MQTT)):
        with pytest.raises(OSError):
            connect(port)
        assert refused() == (n + 1, 3)
    taken.pop(0).close()
    wait_for("the end of one to be seen", 30, lambda: refused()[1] == 2)
    taken.append(connect(AMQP))
    assert refused() == (2, 3)
    for sock in taken:
        sock.close()
    hub.kill()
