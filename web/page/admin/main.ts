// The page of the admin address: one section at a time, which asks while it is seen. Texts of peers become text nodes only.

import { get, logOut, type Status, says, wantsToken } from "./api.js";
import { callsView } from "./calls.js";
import { configurationView } from "./configuration.js";
import { find, h, type Part, show } from "./dom.js";
import { drainWords } from "./findings.js";
import { between, clock, duration } from "./format.js";
import { identityView } from "./identity.js";
import { backendsView, certificatesView, connectionsView, failuresView, limitsView, memoryView, routesView } from "./lists.js";
import { overview } from "./overview.js";
import { type Polling, poll, type Trouble } from "./poll.js";
import { stopDialog } from "./stop.js";
import type { View } from "./view.js";

let polling: Polling | undefined;
let paused = false;
let version = ""; // of culvert, as this page was loaded
let answered = ""; // when culvert last answered, by its clock

function tell(text: string, failed: boolean) {
  find("said").className = failed ? "bad" : "ok";
  show(find("said"), text);
}

const again = () => polling?.now();
const stop = stopDialog(tell, again);
const views: Record<string, View> = {
  overview: overview(stop),
  calls: callsView(stop),
  connections: connectionsView(),
  backends: backendsView(),
  routes: routesView(),
  memory: memoryView(stop),
  limits: limitsView(),
  failures: failuresView(),
  identity: identityView(),
  certificates: certificatesView(),
  configuration: configurationView(tell, again),
};

const links = Object.entries(views).map(([name, view]) =>
  h("a", { href: `#${name}` }, view.title.replace("Open calls", "Calls").replace(" and tunnels", "")),
);
find("sections").append(...links);

let current = views.overview as View;

/** Shows the section that the address names. */
function open() {
  const [name = "", query = ""] = location.hash.slice(1).split("?", 2);
  const known = Object.hasOwn(views, name) ? name : "overview";
  current = views[known] as View;
  for (const link of links) {
    if (link.getAttribute("href") === `#${known}`) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  document.title = `${current.title} – culvert`;
  show(find("title"), current.title);
  show(find("said"), "");
  if (!current.element.isConnected) {
    find("content").replaceChildren(current.element);
    find("content").setAttribute("aria-busy", "true"); // until it has an answer
  }
  for (const h2 of current.element.querySelectorAll(".table h2")) {
    h2.classList.toggle("hidden", h2.textContent === current.title); // said already
  }
  current.open?.(new URLSearchParams(query));
  start();
}

/** Asks for the section, if a person can see it. */
function start() {
  polling?.stop();
  polling = undefined;
  if (document.hidden || paused) {
    show(find("state"), paused ? "Paused" : "");
    return;
  }
  const view = current;
  polling = poll(
    view.every,
    async (signal) => {
      const status = await get<Status>("status", signal);
      showProgram(status);
      await view.look(signal, status);
      answered = status.at;
      find("content").setAttribute("aria-busy", "false");
    },
    showTrouble,
  );
}

function showProgram(s: Status) {
  version ||= s.version;
  show(find("version"), s.version);
  const parts: Part[] = [`${location.host}, up for ${duration(between(s.started, s.at))}`];
  if (s.configuration.rejected.length > 0) {
    parts.push({ text: "newest configuration rejected", badge: "bad", to: "#configuration" });
  }
  if (s.drain.state !== "serving") {
    parts.push({ text: drainWords(s.drain), badge: "warn", to: "#configuration" });
  }
  if (s.version !== version) {
    parts.push({ text: "another version runs now: reload this page", badge: "warn", to: "." });
  }
  show(find("program"), parts);
  logout.hidden = !s.token;
}

function showTrouble(trouble: Trouble | undefined) {
  show(find("state"), trouble ? "No answer" : "Live");
  find("state").className = trouble ? "bad" : "ok";
  if (trouble && wantsToken(trouble.error)) {
    show(find("trouble"), ["culvert wants its token: the session has ended. ", { text: "Log in", to: "." }]);
    return;
  }
  const then = answered ? ` What you see is from ${clock(answered, answered)}.` : "";
  show(
    find("trouble"),
    trouble
      ? [
          `No data from culvert: ${says(trouble.error)}.${then} The page asks again in ${duration(trouble.wait / 1000)}. `,
          { text: "Ask now", press: again },
        ]
      : "",
  );
}

const logout = find<HTMLButtonElement>("logout");
logout.addEventListener("click", () => {
  logOut().then(
    () => location.assign("."),
    () => tell("The session goes on: culvert doesn't answer.", true),
  );
});

const pause = find<HTMLButtonElement>("pause");
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  start();
});
find("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the section
  find("view").focus();
});
document.addEventListener("visibilitychange", start);
addEventListener("hashchange", open);
open();
