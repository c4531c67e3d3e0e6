// The JSON of the admin address, as admin/data.go defines it, and the requests for it.

export interface Call {
  id: string;
  method: string;
  route: string;
  backend: string;
  transport: string;
  listener: string;
  peer: string;
  client: string;
  identity: string;
  began: string;
  age_seconds: number;
  messages_in: number;
  messages_out: number;
  bytes_in: number;
  bytes_out: number;
  memory_bytes: number;
  last_message?: string;
  waits_for: string;
  waiting_seconds: number;
}

export type Waiting = Record<"client" | "backend" | "memory" | "place" | "answer", number>;

export interface Calls {
  at: string;
  open: number;
  matching: number;
  waiting: Waiting;
  calls: Call[];
}

export interface Connections {
  at: string;
  connections: { listener: string; transport: string; open: number; tunnels: number }[];
  calls: { listener: string; transport: string; open: number }[];
}

export interface Address {
  address: string;
  accepts: boolean;
  unhealthy: boolean;
  failure: string;
  connections: number;
  calls: number;
  places: number;
  picks: number;
}

export interface Backend {
  name: string;
  state: string;
  draining: boolean;
  calls: number;
  waiting: number;
  lost_pings: number;
  retries_by_policy: number;
  retries_elsewhere: number;
  retries_withheld: number;
  addresses: Address[];
}

export interface Backends {
  at: string;
  backends: Backend[];
}

export interface Route {
  route: string;
  backend: string;
  calls: number;
  errors: number;
  cancelled: number;
  calls_per_second: number;
  errors_per_second: number;
  mean_seconds: number;
}

export interface Routes {
  at: string;
  since: string;
  window_seconds: number;
  routes: Route[];
  left: number;
}

export interface Memory {
  at: string;
  held_bytes: number;
  limit_bytes: number;
  message_bytes: number;
  message_limit_bytes: number;
  evicted: number;
  call_bytes: number;
  other_bytes: number;
  calls: Call[];
  addresses: { address: string; calls: number; memory_bytes: number }[];
  addresses_left: number;
  connections: { peer: string; listener: string; transport: string; calls: number; memory_bytes: number }[];
}

export interface Refusal {
  at: string;
  key: string;
  reason: string;
  peer: string;
  detail: string;
  report_only: boolean;
}

export interface Limits {
  at: string;
  limits: { key: string; reason: string; refused: number; report_only: number; last: string }[];
  last: Refusal[];
}

export interface Failure {
  at: string;
  id: string;
  method: string;
  route: string;
  backend: string;
  transport: string;
  listener: string;
  peer: string;
  client: string;
  identity: string;
  origin: string;
  reason: string;
  limit: string;
  code: string;
  message: string;
  cause: string;
  duration_seconds: number;
}

export interface Failures {
  at: string;
  counts: { origin: string; reason: string; code: string; failed: number }[];
  failures: Failure[];
}

export interface Certificate {
  names: string[];
  source: string;
  file: string;
  not_after: string;
  expires_in_seconds: number;
  ending: boolean;
  on_demand: boolean;
}

export interface ACMEName {
  name: string;
  on_demand: boolean;
  state: string;
  not_after?: string;
  next_try?: string;
  failing_since?: string;
  failures: number;
  problem: string;
}

export interface Certificates {
  at: string;
  certificates: Certificate[];
  problems: string[];
  acme: ACMEName[];
  acme_left: number;
}

export interface Issuer {
  name: string;
  issuer: string;
  keys: number;
  fetched?: string;
  next?: string;
  failures: number;
  problem: string;
  skipped: { id: string; why: string }[];
}

export interface AuthService {
  name: string;
  problem: string;
  allowed: number;
  denied: number;
  failed: number;
  open: number;
  cancelled: number;
  unasked: number;
  cached: number;
  shared: number;
  asking: number;
  mean_seconds: number;
}

export interface Auth {
  at: string;
  enabled: boolean;
  enforced: boolean;
  since?: string;
  ways: string[];
  refused: { key: string; issuer: string; reason: string; calls: number; last: string; cause: string }[];
  rules: { name: string; effect: string; calls: number }[];
  issuers: Issuer[];
  tokens: { good: number; refused: number; bytes: number; unverified: number };
  api_key_file: { file: string; keys: number; read?: string; problem: string }[];
  services: AuthService[];
}

export interface Status {
  at: string;
  version: string;
  started: string;
  log_level: string;
  drain: { state: string; refuses_in?: number; calls: number };
  configuration: {
    file: string;
    version: string;
    since: string;
    rejected: string[];
    rejected_at?: string;
    difference: string[];
    restart: string[];
  };
  problems: string[];
  token: boolean;
}

const patience = 10_000; // ms, far more than culvert needs

/** Asks for JSON below the page's own URL. */
export async function get<T>(path: string, signal: AbortSignal): Promise<T> {
  const text = await ask(path, { headers: { accept: "application/json" } }, signal);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new Error(`the answer to ${path} is no JSON`);
  }
}

/** Changes something, and resolves to the answer's text. */
export const change = (method: "POST" | "PUT", path: string, body?: string) =>
  ask(path, { method, headers: { "culvert-admin": "1" }, ...(body === undefined ? {} : { body }) });

async function ask(path: string, init: RequestInit, signal?: AbortSignal): Promise<string> {
  const late = AbortSignal.timeout(patience);
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      ...init,
      cache: "no-store",
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    text = await response.text();
  } catch {
    throw new Error(late.aborted ? `no answer in ${patience / 1000} s` : "there is no connection");
  }
  if (!response.ok) {
    const line = text
      .slice(0, 400)
      .trim()
      .replace(/^culvert: /, "");
    throw new Error(line || `HTTP status ${response.status}`, { cause: response.status });
  }
  return text;
}

/** Ends the session, if there is one. */
export async function logOut(): Promise<void> {
  // The answer leads to the form for the token, which only a visit can show.
  await fetch("logout", { method: "POST", headers: { "culvert-admin": "1" }, redirect: "manual", signal: AbortSignal.timeout(patience) });
}

/** Reports whether culvert wants its token. */
export const wantsToken = (error: unknown) => error instanceof Error && error.cause === 401;

/** What an error says. */
export const says = (error: unknown) => (error instanceof Error ? error.message : String(error));
