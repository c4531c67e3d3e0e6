import { create, type DescMessage, fromBinary, type MessageShape, toBinary, toJson } from "@bufbuild/protobuf";
import { grpc } from "@improbable-eng/grpc-web";
import type { Field } from "./frame.ts";
import {
  type ConverseRequest,
  ConverseRequestSchema,
  type ConverseResponse,
  ConverseResponseSchema,
  Demo,
  InterruptSchema,
  PromptSchema,
  type ToolResult,
  ToolResultSchema,
} from "./gen/demo/demopb/demo_pb.ts";

/** How a conversation ended. */
export interface Ending {
  code: number;
  message: string;
  trailers: Field[];
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

/** Opens a conversation over a WebSocket with the published client. */
export function openConversation(host: string, metadata: Record<string, string>): Conversation {
  const client = grpc.client<Adapted<ConverseRequest>, Adapted<ConverseResponse>, typeof converse>(converse, {
    host,
    transport: grpc.WebsocketTransport(),
  });
  const queue = createQueue<ConverseResponse>();
  client.onMessage((message) => queue.push(message.value));
  const ended = new Promise<Ending>((resolve) => {
    client.onEnd((code, message, trailers) => {
      queue.end();
      const fields: Field[] = [];
      trailers.forEach((name, values) => {
        fields.push(...values.map((value): Field => [name, value]));
      });
      resolve({ code, message, trailers: fields });
    });
  });
  client.start(metadata);
  const send = (turn: ConverseRequest["turn"]) => client.send(new RequestAdapter(create(ConverseRequestSchema, { turn })));
  return {
    events: queue,
    ended,
    prompt: (text, tools) => send({ case: "prompt", value: create(PromptSchema, { text, tools }) }),
    answer: (callId, outcome) => send({ case: "toolResult", value: create(ToolResultSchema, { callId, outcome }) }),
    interrupt: () => send({ case: "interrupt", value: create(InterruptSchema) }),
    halfClose: () => client.finishSend(),
  };
}

/** A message of protobuf-es with the interface that the client expects. */
interface Adapted<T> extends grpc.ProtobufMessage {
  readonly value: T;
}

// The client calls `new` and a static method, so these have to be classes.
function adapt<D extends DescMessage>(schema: D) {
  return class implements Adapted<MessageShape<D>> {
    static deserializeBinary(bytes: Uint8Array) {
      return new this(fromBinary(schema, bytes));
    }
    readonly value: MessageShape<D>;
    constructor(value: MessageShape<D> = create(schema)) {
      this.value = value;
    }
    serializeBinary() {
      return toBinary(schema, this.value);
    }
    toObject() {
      return toJson(schema, this.value) as object;
    }
  };
}

const RequestAdapter = adapt(ConverseRequestSchema);
const ResponseAdapter = adapt(ConverseResponseSchema);

const converse = {
  methodName: Demo.method.converse.name,
  service: { serviceName: Demo.typeName },
  requestStream: true,
  responseStream: true,
  requestType: RequestAdapter,
  responseType: ResponseAdapter,
};

/** Returns a queue: a callback pushes items, and a loop takes them. */
function createQueue<T>(): AsyncIterable<T> & { push(item: T): void; end(): void } {
  const items: T[] = [];
  let done = false;
  let wake = () => {};
  return {
    push(item) {
      items.push(item);
      wake();
    },
    end() {
      done = true;
      wake();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const item = items.shift();
        if (item !== undefined) {
          yield item;
        } else if (done) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    },
  };
}
