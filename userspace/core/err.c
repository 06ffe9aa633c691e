/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <holdfast/err.h>
#include <string.h>

const char *hf_strerror(int err)
{
	switch (err) {
	case 0:
		return "success";
#define HF_ERR_CASE(name, value, text)                                                             \
	case name:                                                                                 \
		return text;
		HF_ERR_LIST(HF_ERR_CASE)
#undef HF_ERR_CASE
	default:
		return err < 0 && err > -200 ? strerror(-err) : "unknown error";
	}
}
