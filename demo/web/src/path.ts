/** What this page may connect to: the answer of demo/api/info. */
export interface Info {
  culvert: string; // ports
  proxy: string;
  backend: string; // address
  version: string;
}

/** A native gRPC call made by the demo's process: the answer of demo/api/native. */
export interface NativeResult {
  address: string;
  code: string;
  message: string;
  durationMs: number;
  tokens: number;
  toolCalls: number;
  seen: string[]; // by the inspecting proxy, while the call was tried
}

/** Where calls go: to culvert, or to the proxy before it. */
export interface Path {
  readonly info: Info;
  proxied: boolean;
  origin(): string;
  callNative(signal: AbortSignal): Promise<NativeResult>;
}

export async function loadPath(): Promise<Path> {
  const info: Info = await fetchJson("demo/api/info", {});
  const path: Path = {
    info,
    proxied: false,
    origin: () => `${location.protocol}//${location.hostname}:${path.proxied ? info.proxy : info.culvert}`,
    callNative: (signal) => fetchJson(`demo/api/native?via=${path.proxied ? "proxy" : "direct"}`, { method: "POST", signal }),
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
