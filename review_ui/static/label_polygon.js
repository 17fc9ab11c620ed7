/** A polygon, corner by corner, in px of the image. */
import { $, say } from "./dom.js";
import { line } from "./drawing.js";
import { polygonal } from "./label_shapes.js";

const NEAR = 10; // CSS px of the first corner

/** Shows how; calls drawn(shape), or drawn() where it was given up. */
export function drawPolygon(stage, drawn) {
	const corners = [], help = $("polygon");
	let pointer;

	function end(save) {
		const shape = save && corners.length > 2 ? polygonal(stage.item, corners) : null;
		if (save && !shape) return say("A polygon has at least three corners, not in a line.");
		stage.editor = null;
		help.hidden = true;
		removeEventListener("keydown", keys, true);
		drawn(shape);
	}

	function back() {
		corners.pop();
		stage.draw(true);
	}

	function keys(event) {
		const { key, target } = event;
		if (key === "Tab" || (/^(Enter| )$/.test(key) && target.matches("button"))) return;
		if (/^([-+=0[\]c]|Arrow.*)$/.test(key)) return; // the view may still be changed
		event.stopPropagation();
		if (!["Enter", "Escape", "Backspace"].includes(key)) return;
		event.preventDefault();
		key === "Backspace" ? back() : end(key === "Enter");
	}

	stage.editor = {
		draw(over, { scale, left, top }) {
			const path = new Path2D();
			for (const [x, y] of [...corners, ...(pointer ? [pointer] : [])]) path.lineTo((x - left) * scale, (y - top) * scale);
			for (const [x, y] of corners) {
				path.moveTo((x - left) * scale + 3, (y - top) * scale);
				path.arc((x - left) * scale, (y - top) * scale, 3, 0, 7);
			}
			line(over, path, "#fff");
		},
		down(event) {
			const [x, y] = stage.under(event), [first] = corners;
			if (corners.length > 2 && Math.hypot(x - first[0], y - first[1]) * stage.frame.scale < NEAR) return end(true);
			corners.push([x, y]);
			stage.draw(true);
		},
		move(event) {
			pointer = event.pointerType === "touch" ? null : stage.under(event);
			stage.draw(true);
		},
		up() {},
	};
	help.onsubmit = (event) => { event.preventDefault(); end(event.submitter.value === "save"); };
	$("polygon-back").onclick = back;
	help.hidden = false;
	addEventListener("keydown", keys, true);
	stage.draw(true);
}
