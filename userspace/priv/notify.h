/* SPDX-License-Identifier: GPL-3.0-or-later */
/* priv/notify.h - the service manager's readiness protocol (sd_notify) over $NOTIFY_SOCKET. */
#pragma once

/* "READY=1", "RELOADING=1", "STOPPING=1", "STATUS=...". No-op without a manager. Any thread; never blocks.
 * -errno when the message could not be sent. */
int hf_notify(const char *state);
