/** The demo's addresses: the answer of demo/api/info. */
export interface Info {
  culvert: string; // port
  proxy: string; // port of the inspecting proxy in front of culvert
  backend: string; // address
  version: string;
}

/** How the native gRPC client reaches the backend. */
export type Lane = "direct" | "culvert";

/** One call of the native gRPC client, which the demo's process runs. */
export interface NativeCall {
  method: string;
  code: string;
  message: string;
  messages: number; // from the backend
  answered: boolean; // by the backend
}

/** The native gRPC client's calls over one lane: the answer of demo/api/native. */
export interface NativeResult {
  address: string;
  calls: NativeCall[];
  seen: string[]; // by the inspecting proxy, on this client's connections
}

/** The path of new calls: with or without the inspecting proxy. */
export interface Path {
  readonly info: Info;
  proxied: boolean;
  origin(): string;
  /** Whether calls to this origin go through the proxy. */
  isProxied(origin: string): boolean;
  callNative(lane: Lane, signal: AbortSignal): Promise<NativeResult>;
}

export async function loadPath(): Promise<Path> {
  const info: Info = await fetchJson("demo/api/info", {});
  const path: Path = {
    info,
    proxied: true,
    origin: () => `${location.protocol}//${location.hostname}:${path.proxied ? info.proxy : info.culvert}`,
    isProxied: (origin) => new URL(origin).port === info.proxy,
    callNative: (lane, signal) =>
      fetchJson(`demo/api/native?lane=${lane}&via=${path.proxied ? "proxy" : "direct"}`, { method: "POST", signal }),
  };
  return path;
}

async function fetchJson<T>(url: string, init: RequestInit): Promise<T> {
  const response = await fetch(url, init);
  if (!response.ok) {
    throw new Error(`${url}: ${response.status} ${await response.text()}`);
  }
  return response.json();
}
