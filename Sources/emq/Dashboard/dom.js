// Makes elements from descriptions, and changes only what differs, so that focus, selection and scrolling stay while the
// figures on a page change.
//
// Text is always set as text. Nothing here, and nothing in the other files, writes HTML.

const SVG = "http://www.w3.org/2000/svg";
const svgTags = new Set(["svg", "g", "path", "line"]);

// Without these, a button submits its form, and a browser corrects names.
const defaults = { button: { type: "button" }, th: { scope: "row" }, input: { autocomplete: "off", spellcheck: "false" } };

/// Describes an element. `name` may have classes: "td.number.wide". `properties` are attributes, `on…` handlers, `class`,
/// `style` (an object), `key` (what the element stands for among its siblings), `dom` (called with the element once it is
/// made) and `opaque` (what is in the element is nobody else's concern once it is made). Children are descriptions, texts,
/// arrays of them, or nothing.
export function h(name, properties, ...children) {
	const [tag, ...classes] = name.split(".");
	if (!isProperties(properties)) {
		children.unshift(properties);
		properties = undefined;
	}
	if (classes.length) properties = { ...properties, class: [...classes, properties?.class || []].flat().join(" ") };
	return { tag, properties: { ...defaults[tag], ...properties }, children: flat(children) };
}

function isProperties(value) {
	return typeof value === "object" && value !== null && !Array.isArray(value) && !value.tag;
}

function flat(children, into = []) {
	for (const child of children) {
		if (Array.isArray(child)) flat(child, into);
		else if (child !== null && child !== undefined && child !== false) {
			into.push(typeof child === "object" ? child : String(child));
		}
	}
	return into;
}

/// Makes an element's children equal the descriptions. O(nodes).
export function render(parent, ...children) {
	const focused = document.activeElement;
	patchChildren(parent, flat(children));
	// An element that was moved has lost the focus.
	if (focused !== document.activeElement && focused?.isConnected && parent.contains(focused)) {
		focused.focus({ preventScroll: true });
	}
}

function make(description) {
	if (typeof description === "string") return document.createTextNode(description);
	const { tag, properties } = description;
	const node = svgTags.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
	node.described = { properties: {} };
	patchProperties(node, properties);
	patchChildren(node, description.children);
	if (node.localName === "select") node.value = properties.value;
	properties.dom?.(node);
	return node;
}

/// Whether a node can become what a description says.
function fits(node, description) {
	if (typeof description === "string") return node.nodeType === Node.TEXT_NODE;
	return node.described !== undefined && node.localName === description.tag
		&& node.described.properties.key === description.properties.key;
}

function patch(node, description) {
	if (typeof description === "string") {
		if (node.data !== description) node.data = description;
		return;
	}
	// Whoever has much to describe keeps the description.
	if (node.described.by === description) return;
	node.described.by = description;
	patchProperties(node, description.properties);
	if (!description.properties.opaque) patchChildren(node, description.children);
	if (node.localName === "select" && document.activeElement !== node) node.value = description.properties.value;
}

function patchChildren(parent, descriptions) {
	const wanted = new Set(descriptions.map((description) => description.properties?.key));
	const keyed = new Map();
	for (const node of [...parent.childNodes]) {
		const key = node.described?.properties.key;
		if (key === undefined) continue;
		if (wanted.has(key)) keyed.set(key, node);
		else node.remove();
	}
	let place = parent.firstChild;
	for (const description of descriptions) {
		const key = description.properties?.key;
		const node = key === undefined ? place : keyed.get(key);
		if (!node || !fits(node, description)) {
			parent.insertBefore(make(description), place);
			continue;
		}
		if (node === place) place = place.nextSibling;
		else parent.insertBefore(node, place);
		patch(node, description);
	}
	while (place) {
		const next = place.nextSibling;
		place.remove();
		place = next;
	}
}

function patchProperties(node, properties) {
	const old = node.described.properties;
	for (const name in old) {
		if (!(name in properties)) setProperty(node, name, undefined, old[name]);
	}
	for (const name in properties) {
		if (properties[name] !== old[name] || name === "value" || name === "checked") {
			setProperty(node, name, properties[name], old[name]);
		}
	}
	node.described.properties = properties;
}

function setProperty(node, name, value, old) {
	if (name === "key" || name === "dom" || name === "opaque") return;
	if (name.startsWith("on")) {
		node[name] = value ?? null;
	} else if (name === "style") {
		for (const part in old ?? {}) if (!value || !(part in value)) node.style[part] = "";
		for (const part in value ?? {}) if (value[part] !== old?.[part]) node.style[part] = value[part];
	} else if (name === "checked" || name === "disabled") {
		if (node[name] !== Boolean(value)) node[name] = Boolean(value);
	} else if (name === "value" && node.localName !== "option") {
		// Somebody may be typing; and a select has its options only later.
		if (node.localName !== "select" && value !== undefined && node.value !== String(value) && document.activeElement !== node) node.value = value;
	} else if (typeof value === "boolean" && name.startsWith("aria-")) {
		node.setAttribute(name, value);
	} else if (value === undefined || value === null || value === false) {
		node.removeAttribute(name);
	} else {
		node.setAttribute(name, value === true ? "" : value);
	}
}
