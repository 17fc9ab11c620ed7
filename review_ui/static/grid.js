/** Many of one class at once: all are accepted but those that were clicked. */
import { $, el } from "./dom.js";
import { blank, drawMark, drawPictures } from "./drawing.js";
import { AT_FIRST, frame, region, regionUrl } from "./frame.js";
import { picture } from "./pictures.js";

const SIZE = { width: 160, height: 160 };

/** number(item): the place of its class in the list. */
export function gridOf(number) {
	function cellOf(item) {
		const canvas = el("canvas", {}), at = frame(item, SIZE, AT_FIRST), part = region(item, SIZE, at);
		picture(regionUrl(item, part)).ready.then(({ bitmap }) => {
			const pen = blank(canvas, SIZE);
			if (bitmap) drawPictures(pen, [{ bitmap, at: part }], at);
			drawMark(pen, item, number(item), at, 0.35);
		});
		const cell = el("button", { type: "button", class: "cell", "aria-pressed": false, "aria-label": `Reject ${item.class_name} in ${item.image_name}`, onclick: () => {
			if (!grid.wrong.delete(item)) grid.wrong.add(item);
			cell.setAttribute("aria-pressed", grid.wrong.has(item));
			tell();
		} }, canvas);
		return cell;
	}

	function tell() {
		const { items: { length }, wrong: { size } } = grid;
		$("grid-decide").disabled = !length;
		$("grid-words").textContent = !length ? "Nothing left" : `Accept ${length - size}${size ? `, reject ${size}` : ""}`;
	}

	const grid = {
		items: [],
		show(items) {
			Object.assign(grid, { items, wrong: new Set(), shown: performance.now() });
			$("cells").replaceChildren(...items.map(cellOf));
			tell();
		},
	};
	return grid;
}
