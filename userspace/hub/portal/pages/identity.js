// SPDX-License-Identifier: GPL-3.0-or-later
// The registry's record of a device or module: status, keys, connection strings, removal.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {alertBox, busy, card, confirmAction, facts, field, help, notice, secret, select, text, time} from "./ui.js";
import {credentialFields} from "./credentials.js";
import {deviceLink} from "./registry.js";

const connectionString = (doc, key) => [`HostName=${api.currentSession().host}`, `DeviceId=${doc.deviceId}`, doc.moduleId && `ModuleId=${doc.moduleId}`,
	doc.authentication.type === "sas" ? `SharedAccessKey=${key}` : "x509=true"].filter(Boolean).join(";");

function connectionStrings(doc) {
	const sym = doc.authentication.symmetricKey || {};

	return card("To connect",
		doc.authentication.type === "sas" ? [
			secret("Primary connection string", connectionString(doc, sym.primaryKey)).row,
			secret("Secondary connection string", connectionString(doc, sym.secondaryKey)).row,
		] : secret("Connection string", connectionString(doc)).row,
		help("For a device behind a gateway, add ", el("code", {}, ";GatewayHostName=…"), "."));
}

function record(doc) {
	const device = !doc.moduleId;

	return card("Record", facts([
		device ? ["Edge device", doc.capabilities.iotEdge ? "yes" : "no"] : ["Managed by", doc.managedBy || "nobody"],
		["Last activity", time(doc.lastActivityTime)],
		device && ["Status changed", time(doc.statusUpdatedTime)],
		device && ["Messages waiting", doc.cloudToDeviceMessageCount],
		doc.deviceScope && ["Scope", doc.deviceScope, "mono"],
		["Generation", doc.generationId, "mono"], ["ETag", doc.etag, "mono"],
	]));
}

// New keys at once; the old one works no more.
function keyActions(ident, where, reload) {
	async function regenerate(button, which, what) {
		const meaning = el("p", {}, `Whoever uses the present ${what} is disconnected and refused until it has the new one.`);
		const target = {id: ident.device, ...ident.module ? {moduleId: ident.module} : {}};

		if (!await confirmAction(`Make a new ${what}?`, meaning, `Make a new ${what}`))
			return;
		await busy(button, where, async () => {
			const {doc} = await api.call("POST", "devices/keys/regenerate", {body: {policyKey: which, devices: [target]}});

			if (doc.errors && doc.errors.length)
				throw new Error(`The key was not changed: ${JSON.stringify(doc.errors[0])}`);
			notice(`${ident.name} has a new ${what}.`);
			await reload();
		});
	}
	const button = (which, what) => {
		const b = el("button.small", {type: "button", onclick: () => regenerate(b, which, what)}, `New ${what}`);

		return b;
	};

	return el("div.actions", {}, button("primaryKey", "primary key"), button("secondaryKey", "secondary key"));
}

function removal(ident, doc, where) {
	const button = el("button.danger", {type: "button", onclick: remove}, ident.module ? "Delete this module" : "Delete this device");

	async function remove() {
		const lost = ident.module ? ["its twin", "its connection"] :
			["its modules and their twins", "its twin", "messages that wait for it", "its connections"];
		const children = doc.capabilities?.iotEdge ? await api.count(`array_contains(parentScopes, ${api.quoted(doc.deviceScope)})`) : 0;

		const consequences = el("div", {}, el("p", {}, "This cannot be undone. Gone with it are:"),
			el("ul", {}, lost.map((x) => el("li", {}, x))),
			children ? el("p", {}, `${children} child device${children === 1 ? " loses its" : "s lose their"} parent.`) : null);

		if (!await confirmAction(`Delete ${ident.name}?`, consequences, `Delete ${ident.name}`))
			return;
		await busy(button, where, async () => {
			await api.call("DELETE", `devices/${api.identPath(ident.device, ident.module)}`, {ifMatch: doc.etag});
			notice(`${ident.name} is deleted.`);
			location.hash = ident.module ? deviceLink(ident.device, "modules") : "#/devices";
		});
	}
	return card("Delete", el("p", {}, ident.module ? "Removes the module and its twin." :
		"Removes the device with everything the hub keeps for it."), button);
}

function form(ident, doc, reload) {
	const mayWrite = api.may("registryWrite"), where = el("div");
	const status = field("Status", select([["enabled", "Enabled"], ["disabled", "Disabled"]], doc.status || "enabled"),
		"A disabled device is disconnected and refused.");
	const reason = field("Reason", text({value: doc.statusReason || "", maxlength: "128"}), "Shown with the status, at most 128 characters.");
	const credentials = credentialFields(doc.authentication);
	const save = el("button.primary", {type: "submit"}, "Save");

	async function put(etag) {
		const authentication = credentials.read();

		if (!authentication)
			return;
		const next = {...doc, authentication};

		if (!ident.module)
			Object.assign(next, {status: status.input.value, statusReason: reason.input.value || null});
		try {
			await api.call("PUT", `devices/${api.identPath(ident.device, ident.module)}`, {body: next, ifMatch: etag});
		} catch (e) {
			if (e.status !== 412)
				throw e;
			const overwrite = el("button.small", {type: "button", onclick: () => busy(overwrite, where, () => put("*"))}, "Save mine anyway");

			replace(where, alertBox("bad",
				el("p", {}, `${ident.name} was changed by somebody else since this page was loaded. Your input is still here.`),
				el("div.actions", {}, el("button.small", {type: "button", onclick: reload}, "Show the new state"), overwrite)));
			return;
		}
		notice(`${ident.name} is saved.`);
		window.dispatchEvent(new Event("device-changed"));
		await reload();
	}
	return card("Settings", el("form.form", {novalidate: true, onsubmit: (e) => { e.preventDefault(); busy(save, where, () => put(doc.etag)); }},
			el("fieldset", {disabled: !mayWrite}, ident.module ? null : [status.row, reason.row], credentials.node,
				mayWrite && doc.authentication.type === "sas" ? keyActions(ident, where, reload) : null, where,
				mayWrite ? el("div.actions", {}, save) : help("Your policy may read the registry, not change it."))),
		mayWrite ? null : where);
}

export async function identityPart(ident) {
	const node = el("div.columns");

	async function reload() {
		const doc = await api.get(`devices/${api.identPath(ident.device, ident.module)}`), where = el("div");

		replace(node, el("div", {}, form(ident, doc, reload)), el("div", {}, connectionStrings(doc), record(doc),
			api.may("registryWrite") ? [removal(ident, doc, where), where] : null));
	}
	if (!api.may("registryRead"))
		return alertBox("info", el("p", {}, "Your policy may not read the registry. Sign in with iothubowner or registryRead ",
			"to see keys and settings; the twin is in the next tab."));
	await reload();
	return node;
}
