// SPDX-License-Identifier: GPL-3.0-or-later
// The deployment manifest of an edge device: read from the twins of its system modules, changed as a form or as text,
// applied as a whole.
import * as api from "./api.js";
import {el, replace} from "./dom.js";
import {alertBox, busy, confirmAction, notice} from "./ui.js";
import {jsonEditor} from "./editor.js";
import {withoutDollar} from "./json.js";
import {manifestForm} from "./manifest_form.js";
import * as model from "./manifest_model.js";

const KEY = "properties.desired";
const twinPath = (ident, module) => `twins/${api.identPath(ident.device, module)}`;

// {content, etags, isFresh}: the system modules as they are; a proposal when they are empty.
async function loadManifest(ident) {
	const [agent, hub] = await Promise.all(Object.values(model.SYSTEM).map((m) => api.get(twinPath(ident, m))));
	const desired = [agent, hub].map((t) => withoutDollar(t.properties.desired));
	const isFresh = desired.every((d) => Object.keys(d).length === 0);

	const content = isFresh ? model.freshContent() : {$edgeAgent: {[KEY]: desired[0]}, $edgeHub: {[KEY]: desired[1]}};

	return {isFresh, content, etags: [agent.etag, hub.etag]};
}

// Modules that would be deleted, since the manifest no longer lists them.
async function toBeDeleted(ident, content) {
	const listed = model.modules(content);

	return (await api.get(`devices/${api.enc(ident.device)}/modules`))
		.filter((m) => m.managedBy === "iotEdge" && !m.moduleId.startsWith("$") && !Object.hasOwn(listed, m.moduleId)).map((m) => m.moduleId);
}

export async function manifestPart(ident) {
	if (!["registryRead", "registryWrite", "serviceConnect"].every(api.may))
		return alertBox("info", el("p", {}, "Reading and applying a manifest takes the rights of iothubowner."));

	let state = await loadManifest(ident), asText = false, form = null;
	const hint = el("div"), body = el("div"), where = el("div");
	const raw = jsonEditor("Manifest", {rows: 30, check: (v) => model.contentProblem(v?.modulesContent)});
	const formTab = el("button", {type: "button", onclick: () => turn(false)}, "Form");
	const textTab = el("button", {type: "button", onclick: () => turn(true)}, "JSON");
	const apply = el("button.primary", {type: "button", onclick: () => busy(apply, where, () => put(false))}, "Apply to the device");
	const again = el("button", {type: "button", onclick: () => busy(again, where, reload)}, "Reload");

	// Takes over what the present view holds; false: something in it is wrong and has the focus.
	function collect() {
		if (!asText)
			return form.check();
		const v = raw.value();

		if (v === undefined)
			return false;
		state.content = v.modulesContent;
		return true;
	}
	function show() {
		formTab.setAttribute("aria-pressed", String(!asText));
		textTab.setAttribute("aria-pressed", String(asText));
		replace(hint, state.isFresh ? alertBox("info",
			el("p", {}, `${ident.device} has no manifest yet. This is a proposal; fill it in and apply it.`)) : null);
		if (asText) {
			raw.set({modulesContent: state.content});
			replace(body, raw.node);
		} else {
			form = manifestForm(state.content);
			replace(body, form.node);
		}
	}
	function turn(text) {
		if (text === asText || !collect())
			return;
		asText = text;
		show();
	}
	async function reload() {
		state = await loadManifest(ident);
		show();
	}
	function conflict() {
		const drop = el("button.small", {type: "button", onclick: () => busy(again, where, reload)}, "Drop mine, show theirs");
		const over = el("button.small.danger", {type: "button", onclick: () => busy(over, where, () => put(true))}, "Apply mine anyway");

		replace(where, alertBox("bad",
			el("p", {}, "The manifest was changed by somebody else since you loaded it. Yours is not applied; it is still here."),
			el("div.actions", {}, drop, over)));
	}
	async function put(force) {
		if (!collect())
			return;
		const now = await loadManifest(ident);

		if (!force && now.etags.some((etag, i) => etag !== state.etags[i])) {
			conflict();
			return;
		}
		const gone = await toBeDeleted(ident, state.content);
		const consequences = el("div", {},
			el("p", {}, "The manifest no longer lists these modules. They are deleted with their twins:"),
			el("ul", {}, gone.map((m) => el("li", {}, m))));

		if (gone.length && !await confirmAction("Apply and delete modules?", consequences, "Apply"))
			return;
		await api.call("POST", `devices/${api.enc(ident.device)}/applyConfigurationContent`, {body: {modulesContent: state.content}});
		notice(`The manifest is applied to ${ident.device}.`);
		await reload();
	}
	show();
	return el("div", {}, hint,
		el("div.view-tabs", {role: "group", "aria-label": "View of the manifest"}, formTab, textTab), body, where,
		el("div.actions.sticky", {}, apply, again));
}
