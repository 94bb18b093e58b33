// Workers: who waits for tasks, and who holds which.

import { query } from "./api.js";
import { h } from "./dom.js";
import { ago, bdi, count, many, time } from "./format.js";
import { badge, columns, filterField, missing, Page, pattern, queueLink, taskLink } from "./page.js";

const sorts = [["oldest", "Longest held first"], ["held", "Most held first"], ["last_seen", "Last seen first"], ["name", "By name"]];

export class Workers extends Page {
	constructor(app, route) {
		super(app, route);
		this.read(route);
	}

	follow(route) {
		this.read(route);
	}

	read({ parameters }) {
		this.match = parameters.get("match") ?? "";
		this.sort = parameters.get("sort") ?? "oldest";
	}

	change(changes) {
		const { match, sort } = { match: this.match, sort: this.sort, ...changes };
		history.replaceState(null, "", `#/workers${query({ match, sort: sort === "oldest" ? "" : sort })}`);
		this.app.follow();
	}

	get title() {
		return "Workers";
	}

	path() {
		return `/workers/${query({ match: pattern(this.match), sort: this.sort, n: 200 })}`;
	}

	paths() {
		return [this.path()];
	}

	view() {
		const answer = this.latest("workers", this.path());
		const figures = answer?.json;
		return [
			h("div.head", { key: "head" }, h("h1", "Workers"), figures && h("span.quiet", many(figures.count, "name"),
				figures.unnamed.waiting + figures.unnamed.held > 0 && `; without a name: ${count(figures.unnamed.waiting)} waiting, ${many(figures.unnamed.held, "task")} held`)),
			h("div.tools", { key: "tools" },
				filterField("Filter by name", "host-7 or *.eu", this.match, (match) => this.change({ match })),
				h("label", h("span.offscreen", "Sort"), h("select", { value: this.sort, onchange: (event) => this.change({ sort: event.target.value }) },
					sorts.map(([value, label]) => h("option", { value }, label))))),
			missing(answer, "the workers") ?? this.table(figures),
		];
	}

	table({ workers, count: total }) {
		if (workers.length === 0) {
			return h("p.empty", { key: "none" }, this.match ? "No worker has such a name."
				: ["No worker has given its name. A wait with ", h("code", '"worker": "host-7"'), " does."]);
		}
		return [
			h("div.table-box", { key: "table" }, h("table.stack",
				h("thead", h("tr", h("th", { scope: "col" }, "Worker"), h("th", { scope: "col" }, "Does"), h("th", { scope: "col", class: "number" }, "Holds"),
					h("th", { scope: "col" }, "Since"), h("th", { scope: "col", class: "wide" }, "Waits for"), h("th", { scope: "col" }, "Last seen"))),
				h("tbody", workers.flatMap((worker) => this.rows(worker))))),
			total > workers.length && h("p.quiet", { key: "rest" }, `These are ${count(workers.length)} of ${count(total)}. Filter by name to see others.`),
		];
	}

	rows(worker) {
		const isOpen = this.opened === worker.name;
		return [
			h("tr", { key: worker.name },
				h("th", worker.held ? h("button", {
					class: "quiet disclose", "aria-expanded": isOpen, onclick: () => {
						this.opened = isOpen ? undefined : worker.name;
						this.app.update();
					},
				}, h("span", { "aria-hidden": true }, isOpen ? "▾" : "▸"), bdi(worker.name)) : h("span.cut", bdi(worker.name))),
				h("td", worker.held ? badge("works", "dispatched") : worker.waiting ? badge("waits", "done") : badge("away", "unknown")),
				h("td.number", { "data-label": "Holds" }, count(worker.held)), h("td", { "data-label": "Since" }, ago(worker.oldest_dispatched)),
				h("td.wide", h("span.cut", worker.waiting ? (worker.queues ?? []).map((name, index) => [index ? ", " : "", bdi(name)]) : "–")),
				h("td", { "data-label": "Last seen" }, ago(worker.last_seen))),
			isOpen && worker.held > 0 && h("tr", { key: `${worker.name} tasks`, class: "inside" }, h("td", { colspan: 6 }, h("table.stack", columns(["Task", "Queue", "Dispatched", "Lease ends"]),
				h("tbody", worker.tasks.map((task) => h(
					"tr", { key: task.id }, h("th", taskLink(task.id)),
					h("td", queueLink(task.queue, { class: "cut" })), h("td", { "data-label": "Dispatched" }, time(task.dispatched)), h("td", { "data-label": "Lease ends" }, ago(task.lease_end))))),
				worker.held > worker.tasks.length && h("caption", `The ${worker.tasks.length} held longest of ${count(worker.held)}`)))),
		];
	}
}
