/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls.h - TLS contexts, sessions, HMAC and AEAD over wolfSSL. Only tls/ includes wolfSSL headers.
 *
 * TLS 1.2 and 1.3 with an explicit list of AEAD suites with forward secrecy; everything else (NULL,
 * anonymous, RC4, CBC, static RSA, TLS < 1.2) is refused in the handshake. A context is immutable and
 * reference-counted: reload makes a new one, old sessions keep theirs. */
#pragma once
#include "core/buf.h"

struct hf_tls_ctx;
struct hf_tls;

int hf_tls_global_init(void);	/* once, before threads */
void hf_tls_thread_fini(void);	/* at the end of a thread that used TLS: frees the library's caches (4 MB) */

struct hf_tls_server_cfg {
	const char *cert_file, *key_file;	/* PEM; cert_file holds leaf, then intermediates */
	bool request_client_cert;		/* ask, accept any or none: judged later (x509) */
	const char *client_ca_file;		/* PEM roots for hf_tls_peer_refused; NULL = none */
};
/* HF_ETLS / -errno with a log line naming file and reason. Blocks (reads files). */
int hf_tls_ctx_create_server(const struct hf_tls_server_cfg *cfg, struct hf_tls_ctx **ret_ctx);
/* ca_file NULL = system roots. Peers are verified: chain, host name, dates. */
int hf_tls_ctx_create_client(const char *ca_file, struct hf_tls_ctx **ret_ctx);
struct hf_tls_ctx *hf_tls_ctx_ref(struct hf_tls_ctx *ctx);	/* any thread */
void hf_tls_ctx_unref(struct hf_tls_ctx **ctx);
/* Not-after of the server leaf, unix seconds. */
int64_t hf_tls_ctx_expiry(const struct hf_tls_ctx *ctx);

enum hf_tls_step { HF_TLS_OK, HF_TLS_WANT_READ, HF_TLS_WANT_WRITE, HF_TLS_EOF, HF_TLS_FAIL };
/* One session over a connected non-blocking socket fd (borrowed). server_name only for clients. */
int hf_tls_create(struct hf_tls_ctx *ctx, int fd, const char *server_name, struct hf_tls **ret_tls);
void hf_tls_destroy(struct hf_tls **tls);
enum hf_tls_step hf_tls_handshake(struct hf_tls *tls);
enum hf_tls_step hf_tls_read(struct hf_tls *tls, void *p, size_t cap, size_t *ret_n);
/* After WANT_WRITE the same buffer must be offered again. */
enum hf_tls_step hf_tls_write(struct hf_tls *tls, const void *p, size_t n, size_t *ret_n);
bool hf_tls_pending(const struct hf_tls *tls);	/* decrypted bytes wait inside */
void hf_tls_shutdown(struct hf_tls *tls);	/* close_notify, best effort */
const char *hf_tls_error(const struct hf_tls *tls);	/* reason of the last FAIL, for logs */
int hf_tls_sock_err(const struct hf_tls *tls);		/* errno of the socket behind the last FAIL; 0 = TLS itself failed */
const char *hf_tls_version(const struct hf_tls *tls);
const char *hf_tls_cipher(const struct hf_tls *tls);
/* DER of the peer's leaf certificate, borrowed; empty when none was presented. */
struct hf_span hf_tls_peer_cert(const struct hf_tls *tls);

/* What X.509 authentication needs from a certificate. */
struct hf_x509_info {
	char common_name[256];		/* of the subject; "" if none */
	char sha1_hex[41], sha256_hex[65];	/* of the DER, lower case */
	int64_t not_before, not_after;	/* unix seconds */
	bool is_ca;
};
int hf_x509_info(struct hf_span der, struct hf_x509_info *ret_info);	/* HF_EINVALID; also for more than one common name */
/* Is this the registered thumbprint, SHA-1 or SHA-256 in hex of any case, with or without ':', '-' or blanks? NULL: no. */
bool hf_x509_thumb_is(const char *registered, const struct hf_x509_info *info);

/* tls_trust.c: does the chain that the peer presented build to one of the roots in client_ca_file, at auth time now_s? Each
 * certificate on the path is valid then, signed by the next one with SHA-2 and a key of at least RSA 2048 or P-256; what
 * is above the leaf may sign certificates (version 3, CA, key usage) as far down (path length); the leaf is no CA and may
 * prove a client (key usage, extended key usage). No revocation.
 * NULL, and *ret_until_s is when the first of their validities ends; or the reason, static text. Does not block. */
const char *hf_tls_peer_refused(const struct hf_tls *tls, int64_t now_s, int64_t *ret_until_s);

/* The clock by which certificates of servers that we connect to are judged. Any thread calls. */
struct hf_tls_clock {
	int64_t (*now_s)(void *arg);		/* unix seconds */
	/* A server's certificate was refused by its dates: it begins later than that, or has ended. */
	void (*too_early)(void *arg, int64_t not_before_s);
	void (*too_late)(void *arg);
};
/* For the whole process; before threads. NULL = the wall clock. clock must stay. */
void hf_tls_set_clock(const struct hf_tls_clock *clock, void *arg);

struct hf_x509_request {
	const char *common_name;
	const char *alt_names;	/* host names and addresses, "hub.test,127.0.0.1"; NULL = none */
	unsigned days;		/* from now; it has been valid for one before */
	bool is_ca;
	const char *issuer_name;	/* common name; NULL = signs itself */
	struct hf_span issuer_key_pem;
};
/* Makes a P-256 key and a certificate for it; appends PEM texts. Wipe key_pem. HF_EINVALID (the names are too long),
 * HF_ETLS, -ENOMEM. */
int hf_x509_issue(const struct hf_x509_request *req, struct hf_buf *cert_pem, struct hf_buf *key_pem);

void hf_hmac_sha256(struct hf_span key, struct hf_span data, uint8_t out[32]);
void hf_sha1(struct hf_span data, uint8_t out[20]);	/* only where a protocol asks for it (RFC 6455) */
void hf_sha256(struct hf_span data, uint8_t out[32]);
/* MD5 bit by bit, only where a protocol asks for it (Content-MD5). final frees; final with out NULL only frees. */
struct hf_md5;
int hf_md5_create(struct hf_md5 **ret_md5);	/* -ENOMEM */
void hf_md5_update(struct hf_md5 *md5, struct hf_span data);
void hf_md5_final(struct hf_md5 **md5, uint8_t out[16]);
/* AES-256-GCM with a random 12-byte nonce in front and a 16-byte tag behind; aad is authenticated.
 * open: HF_ECORRUPT when the tag does not match. Appends to out. */
int hf_aead_seal(const uint8_t key[32], struct hf_span aad, struct hf_span plain, struct hf_buf *out);
int hf_aead_open(const uint8_t key[32], struct hf_span aad, struct hf_span sealed, struct hf_buf *out);
