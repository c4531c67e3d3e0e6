import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { codeName } from "./describe.ts";
import { badge, find, formatDuration, h } from "./dom.ts";
import { Demo } from "./gen/demo/demopb/demo_pb.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.ts";
import { demoMetadata } from "./metadata.ts";
import type { Path } from "./path.ts";
import type { WireView } from "./view-wire.ts";

function client(path: Path, fetch: typeof globalThis.fetch) {
  return createClient(Demo, createGrpcWebTransport({ baseUrl: path.origin(), fetch }));
}

/** Runs the card "Countdown". The function returned starts a stream and ends the one before. */
export function showCountdown(path: Path, fetch: typeof globalThis.fetch, wire: WireView): () => void {
  const from = find("countdown-from", HTMLInputElement);
  const interval = find("countdown-interval", HTMLInputElement);
  const start = find("countdown-start", HTMLButtonElement);
  const cancel = find("countdown-cancel", HTMLButtonElement);
  const output = find("countdown-output", HTMLElement);
  const status = find("countdown-status", HTMLElement);
  let running = new AbortController();

  async function run(): Promise<void> {
    running.abort(new ConnectError("replaced by a new call", Code.Canceled));
    const mine = new AbortController();
    running = mine;
    cancel.disabled = false;
    output.replaceChildren();
    status.replaceChildren(badge("STREAMING", "busy"));
    const begun = performance.now();
    let outcome: ConnectError | undefined;
    try {
      const request = { from: from.valueAsNumber || 0, intervalMs: interval.valueAsNumber || 0 };
      for await (const { left } of client(path, fetch).countdown(request, { headers: demoMetadata(), signal: mine.signal })) {
        if (mine !== running) {
          break;
        }
        output.append(h("span", { class: left === 0 ? "tick last" : "tick", "data-testid": "countdown-number" }, String(left)));
      }
    } catch (cause) {
      outcome = ConnectError.from(cause);
    }
    if (mine !== running) {
      return; // a newer call has the card
    }
    const took = ` after ${formatDuration(performance.now() - begun)}`;
    status.replaceChildren(
      outcome === undefined ? badge("OK", "ok") : badge(codeName(outcome.code), outcome.code === Code.Canceled ? "idle" : "bad"),
      outcome === undefined ? took : `${took}: ${outcome.rawMessage}`,
    );
    cancel.disabled = true;
  }

  find("countdown-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    wire.showNext();
    void run();
  });
  cancel.addEventListener("click", () => running.abort(new ConnectError("cancelled by you", Code.Canceled)));
  start.disabled = false;
  return () => void run();
}

const presets: { title: string; name: string; seats: number; day: string }[] = [
  { title: "Three invalid fields", name: "", seats: 12, day: "someday" },
  { title: "A full day", name: "Ada", seats: 2, day: "friday" },
  { title: "A valid reservation", name: "Ada", seats: 2, day: "monday" },
];

/** Runs the card "Reserve". The function returned makes the call. */
export function showReserve(path: Path, fetch: typeof globalThis.fetch, wire: WireView): () => void {
  const form = find("reserve-form", HTMLFormElement);
  const name = find("reserve-name", HTMLInputElement);
  const seats = find("reserve-seats", HTMLInputElement);
  const day = find("reserve-day", HTMLInputElement);
  const status = find("reserve-status", HTMLElement);
  const details = find("reserve-details", HTMLElement);

  let newest = 0;

  async function run(): Promise<void> {
    newest++;
    const mine = newest;
    status.replaceChildren(badge("CALLING", "busy"));
    details.replaceChildren();
    markFields(form, []);
    try {
      const request = { name: name.value, seats: Math.max(0, seats.valueAsNumber || 0), day: day.value };
      const { code } = await client(path, fetch).reserve(request, { headers: demoMetadata() });
      if (mine === newest) {
        status.replaceChildren(badge("OK", "ok"), ` reserved as ${code}`);
      }
    } catch (cause) {
      if (mine !== newest) {
        return; // a newer call has the card
      }
      const error = ConnectError.from(cause);
      status.replaceChildren(badge(codeName(error.code), "bad"), ` ${error.rawMessage}`);
      details.replaceChildren(...describeDetails(error));
      markFields(
        form,
        error.findDetails(BadRequestSchema).flatMap((d) => d.fieldViolations),
      );
    }
  }

  find("reserve-presets", HTMLElement).append(
    ...presets.map((preset) => {
      const choose = () => {
        name.value = preset.name;
        seats.value = String(preset.seats);
        day.value = preset.day;
        wire.showNext();
        void run();
      };
      return h("button", { type: "button", class: "chip", "data-testid": "reserve-preset", onclick: choose }, preset.title);
    }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wire.showNext();
    void run();
  });
  find("reserve-send", HTMLButtonElement).disabled = false;
  name.value = presets[0]?.name ?? "";
  seats.value = String(presets[0]?.seats ?? 0);
  day.value = presets[0]?.day ?? "";
  return () => void run();
}

/** Puts the server's messages beside their fields. */
function markFields(form: HTMLFormElement, violations: { field: string; description: string }[]): void {
  for (const note of form.querySelectorAll<HTMLElement>("em[data-field]")) {
    const violation = violations.find((v) => v.field === note.dataset.field);
    note.textContent = violation?.description ?? "";
    note.parentElement?.querySelector("input")?.setAttribute("aria-invalid", String(violation !== undefined));
  }
}

/** Makes a line for each detail of the status. */
function describeDetails(error: ConnectError): HTMLElement[] {
  const line = (type: string, text: string) =>
    h("div", { class: "detail", "data-testid": "reserve-detail", "data-type": type }, h("b", {}, type), h("span", {}, text));
  return [
    ...error
      .findDetails(BadRequestSchema)
      .map((d) => line("BadRequest", d.fieldViolations.map((v) => `${v.field}: ${v.description}`).join("; "))),
    ...error.findDetails(ErrorInfoSchema).map((d) =>
      line(
        "ErrorInfo",
        `${d.reason} of ${d.domain} ${Object.entries(d.metadata)
          .map(([k, v]) => `${k}=${v}`)
          .join(" ")}`.trim(),
      ),
    ),
    ...error.findDetails(RetryInfoSchema).map((d) => line("RetryInfo", `try again in ${d.retryDelay?.seconds ?? 0n} s`)),
  ];
}
