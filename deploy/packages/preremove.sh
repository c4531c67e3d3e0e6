#!/bin/sh
# dpkg passes "remove" or "upgrade", rpm how many versions stay installed.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
remove | 0) systemctl disable --now culvert.socket culvert.service ;;
esac
