#!/bin/sh
# culvert isn't started after the first installation: the operator sets the backend
# first. After an upgrade, a running culvert drains and starts again.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# dpkg passes "configure" and the earlier version, rpm how many versions are installed.
case "$1 ${2-}" in
"configure " | "1 ") ;;
*) systemctl try-restart culvert.service || echo "culvert: not restarted: see journalctl -u culvert" >&2 ;;
esac
