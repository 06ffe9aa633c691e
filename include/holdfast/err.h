/* SPDX-License-Identifier: GPL-3.0-or-later */
/* holdfast/err.h - one error space for the whole project.
 *
 * Every fallible function returns 0 or a negative code from this list. Codes -1..-199 are negated
 * errno values and are passed through as they are; codes at -1000 and below are ours. Foreign
 * libraries' codes are translated in the one file that includes the library. */
#pragma once

/* X(name, value, text) */
#define HF_ERR_LIST(X)                                                                             \
	X(HF_EPROTO, -1000, "peer broke the protocol")                                             \
	X(HF_EFULL, -1001, "budget or bound reached")                                              \
	X(HF_EOFFLINE, -1002, "no uplink")                                                         \
	X(HF_ELIMIT, -1005, "limit exceeded")                                                      \
	X(HF_ECORRUPT, -1006, "stored data is damaged")                                            \
	X(HF_ECLOSED, -1007, "closed")                                                             \
	X(HF_ENOTFOUND, -1008, "not found")                                                        \
	X(HF_EEXISTS, -1009, "exists already")                                                     \
	X(HF_EDENIED, -1010, "not authorised")                                                     \
	X(HF_ETIMEOUT, -1011, "timed out")                                                         \
	X(HF_EBADCONF, -1012, "configuration refused")                                             \
	X(HF_ETLS, -1013, "TLS failure")                                                           \
	X(HF_EMORE, -1014, "more input is needed")                                                 \
	X(HF_ESTALE, -1015, "version or generation does not match")                                \
	X(HF_EUNSUPPORTED, -1016, "not supported here")                                            \
	X(HF_EINVALID, -1017, "invalid value")

enum hf_err {
#define HF_ERR_ENUM(name, value, text) name = (value),
	HF_ERR_LIST(HF_ERR_ENUM)
#undef HF_ERR_ENUM
};

/* Text of a code (errno range included). Never NULL; static storage for our codes, for errno the
 * C library's text in thread-local storage. Any thread. */
const char *hf_strerror(int err);
