import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createWritableIterable } from "@connectrpc/connect/protocol";
import { type ConverseRequestSchema, type ConverseResponse, Demo, type ToolResult } from "./gen/demo/demopb/demo_pb.ts";

/** How a conversation ended. */
export interface Ending {
  code: Code | 0;
  message: string;
}

/** One bidirectional call: turns go out, events come in, until it ends. */
export interface Conversation {
  readonly events: AsyncIterable<ConverseResponse>;
  readonly ended: Promise<Ending>;
  prompt(text: string, tools: string[]): void;
  answer(callId: string, outcome: ToolResult["outcome"]): void;
  interrupt(): void;
  halfClose(): void;
}

/** Opens a conversation: one more stream in the transport's WebSocket. */
export function openConversation(transport: Transport, metadata: Record<string, string>): Conversation {
  const turns = createWritableIterable<{ turn: Turn }>();
  const replies = createClient(Demo, transport).converse(turns, { headers: metadata });
  let end: (ending: Ending) => void;
  const ended = new Promise<Ending>((resolve) => {
    end = resolve;
  });
  async function* listen() {
    try {
      yield* replies;
      end({ code: 0, message: "" });
    } catch (cause) {
      const { code, rawMessage } = ConnectError.from(cause, Code.Unknown);
      end({ code, message: rawMessage });
    }
  }
  // A turn after the end has nobody to read it.
  const send = (turn: Turn) => void turns.write({ turn }).catch(() => {});
  return {
    events: listen(),
    ended,
    prompt: (text, tools) => send({ case: "prompt", value: { text, tools } }),
    answer: (callId, outcome) => send({ case: "toolResult", value: { callId, outcome } }),
    interrupt: () => send({ case: "interrupt", value: {} }),
    halfClose: () => turns.close(),
  };
}

type Turn = Exclude<MessageInitShape<typeof ConverseRequestSchema>["turn"], undefined>;
