// The configuration of a queue: what is set, and a form to change it. While somebody types, a dry run asks the server
// whether it accepts the changes, so the page knows none of the rules.

import { ask } from "./actions.js";
import { may, named, request } from "./api.js";
import { h } from "./dom.js";
import { duration, many, plain } from "./format.js";
import { button, card, facts, missing, queueLink } from "./page.js";

const settleMilliseconds = 400;

/// The fields of the form, in groups: the name in the configuration, a label, a `kind`, a `fallback`, a hint, and `never`.
///
/// - `kind`: "s" (a duration), "n" (a number), "" (a text), "lines", or choices with what they mean.
/// - `fallback`: what applies if neither the queue nor the server's defaults say anything; durations in seconds.
/// - `never`: what null stands for, whatever the defaults say.
const groups = [
	["Attempts", [
		["max_retries", "Retries at most", "n", "no limit", "After the first attempt. Then a task is dead.", "no limit"],
		["max_crashes", "Crashes at most", "n", "no limit", "Leases that may run out.", "no limit"],
		["retry", "Lease", "s", 300, "How long a worker may hold a task."],
		["backoff.min", "First pause", "s", "none at first, later 1 s to 1 min", "Before the first retry. Later pauses double."],
		["backoff.max", "Longest pause", "s", 86400],
		["backoff.doublings", "Doublings", "n", "no limit", "How often the pause doubles at most."],
		["backoff.jitter", "Jitter", "n", "0", "The random part of a pause, 0 to 1."],
	]],
	["Lifetime", [
		["expiry", "Expiry", "s", 86400, "How long a task lives if it is not done.", "never"],
		["on_expiry", "Expired tasks", { delete: "are deleted", dead: "become dead" }, "are deleted"],
		["dead_letter", "Dead tasks go to", "", "nowhere: they stay", "The queue where they are ready.", "nowhere"],
		["dead_expiry", "Keep dead tasks for", "s", 1209600],
		["keep", "Keep records for", "s", 0, "Of done, cancelled and expired tasks."],
	]],
	["Queue", [
		["max_length", "Length", "n", "no limit", "Beyond so many tasks, an enqueue gets 429.", "no limit"],
		["priority", "Priority", "n", "0", "−128 to 127, higher first."],
		["show_content", "Contents", { true: "are shown", false: "are for admins only" }, "are shown"],
	]],
	["Push", [
		["push.url", "Push to", "", "no URL: workers fetch the tasks"],
		["push.method", "Method", "", "POST"],
		["push.timeout", "Timeout", "s", 30, "Of one request in all."],
		["push.concurrency", "Requests at once", "n", "10"],
		["push.rate", "Rate", "", "no limit", "Such as 10/s, 21.5/m or 5/h."],
		["push.circuit.failures", "Circuit opens after", "n", "never", "So many failures in a row."],
		["push.circuit.pause", "Circuit stays open for", "s", "–", "Then one task tries again."],
		["push.on_dead", "Notify of dead tasks", "", "nobody", "A URL that gets each task that dies."],
		["push.signature", "Signature", { emq: "Emq-Signature", standard: "Standard Webhooks" }, "Emq-Signature"],
		["push.secrets", "Secrets", "lines", "none: requests are not signed", "One a line, the current one first. *** keeps one."],
		["push.headers", "Headers", "lines", "none", "Name: value, one a line. *** keeps a value."],
		["push.ca", "Issuers of certificates", "lines", "those that the server trusts", "In PEM. emq accepts no others then."],
	]],
].map(([title, fields]) => [title, fields.map(([name, label, kind, fallback, hint, never]) => ({ name, label, kind, fallback, hint, never }))]);
const fields = groups.flatMap(([, fields]) => fields);

