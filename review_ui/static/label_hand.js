/** The pointer on the label page: a click is a point, a drag a box; it selects, moves and resizes what is there. */
import { $ } from "./dom.js";
import { line, trace } from "./drawing.js";
import { boxed, disc, isInside, moved } from "./label_shapes.js";

const FAR = { mouse: 5, pen: 6, touch: 12 }; // CSS px that make a drag
const NEAR = { mouse: 5, pen: 7, touch: 12 }; // CSS px to an outline
const TWICE_MS = 400; // a second click at the same place sooner is none of its own
const pen = new OffscreenCanvas(1, 1).getContext("2d"); // tells what lies under a point

/** taken(shape): it was drawn; candidates(): those that are shown. size(): a point's diameter in px of the image. */
export function handOf(stage, work, { size, candidates, taken }) {
	const cursor = $("cursor");
	let from, to, grip, hover = null, last = null;
	const pans = ({ shiftKey, button }) => shiftKey || button > 0;

	/** Whether a place, in px of the image, is on the outline of a mark. */
	function touches([x, y], mark, near) {
		const { scale, left, top } = stage.frame;
		pen.lineWidth = 2 * near;
		return pen.isPointInStroke(trace(mark, stage.frame), (x - left) * scale, (y - top) * scale);
	}
	const holds = ([x, y], mark) => {
		const { scale, left, top } = stage.frame;
		return pen.isPointInPath(trace(mark, stage.frame), (x - left) * scale, (y - top) * scale, "evenodd");
	};

	const found = (at, near) => work.marks.findLast((mark) => touches(at, mark, near))
		|| candidates().findLast((each) => holds(at, each) || touches(at, each, near));

	/** What a drag from here does to the selected one: moves it, or takes the corner opposite to the one that is given. */
	function gripAt(at, near) {
		const mark = work.selected;
		if (!work.marks.includes(mark)) return null;
		if (!mark.polygon && !mark.mask_rle) {
			const { x0, y0, x1, y1 } = mark;
			for (const [x, u] of [[x0, x1], [x1, x0]]) {
				for (const [y, v] of [[y0, y1], [y1, y0]]) {
					if (Math.hypot(at[0] - x, at[1] - y) * stage.frame.scale < near + 4) return { opposite: [u, v] };
				}
			}
		}
		return holds(at, mark) || touches(at, mark, near) ? {} : null;
	}

	/** The selected one, as the drag leaves it. */
	const dragged = () => (grip.opposite ? boxed(stage.item, grip.opposite, to) : moved(stage.item, work.selected, to[0] - from[0], to[1] - from[1]));

	function isTwice(event) {
		const before = last?.item === stage.item && last.event;
		last = { event, item: stage.item };
		return before && event.timeStamp - before.timeStamp < TWICE_MS
			&& Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) < FAR[event.pointerType];
	}

	const hand = {
		has(event) {
			if (pans(event)) return false;
			from = stage.under(event);
			to = null;
			grip = gripAt(from, NEAR[event.pointerType]);
			return true;
		},
		move(event, x, y) {
			if (!to && Math.hypot(x, y) < FAR[event.pointerType]) return;
			to = stage.under(event);
			cursor.hidden = true;
			stage.draw(true);
		},
		end(event) {
			const at = from, target = to, held = grip;
			if (event && held && target) {
				const shape = dragged();
				from = to = grip = null;
				if (shape) work.replace(work.selected, { ...work.selected, ...shape });
				return;
			}
			from = to = grip = null;
			if (!event || !at) return stage.item && stage.draw(true);
			if (target) return taken(boxed(stage.item, at, target));
			if (isTwice(event)) return;
			const hit = found(at, NEAR[event.pointerType]);
			if (hit) work.select(hit === work.selected && work.marks.includes(hit) ? null : hit);
			else if (isInside(stage.item, at)) taken(disc(stage.item, at, size()));
			else work.select(null);
		},

		/** Where the mouse is, without a button; null: elsewhere. */
		hover(event) {
			hover = event && event.pointerType !== "touch" ? event : null;
			hand.follow();
			const at = hover && stage.under(hover);
			const over = at && !work.marks.includes(work.selected) && candidates().findLast((each) => holds(at, each));
			if (over && over !== work.selected) work.select(over);
		},

		/** The circle of the next point goes with the mouse, an element of its own: nothing is drawn anew for it. */
		follow() {
			const shown = !to && hover && stage.item && isInside(stage.item, stage.under(hover));
			cursor.hidden = !shown;
			if (!shown) return;
			const { left, top } = stage.element.getBoundingClientRect(), side = size() * stage.frame.scale;
			cursor.style.width = cursor.style.height = `${side}px`;
			cursor.style.transform = `translate(${hover.clientX - left - side / 2}px, ${hover.clientY - top - side / 2}px)`;
		},

		draw(over, at) {
			const path = new Path2D();
			if (to && grip) {
				const shape = dragged();
				if (shape) path.addPath(trace(shape, at));
			} else if (to) {
				const shape = boxed(stage.item, from, to);
				if (shape) path.addPath(trace(shape, at));
			}
			line(over, path, "#fff");
		},
	};
	return hand;
}
