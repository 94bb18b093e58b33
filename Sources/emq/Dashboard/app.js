// The frame around all pages: navigation, search, keys, the live figures, the token.

import { Failure, failure, learnAccess, send, setToken, token } from "./api.js";
import { Dead } from "./dead.js";
import * as dialogs from "./dialogs.js";
import { h, render } from "./dom.js";
import { noteServerTime } from "./format.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { button } from "./page.js";
import { Queue } from "./queue.js";
import { Queues } from "./queues.js";
import { Search } from "./search.js";
import { TaskPage } from "./task.js";
import { Workers } from "./workers.js";

const places = [
	{ path: "", name: "Overview", key: "o", icon: "M3 10.5 10 4l7 6.5V17h-5v-4H8v4H3z", page: Overview },
	{ path: "queues", name: "Queues", key: "q", icon: "M3 5h14M3 10h14M3 15h14", page: Queues },
	{ path: "dead", name: "Dead", key: "d", icon: "M10 3 18 17H2zM10 8v4M10 14.5v.5", page: Dead },
	{ path: "workers", name: "Workers", key: "w", icon: "M10 3a3 3 0 1 1 0 6 3 3 0 0 1 0-6M4 17c0-4 3-6 6-6s6 2 6 6", page: Workers },
];
const details = { queue: Queue, task: TaskPage };

const statuses = {
	connecting: ["Connecting", "waiting"],
	live: ["Live", "good"],
	lost: ["Connection lost", "bad", "The server cannot be reached. The page tries again by itself."],
	stopped: ["Server stopping", "bad", "The server stops. The page connects again when it is back."],
	late: ["Not up to date", "bad"],
	held: ["On hold", "waiting", "The figures stay while something is selected or a dialog is open."],
	refused: ["Signed out", "bad", "The server wants another token."],
	hidden: ["On hold", "waiting"],
};

const themes = { auto: ["◐", "Theme: as the system's"], light: ["☀", "Theme: light"], dark: ["☾", "Theme: dark"] };

class App {
	constructor() {
		this.answers = new Map();
		// Why the server does not show what it showed before, by path.
		this.late = new Map();
		this.state = "connecting";
		this.search = new Search(this);
		this.root = document.getElementById("frame");
		this.live = new Live(this);
		addEventListener("hashchange", () => this.follow());
		addEventListener("keydown", (event) => this.key(event));
		document.addEventListener("selectionchange", () => this.update());
		this.setTheme(localStorage.getItem("emq-theme") ?? "auto");
		this.follow();
		this.begin();
		// Ages grow even if nothing else changes.
		setInterval(() => this.update(), 1000);
	}

	async begin() {
		try {
			this.access = await learnAccess();
		} catch (error) {
			if (error.status === 401) return this.askToken(token && error.message);
			setTimeout(() => this.begin(), 2000);
			return this.note("lost");
		}
		this.update();
	}

	/// The answer for a path, or undefined: `{ status, text, json, failure }`.
	data(path) {
		return this.answers.get(path);
	}

	receive(path, status, text) {
		if (status === 401) return this.refuse(failure(status, text));
		this.arrived ??= new Map();
		this.arrived.set(path, new Answer(status, text));
		this.state = "live";
		this.update();
	}

	note(state, reason) {
		if (state === this.state && reason === this.reason) return;
		Object.assign(this, { state, reason });
		this.update();
	}

	refuse(reason) {
		if (reason.status !== 401) return dialogs.say(reason.message, "bad");
		this.access = undefined;
		this.note("refused");
		this.askToken(reason.message);
	}

	get isSelecting() {
		const selection = getSelection();
		return selection && !selection.isCollapsed && this.main?.contains(selection.anchorNode);
	}

	get isHeld() {
		return dialogs.isOpen() || this.isSelecting || this.page.isHeld;
	}

	/// Asks the server again for all that is visible, such as after a change.
	refresh() {
		this.live.restart();
	}

	/// Shows the page anew, once, soon.
	update() {
		if (this.isDue) return;
		this.isDue = true;
		const show = () => {
			this.isDue = false;
			this.show();
		};
		if (document.hidden) setTimeout(show, 100);
		else requestAnimationFrame(show);
	}

