// Package reflection knows a backend's methods by gRPC server reflection.
//
// A [Book] has the descriptors of the services that were needed, and of the types that only
// messages name. It asks a [Backend] for them, at the first need and again behind a new
// connection, and knows neither its pool nor its connections.
//
// book.go has the services and the one question under way, and named.go the types that
// messages name. stream.go asks; package descriptor has the questions and reads the answers.
//
// # Who waits for whom
//
//	start              owner that waits               ends when
//	Book.run           Close's wait                   the answer is noted, or Close
package reflection
