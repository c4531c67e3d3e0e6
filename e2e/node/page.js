// The page that a browser loads. Bundled for it by bundle.js.

import { clients } from "./clients-browser.js";
import { run } from "./run.js";

window.runJob = (job) => run(job, clients[job.client.replace(/^chromium (tls )?/, "")]);
