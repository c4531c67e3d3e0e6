#!/usr/bin/env bash
# Checks that the programs for the tests (or the generators) are there, besides Go.
# On Debian as root it installs the missing ones. Elsewhere it lists them, tells how
# to install them, and fails. If nothing is missing, it is quick and changes nothing.
#
# usage: tools/deps.sh test|generate|release
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly node_major=20 # required by the published clients in e2e/node
PATH=$PATH:/usr/sbin:/sbin # not in the PATH of ordinary users
system=$(uname -s)

# Debian's packages, and the purpose of each; parallel lists, since bash 3 on
# macOS has no maps.
packages=() reasons=()
miss() {
	packages+=("$1")
	reasons+=("$2")
}

have() { command -v "$1" >/dev/null 2>&1; }

# Lists the missing packages in packages and reasons.
look() {
	packages=() reasons=()
	have git || miss git "git: the version, and the lint of the tree"
	have node || miss nodejs "node: the npm package, the clients of the end-to-end tests, and the demo's page"
	have npm || miss npm "npm: the same"
	if [ "$1" = release ]; then
		have gpg || miss gpg "gpg: the signature"
		have gpg-agent || miss gpg-agent "gpg-agent: the same"
		have gpgv || miss gpgv "gpgv: the same"
		have bsdtar || miss libarchive-tools "bsdtar: archives for Windows, and rpm packages"
		have rpm || miss rpm "rpm: its packages"
		[ -x /lib/systemd/systemd ] || miss systemd "systemd: the service in the packages"
		have ip || miss iproute2 "ip: the network of that systemd"
		have curl || miss curl "curl: the health of the service"
		[ -e /usr/share/bash-completion/bash_completion ] || miss bash-completion "bash-completion: the completions"
		have zsh || miss zsh "zsh: the same"
		have fish || miss fish "fish: the same"
		return
	fi
	have protoc || miss protobuf-compiler "protoc: the protobuf code, also of the clients' pages in docs/"
	if [ "$1" = generate ]; then
		return
	fi
	have "$(go env CC)" || miss gcc "a C compiler: the race detector"
	have chromium || have chromium-browser || have google-chrome || miss chromium "Chromium: the browser tests"
	have firefox-esr || have firefox || miss firefox-esr "Firefox: the browser tests of the npm package"
	if [ "$system" = Linux ]; then
		have ip || miss iproute2 "ip: network namespaces, for the tests of silence"
		have nft || miss nftables "nft: packets dropped, for the same tests"
		have systemd-analyze || miss systemd "systemd-analyze: the unit for systemd"
		have nginx || miss nginx "nginx: a client's way through a reverse proxy that ends TLS"
		[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || miss libnginx-mod-stream "nginx's stream module: the PROXY protocol from it"
		have haproxy || miss haproxy "HAProxy: the PROXY protocol from it"
		have caddy || miss caddy "Caddy: a client's way through it"
		have mitmdump || miss mitmproxy "mitmproxy: a client's way through a proxy that holds whole bodies"
		have privoxy || miss privoxy "Privoxy: a client's way through a forward proxy"
		have tinyproxy || miss tinyproxy-bin "tinyproxy: a client's way through a forward proxy"
		[ -x /usr/lib/squid/security_file_certgen ] || miss squid-openssl "Squid with OpenSSL: a client's way through a proxy that opens TLS"
		have redis-server || miss redis-server "Redis: the counts of Envoy's rate limit service"
		have prometheus && have promtool || miss prometheus "Prometheus and promtool: the metrics, the dashboard's queries and the alerts"
		/usr/bin/python3 -c 'import grpc' 2>/dev/null || miss python3-grpcio "Python with grpcio: a client of culvert dial"
		have javac || miss default-jdk-headless "Java: a client of culvert dial"
		for jar in grpc-netty:libgrpc-java netty-codec-http2:libnetty-java guava:libguava-java perfmark-api:libperfmark-java; do
			[ -e "/usr/share/java/${jar%:*}.jar" ] || miss "${jar#*:}" "grpc-java: the same"
		done
		have valgrind || miss valgrind "valgrind: the instructions of a call"
		have curl || miss curl "curl: what the documents ask by hand"
		have openssl || miss openssl "openssl: the same"
		if [ "$(id -u)" -eq 0 ]; then # nobody else can run a node
			have containerd && have ctr || miss containerd "containerd: a node of Kubernetes"
			have runc || miss runc "runc: the same"
			[ -x /usr/lib/cni/bridge ] || miss containernetworking-plugins "plugins for the pods' network: the same"
		fi
	else
		miss linux "Linux itself: only it has network namespaces; make lint and make unit work here"
	fi
}

is_debian() {
	have apt-get && [ -r /etc/os-release ] && grep -Eq '^(ID|ID_LIKE)=.*debian' /etc/os-release
}

tell() {
	echo "deps: missing:" >&2
	local i
	for i in "${!packages[@]}"; do
		echo "  ${packages[$i]}  (${reasons[$i]})" >&2
	done
	if is_debian; then
		echo "deps: as root: apt-get install -y ${packages[*]}" >&2
	elif [ "$system" = Darwin ]; then
		echo "deps: with Homebrew: brew install git node protobuf; brew install --cask chromium firefox; the C compiler: xcode-select --install" >&2
	else
		echo "deps: these are Debian's names; install the same with your system's package manager" >&2
	fi
}

if ! have go; then
	echo "deps: go is missing: https://go.dev/dl, $(awk '$1 == "go" { print $2 }' go.mod) or newer" >&2
	exit 1
fi
# An older go downloads the toolchain in go.mod, or prints why it can't.
go version >/dev/null

look "$1"
if [ ${#packages[@]} -gt 0 ]; then
	if ! is_debian || [ "$(id -u)" -ne 0 ]; then
		tell
		exit 1
	fi
	echo "deps: installing ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# Debian starts the services that it installs (nginx, on port 80), unless this
	# program forbids it (invoke-rc.d(8)). The tests start their own.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	apt-get update -qq </dev/null
	apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null
	look "$1"
	if [ ${#packages[@]} -gt 0 ]; then
		echo "deps: apt-get succeeded, but packages are still missing:" >&2
		tell
		exit 1
	fi
fi

if [ "$1" = release ]; then
	echo "deps: nothing is missing"
	exit
fi
have_major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$have_major" -lt "$node_major" ]; then
	echo "deps: node $(node -v) is too old, $node_major or newer is needed: https://nodejs.org/en/download" >&2
	exit 1
fi
echo "deps: nothing is missing"
