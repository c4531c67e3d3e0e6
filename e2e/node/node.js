// Runs jobs in Node.

import { clients } from "./clients-node.js";
import { conduct } from "./conduct.js";
import { run } from "./run.js";

await conduct(
  (job) => async (j) => run(j, clients[job.client.replace(/^node /, "")]),
  () => process.exit(), // the kernel closes what is open
);
