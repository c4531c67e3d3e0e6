// The page. Its tool reads the file that it shows.

import { converse } from "./conversation.js";
import { transports } from "./transports.js";

const byId = (id) => document.getElementById(id);
byId("protocol").append(...Object.keys(transports).map((name) => new Option(name)));

/** Adds a paragraph to the log. */
function paragraph(kind, text) {
  const p = document.createElement("p");
  p.className = kind;
  p.textContent = text;
  byId("log").append(p);
  return p;
}

async function ask() {
  byId("ask").disabled = true;
  byId("log").replaceChildren();
  let answer; // the paragraph that grows
  try {
    await converse({
      connect: () => transports[byId("protocol").value](location.host),
      goal: byId("goal").value,
      drops: byId("drops").value.match(/\d+/g)?.map(Number),
      tools: { read_file: (name) => (name === "hello.py" ? byId("file").value : `there is no file ${name}`) },
      note(text) {
        paragraph("note", text);
        answer = undefined;
      },
      show({ number, started, token, toolCall, done }) {
        if (token !== undefined) {
          answer ??= paragraph("answer", "");
          answer.textContent += token.text;
          return;
        }
        answer = undefined;
        if (started !== undefined) {
          paragraph("note", `${number}: workflow ${started.workflowId}`);
        } else if (toolCall !== undefined) {
          paragraph("tool", `${number}: ${toolCall.tool}(${toolCall.argument})`);
        } else if (done !== undefined) {
          paragraph("note", `${number}: done`);
        }
      },
    });
  } catch (error) {
    paragraph("note", `failed: ${error.message}`);
  } finally {
    byId("ask").disabled = false;
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
