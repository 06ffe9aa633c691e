# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of scripts/lab, scripts/demo and the integration tests. Standard library only."""
