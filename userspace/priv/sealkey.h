/* SPDX-License-Identifier: GPL-3.0-or-later */
/* priv/sealkey.h - the key that seals scope and twins on disk: a service manager credential or a root-only file. */
#pragma once
#include <stdint.h>

/* $CREDENTIALS_DIRECTORY/holdfast.seal wins; else `path`, made with 32 random bytes when it is missing. Refuses a
 * file that others may read or that has another size. -errno, HF_EDENIED, HF_EINVALID with a log line. Blocks. */
int hf_seal_key(const char *path, uint8_t ret_key[32]);
