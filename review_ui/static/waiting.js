/** Says how many verdicts, or what else the page calls them, wait and why, and shows those that need a person: conflicts and refusals. */
import { $, SIGNS, count, el } from "./dom.js";

const { noun = "verdict" } = document.body.dataset;
const many = (number) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const WHY = { 401: "Your login has ended.", 507: "The server’s disk is full." };

/** more(entry): what else a person may do with one that was refused. */
export function listen(outbox, more = () => "") {
	const button = $("waiting"), dialog = $("waiting-list"), login = $("trouble-login"), words = $("trouble-words");
	const show = () => {
		const { entries, trouble } = outbox, hard = entries.filter((entry) => entry.problem).length, waiting = entries.length - hard;
		button.lastChild.textContent = hard ? `${many(hard)} to look at` : waiting ? `${count(waiting)} waiting` : "All saved";
		button.dataset.state = hard ? "hard" : trouble ? "trouble" : waiting ? "busy" : "calm";
		$("trouble").hidden = !trouble || !waiting;
		const why = trouble && `${WHY[trouble.status] || trouble.message} ${many(waiting)} kept in this browser until the server has them.`;
		if (words.textContent !== why) words.textContent = why;
		login.hidden = trouble?.status !== 401;
		login.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
		if (dialog.open) list();
	};
	const list = () => {
		$("waiting-words").textContent = [outbox.entries.some((entry) => entry.problem) ? `The server has another ${noun}, or refused yours. Nothing is lost: choose.` : outbox.entries.length ? "On their way." : "All are saved.",
			...[...outbox.others()].map((name) => `Verdicts of ${name} wait here until ${name} logs in.`)].join(" ");
		$("waiting-rows").replaceChildren(...outbox.entries.filter((entry) => entry.problem).map((entry) => {
			const { title, class_name, words, body, first, problem } = entry;
			const verdict = (who, what) => el("p", {}, `${who}: ${SIGNS[what] || ""} ${what}`);
			const choice = (label, does) => el("button", { type: "button", onclick: () => outbox[does](entry) }, label);
			return el("li", {}, el("h3", {}, title || class_name), verdict("You", words || body.verdict), first ? verdict(first.reader, first.verdict) : el("p", {}, problem),
				choice(first ? "Leave theirs" : "Drop mine", "remove"), choice(first ? "Send mine as well" : "Try again", "again"), more(entry));
		}));
	};
	button.onclick = () => { list(); dialog.showModal(); };
	outbox.addEventListener("change", show);
	show();
}
