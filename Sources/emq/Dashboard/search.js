// Search from anywhere: queues by a part of their names, tasks by id, receipt or key.

import { query, send } from "./api.js";
import { h } from "./dom.js";
import { bdi } from "./format.js";
import { state } from "./page.js";

const settleMilliseconds = 150;

/// The search field and its list of results (WAI-ARIA Authoring Practices, combobox).
export class Search {
	constructor(app) {
		this.app = app;
		this.clear();
	}

	clear() {
		Object.assign(this, { text: "", results: [], place: 0, message: "", isOpen: false, isEntered: false });
	}

	focus() {
		this.input.focus();
		this.input.select();
	}

	view() {
		const isShown = this.isOpen && (this.results.length > 0 || this.message !== "");
		return h("div.search", { role: "search" },
			h("input", {
				type: "search", role: "combobox", placeholder: "Queue, task id or key", "aria-label": "Search for a queue, a task's id, or a key",
				"aria-expanded": isShown, "aria-controls": "results", "aria-autocomplete": "list", "aria-activedescendant": isShown && this.results.length ? `result-${this.place}` : undefined,
				dom: (element) => (this.input = element),
				oninput: (event) => this.type(event.target.value), onkeydown: (event) => this.key(event),
				onblur: () => (this.closing = setTimeout(() => {
					this.isOpen = false;
					this.app.update();
				}, 150)),
				onfocus: () => {
					clearTimeout(this.closing);
					this.isOpen = true;
					this.app.update();
				},
			}),
			h("kbd", { "aria-hidden": true }, "/"),
			h("div", { id: "results", role: "listbox", "aria-label": "Results", hidden: !isShown },
				this.results.map((result, index) => h(
					"a", { key: result.path, id: `result-${index}`, role: "option", tabindex: "-1", href: `#/${result.path}`,
						"aria-selected": index === this.place, onclick: () => this.leave() },
					result.view)),
				this.message && h("p.quiet", this.message)));
	}

	type(text) {
		this.text = text.trim();
		this.isOpen = true;
		this.isEntered = false;
		this.abandon();
		if (this.text === "") return this.show([], "");
		this.timer = setTimeout(() => this.find(this.text), settleMilliseconds);
	}

	/// Ends the search under way.
	abandon() {
		clearTimeout(this.timer);
		this.request?.abort();
		this.request = undefined;
	}

	async find(text) {
		this.abandon();
		const request = (this.request = new AbortController());
		let answer;
		try {
			answer = await send("GET", `/search${query({ q: text, n: 10 })}`, undefined, request.signal);
		} catch (error) {
			if (request === this.request) this.show([], error.message);
			return;
		}
		if (request !== this.request) return;
		const results = [
			...answer.tasks.map((task) => ({
				path: `task/${task.id}`,
				view: [h("span.kind", "Task"), task.key === undefined ? h("code", task.id) : bdi(task.key),
					h("span.quiet", "in ", bdi(task.queue)), state(task.state)],
			})),
			...answer.queues.map((name) => ({
				path: `queue/${encodeURIComponent(name)}`, view: [h("span.kind", "Queue"), bdi(name)],
			})),
		];
		this.found = text;
		this.show(results, answer.more ? "There are more." : results.length ? "" : "Nothing has this name, id or key.");
		if (this.isEntered) this.enter();
	}

	/// Opens the result that is selected; that of a text that has just been typed when it has come.
	enter() {
		const result = this.results[this.place];
		this.isEntered = this.found !== this.text;
		if (this.isEntered) this.find(this.text);
		else if (result) {
			this.app.go(result.path);
			this.leave();
		}
	}

	show(results, message) {
		Object.assign(this, { results, message, place: 0 });
		this.app.update();
	}

	key(event) {
		const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
		if (step && this.results.length) {
			event.preventDefault();
			this.place = (this.place + step + this.results.length) % this.results.length;
			this.app.update();
		} else if (event.key === "Enter") {
			event.preventDefault();
			if (this.text) this.enter();
		} else if (event.key === "Escape") {
			event.stopPropagation();
			this.leave();
		}
	}

	leave() {
		this.abandon();
		this.clear();
		this.input.value = "";
		this.input.blur();
		this.app.update();
	}
}
