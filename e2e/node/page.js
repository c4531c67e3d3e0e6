// The page that a browser loads. Bundled for it by bundle.js.

import { clients } from "./clients-browser.js";
import { run, running } from "./run.js";

window.runJob = (job) => run(job, clients[job.client.replace(/^chromium ((tls|caddy|far|squid) )?/, "")]);

// Resolves when n calls run that have been answered, or one has ended.
window.answered = async (n) => {
  let most = 0;
  while (running.size >= most && [...running].filter((seen) => seen.replies.length > 0).length < n) {
    most = running.size;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

// Holds up the page: as long as a request takes that the page waits for, or until
// a debugger lets it go on.
window.pause = (ms) => {
  for (const seen of running) {
    seen.paused_at = seen.replies.length;
  }
  if (ms === undefined) {
    // biome-ignore lint/suspicious/noDebugger: that is what it is for
    debugger;
    return;
  }
  const request = new XMLHttpRequest();
  request.open("GET", `wait?ms=${ms}`, false);
  request.send();
};
