// Runs jobs in Node.

import { register } from "node:module";
import { conduct } from "./conduct.js";
import { run } from "./run.js";

register("./culvert-web.js", import.meta.url);
const { clients } = await import("./clients-node.js"); // not before that

await conduct(
  (job) => async (j) => run(j, clients[job.client.replace(/^node /, "")]),
  () => process.exit(), // the kernel closes what is open
);
