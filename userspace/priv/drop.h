/* SPDX-License-Identifier: GPL-3.0-or-later */
/* priv/drop.h - least privilege after the privileged part of the start (libcap-ng). */
#pragma once

/* Gives up every capability but those that running needs: none. Open maps, sockets and files stay usable; so do
 * files of the daemon's own user. Call before threads are made: they inherit it. -EPERM with a log line. */
int hf_priv_drop(void);
