// Asks again and again, more seldom while culvert doesn't answer.

const longest = 30_000; // ms between attempts

/** The pause behind an attempt, in ms: the usual one, or twice the last one after each further failure. */
export const pause = (every: number, failures: number) =>
  Math.max(every, failures === 0 ? 0 : Math.min(longest, every * 2 ** Math.min(failures, 10)));

export interface Trouble {
  error: unknown;
  /** When the next attempt is, in ms from now. */
  wait: number;
}

export interface Polling {
  /** Asks at once, if no attempt runs. */
  now(): void;
  stop(): void;
}

/** Calls look every so many ms, and tell after each attempt: with nothing if it succeeded. */
export function poll(every: number, look: (signal: AbortSignal) => Promise<void>, tell: (trouble: Trouble | undefined) => void): Polling {
  const end = new AbortController();
  let wake = () => {};
  async function run() {
    for (let failures = 0; ; ) {
      let error: unknown;
      try {
        await look(end.signal);
        failures = 0;
      } catch (e) {
        error = e;
        failures++;
      }
      if (end.signal.aborted) {
        return;
      }
      const wait = pause(every, failures);
      tell(failures === 0 ? undefined : { error, wait });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (end.signal.aborted) {
        return;
      }
    }
  }
  void run();
  return {
    now: () => wake(),
    stop() {
      end.abort();
      wake();
    },
  };
}
