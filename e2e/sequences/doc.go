// Package sequences has tests only. They make sequences of frames that an HTTP/2 server
// sends, valid and not, and note what net/http's client makes of each frame. web's tests
// compare that with what src/h2 makes of them (web/test/h2/differential.test.ts).
//
// A sequence comes from a seed, which makes it again. It has at most one fault, so that
// it is known what a client has to say about it.
package sequences
