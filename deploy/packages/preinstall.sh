#!/bin/sh
# Before the files are unpacked: one of them belongs to the group.
set -e
getent group culvert >/dev/null || groupadd --system culvert
getent passwd culvert >/dev/null ||
	useradd --system --gid culvert --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin culvert
