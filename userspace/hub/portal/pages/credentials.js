// SPDX-License-Identifier: GPL-3.0-or-later
// The part of a form that says how a device or module proves who it is.
import {el, replace} from "./dom.js";
import {field, help, secret, select, text} from "./ui.js";

const TYPES = [["sas", "Symmetric key"], ["selfSigned", "X.509 certificate by thumbprint"], ["certificateAuthority", "X.509 certificate by CA"]];

export function keyProblem(value) {
	if (!value)
		return null;
	if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value) || value.length % 4)
		return "A key is base64 text, such as holdfast-hub makes. Leave it empty for a new one.";
	const bytes = value.length / 4 * 3 - (value.endsWith("==") ? 2 : value.endsWith("=") ? 1 : 0);
	return bytes < 16 || bytes > 64 ? `A key has 16 to 64 bytes; this one has ${bytes}.` : null;
}

export function thumbProblem(value) {
	const hex = value.replace(/[: -]/g, "");

	return /^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/.test(hex) ? null : "A thumbprint has 40 hex digits (SHA-1) or 64 (SHA-256).";
}

// auth: the member `authentication` of a document, or null for a new identity. Returns {node, read()}; read gives the new
// member, or null after showing what is wrong.
export function credentialFields(auth) {
	const sym = auth?.symmetricKey || {}, x509 = auth?.x509Thumbprint || {};
	const type = select(auth?.type === "none" ? [...TYPES, ["none", "None"]] : TYPES, auth?.type || "sas");
	const fresh = "Base64. Left empty, the hub makes one.";
	const key = (label, value) => secret(label, value || "", {editable: true, help: auth ? null : fresh});
	const keys = [key("Primary key", sym.primaryKey), key("Secondary key", sym.secondaryKey)];
	const thumb = (label, value, more) => field(label, text({value: value || "", class: "mono"}), more);
	const thumbs = [thumb("Primary thumbprint", x509.primaryThumbprint, "SHA-1 or SHA-256 of the certificate, in hex."),
		thumb("Secondary thumbprint", x509.secondaryThumbprint, "Optional: for the time when certificates change.")];
	const parts = {
		sas: keys.map((k) => k.row), selfSigned: thumbs.map((t) => t.row),
		certificateAuthority: help("The device shows a certificate that builds to a root of tls.client_ca_file and whose common name is its id."),
	};
	const part = el("div.fields");

	function show() {
		replace(part, parts[type.value]);
	}
	type.addEventListener("change", show);
	show();
	return {
		node: el("div", {}, field("Authentication", type).row, part),
		read() {
			let bad = null;
			const check = (f, problem) => {
				f.error(problem);
				if (problem && !bad)
					bad = f.input;
			};

			if (type.value === "sas")
				keys.forEach((k) => check(k, keyProblem(k.input.value.trim())));
			if (type.value === "selfSigned")
				thumbs.forEach((t, i) => check(t, i && !t.input.value.trim() ? null : thumbProblem(t.input.value.trim())));
			if (bad) {
				bad.focus();
				return null;
			}
			const [primaryKey, secondaryKey] = keys.map((k) => k.input.value.trim());
			const [primaryThumbprint, secondaryThumbprint] = thumbs.map((t) => t.input.value.trim() || null);

			return {
				type: type.value, ...type.value === "sas" ? {symmetricKey: {primaryKey, secondaryKey}} : {},
				...type.value === "selfSigned" ? {x509Thumbprint: {primaryThumbprint, secondaryThumbprint}} : {},
			};
		},
	};
}

export const ID_RULE = "1 to 128 of A–Z a–z 0–9 and - : . + % _ # * ? ! ( ) , = @ $ '";

export function idProblem(id) {
	if (!id)
		return "Enter an id.";
	return /^[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}$/.test(id) ? null : `An id has ${ID_RULE}.`;
}
