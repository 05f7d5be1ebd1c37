#!/bin/sh
# Install the project in place: install.sh BIN REQUIREMENT. One clear line if the registry cannot be reached.
bin=$1
requirement=$2
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
echo "installing $requirement with its dependencies (torch is large: some minutes and about 6 GB)"
if "$bin/python" -m pip install --disable-pip-version-check --quiet --editable "$requirement" >"$log" 2>&1; then
    exit 0
fi
reason=$(grep '^ERROR' "$log" | tail -n 1)
case $(cat "$log") in
*"Could not find a version"* | *"Connection"* | *"Temporary failure"* | *"Max retries"* | *"timed out"*)
    echo "make: error: the package registry cannot be reached or lacks a package: ${reason:-no answer}" >&2 ;;
*)
    cat "$log" >&2
    echo "make: error: pip could not install $requirement: ${reason:-see above}" >&2 ;;
esac
exit 1
