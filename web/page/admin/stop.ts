// The question before a call is stopped.

import { type Call, change, says } from "./api.js";
import { h } from "./dom.js";
import { duration } from "./format.js";
import { facts, who } from "./view.js";

/** Makes the dialog. tell says what became of the call. */
export function stopDialog(tell: (text: string, failed: boolean) => void, after: () => void) {
  let chosen: Call | undefined;
  const about = facts();
  const cancel: HTMLElement = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel");
  const yes = h("button", { type: "button", class: "danger", onclick: () => void stop() }, "Stop the call");
  const dialog: HTMLDialogElement = h(
    "dialog",
    { "aria-labelledby": "stop-title", "aria-describedby": "stop-text" },
    h("h2", { id: "stop-title" }, "Stop this call?"),
    about.element,
    h(
      "p",
      { id: "stop-text" },
      "The client gets the status ABORTED with the reason STOPPED, and culvert cancels the call to the backend. The log gets a line.",
    ),
    h("div", { class: "bar" }, cancel, yes),
  );
  document.body.append(dialog);

  async function stop() {
    const call = chosen;
    dialog.close();
    if (call === undefined) {
      return;
    }
    try {
      await change("POST", `calls/${encodeURIComponent(call.id)}/stop?${new URLSearchParams({ began: call.began })}`);
      tell(`Stopped ${call.method} ${call.id}.`, false);
    } catch (e) {
      tell(`${call.method} ${call.id} isn't stopped: ${says(e)}`, true);
    }
    after();
  }

  return (call: Call) => {
    chosen = call;
    about.update([
      ["Method", call.method],
      ["ID", call.id],
      ["Age", duration(Math.floor(call.age_seconds))],
      ["Client", who(call)],
      ["Backend", call.backend || call.route || "–"],
    ]);
    dialog.showModal();
    cancel.focus();
  };
}
