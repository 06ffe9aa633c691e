/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tokens and connection strings, as clients send them. */
#include "auth/sas.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_span in = hf_span(data, size), value;
	const char *reason = NULL;
	struct hf_sas sas;

	if (hf_sas_parse(in, &sas, &reason) == 0) {
		FUZZ_CHECK(sas.sig_len <= sizeof sas.sig && sas.sr.len <= size);
		hf_sas_verify(&sas, "c2VjcmV0");
		hf_sas_verify_raw(&sas, in);
		hf_sas_audience_is(&sas, "dev 1", NULL, false, true);
		hf_sas_audience_is(&sas, "dev1", "mod", true, false);
	} else {
		FUZZ_CHECK(reason != NULL);
	}
	if (hf_connstr_get(in, "SharedAccessKey", &value))
		FUZZ_CHECK(value.len <= size);
	return 0;
}
