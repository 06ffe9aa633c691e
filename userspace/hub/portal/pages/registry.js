// SPDX-License-Identifier: GPL-3.0-or-later
// What the pages know of devices: searching them, the names in scopes, how their state is shown.
import * as api from "./api.js";
import {el} from "./dom.js";
import {badge} from "./ui.js";

const SCOPE = "ms-azure-iot-edge://";
const COLUMNS = "deviceId, status, connectionState, authenticationType, capabilities.iotEdge AS iotEdge, deviceScope, parentScopes, lastActivityTime";

// "ms-azure-iot-edge://edge1-638..." -> "edge1"; null when there is none.
export function scopeOwner(scope) {
	return scope && scope.startsWith(SCOPE) ? scope.slice(SCOPE.length, scope.lastIndexOf("-")) : null;
}

export const parentOf = (doc) => scopeOwner((doc.parentScopes || [])[0]);
export const deviceLink = (id, tab = "") => `#/devices/${api.enc(id)}${tab ? `/${tab}` : ""}`;

export function nameContains(search) {
	return search ? `contains(lower(deviceId), ${api.quoted(search.toLowerCase())})` : null;
}

// conditions: texts of the query language; empty ones are left out.
export const allOf = (...conditions) => conditions.filter(Boolean).map((c) => `(${c})`).join(" AND ");

// A page of devices. token null: the first page, with how many there are in all. The hub ends a page early when it would
// have to look at too many devices; then the rest is fetched too.
export async function searchDevices(where, token, max = 50, options = {}) {
	const text = `SELECT ${COLUMNS} FROM devices${where ? ` WHERE ${where}` : ""}`, rows = [];
	const counted = token === null ? api.count(where) : Promise.resolve(null);
	let next = token;

	counted.catch(() => {});	// told below, unless the rows fail first

	do {
		const page = await api.query(text, {...options, max: max - rows.length, token: next});

		rows.push(...page.rows);
		({next} = page);
	} while (next && rows.length < max);
	return {rows, next, all: await counted};
}

// One device, or undefined.
export async function findDevice(id, options) {
	return (await searchDevices(`deviceId = ${api.quoted(id)}`, "", 1, options)).rows[0];
}

export function stateBadges(row, cut) {
	return [
		cut ? badge("bad", "Cut off") : row.connectionState === "Connected" ? badge("ok", "Connected") : badge("off", "Disconnected"),
		row.status === "disabled" ? [" ", badge("warn", "Disabled")] : null,
	];
}

export const authName = (type) => ({
	sas: "Symmetric key", selfSigned: "X.509 thumbprint", certificateAuthority: "X.509 CA", none: "None",
})[type] || type;

// Ids of the devices that are cut off. Kept by the hub: a reload shows the same.
export const cutOffIds = async (options) => new Set(await api.get("cutOff", options));

export function parentLink(row) {
	const parent = parentOf(row);

	return parent ? el("a", {href: deviceLink(parent)}, parent) : el("span.quiet", {}, "none");
}

// Changes a device's document as it is now and puts it back whole; whoever changes it meanwhile makes it fail (412).
export async function changeDevice(id, change) {
	const doc = await api.get(`devices/${api.enc(id)}`);
	const etag = doc.etag;

	change(doc);
	return (await api.call("PUT", `devices/${api.enc(id)}`, {body: doc, ifMatch: etag})).doc;
}

// scope "": no parent.
export function setParent(id, scope) {
	return changeDevice(id, (doc) => {
		if (doc.capabilities.iotEdge) {
			doc.parentScopes = scope ? [scope] : [];
		} else {
			doc.deviceScope = scope;
			delete doc.parentScopes;
		}
	});
}
