// The page watches the fleet by an EventSource, and pushes configurations by POST.

const byId = (id) => document.getElementById(id);
const agents = new Map(); // by instance id

/** An element with a class and texts or elements in it. */
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  e.className = className;
  e.append(...children);
  return e;
}

/** What the page says of an agent's configuration, besides the one in effect. */
function pushed({ pending, refusal }) {
  if (pending) {
    return [element("small", "", "waits for the agent")];
  }
  return refusal ? [element("small", "bad", `refused: ${refusal}`)] : [];
}

/** When an agent was last seen. */
function seen({ gone, lastSeen }) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(lastSeen)) / 1000));
  return `${gone ? "gone, " : ""}${seconds} s ago`;
}

function row(a) {
  const health = a.healthy ? "healthy" : a.healthError || "unknown";
  const tr = element(
    "tr",
    a.gone ? "gone" : "",
    element("td", "", a.name),
    element("td", "", a.transport),
    element("td", a.healthy ? "good" : "bad", health),
    element("td", "", element("code", "", a.config ?? ""), ...pushed(a)),
    element("td", "", seen(a)),
  );
  tr.id = a.name;
  return tr;
}

function show() {
  const all = [...agents.values()].sort((a, b) => a.name.localeCompare(b.name));
  byId("agents").replaceChildren(...all.map(row));
}

const watch = new EventSource("watch"); // it connects again by itself
watch.addEventListener("open", () => agents.clear());
watch.addEventListener("message", ({ data }) => {
  const agent = JSON.parse(data);
  if (agent.name === undefined) {
    return; // the backend has asked for its state
  }
  agents.set(agent.instanceUid, agent);
  const options = [...byId("to").options];
  if (!options.some((o) => o.value === agent.instanceUid)) {
    const next = options.find((o) => o.value !== "" && o.text > agent.name);
    byId("to").add(new Option(agent.name, agent.instanceUid), next);
  }
  show();
});
setInterval(show, 1000); // the seconds

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("result").textContent = "";
  try {
    const answer = await fetch("configure", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ instanceUid: byId("to").value, config: byId("config").value }),
    });
    const { agents: n, message } = await answer.json();
    byId("result").textContent = answer.ok ? `pushed to ${n} ${n === 1 ? "agent" : "agents"}` : message;
  } catch (error) {
    byId("result").textContent = error.message;
  }
});
