import { useState } from "react";
import { useConnection, useRoom } from "./room.js";

export function Page() {
  const { lines, members, say } = useRoom();
  const [text, setText] = useState("");

  function submit(event) {
    event.preventDefault();
    say("react", text);
    setText("");
  }

  return (
    <>
      <h1>Room with React</h1>
      <p>
        <Connection />, <output id="members">{members}</output> here. <a href="..">The plain page</a>
      </p>
      <form onSubmit={submit}>
        <input id="text" aria-label="Text" autoComplete="off" required value={text} onChange={(e) => setText(e.target.value)} />{" "}
        <button type="submit">Say</button>
      </form>
      <ol id="lines" aria-live="polite">
        {lines.map(({ key, line }) => (
          <li key={key}>{line}</li>
        ))}
      </ol>
    </>
  );
}

function Connection() {
  const { status, cause } = useConnection();
  return (
    <output id="state" title={cause}>
      {status}
    </output>
  );
}
