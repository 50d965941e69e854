#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each of the nineteen faults has its tests, and the list in tests/alloc/README.md has them all. Usage: check-faults.sh
# SOURCE_ROOT
set -u
cd "$1/tests/alloc" || exit 2
failed=0

fail() {
	failed=1
	echo "$1"
}

listed=$(grep -E '^\| B[0-9]+ ' README.md | grep -oE '`/[^`]+`' | tr -d '`' | sort)
tested=$(grep -ohE 'test_add\("/[^"]*/B[0-9]+-[^"]*"' test-*.c | cut -d'"' -f2 | sort)

[ "$listed" = "$tested" ] || {
	fail 'tests/alloc/README.md does not list the tests that are named after a fault; it has, and they are:'
	echo "$listed"
	echo
	echo "$tested"
}
number=1
while [ $number -le 19 ]; do
	grep -qE "^\\| B$number \\|.*/B$number-" README.md || fail "tests/alloc/README.md names no test of fault B$number"
	number=$((number + 1))
done
exit $failed
