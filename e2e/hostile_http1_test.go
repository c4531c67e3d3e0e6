package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

const (
	hostileHost = "Host: 127.0.0.1\r\n"
	hostileCall = "POST " + wire.Unary + " HTTP/1.1\r\n" + hostileHost
	webType     = "Content-Type: application/grpc-web+proto\r\n"
	emptyFrame  = "\x00\x00\x00\x00\x00"
)

// hostileHTTP1: RFC 9112 and 9110 say what a server does with these.
var hostileHTTP1 = []hostileCase{
	{name: "TLS on a plain port", send: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x7f", 64) + "\r\n\r\n", want: "400, closed"},
	{name: "HTTP 0.9", send: "GET /index.html\r\n\r\n", want: "400, closed"},
	{name: "lower-case version", send: "POST " + wire.Unary + " http/1.1\r\n" + hostileHost + "\r\n", want: "400, closed"},
	{name: "version 1.x", send: "POST " + wire.Unary + " HTTP/1.x\r\n" + hostileHost + "\r\n", want: "400, closed"},
	{name: "version 3.0", send: "POST " + wire.Unary + " HTTP/3.0\r\n" + hostileHost + "\r\n", want: "505, closed"},
	{name: "NUL in the method", send: "PO\x00ST " + wire.Unary + " HTTP/1.1\r\n" + hostileHost + "\r\n", want: "400, closed"},
	{name: "blank in the target", send: "POST /a b/c HTTP/1.1\r\n" + hostileHost + "\r\n", want: "400, closed"},
	{name: "target of 400 KiB", send: "POST /" + strings.Repeat("a", 400<<10) + "/b HTTP/1.1\r\n" + hostileHost + "\r\n", want: "414, closed | 431, closed"},
	{name: "field of 400 KiB", send: hostileCall + webType + "X-A: " + strings.Repeat("a", 400<<10) + "\r\n\r\n", want: "431, closed"},
	{name: "40,000 fields", send: hostileCall + webType + strings.Repeat("X-A: b\r\n", 40_000) + "\r\n", want: "431, closed"},
	{name: "no Host", send: "POST " + wire.Unary + " HTTP/1.1\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "two Hosts", send: hostileCall + "Host: 127.0.0.2\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "Host with a blank", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: 127.0.0.1 evil\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "Host with two ports", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: 127.0.0.1:80:80\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "Host with two dots at its end", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: localhost..\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "Host with a user", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: root@localhost\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "Host with a dot at its end", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: localhost.\r\n" + webType + "Content-Length: 5\r\n\r\n" + emptyFrame, want: "200 OK, kept"},
	{name: "Host of somebody else", send: "POST " + wire.Unary + " HTTP/1.1\r\nHost: evil.example\r\n" + webType + "Content-Length: 0\r\n\r\n", want: "403, closed"},
	{name: "whole URL", send: "POST http://127.0.0.1" + wire.Unary + " HTTP/1.1\r\n" + hostileHost + webType + "Content-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "field name with a blank", send: hostileCall + webType + "X A: b\r\nContent-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "blank before the colon", send: hostileCall + webType + "Content-Length : 0\r\n\r\n", want: "400, closed"},
	{name: "line without a colon", send: hostileCall + webType + "nothing\r\n\r\n", want: "400, closed"},
	{name: "first line folded", send: "POST " + wire.Unary + " HTTP/1.1\r\n Host: 127.0.0.1\r\n\r\n", want: "400, closed"},
	{name: "NUL in a value", send: hostileCall + webType + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "CR in a value", send: hostileCall + webType + "X-A: a\rb\r\nContent-Length: 0\r\n\r\n", want: "400, closed"},
	{name: "lengths that differ", send: hostileCall + webType + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "list of lengths", send: hostileCall + webType + "Content-Length: 5, 6\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "length with a sign", send: hostileCall + webType + "Content-Length: +5\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "length below zero", send: hostileCall + webType + "Content-Length: -5\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "length in hex", send: hostileCall + webType + "Content-Length: 0x5\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "length beyond 64 bits", send: hostileCall + webType + "Content-Length: 99999999999999999999\r\n\r\n" + emptyFrame, want: "400, closed"},
	{name: "length and chunks", send: hostileCall + webType + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + emptyFrame + "\r\n0\r\n\r\n", want: "200 OK, closed | 400, closed"},
	{name: "chunked twice", send: hostileCall + webType + "Transfer-Encoding: chunked, chunked\r\n\r\n5\r\n" + emptyFrame + "\r\n0\r\n\r\n", want: "400, closed | 501, closed"},
	{name: "two lines of chunked", send: hostileCall + webType + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + emptyFrame + "\r\n0\r\n\r\n", want: "400, closed | 501, closed"},
	{name: "unknown coding", send: hostileCall + webType + "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "400, closed | 501, closed"},
	{name: "chunked before another", send: hostileCall + webType + "Transfer-Encoding: chunked, gzip\r\n\r\n5\r\n" + emptyFrame + "\r\n0\r\n\r\n", want: "400, closed | 501, closed"},
	{name: "chunked with a vertical tab", send: hostileCall + webType + "Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "400, closed | 501, closed"},
	{name: "chunked in HTTP 1.0", send: "POST " + wire.Unary + " HTTP/1.0\r\n" + hostileHost + webType + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "200 OK, closed | 4xx, closed"},
	{name: "unknown expectation", send: hostileCall + webType + "Expect: wonders\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "417, closed"},
	{name: "CONNECT", send: "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", want: "405, closed"},
	{name: "OPTIONS of everything", send: "OPTIONS * HTTP/1.1\r\n" + hostileHost + "\r\n", want: "405, closed"},
	{name: "TRACE", send: "TRACE " + wire.Unary + " HTTP/1.1\r\n" + hostileHost + "\r\n", want: "405, closed"},
	{name: "PUT", send: "PUT " + wire.Unary + " HTTP/1.1\r\n" + hostileHost + webType + "Content-Length: 5\r\n\r\n" + emptyFrame, want: "405, closed"},
	{name: "native gRPC", send: hostileCall + "Content-Type: application/grpc\r\nContent-Length: 5\r\n\r\n" + emptyFrame, want: "505, closed"},
	{name: "h2c upgrade", send: "GET " + wire.Unary + " HTTP/1.1\r\n" + hostileHost + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", want: "426, closed"},
}

const (
	upgradeLine   = "GET " + wire.Bidi + " HTTP/1.1\r\n"
	upgradeTokens = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	upgradeKey    = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	upgradeV13    = "Sec-WebSocket-Version: 13\r\n"
	upgradeWeb    = "Sec-WebSocket-Protocol: grpc-websockets\r\n"
)

// hostileUpgrades: RFC 6455 §4.2. An unknown version is answered with the known
// one.
var hostileUpgrades = []hostileCase{
	{name: "no key", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + "\r\n", want: "400, closed"},
	{name: "empty key", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + "Sec-WebSocket-Key:\r\n\r\n", want: "400, closed"},
	{name: "key that isn't base64", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n\r\n", want: "400, closed"},
	{name: "key of 15 bytes", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n\r\n", want: "400, closed"},
	{name: "key of 17 bytes", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", want: "400, closed"},
	{name: "two keys", send: upgradeLine + hostileHost + upgradeTokens + upgradeV13 + upgradeWeb + upgradeKey + upgradeKey + "\r\n", want: "400, closed"},
	{name: "no version", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeWeb + "\r\n", want: "400 version 13, closed | 426 version 13, closed"},
	{name: "version 8", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeWeb + "Sec-WebSocket-Version: 8\r\n\r\n", want: "400 version 13, closed | 426 version 13, closed"},
	{name: "version 1e1", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeWeb + "Sec-WebSocket-Version: 1e1\r\n\r\n", want: "400 version 13, closed | 426 version 13, closed"},
	{name: "POST", send: "POST " + wire.Bidi + " HTTP/1.1\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "Content-Length: 0\r\n\r\n", want: "4xx, closed"},
	{name: "HTTP 1.0", send: "GET " + wire.Bidi + " HTTP/1.0\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "4xx, closed"},
	{name: "HTTP 2.0", send: "GET " + wire.Bidi + " HTTP/2.0\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "505, closed"},
	{name: "no Host", send: upgradeLine + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "400, closed"},
	{name: "two Hosts", send: upgradeLine + hostileHost + "Host: localhost\r\n" + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "400, closed"},
	{name: "no subprotocol", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + "\r\n", want: "400, closed"},
	{name: "unknown subprotocol", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + "Sec-WebSocket-Protocol: chat\r\n\r\n", want: "400, closed"},
	{name: "name that holds a subprotocol", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + "Sec-WebSocket-Protocol: grpc-websockets2\r\n\r\n", want: "400, closed"},
	{name: "Upgrade of something else", send: upgradeLine + hostileHost + "Connection: Upgrade\r\nUpgrade: websockets\r\n" + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "426, closed"},
	{name: "stripped of Upgrade", send: upgradeLine + hostileHost + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "426, closed"},
	{name: "stripped of Connection", send: upgradeLine + hostileHost + "Upgrade: websocket\r\n" + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "426, closed"},
	{name: "path of no method", send: "GET /nothing HTTP/1.1\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "404, closed"},
	{name: "path with an escape", send: "GET /culvert.e2e.v1.Probe/%42idi HTTP/1.1\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "404, closed"},
	{name: "path with a dot segment", send: "GET /x/../culvert.e2e.v1.Probe/Bidi HTTP/1.1\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "404, closed"},
	{name: "whole URL", send: "GET ws://127.0.0.1" + wire.Bidi + " HTTP/1.1\r\n" + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "\r\n", want: "400, closed"},
	{name: "page of somebody else", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "Origin: https://evil.example\r\n\r\n", want: "403, closed"},
	{name: "page without an origin", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "Origin: null\r\n\r\n", want: "403, closed"},
	{name: "header of 400 KiB", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "X-A: " + strings.Repeat("a", 400<<10) + "\r\n\r\n", want: "431, closed"},
	{name: "field name with a blank", send: upgradeLine + hostileHost + upgradeTokens + upgradeKey + upgradeV13 + upgradeWeb + "X A: b\r\n\r\n", want: "400, closed"},
}

// lookHTTP1 writes down every answer until the connection is closed. One that may
// stay open is given the client's end, so that nothing has to be waited for.
func lookHTTP1(conn net.Conn, enough func(string) bool) (string, error) {
	in := bufio.NewReader(conn)
	var got []string
	end := "closed"
	for {
		resp, err := http.ReadResponse(in, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && in.Buffered() == 0 {
			return strings.Join(append(got, end), ", "), nil
		}
		if err != nil {
			return strings.Join(got, ", "), err
		}
		body, err := io.ReadAll(resp.Body)
		if errors.Is(err, syscall.ECONNRESET) && resp.Close && resp.ContentLength < 0 {
			return strings.Join(append(got, fmt.Sprint(resp.StatusCode), end), ", "), nil // it was still being sent to
		}
		if err != nil {
			return strings.Join(append(got, resp.Status+" cut"), ", "), err
		}
		text := fmt.Sprint(resp.StatusCode)
		for code, name := range map[int]string{http.StatusMethodNotAllowed: "Allow", http.StatusUpgradeRequired: "Upgrade"} {
			if resp.StatusCode == code && resp.Header.Get(name) == "" { // RFC 9110 §15.5.6, §15.5.22
				text += " without " + name
			}
		}
		if v := resp.Header.Get("Sec-WebSocket-Version"); v != "" {
			text += " version " + v
		}
		if kind := resp.Header.Get("Content-Type"); strings.HasPrefix(kind, "application/grpc-web") {
			text += " " + webEnd(kind, body)
		}
		got = append(got, text)
		if !resp.Close && enough(strings.Join(append(got, "kept"), ", ")) {
			end = "kept"
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				return strings.Join(got, ", "), err
			}
		}
	}
}

// webEnd says how a gRPC-Web answer ended: its body's last frame, and only that,
// has trailers.
func webEnd(kind string, body []byte) string {
	if strings.HasPrefix(kind, "application/grpc-web-text") {
		var frames []byte
		for len(body) >= 4 {
			b, err := base64.StdEncoding.DecodeString(string(body[:4]))
			if err != nil {
				return "text that isn't base64"
			}
			frames, body = append(frames, b...), body[4:]
		}
		body = frames
	}
	in := bytes.NewReader(body)
	for {
		flags, payload, err := wire.ReadFrame(in)
		switch {
		case err != nil:
			return "cut"
		case flags == 0:
		case flags != 0x80:
			return fmt.Sprintf("a frame with the flags %#x", flags)
		case in.Len() > 0:
			return "bytes behind the trailers"
		default:
			return blockEnd(payload)
		}
	}
}

// blockEnd is the status in a header block: its code, and culvert's reason.
func blockEnd(block []byte) string {
	s, err := wire.ParseStatus(block)
	if err != nil {
		return err.Error()
	}
	return statusText(s)
}

func statusText(s *wire.Status) string {
	if s.Code == codes.OK {
		return "OK"
	}
	return strings.TrimSpace(s.Code.String() + " " + s.Reason())
}
