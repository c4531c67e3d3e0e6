import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
const protobufPackage = "culvert.demo.v1";
const protobufFileName = "demo.proto";
function createBaseEchoRequest() {
  return { text: "" };
}
const EchoRequest = {
  encode(message, writer = new BinaryWriter()) {
    if (message.text !== "") {
      writer.uint32(10).string(message.text);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseEchoRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.text = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return EchoRequest.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseEchoRequest();
    message.text = object.text ?? "";
    return message;
  }
};
function createBaseEchoResponse() {
  return { text: "", metadata: [] };
}
const EchoResponse = {
  encode(message, writer = new BinaryWriter()) {
    if (message.text !== "") {
      writer.uint32(10).string(message.text);
    }
    for (const v of message.metadata) {
      Metadatum.encode(v, writer.uint32(18).fork()).join();
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseEchoResponse();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.text = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.metadata.push(Metadatum.decode(reader, reader.uint32()));
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return EchoResponse.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseEchoResponse();
    message.text = object.text ?? "";
    message.metadata = object.metadata?.map((e) => Metadatum.fromPartial(e)) || [];
    return message;
  }
};
function createBaseMetadatum() {
  return { key: "", value: new Uint8Array(0) };
}
const Metadatum = {
  encode(message, writer = new BinaryWriter()) {
    if (message.key !== "") {
      writer.uint32(10).string(message.key);
    }
    if (message.value.length !== 0) {
      writer.uint32(18).bytes(message.value);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseMetadatum();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.key = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.value = reader.bytes();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return Metadatum.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseMetadatum();
    message.key = object.key ?? "";
    message.value = object.value ?? new Uint8Array(0);
    return message;
  }
};
function createBaseReserveRequest() {
  return { name: "", seats: 0, day: "" };
}
const ReserveRequest = {
  encode(message, writer = new BinaryWriter()) {
    if (message.name !== "") {
      writer.uint32(10).string(message.name);
    }
    if (message.seats !== 0) {
      writer.uint32(16).uint32(message.seats);
    }
    if (message.day !== "") {
      writer.uint32(26).string(message.day);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseReserveRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.name = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 16) {
              break;
            }
            message.seats = reader.uint32();
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.day = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ReserveRequest.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseReserveRequest();
    message.name = object.name ?? "";
    message.seats = object.seats ?? 0;
    message.day = object.day ?? "";
    return message;
  }
};
function createBaseReserveResponse() {
  return { code: "" };
}
const ReserveResponse = {
  encode(message, writer = new BinaryWriter()) {
    if (message.code !== "") {
      writer.uint32(10).string(message.code);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseReserveResponse();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.code = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ReserveResponse.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseReserveResponse();
    message.code = object.code ?? "";
    return message;
  }
};
function createBaseCountdownRequest() {
  return { from: 0, intervalMs: 0 };
}
const CountdownRequest = {
  encode(message, writer = new BinaryWriter()) {
    if (message.from !== 0) {
      writer.uint32(8).uint32(message.from);
    }
    if (message.intervalMs !== 0) {
      writer.uint32(16).uint32(message.intervalMs);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseCountdownRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.from = reader.uint32();
            continue;
          }
          case 2: {
            if (tag !== 16) {
              break;
            }
            message.intervalMs = reader.uint32();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return CountdownRequest.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseCountdownRequest();
    message.from = object.from ?? 0;
    message.intervalMs = object.intervalMs ?? 0;
    return message;
  }
};
function createBaseCountdownResponse() {
  return { left: 0 };
}
const CountdownResponse = {
  encode(message, writer = new BinaryWriter()) {
    if (message.left !== 0) {
      writer.uint32(8).uint32(message.left);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseCountdownResponse();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.left = reader.uint32();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return CountdownResponse.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseCountdownResponse();
    message.left = object.left ?? 0;
    return message;
  }
};
function createBaseSumRequest() {
  return { number: 0 };
}
const SumRequest = {
  encode(message, writer = new BinaryWriter()) {
    if (message.number !== 0) {
      writer.uint32(8).sint64(message.number);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseSumRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.number = longToNumber(reader.sint64());
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return SumRequest.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseSumRequest();
    message.number = object.number ?? 0;
    return message;
  }
};
function createBaseSumResponse() {
  return { sum: 0, count: 0 };
}
const SumResponse = {
  encode(message, writer = new BinaryWriter()) {
    if (message.sum !== 0) {
      writer.uint32(8).sint64(message.sum);
    }
    if (message.count !== 0) {
      writer.uint32(16).uint64(message.count);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseSumResponse();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.sum = longToNumber(reader.sint64());
            continue;
          }
          case 2: {
            if (tag !== 16) {
              break;
            }
            message.count = longToNumber(reader.uint64());
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return SumResponse.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseSumResponse();
    message.sum = object.sum ?? 0;
    message.count = object.count ?? 0;
    return message;
  }
};
function createBaseConverseRequest() {
  return { prompt: void 0, toolResult: void 0, interrupt: void 0 };
}
const ConverseRequest = {
  encode(message, writer = new BinaryWriter()) {
    if (message.prompt !== void 0) {
      Prompt.encode(message.prompt, writer.uint32(10).fork()).join();
    }
    if (message.toolResult !== void 0) {
      ToolResult.encode(message.toolResult, writer.uint32(18).fork()).join();
    }
    if (message.interrupt !== void 0) {
      Interrupt.encode(message.interrupt, writer.uint32(26).fork()).join();
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseConverseRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.prompt = Prompt.decode(reader, reader.uint32());
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.toolResult = ToolResult.decode(reader, reader.uint32());
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.interrupt = Interrupt.decode(reader, reader.uint32());
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ConverseRequest.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseConverseRequest();
    message.prompt = object.prompt !== void 0 && object.prompt !== null ? Prompt.fromPartial(object.prompt) : void 0;
    message.toolResult = object.toolResult !== void 0 && object.toolResult !== null ? ToolResult.fromPartial(object.toolResult) : void 0;
    message.interrupt = object.interrupt !== void 0 && object.interrupt !== null ? Interrupt.fromPartial(object.interrupt) : void 0;
    return message;
  }
};
function createBasePrompt() {
  return { text: "", tools: [] };
}
const Prompt = {
  encode(message, writer = new BinaryWriter()) {
    if (message.text !== "") {
      writer.uint32(10).string(message.text);
    }
    for (const v of message.tools) {
      writer.uint32(18).string(v);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBasePrompt();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.text = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.tools.push(reader.string());
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return Prompt.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBasePrompt();
    message.text = object.text ?? "";
    message.tools = object.tools?.map((e) => e) || [];
    return message;
  }
};
function createBaseToolResult() {
  return { callId: "", output: void 0, error: void 0 };
}
const ToolResult = {
  encode(message, writer = new BinaryWriter()) {
    if (message.callId !== "") {
      writer.uint32(10).string(message.callId);
    }
    if (message.output !== void 0) {
      writer.uint32(18).string(message.output);
    }
    if (message.error !== void 0) {
      writer.uint32(26).string(message.error);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseToolResult();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.callId = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.output = reader.string();
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.error = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ToolResult.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseToolResult();
    message.callId = object.callId ?? "";
    message.output = object.output ?? void 0;
    message.error = object.error ?? void 0;
    return message;
  }
};
function createBaseInterrupt() {
  return {};
}
const Interrupt = {
  encode(_, writer = new BinaryWriter()) {
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseInterrupt();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return Interrupt.fromPartial(base ?? {});
  },
  fromPartial(_) {
    const message = createBaseInterrupt();
    return message;
  }
};
function createBaseConverseResponse() {
  return { token: void 0, toolCall: void 0, end: void 0 };
}
const ConverseResponse = {
  encode(message, writer = new BinaryWriter()) {
    if (message.token !== void 0) {
      Token.encode(message.token, writer.uint32(10).fork()).join();
    }
    if (message.toolCall !== void 0) {
      ToolCall.encode(message.toolCall, writer.uint32(18).fork()).join();
    }
    if (message.end !== void 0) {
      AnswerEnd.encode(message.end, writer.uint32(26).fork()).join();
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseConverseResponse();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.token = Token.decode(reader, reader.uint32());
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.toolCall = ToolCall.decode(reader, reader.uint32());
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.end = AnswerEnd.decode(reader, reader.uint32());
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ConverseResponse.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseConverseResponse();
    message.token = object.token !== void 0 && object.token !== null ? Token.fromPartial(object.token) : void 0;
    message.toolCall = object.toolCall !== void 0 && object.toolCall !== null ? ToolCall.fromPartial(object.toolCall) : void 0;
    message.end = object.end !== void 0 && object.end !== null ? AnswerEnd.fromPartial(object.end) : void 0;
    return message;
  }
};
function createBaseToken() {
  return { text: "" };
}
const Token = {
  encode(message, writer = new BinaryWriter()) {
    if (message.text !== "") {
      writer.uint32(10).string(message.text);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseToken();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.text = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return Token.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseToken();
    message.text = object.text ?? "";
    return message;
  }
};
function createBaseToolCall() {
  return { callId: "", name: "" };
}
const ToolCall = {
  encode(message, writer = new BinaryWriter()) {
    if (message.callId !== "") {
      writer.uint32(10).string(message.callId);
    }
    if (message.name !== "") {
      writer.uint32(18).string(message.name);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseToolCall();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 10) {
              break;
            }
            message.callId = reader.string();
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.name = reader.string();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return ToolCall.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseToolCall();
    message.callId = object.callId ?? "";
    message.name = object.name ?? "";
    return message;
  }
};
function createBaseAnswerEnd() {
  return { tokens: 0, toolCalls: 0, interrupted: false };
}
const AnswerEnd = {
  encode(message, writer = new BinaryWriter()) {
    if (message.tokens !== 0) {
      writer.uint32(8).uint32(message.tokens);
    }
    if (message.toolCalls !== 0) {
      writer.uint32(16).uint32(message.toolCalls);
    }
    if (message.interrupted !== false) {
      writer.uint32(24).bool(message.interrupted);
    }
    return writer;
  },
  decode(input, length) {
    const reader = input instanceof BinaryReader ? input : new BinaryReader(input);
    const previousRecursionDepth = reader.__tsProtoDecodeDepth ?? 0;
    if (previousRecursionDepth >= 100) {
      throw new globalThis.Error("protobuf decode recursion limit exceeded");
    }
    reader.__tsProtoDecodeDepth = previousRecursionDepth + 1;
    try {
      const end = length === void 0 ? reader.len : reader.pos + length;
      const message = createBaseAnswerEnd();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.tokens = reader.uint32();
            continue;
          }
          case 2: {
            if (tag !== 16) {
              break;
            }
            message.toolCalls = reader.uint32();
            continue;
          }
          case 3: {
            if (tag !== 24) {
              break;
            }
            message.interrupted = reader.bool();
            continue;
          }
        }
        if ((tag & 7) === 4 || tag === 0) {
          break;
        }
        reader.skip(tag & 7);
      }
      return message;
    } finally {
      reader.__tsProtoDecodeDepth = previousRecursionDepth;
    }
  },
  create(base) {
    return AnswerEnd.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseAnswerEnd();
    message.tokens = object.tokens ?? 0;
    message.toolCalls = object.toolCalls ?? 0;
    message.interrupted = object.interrupted ?? false;
    return message;
  }
};
const DemoDefinition = {
  name: "Demo",
  fullName: "culvert.demo.v1.Demo",
  methods: {
    /** Echo answers with its request, and with the metadata that arrived with it. */
    echo: {
      name: "Echo",
      requestType: EchoRequest,
      requestStream: false,
      responseType: EchoResponse,
      responseStream: false,
      options: {}
    },
    /**
     * Reserve books seats for a talk, and refuses with rich errors: a request
     * that is wrong with INVALID_ARGUMENT (BadRequest and ErrorInfo), a day that
     * is full with RESOURCE_EXHAUSTED (ErrorInfo and RetryInfo).
     */
    reserve: {
      name: "Reserve",
      requestType: ReserveRequest,
      requestStream: false,
      responseType: ReserveResponse,
      responseStream: false,
      options: {}
    },
    /** Countdown sends one message a number, down to zero. */
    countdown: {
      name: "Countdown",
      requestType: CountdownRequest,
      requestStream: false,
      responseType: CountdownResponse,
      responseStream: true,
      options: {}
    },
    /** Sum adds up what it is sent and answers when the client half-closes. */
    sum: {
      name: "Sum",
      requestType: SumRequest,
      requestStream: true,
      responseType: SumResponse,
      responseStream: false,
      options: {}
    },
    /**
     * Converse is a conversation in the manner of a language model: the client
     * sends a prompt, the server streams the answer token by token, and calls
     * tools that the client runs and answers on the same stream before the
     * answer goes on. A prompt or an interrupt that arrives in the middle of an
     * answer ends that answer, and a tool call that it left open is not to be
     * answered any more. After the client's half-close the running answer is
     * finished.
     */
    converse: {
      name: "Converse",
      requestType: ConverseRequest,
      requestStream: true,
      responseType: ConverseResponse,
      responseStream: true,
      options: {}
    }
  }
};
function longToNumber(int64) {
  const num = globalThis.Number(int64.toString());
  if (num > globalThis.Number.MAX_SAFE_INTEGER) {
    throw new globalThis.Error("Value is larger than Number.MAX_SAFE_INTEGER");
  }
  if (num < globalThis.Number.MIN_SAFE_INTEGER) {
    throw new globalThis.Error("Value is smaller than Number.MIN_SAFE_INTEGER");
  }
  return num;
}
export {
  AnswerEnd,
  ConverseRequest,
  ConverseResponse,
  CountdownRequest,
  CountdownResponse,
  DemoDefinition,
  EchoRequest,
  EchoResponse,
  Interrupt,
  Metadatum,
  Prompt,
  ReserveRequest,
  ReserveResponse,
  SumRequest,
  SumResponse,
  Token,
  ToolCall,
  ToolResult,
  protobufFileName,
  protobufPackage
};
