// The hooks: a room to talk in, and the state of the connection.

import { ConnectError, createClient } from "@connectrpc/connect";
import { createWritableIterable } from "@connectrpc/connect/protocol";
import { createCulvertTransport } from "@culvert/web";
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Room } from "../gen/room_pb.js";

// Outside of components: all of them share it, and StrictMode makes no second one. After hot reload, the new
// transport takes the connection of the old one.
const transport = createCulvertTransport({ baseUrl: "/" });
const client = createClient(Room, transport);

export function useConnection() {
  return useSyncExternalStore(transport.subscribe, () => transport.state);
}

export function useRoom() {
  const [lines, setLines] = useState([]);
  const [members, setMembers] = useState(0);
  const said = useRef(undefined); // what the stream sends
  const show = useCallback((line) => setLines((all) => [...all, { key: all.length, line }]), []);

  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;

    async function stay() {
      while (!signal.aborted) {
        said.current = createWritableIterable();
        try {
          for await (const { name, text, members } of client.join(said.current, { signal })) {
            setMembers(members);
            if (text !== "") {
              show(`${name}: ${text}`);
            }
          }
        } catch (error) {
          if (!signal.aborted) {
            show(`the stream ended: ${ConnectError.from(error).message}`);
          }
        }
        await new Promise((resume) => setTimeout(resume, 1000 + 1000 * Math.random()));
      }
    }

    void stay();
    return () => leaving.abort(); // also when StrictMode unmounts, to mount again
  }, [show]);

  // write rejects if the stream ends before it takes the message.
  const say = (name, text) => said.current.write({ name, text }).catch(() => show(`not sent: ${text}`));
  return { lines, members, say };
}
