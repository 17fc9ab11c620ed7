/** The list of runs: verdicts that still wait are sent from here too. */
import { Outbox } from "./outbox.js";
import { listen } from "./waiting.js";

const outbox = new Outbox(document.body.dataset.reader);
listen(outbox);
outbox.send();
