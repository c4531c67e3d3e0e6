// Runs the module of tests that run.js has built, in this process: node.js MODULE ENVIRONMENT.

import { WebSocket } from "ws";

const [module, environment] = process.argv.slice(2);
// Node 20 has no WebSocket of its own.
globalThis.testEnvironment = { ...JSON.parse(environment), WebSocket: globalThis.WebSocket ?? WebSocket };
const result = await (await import(module)).default();
process.send(result, () => process.exit());
