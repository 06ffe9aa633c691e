// SPDX-License-Identifier: GPL-3.0-or-later
// Making elements. Text is always a text node, never markup.

// Children: elements, texts, numbers, lists of them; null, undefined and false are left out.
export function fill(node, ...children) {
	for (const child of children.flat(Infinity)) {
		if (child === null || child === undefined || child === false)
			continue;
		node.append(child instanceof Node ? child : document.createTextNode(String(child)));
	}
	return node;
}

// el("a.plain", {href: "#/", onclick: f}, "text"): on* are listeners, true and false set or leave out an attribute,
// "value" and "checked" are properties.
export function el(what, props = {}, ...children) {
	const [tag, ...classes] = what.split(".");
	const node = document.createElement(tag);

	if (classes.length)
		node.className = classes.join(" ");
	for (const [name, value] of Object.entries(props)) {
		if (value === null || value === undefined || value === false)
			continue;
		if (name.startsWith("on"))
			node.addEventListener(name.slice(2), value);
		else if (name === "value" || name === "checked" || name === "indeterminate")
			node[name] = value;
		else
			node.setAttribute(name, value === true ? "" : value);
	}
	return fill(node, ...children);
}

export function replace(node, ...children) {
	node.replaceChildren();
	return fill(node, ...children);
}

let last = 0;
export const newId = (prefix) => `${prefix}-${++last}`;
