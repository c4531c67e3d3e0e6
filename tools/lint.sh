#!/usr/bin/env bash
# All checks that need no test. The script runs all its steps, so that one run
# shows all findings, and fails if one of the steps failed.
#
# usage: tools/lint.sh [proxy|peers|kubernetes]
#
# proxy checks what a newcomer changes. peers checks the modules of the tests with large
# programs of others, and kubernetes those of Kubernetes, the images and the release: to lint
# them, all of what they import is compiled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
proxy=(. e2e examples tools)
peers=(auth/internal/oidctest auth/internal/opatest auth/internal/ratelimittest e2e/identity e2e/traced)
kubernetes=(kubernetes kubernetes/e2e tools/helm tools/images tools/release)
case ${1-} in
proxy) modules=("${proxy[@]}") ;;
peers) modules=("${peers[@]}") ;;
kubernetes) modules=("${kubernetes[@]}") ;;
"") modules=("${proxy[@]}" "${peers[@]}" "${kubernetes[@]}") ;;
*)
	echo "usage: tools/lint.sh [proxy|peers|kubernetes]" >&2
	exit 2
	;;
esac
checked() { [[ " ${modules[*]} " == *" $1 "* ]]; } # checked MODULE

# Inside Go's own cache, so that nothing is written anywhere else.
GOLANGCI_LINT_CACHE=$(go env GOCACHE)/golangci-lint
export GOLANGCI_LINT_CACHE

failed=()
step() { # step NAME FUNCTION…: prints the name, runs the function, notes a failure
	echo "  - $1"
	"${@:2}" || failed+=("$1")
}

# With more memory, 2.2 GB, it takes less CPU time.
golangci() { (cd "$1" && GOGC=200 "$linter" run --show-stats=false ./...); }

# golangci-lint checks the files of this system only, gofumpt all files.
formatted() {
	local files
	files=$("$gofumpt" -l .)
	[ -z "$files" ] || { printf '%s\n' "$files" && return 1; }
}

npm_check() { (cd "$1" && npm run --silent check); }

# The page's package.json pins Biome.
biome() { (cd "$1" && "$root/demo/web/node_modules/.bin/biome" check --error-on-warnings .); }

# The files that git tracks, or would track after the next add.
tree() { git ls-files -z --cached --others --exclude-standard -- "$1"; }

no_checkout_path() {
	# At the root of a file system, a checkout's name may be an ordinary word.
	[ "$(dirname "$root")" != / ] || return 0
	nowhere "names this checkout's path" . -wF -e "$root"
}

no_registry_hosts() {
	nowhere "omit-lockfile-registry-resolved=true belongs into .npmrc" '*package-lock.json' -E -e '"resolved": *"https?:'
}

# The comments of the configuration generate a page of the reference. Pages shorten the
# help of some commands.
words() {
	helps >"$help_file" && git ls-files -z -- '*.md' '*.yaml' | xargs -0 "$words_tool" "$help_file"
}

helps() {
	local command
	! checked . || for command in serve demo dial call doctor validate "config defaults" "config print" "routes explain" "keys new" healthcheck drain calls top; do
		# shellcheck disable=SC2086 # words of their own
		go run ./cmd/culvert $command --help | sed '/^Usage:/,$d' || return
	done
	! checked kubernetes || for command in inject uninject check webhook; do
		go -C kubernetes run ./cmd/culvert-kube "$command" --help | sed '/^Usage:/,$d' || return
	done
}

# nowhere HINT PATHS GREP-ARGUMENTS…: fails if a file matches, and shows the lines.
nowhere() {
	local lines
	lines=$(tree "$2" | xargs -0 grep -sIn "${@:3}" /dev/null || true)
	[ -z "$lines" ] || { printf '%s\n%s\n' "$lines" "$1" && return 1; }
}

# vulnerabilities MODULE. An unreachable database is not a failure; a vulnerability is. The
# time is for a busy machine. In the foreground, it ends with this script.
vulnerabilities() {
	local output status=0 bounded=()
	command -v timeout >/dev/null && bounded=(timeout --foreground 600)
	output=$(cd "$1" && ${bounded[@]+"${bounded[@]}"} "$govulncheck" ./... 2>&1) || status=$?
	if [ $status -eq 124 ]; then
		echo "    no answer in 10 minutes: not checked"
	elif [ $status -ne 0 ] && grep -q 'fetching vulnerabilities: ' <<<"$output"; then
		echo "    its database isn't reachable: not checked"
	elif [ $status -ne 0 ]; then
		printf '%s\n' "$output"
		return 1
	fi
}

echo "  - building the tools (minutes the first time, then cached by Go)"
linter=$(tools/tool.sh golangci-lint)
gofumpt=$(tools/tool.sh gofumpt)
govulncheck=$(tools/tool.sh govulncheck)
words_tool=$(mktemp)
help_file=$(mktemp)
trap 'rm -f "$words_tool" "$help_file"' EXIT
go -C tools build -o "$words_tool" ./words

for module in "${modules[@]}"; do
	step "golangci-lint in $module" golangci "$module"
done
if checked .; then
	step "gofumpt" formatted
	step "the demo's page: types, lint, bundle" npm_check demo/web
	step "the npm package: types, lint" npm_check web
	step "the published clients' programs" biome e2e/node
	step "the example's page and IDE" biome examples/duo-workflow/client
	step "the page of the fleet" biome examples/opamp
	step "the pages with @culvert/web" biome examples/pages
	step "the gateway's page" biome examples/api-gateway
	step "no path of this checkout in the tree" no_checkout_path
	step "no registry's host in a lock file" no_registry_hosts
fi
if checked . || checked kubernetes; then
	step "the words of pages, help and configuration" words
fi
for module in . kubernetes; do # those of the programs that people install
	if checked "$module"; then
		step "govulncheck in $module" vulnerabilities "$module"
	fi
done

if [ ${#failed[@]} -gt 0 ]; then
	printf 'lint: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "lint: clean"
