package pebble

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameServer has 127.0.0.1 for every name. pebble asks it by TCP.
type nameServer struct {
	stream  net.Listener
	running sync.WaitGroup
}

func newNameServer() (*nameServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &nameServer{stream: l}
	n.running.Go(n.serve)
	return n, nil
}

func (n *nameServer) close() {
	_ = n.stream.Close()
	n.running.Wait()
}

// serve answers one question a connection. RFC 1035 §4.2.2.
func (n *nameServer) serve() {
	for {
		conn, err := n.stream.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(startPatience))
		_ = answer(conn) // whoever asked asks again
		_ = conn.Close()
	}
}

func answer(conn net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return err
	}
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil {
		return err
	}
	q, err := p.Question()
	if err != nil {
		return err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	return err
}