/// What a configuration says of a field, as a text for the form: "" if it says nothing, null if it says null.
function valueOf({ backoff, push, ...others }, { name }) {
	if (name === "push.secrets") return push?.secrets?.join("\n") ?? push?.secret ?? "";
	if (name === "push.headers") return Object.entries(push?.headers ?? {}).map((pair) => pair.join(": ")).join("\n");
	// A number is a pause that does not grow.
	if (typeof backoff === "number") backoff = { min: backoff, max: backoff };
	const value = name.split(".").reduce((part, member) => part?.[member], { backoff, push, ...others });
	return value === undefined ? "" : value === null ? null : String(value);
}

const units = { ms: 0.001, s: 1, min: 60, m: 60, h: 3600, d: 86400 };

/// What to send for a text. What is not a number goes as it is, so that the server says what it wants.
function read({ kind, name }, text) {
	const [, number, unit] = (kind === "s" && /^([\d.]+) *(ms|s|min|m|h|d)$/.exec(text.trim())) || [];
	if (unit && Number.isFinite(Number(number))) return Number((number * units[unit]).toFixed(3));
	if (kind === "s" || kind === "n") return Number.isFinite(Number(text)) ? Number(text) : text.trim();
	if (name === "show_content") return text === "true";
	return kind === "lines" ? text : text.trim();
}

function lines(text) {
	return text.split("\n").filter((line) => line.trim() !== "");
}

/// A value for people.
function told(field, value) {
	if (value === "" || value === null) return value === "" ? "not set" : field.never;
	if (typeof field.kind === "object") return field.kind[value] ?? value;
	if (field.name === "push.secrets") return many(lines(value).length, "secret");
	const seconds = field.kind === "s" && read(field, value);
	return typeof seconds === "number" ? duration(seconds) : plain(value.length > 200 ? `${value.slice(0, 200)}…` : value);
}

// What has been typed and not saved, by queue.
const drafts = new Map();

addEventListener("beforeunload", (event) => {
	if (drafts.size > 0) event.preventDefault();
});

export class Configuration {
	constructor(app, name) {
		this.app = app;
		this.name = name;
		this.path = `/config/${named(name)}`;
		this.isEditing = drafts.has(name);
		if (this.isEditing) this.timer = setTimeout(() => this.check(), 2 * settleMilliseconds);
	}

	paths() {
		return may("admin", this.name) ? [this.path, "/defaults/"] : [];
	}

	leave() {
		clearTimeout(this.timer);
		this.checked = undefined;
	}

	get current() {
		return this.app.data(this.path)?.json;
	}

	get draft() {
		return drafts.get(this.name);
	}

	saved(field) {
		return valueOf(this.current, field);
	}

	value(field) {
		const typed = this.draft?.values.get(field.name);
		return typed === undefined ? this.saved(field) : typed;
	}

	/// The fields whose values in the form are not those of the server.
	changes() {
		return this.draft ? fields.filter((field) => this.value(field) !== this.saved(field)) : [];
	}

	/// What the server's defaults say of a field.
	common({ name }) {
		return name.startsWith("push.") ? "" : valueOf(this.app.data("/defaults/")?.json ?? {}, { name });
	}

	/// What applies if the field is empty.
	fallback(field) {
		const value = this.common(field);
		if (value !== "") return `${told(field, value)} (the server's default)`;
		return typeof field.fallback === "number" ? duration(field.fallback) : field.fallback;
	}

	view() {
		if (this.paths().length === 0) return null;
		const none = missing(this.app.data(this.path));
		return card("Configuration", {
			key: "configuration", actions: !none && !this.isEditing && button("Change…", () => this.edit(true), { id: "change" }),
		}, none ?? (this.isEditing ? this.form() : this.summary()));
	}

	summary() {
		const known = fields.filter((field) => this.saved(field) !== "");
		if (known.length === 0) return h("p.quiet", { key: "summary" }, "Nothing is set: the server's defaults apply.");
		return h("div", { key: "summary" }, facts(known.map((field) => {
			const value = this.saved(field);
			return [field.label, field.name === "dead_letter" && value !== null ? queueLink(value) : h("bdi", told(field, value))];
		})));
	}

