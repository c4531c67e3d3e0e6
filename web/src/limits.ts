// Numbers. This file imports nothing: esbuild writes the numbers of such a file where they are used.

/** How many microtasks must pass without a new frame before the frames leave: the chain of promises from one write to the next is shorter. */
export const quietTicks = 16;
/** Frames leave earlier if there are this many bytes. */
export const fullFlush = 1 << 15;

/** The largest header list that is decoded, counted as SETTINGS_MAX_HEADER_LIST_SIZE is (RFC 9113, section 6.5.2). */
export const maxListSize = 65536;
/** The size of the dynamic table, in octets: the default of SETTINGS_HEADER_TABLE_SIZE. */
export const maxTableSize = 4096;

/** The error code CANCEL (RFC 9113, section 7). */
export const cancel = 8;
/** How many bytes of a stream's requests are kept, to send them again. */
export const keep = 65536;
