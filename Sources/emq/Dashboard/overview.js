// The overview: what the whole server is doing.

import { h } from "./dom.js";
import { chart, rateChart } from "./chart.js";
import { ago, bdi, bytes, count, duration, many, rate, short, time } from "./format.js";
import { badge, button, card, facts, missing, Page, queueAddress, queueLink, rateTile, stateTiles } from "./page.js";
import { rows } from "./queues.js";

const paths = {
	oldest_ready: "/stats/?sort=oldest_ready&n=10&history=1m",
	dead: "/stats/?sort=dead&n=10",
	failed: "/stats/?sort=failed&n=10",
	alerts: "/alerts/",
};

export class Overview extends Page {
	title = "Overview";
	interval = 2;

	paths() {
		return Object.values(paths);
	}

	view() {
		const answer = this.app.data(paths.oldest_ready);
		const none = missing(answer);
		if (none) return [h("h1", "Overview"), none];
		const figures = answer.json;
		return [
			h("h1", "Overview"),
			this.alerts(),
			this.totals(figures),
			figures.history && this.charts(figures.history),
			h("div.columns.three", { key: "worst" },
				this.worst("Waiting longest", "oldest_ready", (queue) => queue.oldest_ready, duration),
				this.worst("Most dead tasks", "dead", (queue) => queue.dead, count),
				this.worst("Most failures", "failed", (queue) => queue.rates.failed, (value) => `${rate(value)}/s`)),
			this.server(figures),
		];
	}

	alerts() {
		const answer = this.app.data(paths.alerts);
		if (!answer || answer.failure) return null;
		const { alerts, left_out: leftOut } = answer.json;
		if (alerts.length === 0) return h("p.calm", { key: "alerts" }, h("i.swatch.done"), "All is well.");
		const shown = this.isWhole ? alerts : alerts.filter(({ kind }, index) => alerts.slice(0, index).filter((other) => other.kind === kind).length < 3);
		const rest = alerts.length + leftOut - shown.length;
		return card(undefined, { key: "alerts", class: "alerts", "aria-label": "Alerts" },
			h("ul", shown.map(({ level, text, queue, kind }) => h(
				"li", { key: `${kind} ${queue ?? text}`, class: level }, badge(level, level),
				queue === undefined ? h("span", text) : queueLink(queue, undefined, bdi(text))))),
			this.isWhole && rest > 0 && h("p.quiet", `and ${many(rest, "more alert")}`),
			(this.isWhole || rest > 0) && button(this.isWhole ? "Show fewer" : `Show ${count(rest)} more`, () => this.set({ isWhole: !this.isWhole }), { class: "quiet" }));
	}

	totals(figures) {
		const { states, rates, oldest } = figures;
		return h("div.tiles", { key: "totals" },
			states && stateTiles(states, (name) => ({ href: `#/queues?sort=${name}` })),
			rates && rateTile(rates),
			// A token for some queues does not see all.
			states && (oldest ? h("a.tile.long", { href: queueAddress(oldest.queue) },
				h("span", "Waiting longest"), h("b", duration(oldest.seconds)), h("small", bdi(oldest.queue)))
				: h("div.tile", h("span", "Waiting longest"), h("b", "–"), h("small", "no task waits"))));
	}

	charts(history) {
		return h("div.columns.two", { key: "charts" },
			card(undefined, { class: "wide" }, rateChart(history)),
			card(undefined, undefined, chart(history, "Waiting tasks", short, ["ready", "ready", history.ready])),
			card(undefined, undefined, chart(history, "Age of the oldest", duration, ["oldest", "delayed", history.oldest_ready])));
	}

	worst(title, sort, value, format) {
		const answer = this.app.data(paths[sort]);
		const none = missing(answer);
		const queues = none ? [] : rows(answer).filter((queue) => value(queue) > 0);
		return card(title, { key: sort, actions: h("a", { href: `#/queues?sort=${sort}&flat=1`, "aria-label": `All queues, ${title.toLowerCase()}` }, "All") },
			none ?? (queues.length === 0 ? h("p.empty", "None.") : h("ol.ranking", queues.map((queue) => h(
				"li", { key: queue.queue }, queueLink(queue.queue),
				queue.paused && badge("paused", "waiting"), h("b", format(value(queue))))))));
	}

	server(figures) {
		const { server, memory, journal, connections, certificate_end: certificateEnd, sources } = figures;
		return card("Server", { key: "server" }, facts([
			["Version", server?.version],
			["Started", server && ago(server.started)],
			["Memory", memory && gauge(memory.used, memory.limit)],
			["Journal", journal ? (journal.free_bytes === null ? bytes : gauge)(journal.bytes, journal.bytes + journal.free_bytes) : "in memory only"],
			journal && ["Slowest sync", duration(journal.sync_time)],
			journal?.problem && ["Problem of the journal", h("span.bad", journal.problem)],
			["Event loop lag", duration(server?.loop_lag)],
			["Connections", count(connections)],
			["Waiting workers", count(server?.waiters)],
			["Tasks", count(figures.tasks)],
			certificateEnd && ["Certificate ends", time(certificateEnd)],
			sources && Object.keys(sources).length > 0 && ["Sources", Object.entries(sources).map(([name, source]) => h(
				"div", bdi(name), " ", badge(source.state, source.state === "consuming" ? "good" : "waiting", source.last_error ?? undefined)))],
		]));
	}
}

function gauge(used, limit) {
	return h("div.gauge", `${bytes(used)} of ${bytes(limit)}`,
		h("meter", { "aria-label": "Used", max: limit, high: 0.8 * limit, optimum: 0, value: used }));
}
