/** What stands around the stage: the question, facts, progress, and what was just decided. */
import { $, SIGNS, count, el } from "./dom.js";

const percent = (share) => (share == null ? null : `${Math.round(share * 100)} %`);

export function ask(item, number) {
	$("question").hidden = !item;
	if (!item) return;
	const { kind, text, class_name, image_name } = item;
	$("question-words").textContent = text ? "Does this read" : kind === "image" ? "Is this image" : "Is this";
	$("class-name").textContent = text ? `“${text}”` : class_name;
	$("swatch").dataset.number = number % 7;
	$("stage").setAttribute("aria-label", `Candidate: ${class_name} ${text || ""}, in ${image_name}`);
}

function facts(place, rows) {
	$(place).replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function tell(item, note) {
	if (!item) return facts("facts", []);
	const { class_name, probability, score, x0, y0, x1, y1, image_name, frame, frames, touches_edge, decisions } = item;
	facts("facts", [["Class", class_name], ["Probability", percent(probability)], ["Score", probability == null && percent(score)],
		["Size", `${count(x1 - x0)} × ${count(y1 - y0)} px`], ["Image", image_name], ["Frame", frames > 1 && `${frame + 1} of ${frames}`],
		["Edge", touches_edge && "cut by it"],
		["Decided", decisions?.filter((each) => !each.undone && each.verdict !== "withdrawn")
			.map((each) => `${each.reader}: ${each.verdict} ${each.note || ""}`).join(", ")],
		["Note", note]]);
}

const span = (hours) => (hours < 1 ? `${Math.max(1, Math.round(hours * 60))} min` : `${hours.toFixed(hours < 10 ? 1 : 0)} h`);

/** `since`: decided since the server told. */
export function progress(told, since) {
	const { total, hours_left, median_seconds, pace_per_hour, unsure, waiting_second, agreement, gold_right, gold_read } = told;
	const done = Math.min(total, Math.max(0, told.done + since));
	Object.assign($("bar"), { max: total || 1, value: done });
	$("bar-words").textContent = `${count(done)} of ${count(total)}`;
	facts("progress", [["Done", count(done)], ["Left", count(total - done)], ["Time left", hours_left == null ? "–" : span(hours_left)],
		["A decision", median_seconds == null ? "–" : `${median_seconds.toFixed(1)} s`],
		["Pace", pace_per_hour == null ? "–" : `${count(Math.round(pace_per_hour))} / h`],
		["Unsure", unsure && count(unsure)], ["Second reading", waiting_second && count(waiting_second)],
		["Agreement", percent(agreement) || "–"], ["Known answers", gold_read ? `${gold_right} of ${gold_read}` : "–"]]);
}

export function latest({ decisions }, outbox, open) {
	$("latest").replaceChildren(...decisions.slice(-6).reverse().map(({ candidate_id, class_name, verdict, request_id }) => el("li", {},
		el("button", { type: "button", class: verdict, onclick: () => open(candidate_id) },
			el("span", { class: "sign", "aria-hidden": true }, SIGNS[verdict]), `${class_name || "candidate"} ${verdict}`,
			el("span", { class: "soft" }, outbox.find(request_id) ? "waiting" : "")))));
}
