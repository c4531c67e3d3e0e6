// The page that a browser loads. Bundled for it by bundle.js.

import improbable from "@improbable-eng/grpc-web";
import { run } from "./clients.js";

const { grpc } = improbable;

const transports = {
  "improbable fetch": grpc.FetchReadableStreamTransport({}),
  "improbable websocket": grpc.WebsocketTransport(),
};

/** Runs jobs one after the other and returns the observations. */
window.runJobs = async ({ address, jobs }) => {
  const observations = [];
  for (const job of jobs) {
    observations.push(await run(job, address, transports));
  }
  return observations;
};
