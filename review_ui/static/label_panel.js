/** What stands around the image: its classes, what is marked on it, how far the set is, and what was labelled just now. */
import { $, count, el } from "./dom.js";
import { facts, percent, span } from "./panel.js";

const LISTED = 40, LATEST = 6;

export const many = (number) => (number ? `${count(number)} object${number === 1 ? "" : "s"}` : "nothing");

/** The classes' buttons: the one that is drawn, or all that the image shows. */
export function pressed(buttons, names) {
	for (const button of buttons) button.setAttribute("aria-pressed", names.includes(button.value));
}

export function tell(item) {
	const { image_name, width_px, height_px, group, image_id, position } = item || {};
	facts({ image: image_name, size: item && `${count(width_px)} × ${count(height_px)} px`, place: item && count(position),
		group: group !== image_name && group !== image_id && group !== item?.image_uri && group });
}

/** The marks as buttons, the latest first. number(mark): the place of its class in the list. */
export function list({ marks, selected }, number, select) {
	$("objects-words").textContent = marks.length ? "" : "Nothing is marked yet.";
	$("objects-count").textContent = marks.length || "";
	$("objects").replaceChildren(...marks.slice(-LISTED).reverse().map((mark) => el("li", {},
		el("button", { type: "button", "aria-pressed": mark === selected, onclick: () => select(mark) },
			el("i", { class: "swatch", "data-number": number(mark) % 7 }), el("span", {}, mark.class_name),
			mark.whole ? "" : el("small", {}, `${count(mark.x1 - mark.x0)} × ${count(mark.y1 - mark.y0)} px`)))));
	if (marks.length > LISTED) $("objects").append(el("li", {}, `and ${count(marks.length - LISTED)} more`));
}

/** since: images labelled since the server told. */
export function progress(told, since) {
	const { drawn, seconds_median, agreement, unreadable, readers } = told, left = Math.max(0, told.left - since);
	const done = drawn - unreadable - left, all = drawn - unreadable;
	Object.assign($("bar"), { max: all || 1, value: done });
	$("bar-words").textContent = `${count(done)} of ${count(all)}`;
	facts({ labelled: count(done), left: count(left), seconds: seconds_median == null ? "–" : `${seconds_median.toFixed(1)} s`,
		time: seconds_median == null ? "–" : left ? span(left * seconds_median / 3600) : "none", unreadable, agreement: readers > 1 && (percent(agreement) || "–") });
}

export function latest(trail, outbox, open) {
	$("latest").replaceChildren(...trail.slice(-LATEST).reverse().map(({ image_id, image_name, objects, marks = objects, request_id }) => el("li", {},
		el("button", { type: "button", title: image_name, onclick: () => open(image_id) }, el("b", { "aria-hidden": true }, marks.length || "∅"),
			el("span", {}, image_name), el("i", {}, outbox.find(request_id) ? "waiting" : "")))));
}
