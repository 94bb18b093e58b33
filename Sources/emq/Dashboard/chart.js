// Charts over time, as SVG.

import { h, render } from "./dom.js";
import { duration, localTime, rate } from "./format.js";

const width = 600;
const height = 150;

// Durations that are easy to read, in seconds.
const roundDurations = [60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000];

/// A number that is easy to read and at least as large as another one.
function ceiling(number, isDuration) {
	if (!(number > 0)) return 1;
	const round = isDuration && number > 50 && roundDurations.find((candidate) => candidate >= number);
	if (round) return round;
	const size = 10 ** Math.floor(Math.log10(number));
	return [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= number * 0.999);
}

/// A chart over the time of a history.
///
/// - `series`: for each, its name, the name of the state that has its colour, and its values; null is an interval that
///   nothing is known of.
export function chart({ end, interval }, label, format, ...series) {
	const length = Math.max(...series.map(([, , values]) => values.length), 2);
	const top = ceiling(Math.max(...series.flatMap(([, , values]) => values.map((value) => value ?? 0))), format === duration);
	const x = (index) => (index / (length - 1)) * width;
	const y = (value) => height - (value / top) * (height - 4) - 1;
	const start = end - interval * (length - 1);
	const told = (choose) => series.map(([name, , values]) => `${name} ${format(choose(values))}`).join(", ");
	const show = (event) => {
		const box = event.currentTarget.getBoundingClientRect();
		const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
		const index = Math.round(part * (length - 1));
		const tip = event.currentTarget.querySelector(".chart-tip");
		const line = event.currentTarget.querySelector(".chart-cursor");
		tip.hidden = line.hidden = false;
		line.style.left = `${(index / (length - 1)) * 100}%`;
		tip.style.left = part > 0.5 ? "auto" : `${part * 100}%`;
		tip.style.right = part > 0.5 ? `${100 - part * 100}%` : "auto";
		render(tip, h("b", localTime(start + index * interval)), series.map(([name, color, values]) => h(
			"div", h("i", { class: `swatch ${color}` }), name, h("span", format(values[index])))));
	};
	const hide = (event) => {
		for (const part of event.currentTarget.querySelectorAll(".chart-tip, .chart-cursor")) part.hidden = true;
	};
	return h("figure.chart",
		h(
			"figcaption", h("span.chart-label", label),
			series.map(([name, color, values]) => h("span.legend", h("i", { class: `swatch ${color}` }), name,
				h("b", format(values.at(-1)))))),
		h("div.plot", { onpointermove: show, onpointerleave: hide },
			h("span.chart-top", format(top)),
			h(
				"svg", {
					viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
					"aria-label": `${label} over ${Math.round((interval * length) / 60)} minutes. Now: ${told((values) => values.at(-1))}. Highest: ${told((values) => Math.max(0, ...values))}.`,
				},
				[0, 0.5, 1].map((part) => h("line", {
					class: "grid", x1: 0, x2: width, y1: y(part * top), y2: y(part * top),
				})),
				series.length === 1 && h("path", { class: `area ${series[0][1]}`, d: `${path(series[0][2].map((value) => value ?? 0), x, y)}V${height}H0Z` }),
				series.map(([, color, values]) => h("path", { class: `curve ${color}`, d: path(values, x, y) }))),
			h("div.chart-cursor", { hidden: true, opaque: true }),
			h("div.chart-tip", { hidden: true, opaque: true })),
		h("div.chart-times", { "aria-hidden": true }, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", hour(start + part * (end - start))))));
}

/// The chart of what comes and goes.
export function rateChart(history) {
	const each = (name) => history[name].map((value) => value / history.interval);
	return chart(history, "Tasks a second", rate, ["enqueued", "enqueued", each("enqueued")], ["done", "done", each("done")], ["failed", "dead", each("failed")]);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function hour(seconds) {
	return Number.isFinite(seconds) ? clock.format(new Date(seconds * 1000)) : "";
}

/// A line through the values, with gaps where there is none. A value between two gaps is a dot.
function path(values, x, y) {
	return values.map((value, index) => {
		if (value === null || value === undefined) return "";
		const point = `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
		return (values[index - 1] ?? null) === null ? `M${point}L${point}` : `L${point}`;
	}).join("");
}

/// A small chart in a line of text.
export function sparkline(values, label) {
	if (!values) return h("span.quiet", "–");
	const top = Math.max(1, ...values);
	const line = path(values, (index) => (index / (values.length - 1)) * 96, (value) => 22 - (value / top) * 20);
	return h("svg.sparkline", { viewBox: "0 0 96 24", preserveAspectRatio: "none", role: "img", "aria-label": label },
		h("path.area.ready", { d: `${line}V24H0Z` }), h("path.curve.ready", { d: line }));
}
