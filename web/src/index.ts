export type { ConnectionState } from "./connections.js";
export type { WebSocketConstructor } from "./pipe.js";
export type { Token, TokenSource } from "./session.js";
export { type CulvertTransport, type CulvertTransportOptions, createCulvertTransport } from "./transport.js";