	show() {
		const isHeld = this.isHeld;
		if (this.arrived) {
			for (const [path, answer] of this.arrived) {
				// What has not been shown yet changes nothing that somebody looks at.
				if (isHeld && this.answers.has(path)) continue;
				this.arrived.delete(path);
				this.late.delete(path);
				// What the server is too busy to show stays as it was.
				if (answer.failure?.status >= 500 && this.answers.has(path)) {
					this.late.set(path, answer.failure.message);
					continue;
				}
				this.answers.set(path, answer);
				if (answer.json?.server) {
					noteServerTime(answer.json.server.now);
					this.version = answer.json.server.version;
				}
			}
			if (this.arrived.size === 0) this.arrived = undefined;
		}
		if (this.access) {
			const paths = this.page.paths();
			this.live.watch(paths, this.page.interval);
			for (const map of [this.answers, this.late]) for (const path of map.keys()) if (!paths.includes(path)) map.delete(path);
		}
		const { title } = this.page;
		document.title = title ? `${title} · emq` : "emq";
		render(this.root, this.frame(isHeld));
	}

	frame(isHeld) {
		const { isSelecting } = this;
		const [late] = this.late.values();
		const status = this.state !== "live" ? this.state : isHeld ? "held" : late ? "late" : "live";
		const [label, kind, explanation] = statuses[status];
		return [
			h("a.skip", { key: "skip", href: "#main", onclick: (event) => {
				event.preventDefault();
				this.main.focus();
			} }, "Skip to the contents"),
			h("aside", { key: "side" },
				h("a.brand", { href: "#/", "aria-label": "emq, overview" }, h("img", { src: "dashboard/icon.svg", alt: "", width: 28 }), h("b", "emq")),
				h("nav", { "aria-label": "Pages" }, places.map(({ path, name, icon }) => h(
					"a", { key: path, href: `#/${path}`, "aria-current": path === this.place ? "page" : undefined },
					symbol(icon), h("span", name)))),
				h("div.side-foot",
					this.version && h("span", `emq ${this.version}`),
					this.access?.tokens && button(`Token: ${this.access.name}`, () => this.askToken(), { class: "quiet" }))),
			h("div.top", { key: "top" },
				this.search.view(),
				h("span", { class: `live ${kind}`, role: "status", title: this.reason ?? explanation ?? late, "data-state": status }, label),
				iconButton(...themes[this.theme], "t", () => this.changeTheme()),
				iconButton("?", "Keys", "?", () => this.help())),
			h("main", { key: "main", id: "main", tabindex: "-1", dom: (element) => (this.main = element) },
				h("div", { key: this.routeKey, class: "page", opaque: isSelecting }, !isSelecting && this.page.view())),
			h("div", { key: "messages", id: "messages", role: "status", "aria-live": "polite", opaque: true }),
		];
	}

	changeTheme() {
		const order = Object.keys(themes);
		this.setTheme(order[(order.indexOf(this.theme) + 1) % order.length]);
		localStorage.setItem("emq-theme", this.theme);
		this.update();
	}

	setTheme(theme) {
		this.theme = theme;
		document.documentElement.dataset.theme = theme;
	}

	/// Shows another page. `path` is what follows `#/`.
	go(path) {
		location.hash = `#/${path}`;
	}

	/// Changes the address of a page, such as how it sorts, without a step to go back.
	replace(address) {
		history.replaceState(null, "", address);
		this.follow();
	}

