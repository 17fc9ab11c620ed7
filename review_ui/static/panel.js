/** What stands around the stage: the question, facts, progress, and what was just decided. */
import { $, SIGNS, count, el } from "./dom.js";

export const percent = (share) => (share == null ? "" : `${Math.round(share * 100)} %`);
export const span = (hours) => (hours < 1 ? `${Math.max(1, Math.round(hours * 60))} min` : `${hours.toFixed(hours < 10 ? 1 : 0)} h`);

export function ask(item, number) {
	$("question").hidden = !item;
	if (!item) return;
	const { kind, text, class_name, image_name } = item;
	$("question-words").textContent = text ? "Does this read" : kind === "image" ? "Is this image" : "Is this";
	$("class-name").textContent = text ? `“${text}”` : class_name;
	$("swatch").dataset.number = number % 7;
	$("stage").setAttribute("aria-label", `Candidate: ${class_name} ${text || ""}, in ${image_name}`);
}

/** Fills the rows of the template; those without a value are not shown. */
export function facts(values) {
	for (const [name, value] of Object.entries(values)) {
		const place = $(`fact-${name}`);
		place.textContent = value || "";
		place.parentElement.hidden = !value;
	}
}

export function tell(item, note) {
	const { class_name, probability, score, x0, y0, x1, y1, image_name, frame, frames, touches_edge, kind, decisions = [] } = item || {};
	facts({ class: class_name, probability: percent(probability), score: probability == null && percent(score),
		size: item && `${count(x1 - x0)} × ${count(y1 - y0)} px`, image: image_name, frame: frames > 1 && `${frame + 1} of ${frames}`,
		edge: touches_edge && kind !== "image" && "cut off", note, decided: decisions.filter((each) => !each.undone && each.verdict !== "withdrawn")
			.map((each) => `${each.reader}: ${each.verdict} ${each.note}`).join(", ") });
}

/** `since`: decided since the server told. */
export function progress(told, since) {
	const { total, hours_left, median_seconds, pace_per_hour, unsure, waiting_second, agreement, gold_right, gold_read } = told;
	const done = Math.min(total, Math.max(0, told.done + since)), left = count(total - done);
	Object.assign($("bar"), { max: total || 1, value: done });
	$("bar-words").textContent = `${count(done)} of ${count(total)}`;
	facts({ done: count(done), left, time: hours_left == null ? "–" : span(hours_left), unsure, second: waiting_second,
		seconds: median_seconds == null ? "–" : `${median_seconds.toFixed(1)} s`, pace: pace_per_hour == null ? "–" : `${count(Math.round(pace_per_hour))} / h`,
		agreement: percent(agreement) || "–", gold: gold_read ? `${gold_right} of ${gold_read}` : "–" });
}

export function latest({ decisions }, outbox, open) {
	$("latest").replaceChildren(...decisions.slice(-6).reverse().map(({ candidate_id, class_name = "", verdict, request_id }) => el("li", {},
		el("button", { type: "button", class: verdict, onclick: () => open(candidate_id) }, el("b", { "aria-hidden": true }, SIGNS[verdict]),
			`${verdict} ${class_name}`, el("i", {}, outbox.find(request_id) ? "waiting" : "")))));
}
