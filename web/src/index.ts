export type { ConnectionState } from "./connections.js";
export type { WebSocketConstructor } from "./pipe.js";
export { type CulvertTransport, type CulvertTransportOptions, createCulvertTransport } from "./transport.js";
