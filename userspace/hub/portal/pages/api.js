// SPDX-License-Identifier: GPL-3.0-or-later
// Calls to the hub. A session's cookie says who asks; its token says that this page does.

export class ApiError extends Error {
	constructor(status, name, message) {
		super(message);
		this.status = status;
		this.code = name;
	}
}

let session = null;
let onSignedOut = () => {};

export const currentSession = () => session;
export const may = (right) => Boolean(session && session.rights.includes(right));
export const setOnSignedOut = (fn) => { onSignedOut = fn; };

// "ErrorCode:Name;text", or JSON with a message, or bare.
function readError(status, headers, doc) {
	let text = doc && typeof doc.Message === "string" ? doc.Message : "", name = headers.get("iothub-errorcode") || "";
	const split = /^ErrorCode:([^;]*);(.*)$/s.exec(text);

	if (split)
		[, name, text] = split;
	else if (text.startsWith("{"))
		try {
			text = JSON.parse(text).message || text;
		} catch {
			// shown as it is
		}
	return new ApiError(status, name, text || `The hub answered with status ${status}.`);
}

// path: below /portal/api/, already encoded. options: body (value for JSON), ifMatch (etag without quotes or "*"), headers,
// poll (the page asks by itself: keeps nobody signed in), signal.
export async function call(method, path, options = {}) {
	const headers = {Accept: "application/json", ...options.headers};
	let answer, doc = null;

	if (options.body !== undefined)
		headers["Content-Type"] = "application/json";
	if (options.ifMatch)
		headers["If-Match"] = options.ifMatch === "*" ? "*" : `"${options.ifMatch}"`;
	if (options.poll)
		headers["X-Portal-Poll"] = "1";
	if (method !== "GET" && session)
		headers["X-CSRF-Token"] = session.csrfToken;
	try {
		answer = await fetch(`api/${path}`, {
			method, headers, signal: options.signal, credentials: "same-origin", cache: "no-store",
			body: options.body === undefined ? undefined : JSON.stringify(options.body),
		});
		const text = await answer.text();
		doc = text ? JSON.parse(text) : null;
	} catch (e) {
		if (e.name === "AbortError")
			throw e;
		throw new ApiError(0, "Unreachable", "The hub cannot be reached. Check that it runs, then try again.");
	}
	if (!answer.ok) {
		const error = readError(answer.status, answer.headers, doc);

		if (error.code === "PortalSignedOut" && session) {
			session = null;
			onSignedOut();
		}
		throw error;
	}
	return {doc, headers: answer.headers};
}

export const get = async (path, options) => (await call("GET", path, options)).doc;

// One page of a query: {rows, next}; next is the token of the page after, or null.
export async function query(text, {max = 50, token = null, ...options} = {}) {
	const headers = {"x-ms-max-item-count": String(max)};

	if (token)
		headers["x-ms-continuation"] = token;
	const {doc, headers: answered} = await call("POST", "devices/query", {body: {query: text}, headers, ...options});
	return {rows: doc, next: answered.get("x-ms-continuation")};
}

// Every page: for lists that are known to be short, at most `limit` rows.
export async function queryAll(text, limit = 5000) {
	const rows = [];
	let token = null;

	do {
		const page = await query(text, {max: 1000, token});

		rows.push(...page.rows);
		token = page.next;
	} while (token && rows.length < limit);
	return rows;
}

export async function count(where) {
	const rows = await queryAll(`SELECT COUNT() AS n FROM devices${where ? ` WHERE ${where}` : ""}`);

	return rows.length ? rows[0].n : 0;
}

// A text as a literal of the query language.
export const quoted = (text) => `'${text.replace(/[\\']/g, "\\$&")}'`;

export const enc = encodeURIComponent;
export const identPath = (device, module) => `${enc(device)}${module ? `/modules/${enc(module)}` : ""}`;

export async function signIn(credential) {
	session = (await call("POST", "login", {body: {credential}})).doc;
	return session;
}

// The session this browser has already, or null.
export async function resume() {
	try {
		session = await get("session");
	} catch (e) {
		if (e.status !== 401)
			throw e;
		session = null;
	}
	return session;
}

export async function signOut() {
	try {
		await call("POST", "logout");
	} finally {
		session = null;
	}
}