	follow() {
		const [path, parameters] = location.hash.replace(/^#\/?/, "").split("?");
		const [first, ...rest] = path.split("/");
		let name = "";
		try {
			name = decodeURIComponent(rest.join("/"));
		} catch {
			// A link that somebody has cut off.
		}
		const place = places.find((candidate) => candidate.path === first);
		const kind = place?.page ?? details[first] ?? Overview;
		const route = { name, parameters: new URLSearchParams(parameters ?? "") };
		const routeKey = `${first}/${name}`;
		this.place = place ? first : details[first] ? "queues" : "";
		if (this.routeKey === routeKey) {
			this.page.read(route);
		} else {
			this.page?.leave();
			this.page = new kind(this, route);
			this.routeKey = routeKey;
			this.main?.focus({ preventScroll: true });
			scrollTo(0, 0);
		}
		this.update();
	}

	/// Sends a request for a button, and says what came of it. `done` makes the message of the answer.
	/// Returns the JSON, or undefined if the request failed.
	async perform(method, path, body, done) {
		try {
			const answer = await send(method, path, body);
			const message = done?.(answer);
			if (message) dialogs.say(message, "good");
			this.refresh();
			return answer;
		} catch (error) {
			this.refuse(error);
			if (!(error instanceof Failure)) throw error;
			return undefined;
		}
	}

	async askToken(flaw) {
		if (this.isAsking) return;
		this.isAsking = true;
		const typed = await dialogs.open("Token", (close, update) => [
			h("div.dialog-body",
				h("p", "This server has tokens. The page keeps yours until you close the tab."),
				h("label.field", h("span", "Token"), h("input", {
					type: "password", name: "token", autofocus: true, required: true,
					"aria-invalid": flaw ? "true" : undefined, "aria-describedby": "token-flaw",
				})),
				h("p", { id: "token-flaw", class: "bad", role: "alert" }, flaw)),
			h("footer", h("span.space"), button("Continue", ({ currentTarget }) => {
				const text = currentTarget.form.elements.token.value.trim();
				// A header can hold nothing else.
				if (/^[!-~]+$/.test(text)) return close(text);
				flaw = "A token has only letters, digits and signs of ASCII.";
				update();
			}, { type: "submit", class: "primary" })),
		]);
		this.isAsking = false;
		if (typed === undefined) {
			// Without a token there is nothing to show.
			if (!this.access) this.askToken("The server shows nothing without a token.");
			return;
		}
		setToken(typed);
		this.answers.clear();
		this.late.clear();
		await this.begin();
		this.refresh();
	}

	key(event) {
		const hasControl = event.ctrlKey || event.metaKey;
		if (event.defaultPrevented || event.altKey || hasControl && event.key !== "k" || dialogs.isOpen()) return;
		const isTyping = event.target.matches?.("input:not([type=checkbox]), textarea, select");
		if (hasControl || event.key === "/" && !isTyping) {
			event.preventDefault();
			return this.search.focus();
		}
		if (isTyping) {
			if (event.key === "Escape") event.target.blur();
			return;
		}
		if (this.isGoing) {
			this.isGoing = false;
			const place = places.find(({ key }) => key === event.key);
			if (place) return this.go(place.path);
		}
		if (event.key === "g") {
			this.isGoing = true;
			setTimeout(() => (this.isGoing = false), 1500);
		} else if (event.key === "?") this.help();
		else if (event.key === "t") this.changeTheme();
		else if (event.key === "r") this.refresh();
		else if ("jk".includes(event.key)) this.step(event.key === "j" ? 1 : -1);
		else if (this.page.key(event)) event.preventDefault();
	}

	/// Moves the focus to the first link of the next or the previous row.
	step(direction) {
		const links = [...this.main.querySelectorAll("tbody tr")].map((row) => row.querySelector("a, button")).filter(Boolean);
		if (links.length === 0) return;
		const row = document.activeElement.closest("tr");
		const place = links.findIndex((link) => link.closest("tr") === row);
		const next = links[Math.min(links.length - 1, Math.max(0, place < 0 ? 0 : place + direction))];
		next.focus();
		next.scrollIntoView({ block: "nearest" });
	}

	help() {
		const keys = [
			["/", "Search for a queue, a task's id, or a key"],
			...places.map(({ key, name }) => [`g ${key}`, name]),
			["j  k", "Next and previous row"], ["x", "Select the row"], ["r", "Ask the server again"],
			["t", "Light, dark, or as the system"], ["Esc", "Close, or leave a field"], ["?", "This list"],
		];
		dialogs.open("Keys", () => h("div.dialog-body", h("table.keys", h("tbody", keys.map(
			([key, meaning]) => h("tr", h("th", key.split(" ").filter(Boolean).map((part) => h("kbd", part))),
				h("td", meaning)))))));
	}
}

/// A response, whose JSON is read when somebody wants it.
class Answer {
	constructor(status, text) {
		this.text = text;
		if (status !== 200) this.failure = failure(status, text);
	}

	get json() {
		if (this.parsed === undefined && !this.failure) this.parsed = JSON.parse(this.text);
		return this.parsed;
	}
}

function iconButton(icon, name, key, onclick) {
	return button(icon, onclick, { class: "quiet icon", "aria-label": name, title: `${name} (${key})` });
}

function symbol(path) {
	return h("svg.symbol", { viewBox: "0 0 20 20", "aria-hidden": true }, h("path", { d: path }));
}

new App();
