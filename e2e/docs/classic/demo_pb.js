// Messages with the constructors, getters and setters of protoc-gen-js, for
// the messages that the documents' snippets use. See ../generate.sh.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as es from "./es/demo_pb.js";

/** Makes the class of a message whose fields are scalars. */
function message(schema) {
  class Message {
    constructor(value = create(schema)) {
      this.value = value;
    }
    serializeBinary() {
      return toBinary(schema, this.value);
    }
    static deserializeBinary(bytes) {
      return new Message(fromBinary(schema, bytes));
    }
    toObject() {
      return { ...this.value };
    }
  }
  for (const { localName } of schema.fields) {
    const suffix = localName[0].toUpperCase() + localName.slice(1);
    Message.prototype[`get${suffix}`] = function () {
      const value = this.value[localName];
      return typeof value === "bigint" ? Number(value) : value;
    };
    Message.prototype[`set${suffix}`] = function (value) {
      this.value[localName] = typeof this.value[localName] === "bigint" ? BigInt(value) : value;
      return this;
    };
  }
  return Message;
}

export const EchoRequest = message(es.EchoRequestSchema);
export const EchoResponse = message(es.EchoResponseSchema);
export const CountdownRequest = message(es.CountdownRequestSchema);
export const CountdownResponse = message(es.CountdownResponseSchema);
export const SumRequest = message(es.SumRequestSchema);
export const SumResponse = message(es.SumResponseSchema);
