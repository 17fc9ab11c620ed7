/** The list of runs: verdicts that still wait are sent from here too. */
import { outboxOf } from "./outbox.js";
import { listen } from "./waiting.js";

const outbox = outboxOf(document.body.dataset.reader);
listen(outbox);
outbox.send();
