/** What this person decided, the latest last; undone at any depth, also after the page was loaded anew. */
import { call, ofRun } from "./api.js";

const brief = ({ candidate_id, class_name, request_id, body: { verdict } }) => ({ candidate_id, class_name, request_id, verdict });

export function pastOf(run, reader, outbox) {
	const undone = new Set(); // ids of decisions and requests, though the server may not know yet
	const gone = (...ids) => ids.forEach((id) => id && undone.add(id));
	const stands = (each) => each.verdict !== "withdrawn" && !each.undone && !undone.has(each.request_id) && !undone.has(each.decision_id);
	for (const { body, undoes_request } of outbox.entries) gone(body.undoes, undoes_request);
	outbox.addEventListener("confirmed", ({ detail: { entry: { request_id }, decision: { decision_id } } }) => {
		Object.assign(past.decisions.find((each) => each.request_id === request_id) || {}, { decision_id });
	});

	const past = {
		/** {candidate_id, class_name, verdict, request_id, decision_id, item, batch} */
		decisions: outbox.entries.filter((entry) => entry.run === run).map(brief).filter(stands),

		add(entry, item, batch) { past.decisions.push({ ...brief(entry), item, batch }); },

		of: (id) => past.decisions.findLast((each) => each.candidate_id === id),

		/** The own decision of an item that holds, of this page or of an earlier one. */
		standing: (item) => past.of(item.candidate_id) || item.decisions.find((each) => each.reader === reader && stands(each)),

		/** What is undone next: the last one, or all of one grid; the server is asked if none are known here. */
		async latest() {
			if (!past.decisions.length) {
				const { items } = (await call("GET", ofRun(run, "mine?limit=500"))).value;
				past.decisions = items.filter((each) => stands(each) && !outbox.of(each.candidate_id)).reverse();
			}
			const last = past.decisions.at(-1);
			return past.decisions.filter((each) => each === last || (last.batch && each.batch === last.batch));
		},

		/** Withdraws one, or drops it if the server refused it anyway. */
		withdraw(each) {
			const { candidate_id, class_name, request_id, decision_id } = each, sent = outbox.find(request_id);
			if (sent?.problem) outbox.remove(sent);
			else outbox.add({ run, candidate_id, class_name, undoes_request: request_id, body: { verdict: "withdrawn", undoes: decision_id } });
			gone(decision_id, request_id);
			past.decisions = past.decisions.filter((other) => other !== each);
		},
	};
	return past;
}
