/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz.h - what every tests/fuzz/fuzz_X.c defines, and a model for those that want one.
 * Built as libFuzzer program (BUILD=fuzz) and, in the other flavours, with replay.c. */
#pragma once
#include "hub/model/model.h"
#include "net/conn.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A claim about the code under test that holds in every build. */
#define FUZZ_CHECK(what)                                                                                     \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			__builtin_trap();                                                                    \
	} while (0)

/* One empty model for the whole process, its files already unlinked. */
struct hub_model *fuzz_model(void);
struct hf_loop *fuzz_loop(void);
void fuzz_commit(void);	/* what changed is written, listeners are told */
/* head.c: a client that sends `in` over a new connection, which take hands to the head under test, and reads all that
 * comes until count says the head has no connection left. */
void fuzz_head(struct hf_span in, void (*take)(void *arg, struct hf_conn *conn), unsigned (*count)(void *arg), void *arg);
