/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_int.h - shared inside tls/ only. */
#pragma once
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "tls/tls.h"

struct hf_tls_ctx {
	WOLFSSL_CTX *wolf;
	unsigned refs;		/* atomic */
	bool is_server, want_peer_cert;
	int64_t not_after;
	struct hf_trust *trust;	/* roots of clients, NULL = none */
};

struct hf_tls {
	WOLFSSL *ssl;
	struct hf_tls_ctx *ctx;
	int fd;
	int sock_err;		/* errno of the last failed recv/send */
	/* Bytes of the socket read ahead of the record layer: one recv instead of one per header and one per
	 * body. Freed whenever it runs empty, so idle sessions hold none. */
	uint8_t *ahead;
	uint32_t ahead_pos, ahead_end;
	bool eof;		/* the peer sent its FIN */
	bool dry;		/* the last recv came back short: asking again would only say EAGAIN */
	char *reason;
	uint8_t *peer_der;
	size_t peer_der_len;
};

/* tls_trust.c */
void hf_trust_global_init(void);
int hf_trust_note_dates(int preverify, WOLFSSL_X509_STORE_CTX *store);	/* verify callback of clients: the verdict stays */
int hf_trust_create(const char *ca_pem_file, struct hf_trust **ret_trust);	/* HF_ETLS / -errno with a log line */
void hf_trust_destroy(struct hf_trust **trust);
/* tls_x509.c: unix seconds. HF_EINVALID. */
int hf_x509_time(const WOLFSSL_ASN1_TIME *t, int64_t *ret_s);
/* Readable reason of a wolfSSL code, static or in buf. */
const char *hf_tls_code_text(int code, char *buf, size_t cap);
/* The I/O callbacks of every context. */
int hf_tls_io_recv(WOLFSSL *ssl, char *p, int n, void *arg);
int hf_tls_io_send(WOLFSSL *ssl, char *p, int n, void *arg);
