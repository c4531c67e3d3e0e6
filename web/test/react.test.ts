// A page with React, whose StrictMode mounts everything twice, and with connect-query.

import { TransportProvider, useMutation, useQuery } from "@connectrpc/connect-query";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createElement, StrictMode, useEffect, useMemo, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { createCulvertTransport } from "../src/index.js";
import { Probe } from "./gen/probe_pb.js";
import { box, deepEqual, equal, ok, test } from "./harness.js";

const page = { page: true } as const;

/** Resolves once the page shows a text. */
const shown = (element: HTMLElement, text: string) =>
  new Promise<void>((resolve) => {
    const look = () => {
      if (element.textContent?.includes(text)) {
        observer.disconnect();
        resolve();
      }
    };
    const observer = new MutationObserver(look);
    observer.observe(element, { childList: true, characterData: true, subtree: true });
    look();
  });

test(
  "connect-query's queries and mutations in StrictMode, and the state in the page",
  async () => {
    const { baseUrl, wait } = await box();
    let created = 0;

    function Page() {
      const transport = useMemo(() => {
        created++;
        return createCulvertTransport({ baseUrl });
      }, []);
      useEffect(() => () => transport.close(), [transport]);
      return createElement(TransportProvider, { transport }, createElement(State, { transport }), createElement(Call));
    }
    function State({ transport }: { transport: ReturnType<typeof createCulvertTransport> }) {
      const { status } = useSyncExternalStore(transport.subscribe, () => transport.state);
      return createElement("p", null, `status ${status}`);
    }
    function Call() {
      const query = useQuery(Probe.method.unary, { text: "asked" });
      const mutation = useMutation(Probe.method.unary);
      return createElement(
        "p",
        null,
        `query ${query.data ? query.data.received : query.status}, `,
        createElement("button", { type: "button", onClick: () => mutation.mutate({ text: "changed" }) }, "change"),
        `mutation ${mutation.data ? mutation.data.received : mutation.status}`,
      );
    }

    const element = document.createElement("div");
    document.body.append(element);
    const root = createRoot(element);
    const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    root.render(createElement(StrictMode, null, createElement(QueryClientProvider, { client }, createElement(Page))));
    await shown(element, "query 1");
    await shown(element, "status connected");
    equal(created, 2); // StrictMode renders twice
    element.querySelector("button")?.click();
    await shown(element, "mutation 1");
    const { live, opened } = await wait(1);
    equal(live, 1);
    ok(opened <= 2, String(opened)); // the first one may be closed by StrictMode's unmounting
    root.unmount();
    element.remove();
    await wait(0);
    client.clear();
  },
  page,
);

test(
  "transports that are made and closed again and again leave no listener behind",
  async () => {
    const { baseUrl, wait } = await box();
    const { addEventListener, removeEventListener } = globalThis;
    const listening: string[] = [];
    globalThis.addEventListener = (type: string, ...rest: unknown[]) => {
      listening.push(type);
      Reflect.apply(addEventListener, globalThis, [type, ...rest]);
    };
    globalThis.removeEventListener = (type: string, ...rest: unknown[]) => {
      const at = listening.indexOf(type);
      at < 0 || listening.splice(at, 1);
      Reflect.apply(removeEventListener, globalThis, [type, ...rest]);
    };
    try {
      for (let i = 0; i < 20; i++) {
        // As after a hot reload, each has a function of its own, so that none is shared.
        const transport = createCulvertTransport({ baseUrl, protocols: () => [] });
        await transport.unary(Probe.method.unary, undefined, undefined, undefined, {});
        transport.close();
        transport.close();
      }
      deepEqual(listening, []);
    } finally {
      Object.assign(globalThis, { addEventListener, removeEventListener });
    }
    deepEqual(await wait(0), { live: 0, opened: 20 });
  },
  page,
);
