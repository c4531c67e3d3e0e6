// What a run finds, in the words of culvert doctor: client/doctor/finding.go. The fields are those of its JSON.

/** The probes that a page can make, and those that it can't and says so, in the order of a report. */
export const order = [
  "connect",
  "decryption",
  "alpn",
  "grpc",
  "websocket",
  "websocket-http2",
  "websocket-bidi",
  "grpc-web",
  "grpc-web-stream",
  "type-connect",
  "type-json",
  "large-body",
  "large-header",
  "service",
  "preflight",
  "page",
  "idle-websocket",
  "idle-websocket-one-way",
  "idle-websocket-answered",
] as const;

/** One question to the network. docs/reference/doctor.md has all. */
export type Probe = (typeof order)[number];

/** What became of a probe. */
export type Result = "works" | "refused" | "stripped" | "held" | "silent" | "cut" | "failed" | "can't tell";

/** An HTTP answer that isn't what a probe wants. */
export interface Answer {
  /** It has a sign of culvert's own. */
  culvert: boolean;
  status: number;
  /** culvert's. */
  reason?: string;
  /** The title of a page, or the beginning of a text. */
  says?: string;
  server?: string;
  via?: string;
}

/** The result of a probe. */
export interface Finding {
  probe: Probe;
  result: Result;
  /** Says more of the result, for programs. */
  cause?: string;
  /** Printable, without secrets. */
  evidence?: string;
  answer?: Answer;
  /** The time until the cut, for idle connections. */
  after_seconds?: number;
  took_seconds: number;
}

/** What findings mean, in words for people. */
export interface Verdict {
  id: string;
  words: string;
  /** The way for programs, such as culvert dial. */
  programs?: string;
  /** The way for pages: websocket is this package, grpc-web is connect-web and others. */
  pages?: string;
  /** The sentence for the network team. */
  ask?: string;
  /** A page of culvert's documentation. */
  docs: string;
  evidence?: string;
}

/** What the findings of a run mean. */
export interface Judgement {
  /** Whether bidirectional streams pass, for this page. */
  bidirectional: "yes" | "no" | "can't tell";
  /** The first one says which way works. */
  verdicts: Verdict[];
}

/** What a run has found. */
export interface Report extends Judgement {
  url: string;
  /** The page's. */
  origin?: string;
  time: string;
  findings: Finding[];
}
