// Does what ../matrix_runner_test.go says on standard input: the first line is the
// list of jobs, and each further line begins what comes next. Observations are
// written to standard output, a line each, as they come.

import { createInterface } from "node:readline";

/**
 * Runs the jobs, those of each client one after the other: the ordinary ones, a few
 * clients at once; those that want calm, which weigh little; those that read slowly;
 * those whose backend dies, and those whose culvert ends. Then those begin that are
 * left, and leave() makes all clients go under them. open(job) resolves to the function that runs that job and
 * those like it.
 */
export async function conduct(open, leave) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const jobs = JSON.parse((await lines.next()).value);
  const runners = new Map();
  const runnerFor = (job) => {
    const key = `${job.client} ${job.page}`;
    if (!runners.has(key)) {
      runners.set(key, open(job));
    }
    return runners.get(key);
  };
  const work = async (job) => {
    const runJob = await runnerFor(job);
    process.stdout.write(`${JSON.stringify(await runJob(job))}\n`);
  };

  const clients = Array.from(new Set(jobs.map((j) => j.client)));
  const phase = async (name, atOnce) => {
    const queue = clients.map((c) => jobs.filter((j) => j.client === c && j.phase === name));
    const take = async () => {
      for (let own = queue.shift(); own !== undefined; own = queue.shift()) {
        for (const job of own) {
          await work(job);
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, take));
    await lines.next();
  };

  await phase("", 4);
  await phase("calm", clients.length);
  await phase("slow", clients.length);
  await phase("doomed", clients.length);
  await phase("drained", clients.length);
  const left = jobs.filter((j) => j.phase === "left").map(async (job) => (await runnerFor(job))(job));
  for (const call of left) {
    call.catch(() => {}); // it has been left
  }
  await lines.next();
  await leave();
}
