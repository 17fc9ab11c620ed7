/** What is marked on the image that is shown, step by step. A draft of it stays in this browser until it is said to be done. */
import { say } from "./dom.js";
import { received, sent } from "./label_shapes.js";

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** drafts: how the names of drafts begin; changed() hears of every change. */
export function workOf(drafts, changed) {
	let item = null, first = [], steps = [];
	const key = () => drafts + item.image_id;

	function keepDraft() {
		const { marks, away, candidates_shown } = work;
		const draft = JSON.stringify({ first, marks, away: [...away], candidates_shown });
		try { localStorage.setItem(key(), draft); } catch { say("This browser has no room to keep a draft: say done before you leave."); }
	}

	const work = {
		marks: [], // the latest last
		selected: null, // a mark, or a candidate
		away: new Set(), // ids of candidates that were put away
		candidates_shown: false, // at any time, on this image

		get touched() { return steps.length > 0; },

		open(of) {
			item = of;
			first = of?.marks || of?.objects.map(received) || [];
			Object.assign(work, { marks: first, selected: null, away: new Set(), candidates_shown: false });
			steps = [];
			const draft = item && JSON.parse(localStorage.getItem(key()));
			if (!draft) return;
			({ first } = draft);
			Object.assign(work, { marks: draft.marks, away: new Set(draft.away), candidates_shown: draft.candidates_shown });
			const added = work.marks.slice(first.length);
			if (!same(first, work.marks.slice(0, first.length))) steps = [first];
			else steps = added.map((_, n) => work.marks.slice(0, first.length + n));
		},

		change(marks, selected = null) {
			steps.push(work.marks);
			Object.assign(work, { marks, selected });
			keepDraft();
			changed();
		},

		add(mark) { work.change([...work.marks, mark]); },

		/** Puts another in the place of a mark, or none. */
		replace(mark, ...other) { work.change(work.marks.flatMap((each) => (each === mark ? other : [each])), other[0]); },

		select(which) {
			work.selected = which;
			changed();
		},

		/** Takes the last step back, if there is one. */
		undo() {
			if (!steps.length) return false;
			Object.assign(work, { marks: steps.pop(), selected: null });
			steps.length ? keepDraft() : localStorage.removeItem(key());
			changed();
			return true;
		},

		/** Candidates that are neither taken nor put away. */
		candidates() {
			const taken = new Set(work.marks.map((mark) => mark.candidate_id));
			return (item?.candidates || []).filter(({ candidate_id: id }) => !work.away.has(id) && !taken.has(id));
		},

		putAway(candidate) {
			work.away.add(candidate.candidate_id);
			keepDraft();
			work.select(null);
		},

		sawCandidates() {
			if (!item || work.candidates_shown) return;
			work.candidates_shown = true;
			keepDraft();
		},

		/** What is said of the image; it stands, and the draft is of no use any more. */
		said() {
			item.marks = work.marks;
			return work.marks.map(sent);
		},
		forget() { localStorage.removeItem(key()); },
	};
	return work;
}
