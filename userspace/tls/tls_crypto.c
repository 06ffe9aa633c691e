/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_crypto.c - hashes and sealing over wolfCrypt. */
#include "tls/tls_int.h"

#include "core/util.h"

#include <holdfast/err.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/md5.h>
#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include <errno.h>

enum { NONCE_LEN = 12, TAG_LEN = 16 };

void hf_hmac_sha256(struct hf_span key, struct hf_span data, uint8_t out[32])
{
	Hmac h;
	int r;

	/* These fail only for a NULL argument or a broken build: no MAC may then look valid. */
	r = wc_HmacInit(&h, NULL, INVALID_DEVID);
	if (r == 0)
		r = wc_HmacSetKey(&h, WC_SHA256, key.len ? key.ptr : (const uint8_t *)"", (word32)key.len);
	if (r == 0 && data.len)
		r = wc_HmacUpdate(&h, data.ptr, (word32)data.len);
	if (r == 0)
		r = wc_HmacFinal(&h, out);
	if (r != 0)
		abort();
	wc_HmacFree(&h);
	explicit_bzero(&h, sizeof h);
}

void hf_sha1(struct hf_span data, uint8_t out[20])
{
	if (wc_ShaHash(data.len ? data.ptr : (const uint8_t *)"", (word32)data.len, out) != 0)
		abort();
}

void hf_sha256(struct hf_span data, uint8_t out[32])
{
	if (wc_Sha256Hash(data.len ? data.ptr : (const uint8_t *)"", (word32)data.len, out) != 0)
		abort();
}

struct hf_md5 { wc_Md5 md5; };

int hf_md5_create(struct hf_md5 **ret_md5)
{
	struct hf_md5 *m = calloc(1, sizeof *m);

	if (!m || wc_InitMd5(&m->md5) != 0) {
		free(m);
		return -ENOMEM;
	}
	*ret_md5 = m;
	return 0;
}

void hf_md5_update(struct hf_md5 *md5, struct hf_span data)
{
	if (data.len && wc_Md5Update(&md5->md5, data.ptr, (word32)data.len) != 0)
		abort();
}

void hf_md5_final(struct hf_md5 **md5, uint8_t out[16])
{
	struct hf_md5 *m = hf_take(*md5);

	if (!m)
		return;
	if (out && wc_Md5Final(&m->md5, out) != 0)
		abort();
	wc_Md5Free(&m->md5);
	free(m);
}

int hf_aead_seal(const uint8_t key[32], struct hf_span aad, struct hf_span plain, struct hf_buf *out)
{
	uint8_t *p = hf_buf_reserve(out, NONCE_LEN + plain.len + TAG_LEN);
	Aes aes;
	int r;

	if (!p)
		return out->err ? out->err : -ENOMEM;
	hf_random(p, NONCE_LEN);
	r = wc_AesInit(&aes, NULL, INVALID_DEVID);
	if (r == 0)
		r = wc_AesGcmSetKey(&aes, key, 32);
	if (r == 0)
		r = wc_AesGcmEncrypt(&aes, p + NONCE_LEN, plain.ptr, (word32)plain.len, p, NONCE_LEN,
				     p + NONCE_LEN + plain.len, TAG_LEN, aad.ptr, (word32)aad.len);
	wc_AesFree(&aes);
	explicit_bzero(&aes, sizeof aes);
	if (r != 0)
		return HF_EINVALID;
	hf_buf_grow(out, NONCE_LEN + plain.len + TAG_LEN);
	return 0;
}

int hf_aead_open(const uint8_t key[32], struct hf_span aad, struct hf_span sealed, struct hf_buf *out)
{
	size_t n;
	uint8_t *p;
	Aes aes;
	int r;

	if (sealed.len < NONCE_LEN + TAG_LEN)
		return HF_ECORRUPT;
	n = sealed.len - NONCE_LEN - TAG_LEN;
	p = hf_buf_reserve(out, n + 1);
	if (!p)
		return out->err ? out->err : -ENOMEM;
	r = wc_AesInit(&aes, NULL, INVALID_DEVID);
	if (r == 0)
		r = wc_AesGcmSetKey(&aes, key, 32);
	if (r == 0)
		r = wc_AesGcmDecrypt(&aes, p, sealed.ptr + NONCE_LEN, (word32)n, sealed.ptr, NONCE_LEN,
				     sealed.ptr + NONCE_LEN + n, TAG_LEN, aad.ptr, (word32)aad.len);
	wc_AesFree(&aes);
	explicit_bzero(&aes, sizeof aes);
	if (r != 0) {
		explicit_bzero(p, n);
		return HF_ECORRUPT;
	}
	hf_buf_grow(out, n);
	return 0;
}