	change(field, value) {
		if (!this.draft) drafts.set(this.name, { values: new Map(), base: this.current });
		this.draft.values.set(field.name, value);
		this.verdict = undefined;
		this.leave();
		this.timer = setTimeout(() => this.check(), settleMilliseconds);
		if (this.changes().length === 0) drafts.delete(this.name);
		this.app.update();
	}

	/// Opens or closes the form, and takes the focus along.
	edit(isEditing) {
		this.isEditing = isEditing;
		this.app.update();
		setTimeout(() => document.querySelector(isEditing ? "#configuration-form input" : "#change")?.focus(), 100);
	}

	/// The request that makes the changes: a PATCH, so that what somebody else changes meanwhile stays. But only a PUT can
	/// say null.
	request() {
		const { current } = this;
		const patch = {};
		const set = (path, value) => {
			const names = path.split(".");
			const last = names.pop();
			names.reduce((part, name) => (part[name] ??= {}), patch)[last] = value;
		};
		const isEmpty = (prefix) => fields.every((field) => !field.name.startsWith(prefix) || this.value(field) === "");
		const nulls = {};
		for (const field of this.changes()) {
			const value = this.value(field);
			const whole = ["push.circuit", "backoff"].find((name) => field.name.startsWith(name) && isEmpty(name));
			if (whole) set(whole, null);
			else if (field.name === "push.secrets") set(value.trim() ? field.name : "push.secret", value.trim() ? lines(value) : null);
			else if (field.name === "push.headers") set(field.name, headers(value, current.push?.headers));
			else if (value === null && field.name === "expiry") set(field.name, "never");
			else if (value === null) nulls[field.name] = null;
			else set(field.name, value.trim() === "" ? null : read(field, value));
		}
		if (patch.backoff && typeof current.backoff === "number") {
			for (const field of fields) if (field.name.startsWith("backoff.") && this.value(field)) set(field.name, read(field, this.value(field)));
		}
		if (current.push && isEmpty("push.")) patch.push = null;
		if (Object.keys(nulls).length === 0) return { method: "PATCH", path: this.path, body: patch };
		return { method: "PUT", path: this.path, body: { ...merge(current, patch), ...nulls } };
	}

	/// Asks the server whether it would accept the changes. Returns whether it does.
	async check() {
		this.leave();
		if (!this.current || this.changes().length === 0) return false;
		const { method, path, body } = this.request();
		this.checked = body;
		let verdict = {};
		try {
			await request(method, `${path}?dry_run=true`, body);
		} catch (error) {
			verdict = this.complaint(error);
			verdict.isOpen = !error.status || error.status >= 500;
		}
		// Somebody has typed on, or gone.
		if (body !== this.checked || !this.draft) return false;
		if (verdict.isOpen) this.timer = setTimeout(() => this.check(), 2000);
		this.verdict = verdict;
		this.app.update();
		return !verdict.message;
	}

	/// What the server says against the changes: `{ field, message }`.
	complaint(error) {
		if (error.status === undefined) throw error;
		if (error.status === 401) this.app.refuse(error);
		const name = error.field === "push.secret" ? "push.secrets" : error.field;
		const find = (test) => fields.find((field) => test(field.name));
		const field = name && (find((other) => other === name) ?? find((other) => [".", "["].some((mark) => name.startsWith(other + mark)))
			?? find((other) => other.startsWith(`${name}.`)));
		return { field, message: error.message };
	}

	async save() {
		if (!await this.check()) return document.querySelector("#configuration-form [aria-invalid]")?.focus();
		const answer = await ask(this.app, {
			title: "Save the configuration", action: "Save",
			make: () => ({ ...this.request(), text: [
				h("ul.diff", this.changes().map((field) => h("li", h("b", field.label), ": ",
					h("del", told(field, this.saved(field))), " → ",
					h("ins", this.value(field) === "" ? `not set: ${this.fallback(field)}` : told(field, this.value(field))),
					field.name === "push.secrets" && this.saved(field) && this.value(field) && " (changed)"))),
				h("p.quiet.below", "It also applies to tasks that are already queued, except for priority and expiry."),
			] }),
			done: () => "Saved the configuration.",
		});
		if (answer) this.discard();
		else this.check();
	}

