// Package network opens connections from this machine to an edge: through the proxy that the
// environment names, and over TLS.
//
// [Network.Connect] opens TCP, or a tunnel through the proxy. [Network.Secure] begins TLS on it.
// [Network.Dial] does both. What fails is an [Error], which says at which stage, and what to do
// about it. [Network.Transport] has the same way for HTTP/1.1 requests.
//
// No goroutine outlives a call, and every wait ends with the context or a bound of the package.
package network
