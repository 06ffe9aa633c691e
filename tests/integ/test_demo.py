# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo, shortened: its verdict and its last line."""
import os
import re
import subprocess

import pytest
from labctl import REPO


@pytest.mark.sdk
def test_demo_loses_nothing():
    r = subprocess.run([os.path.join(REPO, "scripts", "demo"), "--seconds", "3", "--children", "6",
                        "--name", f"t{os.getpid()}-demo"], capture_output=True, text=True, timeout=200, check=False)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    last = r.stdout.strip().splitlines()[-1]
    m = re.fullmatch(r"demo: accepted (\d+) delivered (\d+) lost 0 order-errors 0 duplicates (\d+) drain-s [\d.]+", last)
    assert m and int(m.group(1)) > 300 and m.group(1) == m.group(2), last
