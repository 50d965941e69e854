#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Which room may use what. Usage: check-layering.sh SOURCE_ROOT
set -u
cd "$1" || exit 2
failed=0

# refuse MESSAGE LINES: fails if there are any lines.
refuse() {
	[ -z "$2" ] && return
	failed=1
	printf '%s:\n%s\n' "$1" "$2"
}

# code FILE...: their lines as FILE:NUMBER:TEXT, without comments.
code() {
	awk '
		FNR == 1 { inside = 0 }
		{
			line = $0
			out = ""
			while (line != "") {
				if (inside) {
					end = index(line, "*/")
					if (!end) break
					line = substr(line, end + 2)
					inside = 0
				}
				block = index(line, "/*")
				rest = index(line, "//")
				if (rest && (!block || rest < block)) { out = out substr(line, 1, rest - 1); break }
				if (!block) { out = out line; break }
				out = out substr(line, 1, block - 1) " "
				line = substr(line, block + 2)
				inside = 1
			}
			print FILENAME ":" FNR ":" out
		}' "$@"
}

set -- alloc/*.c alloc/*.h
[ -e alloc/sync.h ] && [ -e alloc/sys.c ] || { echo "alloc/sync.h or alloc/sys.c is missing"; exit 2; }

refuse 'alloc/ knows nothing of FUSE' \
	"$(code "$@" | grep -E '#[[:space:]]*include[[:space:]]*[<"]([^>"]*/)?fuse|[^[:alnum:]_]fuse_[a-z]')"
refuse 'alloc/ knows nothing of fs/' \
	"$(code "$@" | grep -E '#[[:space:]]*include[[:space:]]*[<"](\.\./)?fs/')"
for header in fs/*.h; do
	refuse "alloc/ includes $header" \
		"$(code "$@" | grep -E "#[[:space:]]*include[[:space:]]*[<\"]([^>\"]*/)?${header#fs/}[>\"]" | grep -v '<linux/')"
done

refuse 'pthread only through alloc/sync.h' \
	"$(code "$@" fs/*.c fs/*.h | grep -v '^alloc/sync\.h:' |
		sed -E 's/(^|[^[:alnum:]_])pthread_(t|join|kill|sigmask)([^[:alnum:]_]|$)/\1\3/g' |
		grep -E '(^|[^[:alnum:]_])pthread(_|\.h)')"

# Through a table (`sys->fallocate`, `.madvise =`) is how it should be.
refuse 'memory and blocks only through alloc/sys.c' \
	"$(code "$@" | grep -v '^alloc/sys\.c:' |
		grep -E '(^|[^[:alnum:]_>.])(mmap|mmap64|munmap|mremap|msync|mlock2?|madvise|posix_madvise|fallocate|fallocate64|posix_fallocate)[[:space:]]*\(' |
		grep -vE '\(\*[a-z_]+\)\(')"

# Modules are built elsewhere, with that one header and what the system has.
refuse 'the public header stands alone' \
	"$(code alloc/segment-provider.h | grep -E '#[[:space:]]*include' | grep -vE '<std[a-z]+\.h>')"
refuse 'segment providers in modules use the public header only' \
	"$(code tests/providers/*.c | grep -E '#[[:space:]]*include' |
		grep -vE '<(segment-provider|errno|stdio|stdlib|string|unistd|syslog|sys/xattr)\.h>')"

# Every file that somebody wrote.
for file in $(find alloc fs tests mount-helpers meson.build meson_options.txt .ci -type f \
		\( -name '*.c' -o -name '*.h' -o -name '*.py' -o -name '*.sh' -o -name 'meson.build' \
		-o -name 'meson_options.txt' -o -perm -100 \) 2>/dev/null | grep -v __pycache__ | sort); do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' ||
		refuse 'no SPDX-License-Identifier: Apache-2.0 in the first lines' "$file"
done

exit $failed
