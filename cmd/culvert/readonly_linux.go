package main

import "syscall"

// readOnly reports whether nobody can write to what is mounted there.
func readOnly(path string) bool {
	const flag = 1 // ST_RDONLY
	var s syscall.Statfs_t
	return syscall.Statfs(path, &s) == nil && s.Flags&flag != 0
}
