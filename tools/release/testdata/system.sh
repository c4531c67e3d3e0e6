#!/usr/bin/env bash
# Boots systemd on a copy of this system, which has a network, processes, and a cgroup of
# its own, and runs a job there as root. The job can change everything, and nothing stays.
#
# usage: system.sh FOLDER
#
# FOLDER is /job in that system. systemd runs FOLDER/job.sh, and its output goes to
# FOLDER/output. The exit code is the job's.
set -euo pipefail

case ${1-} in
boot) # inside
	cd "$2"
	mkdir up work all
	mount -t overlay -o lowerdir=/,upperdir=up,workdir=work overlay all
	mount -t proc proc all/proc
	mount -t sysfs -o ro sysfs all/sys
	mount -t cgroup2 cgroup2 all/sys/fs/cgroup
	mount --rbind /dev all/dev
	mount -t tmpfs tmpfs all/run
	mount -t tmpfs tmpfs all/tmp
	mkdir all/job
	mount --bind "$3" all/job
	ip link set lo up
	# Nothing but the job starts.
	rm -rf all/etc/systemd/system/*
	cat >all/etc/systemd/system/job.service <<-'UNIT'
		[Unit]
		DefaultDependencies=no
		SuccessAction=exit-force
		FailureAction=exit-force
		[Service]
		Type=oneshot
		ExecStart=/bin/bash -euo pipefail /job/job.sh
		StandardOutput=file:/job/output
		StandardError=inherit
	UNIT
	cat >all/etc/systemd/system/job.target <<-'UNIT'
		[Unit]
		DefaultDependencies=no
		Requires=job.service
	UNIT
	exec chroot all env -i container=test LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		/lib/systemd/systemd --unit=job.target --show-status=0 --log-target=console --log-level=err
	;;
*) # outside, in a mount namespace of its own
	job=$1
	disk=$(mktemp -d)
	mount -t tmpfs tmpfs "$disk"
	mkdir "$disk/cgroups" "$disk/system"
	mount -t cgroup2 cgroup2 "$disk/cgroups"
	cgroup=$disk/cgroups/culvert-release-$$
	mkdir "$cgroup"
	status=0
	(
		echo 0 >"$cgroup/cgroup.procs"
		exec timeout --signal=KILL 120 unshare --cgroup --pid --net --ipc --uts --mount --fork --kill-child "$0" boot "$disk/system" "$job"
	) || status=$?
	find "$cgroup" -depth -type d -exec rmdir {} +
	umount -R "$disk/cgroups"
	umount "$disk"
	rmdir "$disk"
	exit $status
	;;
esac
