// Package replies reads the messages of a backend's stream for the client. It reads ahead
// while the backend sends in bursts, so that messages that are ready leave together. It
// knows no calls: a [Queue] counts with the entry of the account that it is given.
//
// # Who waits for whom
//
//	start              owner that waits               ends when
//	Queue.readAhead    the owner of New's WaitGroup   the stream has ended, or Drop
package replies
