// Made by the test of internal/pathservice, with -update.

/** The service by which clients test their way to culvert: docs/reference/path.md. */
export const serviceName = "culvert.v1.Path";

/** Ticks sends so many messages, one every interval (in milliseconds). */
export const ticks = 4;
export const interval = 400;

/** Echo takes so many messages of so many bytes, where the doctor is on. */
export const largeMessages = 16;
export const largeMessage = 65536;
