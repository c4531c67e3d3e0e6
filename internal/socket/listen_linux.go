package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawListener returns a TCP listener's socket, or nil. It doesn't look into a type
// that embeds the listener: so a program keeps the queue of a socket that another
// process serves next.
func rawListener(ln net.Listener) syscall.RawConn {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// RefuseArrivals makes a TCP listener drop requests for new connections, while
// handshakes under way end and the queue can be emptied. It returns false if it
// can't. The filter looks at the flags of the TCP header: it drops SYN without ACK.
func RefuseArrivals(ln net.Listener) bool {
	raw := rawListener(ln)
	if raw == nil {
		return false
	}
	const flags, syn, synAck, all = 13, 0x02, 0x12, 0xffffffff
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: synAck},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: syn},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
	}
	refused := false
	_ = raw.Control(func(fd uintptr) { // an error: the listener is closed
		err := unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		refused = err == nil
	})
	return refused
}

// QueueEmpty reports whether the kernel has no connection of the listener that waits
// to be accepted.
func QueueEmpty(ln net.Listener) bool {
	raw := rawListener(ln)
	if raw == nil {
		return true
	}
	empty := true
	_ = raw.Control(func(fd uintptr) { // an error: the listener is closed
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			empty = info.Unacked == 0 // of a listener: the queue's length
		}
	})
	return empty
}

// DescriptorLimit returns how many files this process may have open.
func DescriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}
