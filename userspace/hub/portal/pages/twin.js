// SPDX-License-Identifier: GPL-3.0-or-later
// A twin: tags and desired properties as text, what the device reports beside it.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {alertBox, busy, card, facts, help, notice, time} from "./ui.js";
import {jsonEditor} from "./editor.js";
import {sizeProblem, twinLimits, withoutDollar} from "./json.js";

const editable = (twin) => ({tags: twin.tags || {}, properties: {desired: withoutDollar(twin.properties.desired)}});

function record(twin) {
	const section = (s) => [`version ${s.$version}, `, time(s.$metadata?.$lastUpdated)];

	return facts([["Desired", section(twin.properties.desired)], ["Reported", section(twin.properties.reported)],
		["ETag", twin.etag, "mono"], twin.modelId && ["Model", twin.modelId, "mono"]]);
}

export async function twinPart(ident) {
	const path = `twins/${api.identPath(ident.device, ident.module)}`;

	if (!api.may("serviceConnect"))
		return alertBox("info", el("p", {}, "Your policy may not read twins. Sign in with iothubowner or service."));

	const where = el("div"), side = el("div");
	const editor = jsonEditor("Tags and desired properties", {rows: 24, limits: twinLimits, check: sizeProblem});
	const reported = jsonEditor("Reported properties", {rows: 14, readonly: true});
	const save = el("button.primary", {type: "button", onclick: () => busy(save, where, () => put(twin.etag))}, "Save");
	const again = el("button", {type: "button", onclick: () => busy(again, where, load)}, "Reload");
	let twin = null;

	function show() {
		editor.set(editable(twin));
		showSide();
	}
	function showSide() {
		reported.set(withoutDollar(twin.properties.reported));
		replace(side, record(twin));
	}
	async function load() {
		twin = await api.get(path);
		show();
	}
	// What was changed there meanwhile is shown beside the own text; nothing is lost unasked.
	function conflict(theirs) {
		const text = jsonEditor("The twin as it is now", {rows: 12, readonly: true});
		const take = el("button.small", {type: "button", onclick: () => { twin = theirs; show(); replace(where); }}, "Drop my text, edit this one");
		const force = el("button.small.danger", {type: "button", onclick: () => busy(force, where, () => put(theirs.etag))}, "Replace it by my text");

		text.set(editable(theirs));
		replace(where, alertBox("bad",
			el("p", {}, "The twin was changed by somebody else since you loaded it. Your text is not saved; it is still here."),
			text.node, el("div.actions", {}, take, force)));
	}
	async function put(etag) {
		const doc = editor.value();

		if (doc === undefined)
			return;
		const body = {tags: doc.tags || {}, properties: {desired: doc.properties?.desired || {}}};
		try {
			twin = (await api.call("PUT", path, {body, ifMatch: etag})).doc;
		} catch (e) {
			if (e.status !== 412)
				throw e;
			conflict(await api.get(path));
			return;
		}
		show();
		notice(`The twin of ${ident.name} is saved.`);
	}
	await load();
	return el("div.columns", {},
		card("Editor", help("Saving replaces both sections: what you remove here is removed there."), editor.node, where,
			el("div.actions", {}, save, again)),
		card("As it is at the hub", side, reported.node));
}