	discard() {
		this.leave();
		this.verdict = undefined;
		drafts.delete(this.name);
		this.edit(false);
	}

	form() {
		const changes = this.changes();
		const { verdict } = this;
		const moved = this.draft ? fields.filter((field) => valueOf(this.draft.base, field) !== this.saved(field)) : [];
		return h("form", { key: "form", id: "configuration-form", onsubmit: (event) => {
			event.preventDefault();
			if (changes.length) this.save();
		} },
			moved.length > 0 && h("p.notice.waiting", { key: "moved", role: "status" }, h("b", "Somebody has changed the configuration meanwhile: "),
				moved.map((field) => `${field.label} is now ${told(field, this.saved(field))}`).join("; "), ". What you have typed is still here."),
			groups.map(([title, fields]) => h("fieldset", { key: title }, h("legend", title),
				h("div.form", fields.map((field) => this.control(field, changes.includes(field)))))),
			h("div.form-foot", { key: "foot" },
				h("span", { role: "status", class: verdict?.message ? "bad" : "quiet" }, changes.length === 0 ? "No changes."
					: verdict?.message ? [verdict.field && `${verdict.field.label}: `, verdict.message]
						: `${many(changes.length, "change")}${verdict ? ". The server accepts." : "…"}`),
				h("span.space"),
				button(changes.length ? "Discard" : "Close", () => this.discard()),
				button("Save…", undefined, { type: "submit", class: "primary", disabled: changes.length === 0 || Boolean(verdict?.message) })));
	}

	control(field, isChanged) {
		const { name, label, kind, hint, never } = field;
		const value = this.value(field);
		const flaw = this.verdict?.field === field ? this.verdict.message : undefined;
		const fallback = this.fallback(field);
		const properties = {
			id: name, value: value ?? "", placeholder: value === null ? never : fallback, disabled: value === null, "aria-invalid": flaw && "true",
			"aria-describedby": `${name}-hint`, oninput: (event) => this.change(field, event.target.value),
		};
		const seconds = kind === "s" && value ? read(field, value) : undefined;
		return h("div", { key: name, class: `field${kind === "lines" || name === "push.url" ? " whole" : ""}${isChanged ? " changed" : ""}` },
			h("label", { for: name }, label, kind === "s" && h("small", " in seconds")),
			typeof kind === "object" ? h("select", properties, h("option", { value: "" }, `Default: ${fallback}`),
				Object.entries(kind).map(([value, text]) => h("option", { value }, text)))
				: kind === "lines" ? h("textarea", { ...properties, rows: 2 }) : h("input", properties),
			never && (value === null || name === "expiry" || this.common(field) !== "") && h("label.never", h("input", {
				type: "checkbox", checked: value === null, onchange: (event) => this.change(field, event.target.checked ? null : ""),
			}), never),
			h("small", { id: `${name}-hint`, class: flaw && "bad" }, flaw ?? [typeof seconds === "number" && `${duration(seconds)}. `, hint]));
	}
}

/// The headers of a form: those that are gone become null.
function headers(text, before = {}) {
	const changes = Object.fromEntries(Object.keys(before).map((name) => [name, null]));
	for (const line of lines(text)) {
		const [first, ...value] = line.split(":");
		const name = first.trim();
		// The case of a name does not matter.
		changes[Object.keys(before).find((old) => old.toLowerCase() === name.toLowerCase()) ?? name] = value.join(":").trim();
	}
	return Object.keys(changes).length ? changes : null;
}

/// A JSON merge patch (RFC 7396).
function merge(target, patch) {
	const merged = { ...target };
	for (const [name, value] of Object.entries(patch)) {
		if (value === null) delete merged[name];
		else merged[name] = typeof value === "object" && !Array.isArray(value) ? merge(typeof merged[name] === "object" ? merged[name] : {}, value) : value;
	}
	return merged;
}
