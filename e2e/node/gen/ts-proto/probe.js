import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
const protobufPackage = "culvert.e2e.v1";
const protobufFileName = "probe.proto";
function createBaseRequest() {
  return { sequence: 0, text: "", payload: new Uint8Array(0) };
}
const Request = {
  encode(message, writer = new BinaryWriter()) {
    if (message.sequence !== 0) {
      writer.uint32(8).uint64(message.sequence);
    }
    if (message.text !== "") {
      writer.uint32(18).string(message.text);
    }
    if (message.payload.length !== 0) {
      writer.uint32(26).bytes(message.payload);
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
      const message = createBaseRequest();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.sequence = longToNumber(reader.uint64());
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.text = reader.string();
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.payload = reader.bytes();
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
    return Request.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseRequest();
    message.sequence = object.sequence ?? 0;
    message.text = object.text ?? "";
    message.payload = object.payload ?? new Uint8Array(0);
    return message;
  }
};
function createBaseReply() {
  return { sequence: 0, text: "", payload: new Uint8Array(0), metadata: [], received: 0 };
}
const Reply = {
  encode(message, writer = new BinaryWriter()) {
    if (message.sequence !== 0) {
      writer.uint32(8).uint64(message.sequence);
    }
    if (message.text !== "") {
      writer.uint32(18).string(message.text);
    }
    if (message.payload.length !== 0) {
      writer.uint32(26).bytes(message.payload);
    }
    for (const v of message.metadata) {
      Field.encode(v, writer.uint32(34).fork()).join();
    }
    if (message.received !== 0) {
      writer.uint32(40).uint64(message.received);
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
      const message = createBaseReply();
      while (reader.pos < end) {
        const tag = reader.uint32();
        switch (tag >>> 3) {
          case 1: {
            if (tag !== 8) {
              break;
            }
            message.sequence = longToNumber(reader.uint64());
            continue;
          }
          case 2: {
            if (tag !== 18) {
              break;
            }
            message.text = reader.string();
            continue;
          }
          case 3: {
            if (tag !== 26) {
              break;
            }
            message.payload = reader.bytes();
            continue;
          }
          case 4: {
            if (tag !== 34) {
              break;
            }
            message.metadata.push(Field.decode(reader, reader.uint32()));
            continue;
          }
          case 5: {
            if (tag !== 40) {
              break;
            }
            message.received = longToNumber(reader.uint64());
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
    return Reply.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseReply();
    message.sequence = object.sequence ?? 0;
    message.text = object.text ?? "";
    message.payload = object.payload ?? new Uint8Array(0);
    message.metadata = object.metadata?.map((e) => Field.fromPartial(e)) || [];
    message.received = object.received ?? 0;
    return message;
  }
};
function createBaseField() {
  return { name: "", values: [] };
}
const Field = {
  encode(message, writer = new BinaryWriter()) {
    if (message.name !== "") {
      writer.uint32(10).string(message.name);
    }
    for (const v of message.values) {
      writer.uint32(18).bytes(v);
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
      const message = createBaseField();
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
            if (tag !== 18) {
              break;
            }
            message.values.push(reader.bytes());
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
    return Field.fromPartial(base ?? {});
  },
  fromPartial(object) {
    const message = createBaseField();
    message.name = object.name ?? "";
    message.values = object.values?.map((e) => e) || [];
    return message;
  }
};
const ProbeDefinition = {
  name: "Probe",
  fullName: "culvert.e2e.v1.Probe",
  methods: {
    unary: {
      name: "Unary",
      requestType: Request,
      requestStream: false,
      responseType: Reply,
      responseStream: false,
      options: {}
    },
    serverStream: {
      name: "ServerStream",
      requestType: Request,
      requestStream: false,
      responseType: Reply,
      responseStream: true,
      options: {}
    },
    clientStream: {
      name: "ClientStream",
      requestType: Request,
      requestStream: true,
      responseType: Reply,
      responseStream: false,
      options: {}
    },
    bidi: {
      name: "Bidi",
      requestType: Request,
      requestStream: true,
      responseType: Reply,
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
  Field,
  ProbeDefinition,
  Reply,
  Request,
  protobufFileName,
  protobufPackage
};
